//! The rules of the window read plainly: everything is found anew from the list of facts, slowly, with nothing kept.
//!
//! It shares no code with the window, so that the properties compare two readings of one text.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use crate::fact::{Finalize, Rerun, Split, Upload};
use crate::manifest::Counts;
use crate::{ChunkId, Digest, Fact, Generation, Only, Outcome, Rules, Stage, Timestamp, Track};

/// A list of facts, in any order, with repetitions.
pub(super) struct Plain<'a>(pub(super) &'a [Fact]);

/// What one segment has been answered, and what is asked of it.
struct Segment {
    texts: BTreeSet<Generation>,
    failures: BTreeSet<Generation>,
    requested: Generation,
}

impl Segment {
    fn waits(&self) -> bool {
        let answers: BTreeSet<_> = self.texts.union(&self.failures).collect();
        answers.last().is_none_or(|highest| **highest < self.requested)
    }
}

impl<'a> Plain<'a> {
    fn named(&self) -> BTreeSet<&'a ChunkId> {
        let of = |fact: &'a Fact| match fact {
            Fact::Upload(upload) => Some(&upload.chunk),
            Fact::Split(split) => Some(&split.chunk),
            Fact::Transcript(transcript) => Some(&transcript.chunk),
            Fact::Failure(failure) => failure.chunk.as_ref(),
            _ => None,
        };
        self.0.iter().filter_map(of).collect()
    }

    fn upload(&self, chunk: &ChunkId) -> Option<&'a Upload> {
        let uploads = self.0.iter().filter_map(|fact| match fact {
            Fact::Upload(upload) if upload.chunk == *chunk => Some(upload),
            _ => None,
        });
        uploads.min_by_key(|upload| upload.offset)
    }

    fn uploads(&self) -> Vec<&'a Upload> {
        self.named().into_iter().filter_map(|chunk| self.upload(chunk)).collect()
    }

    fn split(&self, upload: &Upload) -> Option<&'a Split> {
        let splits = self.0.iter().filter_map(|fact| match fact {
            Fact::Split(split) if split.chunk == upload.chunk && split.upload_digest == upload.digest => {
                Some(split)
            }
            _ => None,
        });
        splits.min_by_key(|split| split.offset)
    }

    fn uncuttable(&self, upload: &Upload) -> bool {
        let failed = self.0.iter().any(|fact| match fact {
            Fact::Failure(failure) => {
                failure.terminal
                    && failure.stage == Stage::Split
                    && failure.chunk.as_ref() == Some(&upload.chunk)
                    && failure.upload_digest == Some(upload.digest)
            }
            _ => false,
        });
        failed && self.split(upload).is_none()
    }

    fn reruns(&self) -> Vec<&'a Rerun> {
        let mut lowest: BTreeMap<_, &Rerun> = BTreeMap::new();
        for fact in self.0 {
            if let Fact::Rerun(rerun) = fact {
                let held = lowest.entry(&rerun.event).or_insert(rerun);
                if rerun.offset < held.offset {
                    *held = rerun;
                }
            }
        }
        lowest.into_values().collect()
    }

    fn segment(&self, split: &Split, number: u32) -> Segment {
        let mine =
            |chunk: Option<&ChunkId>, upload: Option<Digest>, of: Option<Digest>, segment: Option<u32>| {
                (chunk, upload, of, segment)
                    == (Some(&split.chunk), Some(split.upload_digest), Some(split.digest), Some(number))
            };
        let texts = self.0.iter().filter_map(|fact| match fact {
            Fact::Transcript(found) => {
                let place = (Some(found.upload_digest), Some(found.split_digest), Some(found.segment));
                mine(Some(&found.chunk), place.0, place.1, place.2).then_some(found.generation)
            }
            _ => None,
        });
        let texts: BTreeSet<_> = texts.collect();
        let failures = self.0.iter().filter_map(|fact| match fact {
            Fact::Failure(found) if found.terminal && found.stage == Stage::Transcribe => {
                mine(found.chunk.as_ref(), found.upload_digest, found.split_digest, found.segment)
                    .then_some(found.generation)
            }
            _ => None,
        });
        let covering = self.reruns().into_iter().filter(|rerun| {
            let generation = Generation(rerun.offset.0 + 1);
            rerun.stage == Stage::Transcribe
                && split.time <= rerun.time
                && (rerun.only == Only::All || !texts.iter().any(|text| *text < generation))
        });
        let requested = covering.map(|rerun| Generation(rerun.offset.0 + 1)).max().unwrap_or_default();
        Segment { failures: failures.collect(), requested, texts }
    }

    fn segments(&self) -> Vec<Segment> {
        let splits = self.uploads().into_iter().filter_map(|upload| self.split(upload));
        splits.flat_map(|split| (0..split.segments).map(|number| self.segment(split, number))).collect()
    }

    fn finish(&self) -> Option<&'a crate::fact::Finish> {
        let finishes = self.0.iter().filter_map(|fact| match fact {
            Fact::Finish(finish) => Some(finish),
            _ => None,
        });
        finishes.max_by_key(|finish| finish.offset)
    }

    fn missing(&self) -> u64 {
        let uploads = self.uploads();
        let absent = self.named().len() - uploads.len();
        let declared = self.finish().map(|finish| finish.expected_by_track.clone()).unwrap_or_default();
        let tracks: BTreeSet<&Track> =
            declared.keys().chain(uploads.iter().map(|upload| &upload.track)).collect();
        let short = tracks.into_iter().map(|track| {
            let here: Vec<_> = uploads.iter().filter(|upload| upload.track == *track).collect();
            let numbers: BTreeSet<u32> = here.iter().filter_map(|upload| upload.sequence).collect();
            let holes =
                (0..numbers.last().copied().unwrap_or(0)).filter(|number| !numbers.contains(number)).count();
            let expected = declared.get(track).map_or(0, |expected| *expected as usize);
            holes.max(expected.saturating_sub(here.len()))
        });
        let known = absent + short.sum::<usize>();
        let expected = self.finish().and_then(|finish| finish.expected_chunks).unwrap_or(0) as usize;
        known.max(expected.saturating_sub(uploads.len())) as u64
    }

    fn unsplit(&self) -> usize {
        let uploads = self.uploads().into_iter();
        uploads.filter(|upload| self.split(upload).is_none() && !self.uncuttable(upload)).count()
    }

    pub(super) fn counts(&self) -> Counts {
        let (uploads, segments) = (self.uploads(), self.segments());
        let waiting = segments.iter().filter(|segment| segment.waits()).count();
        let lost = segments.iter().filter(|segment| segment.texts.is_empty() && !segment.waits()).count();
        let uncuttable = uploads.iter().filter(|upload| self.uncuttable(upload)).count();
        Counts {
            chunks: uploads.len() as u64,
            segments: segments.len() as u64,
            transcribed: segments.iter().filter(|segment| !segment.texts.is_empty()).count() as u64,
            failed: (lost + uncuttable) as u64,
            missing: self.missing() + (self.unsplit() + waiting) as u64,
        }
    }

    /// Whether the window may be finalized at this moment, by the words of the rules.
    pub(super) fn may_finalize(&self, rules: &Rules, now: Timestamp, last: Option<&Finalize>) -> bool {
        let open = self.0.iter().filter_map(|fact| match fact {
            Fact::Open(open) => Some(open),
            _ => None,
        });
        let open = open.min_by_key(|open| open.offset);
        let idle_after = open.and_then(|open| open.idle_after).unwrap_or(rules.idle_after);
        let missing_after = open.and_then(|open| open.missing_after).unwrap_or(rules.missing_after);
        let confirmed = self.uploads().iter().map(|upload| upload.time).max();
        let finish = self.finish().map(|finish| finish.time);
        let late = last.is_some_and(|last| confirmed.is_some_and(|confirmed| confirmed > last.time));
        let finish = finish.filter(|finish| !late || last.is_some_and(|last| *finish > last.time));
        let idle = confirmed.map(|confirmed| confirmed + idle_after);
        let (missing, segments) = (self.missing() > 0, self.segments());
        let stages = self.unsplit() > 0 || segments.iter().any(Segment::waits);
        let Some(confirmed) = confirmed else {
            let earliest = self.0.iter().filter_map(Fact::time).min();
            let Some(finish) = finish else {
                let began = open.map(|open| open.time).or(earliest);
                return began.is_some_and(|began| now >= began + rules.abandon_after);
            };
            let given_up =
                last.is_some_and(|last| last.outcome == Outcome::Incomplete && finish <= last.time);
            let newest =
                [Some(finish), self.newest_rerun(), last.map(|last| last.time)].into_iter().flatten().max();
            return match missing {
                false => now >= finish + idle_after,
                true => given_up || newest.is_some_and(|newest| now >= newest + missing_after),
            };
        };
        if finish.is_none() && idle.is_none_or(|idle| now < idle) {
            return false;
        }
        let silent = confirmed.max(self.finish().map_or(Timestamp::MIN, |finish| finish.time));
        let given_up = last.is_some_and(|last| last.outcome == Outcome::Incomplete && silent <= last.time);
        if !stages && (!missing || given_up) {
            return true;
        }
        let began = [finish, idle].into_iter().flatten().min();
        let split =
            self.uploads().into_iter().filter_map(|upload| self.split(upload)).map(|split| split.time).max();
        let newest = [began, Some(confirmed), split, self.newest_rerun(), last.map(|last| last.time)];
        let newest = newest.into_iter().flatten().max();
        newest.is_some_and(|newest| now >= newest + if stages { rules.stalled_after } else { missing_after })
    }

    fn newest_rerun(&self) -> Option<Timestamp> {
        self.reruns().into_iter().map(|rerun| rerun.time).max()
    }
}
