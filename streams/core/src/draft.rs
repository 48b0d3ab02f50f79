//! A manifest in the making: the parts that its digest covers, the digest, and the finished manifest.
//!
//! The digest is what makes decisions level-triggered, so it must cover all that a reader of the revision would see
//! differently, and nothing that a replay could change: no cause, no time, no error code.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter::repeat_n;

use sha2::{Digest as _, Sha256};

use crate::fact::Finalize;
use crate::id::{ChunkId, Digest, FinalizeDigest, Millis, Stage, Track};
use crate::manifest::{
    Cause, ChunkStatus, Counts, DIGEST_VERSION, GAPS_LISTED, Gap, GapStatus, Manifest, ManifestChunk,
    Outcome, SegmentStatus, chunk_digest,
};
use crate::rules::Rules;
use crate::timeline::{self, Recording};
use crate::window::{Chunk, Segment, Window};

/// What the window says now, by chunk id.
pub(crate) struct Draft<'a> {
    window: &'a Window,
    counts: Counts,
    /// The chunks that arrived.
    chunks: Vec<Entry<'a>>,
}

struct Entry<'a> {
    id: &'a ChunkId,
    chunk: &'a Chunk,
    status: ChunkStatus,
    digest: Digest,
}

/// The outcome of a window with these counts.
fn outcome(counts: &Counts) -> Outcome {
    if counts.missing > 0 {
        Outcome::Incomplete
    } else if counts.failed > 0 {
        Outcome::WithFailures
    } else if counts.chunks == 0 {
        Outcome::Empty
    } else {
        Outcome::Complete
    }
}

fn chunk_status(chunk: &Chunk) -> ChunkStatus {
    if chunk.unsplit() || chunk.pieces.waiting > 0 {
        ChunkStatus::Pending
    } else if chunk.standing_failure().is_some() {
        ChunkStatus::Failed
    } else if chunk.pieces.failed > 0 {
        ChunkStatus::WithFailures
    } else {
        ChunkStatus::Complete
    }
}

fn segment_status(segment: &Segment, rules: &Rules) -> SegmentStatus {
    #[cfg(feature = "mutants")]
    if rules.mutant == Some(crate::rules::Mutant::FailureOverwritesSuccess) && segment.failed.is_some() {
        return SegmentStatus::Failed;
    }
    let _ = rules;
    segment.status()
}

/// The window's counts, with the bug that a test may have put in.
fn counts(window: &Window, rules: &Rules) -> Counts {
    let mut counts = window.counts();
    #[cfg(feature = "mutants")]
    if rules.mutant == Some(crate::rules::Mutant::FailureOverwritesSuccess) {
        let segments = window.chunks().flat_map(|(_, chunk)| chunk.segments());
        let lost = segments.filter(|(_, segment)| segment.text.is_some() && segment.failed.is_some()).count();
        counts.transcribed -= lost as u64;
        counts.failed += lost as u64;
    }
    let _ = (rules, &mut counts);
    counts
}

/// Whether the last finalize says what the window says now, so that there is nothing to emit.
///
/// Counts and generations are part of the digest; where they differ, nothing has to be hashed.
pub(crate) fn is_settled(window: &Window, rules: &Rules) -> bool {
    let Some(last) = window.last_finalize() else { return false };
    let now = counts(window, rules);
    window.contents_of_revision() == 1
        && (now, outcome(&now), window.generations()) == (last.counts, last.outcome, last.generations)
        && Draft::of(window, rules).digest_like(last) == Some(last.digest)
}

impl<'a> Draft<'a> {
    pub(crate) fn of(window: &'a Window, rules: &Rules) -> Self {
        let arrived = window.chunks().filter(|(_, chunk)| chunk.upload.is_some());
        let entry = |(id, chunk): (&'a ChunkId, &'a Chunk)| Entry {
            id,
            chunk,
            status: chunk_status(chunk),
            digest: chunk_digest(chunk.segments().map(|(_, segment)| segment_status(segment, rules))),
        };
        Self { window, counts: counts(window, rules), chunks: arrived.map(entry).collect() }
    }

    /// The digest by the rule of the last finalize, so that an upgrade makes no revision; nothing where that rule is not
    /// known here, which makes one.
    fn digest_like(&self, last: &Finalize) -> Option<FinalizeDigest> {
        (last.digest.version == DIGEST_VERSION).then(|| self.digest())
    }

    /// The digest by the present rule.
    fn digest(&self) -> FinalizeDigest {
        let mut canon = Canon(Sha256::new_with_prefix(b"hansard manifest 1\n"));
        canon.text(outcome(&self.counts).as_str());
        let Counts { chunks, segments, transcribed, failed, missing } = self.counts;
        [chunks, segments, transcribed, failed, missing].into_iter().for_each(|count| canon.number(count));
        self.expectations(&mut canon);
        for stage in [Stage::Transcribe, Stage::Merge, Stage::Summarize] {
            canon.number(self.window.generations().of(stage).0.cast_unsigned());
        }
        for entry in &self.chunks {
            canon.text(entry.id.as_str());
            canon.text(entry.status.as_str());
            canon.digest(&entry.digest);
            // Another recording under the same name, or another cut of it, is other audio and may lie elsewhere, even where
            // it says the same.
            canon.digest(&entry.chunk.upload.as_ref().map(|upload| upload.digest).unwrap_or_default());
            canon.digest(&entry.chunk.standing_cut().map(|cut| cut.digest).unwrap_or_default());
        }
        FinalizeDigest { version: DIGEST_VERSION, digest: canon.end() }
    }

    /// What is declared, and which of it is missing. To declare nothing and to declare no chunk is the same.
    fn expectations(&self, canon: &mut Canon) {
        let finish = self.window.finish_fact();
        canon.number(finish.and_then(|finish| finish.expected_chunks).map_or(0, u64::from));
        let by_track = finish.into_iter().flat_map(|finish| &finish.expected_by_track);
        for (track, expected) in by_track.filter(|(_, expected)| **expected > 0) {
            canon.text(track.as_str());
            canon.number(u64::from(*expected));
        }
        canon.text("missing");
        for (id, _) in self.window.chunks().filter(|(_, chunk)| chunk.upload.is_none()) {
            canon.text(id.as_str());
        }
        canon.text("sequences");
        for (track, held) in self.window.tally().tracks().filter(|(_, held)| held.holes() > 0) {
            canon.text(track.as_str());
            canon.number(held.sequences.len() as u64);
            held.sequences.iter().for_each(|sequence| canon.number(u64::from(sequence)));
        }
        canon.text("stages");
    }

    pub(crate) fn finish(self, cause: Cause) -> Manifest {
        let window = self.window;
        let order = self.order();
        let total = self.counts.failed + self.counts.missing;
        let options = window.generations().iter().filter_map(|(stage, generation)| {
            window.options_of(stage, generation).map(|options| (stage, options))
        });
        let gaps = missing_chunks(window).chain(order.iter().flat_map(|(entry, _)| chunk_gaps(entry)));
        let placed = order.iter().filter_map(|(entry, offset)| {
            let upload = entry.chunk.upload.as_ref()?;
            let cut = entry.chunk.standing_cut();
            Some(ManifestChunk {
                chunk: entry.id.clone(),
                track: upload.track.clone(),
                status: entry.status,
                digest: entry.digest,
                upload_digest: upload.digest,
                sequence: upload.sequence,
                offset: *offset,
                duration: cut.map_or(Millis::ZERO, |cut| cut.duration),
                segments: cut.map_or(0, |cut| cut.segments),
            })
        });
        Manifest {
            revision: window.revision().next(),
            outcome: outcome(&self.counts),
            cause,
            digest: self.digest(),
            counts: self.counts,
            generations: window.generations(),
            options: options.collect(),
            chunks: placed.collect(),
            gaps: gaps.take(GAPS_LISTED).collect(),
            gaps_truncated: total > GAPS_LISTED as u64,
        }
    }

    /// The chunks in timeline order, each with its offset.
    fn order(&self) -> Vec<(&Entry<'a>, Millis)> {
        let recording = |entry: &Entry<'a>| {
            let upload = entry.chunk.upload.as_ref()?;
            Some(Recording {
                chunk: entry.id,
                track: &upload.track,
                sequence: upload.sequence,
                recorded_at: upload.recorded_at,
                duration: entry.chunk.standing_cut().map_or(Millis::ZERO, |cut| cut.duration),
            })
        };
        let recordings: Vec<_> = self.chunks.iter().filter_map(recording).collect();
        let placed = timeline::place(&recordings);
        placed.iter().map(|place| (&self.chunks[place.index], place.offset)).collect()
    }
}

/// The declared chunks that have not arrived: those with a name, those with a number, then those with neither.
pub(crate) fn missing_chunks(window: &Window) -> impl Iterator<Item = Gap> {
    let tally = window.tally();
    let finish = window.finish_fact();
    let missing = |track: &Track, sequence| Gap {
        track: track.clone(),
        status: GapStatus::Missing,
        code: Arc::from("not_uploaded"),
        chunk: None,
        segment: None,
        sequence,
    };
    let absent = window.chunks().filter(|(_, chunk)| chunk.upload.is_none());
    let named =
        absent.map(move |(id, _)| Gap { chunk: Some(id.clone()), ..missing(&Track::default(), None) });
    let numbered = tally.tracks().filter(|(_, held)| held.holes() > 0).flat_map(move |(track, held)| {
        let mut next = 0;
        let holes = held.sequences.iter().flat_map(move |sequence| {
            let hole = next..sequence;
            next = sequence.saturating_add(1);
            hole
        });
        holes.map(move |sequence| missing(track, Some(sequence)))
    });
    let declared = finish.into_iter().flat_map(|finish| finish.expected_by_track.keys());
    let counted = declared.flat_map(move |track| {
        let holes = tally.track(track).map_or(0, crate::window::TrackTally::holes);
        let rest = tally.short_in(finish, track) - holes;
        repeat_n(missing(track, None), usize::try_from(rest).unwrap_or(usize::MAX))
    });
    let rest = window.missing() - tally.named_or_short();
    let any = repeat_n(missing(&Track::default(), None), usize::try_from(rest).unwrap_or(usize::MAX));
    named.chain(numbered).chain(counted).chain(any)
}

/// What of one chunk that arrived is pending or failed.
fn chunk_gaps<'e>(entry: &'e Entry<'_>) -> impl Iterator<Item = Gap> + 'e {
    let gap = |status, code: &Arc<str>, segment| Gap {
        track: entry.chunk.upload.as_ref().map(|upload| upload.track.clone()).unwrap_or_default(),
        status,
        code: Arc::clone(code),
        chunk: Some(entry.id.clone()),
        segment,
        sequence: entry.chunk.upload.as_ref().and_then(|upload| upload.sequence),
    };
    let chunk = entry.chunk;
    let uncut = chunk.unsplit().then(|| gap(GapStatus::Pending, &Arc::from("not_split"), None));
    let failed = chunk.standing_failure().map(|failed| gap(GapStatus::Failed, &failed.code, None));
    let waiting = chunk.waiting();
    let pending = waiting
        .map(move |(segment, ..)| gap(GapStatus::Pending, &Arc::from("not_transcribed"), Some(segment)));
    let lost = chunk.lost().map(move |(segment, failed)| gap(GapStatus::Failed, &failed.code, Some(segment)));
    uncut.into_iter().chain(failed).chain(pending).chain(lost)
}

/// Hashes values so that no two lists of values give the same bytes.
struct Canon(Sha256);

impl Canon {
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn digest(&mut self, digest: &Digest) {
        self.0.update(digest.0);
    }

    fn end(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
