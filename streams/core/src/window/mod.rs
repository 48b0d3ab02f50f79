//! The window: all facts of one conversation joined, in whatever order and however often they came.
//!
//! Joining is commutative, associative and idempotent. What is derived (counts, newest times) is a function of the joined
//! facts, kept beside them so that a fact costs the same however long the conversation is.

mod chunk;
mod keyed;
mod segment;
mod tally;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::cmp::Reverse;
use core::mem::size_of;

pub(crate) use chunk::Chunk;
pub use chunk::{Confirmed, Cut, SEGMENTS_PER_CHUNK};
use keyed::{Keyed, tree_bytes};
pub(crate) use segment::Segment;
pub(crate) use tally::{Tally, TrackTally};

use crate::fact::{Ending, Fact, Failure, Finalize, Finish, Open, Options, Rerun, Transcript, Upload};
use crate::id::{ChunkId, Digest, FinalizeDigest, Generation, Revision, Stage, Timestamp};
use crate::manifest::{Counts, Generations};

/// The joined facts of one conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Window {
    erased: bool,
    /// Time of the earliest fact of any kind.
    earliest: Option<Timestamp>,
    open: Option<Open>,
    finish: Option<Finish>,
    chunks: BTreeMap<ChunkId, Chunk>,
    reruns: BTreeMap<Arc<str>, Rerun>,
    revision: Revision,
    /// What was read of `revision`; more than one is a conflict.
    contents: Keyed<Digest, Option<Finalize>>,
    merges: Keyed<FinalizeDigest, Option<Ended>>,
    summaries: Keyed<FinalizeDigest, Option<Ended>>,
    /// Derived from the chunks and the Finish.
    tally: Tally,
    /// Derived from the reruns.
    generations: Generations,
    /// Derived from the reruns.
    newest_rerun: Option<Timestamp>,
    /// Derived: what the chunks keep.
    chunk_bytes: usize,
}

/// How the merge or the summary of a revision ended. Done beats failed, then the highest generation stands, then the
/// smallest code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Generation of the work.
    pub generation: Generation,
    /// Nothing where it is done, the code of the cause where it failed.
    pub failed: Option<Arc<str>>,
}

/// A segment that a rerun asks to be transcribed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Which chunk.
    pub chunk: ChunkId,
    /// Its standing Upload.
    pub upload_digest: Digest,
    /// That Upload's standing Split.
    pub split_digest: Digest,
    /// Which segment, from 0.
    pub segment: u32,
    /// Of how many.
    pub of: u32,
    /// The generation that it has to answer.
    pub generation: Generation,
    /// The options of the rerun with that generation.
    pub options: Option<Arc<Options>>,
}

impl Window {
    /// A window without any fact.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins a fact; true when that changed the window.
    ///
    /// The cost does not grow with the conversation: only a Split looks at its own segments, only a Rerun at every segment
    /// that it may cover, and a Finish at the tracks that it names.
    pub fn apply(&mut self, fact: &Fact) -> bool {
        if self.erased {
            return false;
        }
        let earlier = fact.time().filter(|time| self.earliest.is_none_or(|earliest| *time < earliest));
        self.earliest = earlier.or(self.earliest);
        let changed = match fact {
            Fact::Open(open) => self.open(open),
            Fact::Upload(upload) => self.reshape(&upload.chunk, |chunk| chunk.confirm(upload)),
            Fact::Finish(finish) => self.finish(finish),
            Fact::Rerun(rerun) => self.rerun(rerun),
            Fact::Erase => {
                *self = Self { erased: true, ..Self::default() };
                true
            }
            Fact::Split(split) => self.reshape(&split.chunk, |chunk| chunk.cut(split)),
            Fact::Transcript(transcript) => self.transcript(transcript),
            Fact::Failure(failure) => self.failure(failure),
            Fact::Finalize(finalize) => self.finalize(finalize),
            Fact::Merge(ending) => Ended::join(&mut self.merges, ending),
            Fact::Summary(ending) => Ended::join(&mut self.summaries, ending),
        };
        changed || earlier.is_some()
    }

    fn open(&mut self, open: &Open) -> bool {
        let lower = self.open.as_ref().is_none_or(|held| open < held);
        if lower {
            self.open = Some(open.clone());
        }
        lower
    }

    fn finish(&mut self, finish: &Finish) -> bool {
        let higher = self.finish.as_ref().is_none_or(|held| finish > held);
        if higher {
            self.tally.expect(self.finish.as_ref(), Some(finish));
            self.finish = Some(finish.clone());
        }
        higher
    }

    fn rerun(&mut self, rerun: &Rerun) -> bool {
        let held = self.reruns.get(&rerun.event);
        if held.is_some_and(|held| held <= rerun) {
            return false;
        }
        let was = held.map(|held| held.stage);
        self.reruns.insert(Arc::clone(&rerun.event), rerun.clone());
        self.newest_rerun = self.reruns.values().map(|rerun| rerun.time).max();
        self.generations = Generations::default();
        for rerun in self.reruns.values() {
            steps(1);
            self.generations.raise(rerun.stage, rerun.offset.generation());
        }
        if was == Some(Stage::Transcribe) || rerun.stage == Stage::Transcribe {
            for chunk in self.chunks.values_mut() {
                self.tally.pieces -= chunk.pieces;
                chunk.derive(self.reruns.values());
                self.tally.pieces += chunk.pieces;
            }
        }
        true
    }

    /// Makes sure that the chunk is known; true where it was not.
    fn name(&mut self, id: &ChunkId) -> bool {
        let new = !self.chunks.contains_key(id);
        if new {
            let chunk = Chunk::default();
            self.tally.put(&chunk, self.finish.as_ref());
            self.chunks.insert(id.clone(), chunk);
        }
        new
    }

    /// Changes what stands of a chunk.
    fn reshape(&mut self, id: &ChunkId, change: impl FnOnce(&mut Chunk) -> bool) -> bool {
        let named = self.name(id);
        let Some(chunk) = self.chunks.get_mut(id) else { return named };
        self.tally.take(chunk, self.finish.as_ref());
        let bytes = chunk.approximate_bytes();
        let changed = change(chunk);
        if changed {
            chunk.derive(self.reruns.values());
        }
        self.chunk_bytes = self.chunk_bytes + chunk.approximate_bytes() - bytes;
        self.tally.put(chunk, self.finish.as_ref());
        named || changed
    }

    /// Changes one segment of a chunk.
    fn answer(
        &mut self,
        id: &ChunkId,
        segment: (Digest, Digest, u32),
        change: impl FnOnce(&mut Segment) -> bool,
    ) -> bool {
        let named = self.name(id);
        let Some(chunk) = self.chunks.get_mut(id) else { return named };
        let bytes = chunk.approximate_bytes();
        let (changed, before, after) = chunk.answer(segment, change);
        self.chunk_bytes = self.chunk_bytes + chunk.approximate_bytes() - bytes;
        self.tally.pieces -= before;
        self.tally.pieces += after;
        named || changed
    }

    fn transcript(&mut self, fact: &Transcript) -> bool {
        let segment = (fact.upload_digest, fact.split_digest, fact.segment);
        self.answer(&fact.chunk, segment, |segment| segment.transcribed(fact.generation, fact.text_sha256))
    }

    fn failure(&mut self, fact: &Failure) -> bool {
        let named = fact.chunk.as_ref().is_some_and(|chunk| self.name(chunk));
        let (generation, code) = (fact.generation, &fact.code);
        let changed = fact.terminal
            && match (fact.stage, &fact.chunk, fact.upload_digest, fact.split_digest, fact.segment) {
                (Stage::Split, Some(chunk), Some(upload), _, _) => {
                    self.reshape(chunk, |chunk| chunk.cut_failed(upload, generation, code))
                }
                (Stage::Transcribe, Some(chunk), Some(upload), Some(split), Some(segment)) => {
                    let segment = (upload, split, segment);
                    self.answer(chunk, segment, |held| {
                        segment::Failed::join(&mut held.failed, generation, code)
                    })
                }
                (Stage::Merge | Stage::Summarize, ..) => self.ending_failed(fact),
                _ => false,
            };
        named || changed
    }

    fn ending_failed(&mut self, fact: &Failure) -> bool {
        let Some(finalize_digest) = fact.finalize_digest else { return false };
        let failed = Some(Arc::clone(&fact.code));
        let ending = Ending { time: fact.time, finalize_digest, generation: fact.generation, failed };
        let endings = if fact.stage == Stage::Merge { &mut self.merges } else { &mut self.summaries };
        Ended::join(endings, &ending)
    }

    fn finalize(&mut self, finalize: &Finalize) -> bool {
        if finalize.revision < self.revision {
            return false;
        }
        if finalize.revision > self.revision {
            self.contents = Keyed::default();
            self.revision = finalize.revision;
        }
        let held = self.contents.at(finalize.content);
        let greater = held.as_ref().is_none_or(|held| finalize > held);
        if greater {
            *held = Some(finalize.clone());
        }
        greater
    }

    /// About how many bytes the window keeps.
    #[must_use]
    pub fn approximate_bytes(&self) -> usize {
        // A name is a shared text with two counters.
        let names = (self.chunks.len() + self.reruns.len()) * 32;
        let ended = size_of::<(FinalizeDigest, Option<Ended>)>();
        size_of::<Self>()
            + names
            + self.chunk_bytes
            + tree_bytes(self.chunks.len(), size_of::<(ChunkId, Chunk)>())
            + tree_bytes(self.reruns.len(), size_of::<(Arc<str>, Rerun)>())
            + self.tally.approximate_bytes()
            + self.contents.len() * size_of::<(Digest, Option<Finalize>)>()
            + (self.merges.len() + self.summaries.len()) * ended
    }
}

/// What the window says.
impl Window {
    /// Whether the conversation was erased; then nothing else is known of it, for ever.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.erased
    }

    /// The log time of the earliest fact.
    #[must_use]
    pub fn earliest(&self) -> Option<Timestamp> {
        self.earliest
    }

    /// The standing Open.
    #[must_use]
    pub fn open_fact(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// The standing Finish.
    #[must_use]
    pub fn finish_fact(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    /// The last finalize known; of several contents of one revision the one with the latest time.
    #[must_use]
    pub fn last_finalize(&self) -> Option<&Finalize> {
        self.contents.values().flatten().max()
    }

    /// Number of the last finalize known.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How many contents of the last revision were read; more than one is a conflict, to be counted and shown.
    #[must_use]
    pub fn contents_of_revision(&self) -> usize {
        self.contents.len()
    }

    /// The standing Upload of the chunk.
    #[must_use]
    pub fn standing_upload(&self, chunk: &ChunkId) -> Option<&Confirmed> {
        self.chunks.get(chunk).and_then(|chunk| chunk.upload.as_ref())
    }

    /// The standing Split of the chunk's standing Upload.
    #[must_use]
    pub fn standing_split(&self, chunk: &ChunkId) -> Option<&Cut> {
        self.chunks.get(chunk).and_then(Chunk::standing_cut)
    }

    /// The segments of the chunk's standing Split with how they stand: what [`crate::manifest::chunk_digest`] is over.
    pub fn segments(&self, chunk: &ChunkId) -> impl Iterator<Item = (u32, crate::manifest::SegmentStatus)> {
        let chunk = self.chunks.get(chunk);
        chunk
            .into_iter()
            .flat_map(|chunk| chunk.segments().map(|(number, segment)| (number, segment.status())))
    }

    /// Whether another Upload than this one stands for its chunk: a `conflicting_upload`, to be shown, which ends
    /// nothing. Ask after applying it, and about the Upload that stood before, should this one have replaced it.
    #[must_use]
    pub fn conflicts(&self, upload: &Upload) -> bool {
        self.standing_upload(&upload.chunk).is_some_and(|standing| standing.digest != upload.digest)
    }

    /// Whether anything is awaited: a declared chunk, a Split, an answer of a segment. Costs the same for any window.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.tally.unsplit > 0 || self.tally.pieces.waiting > 0 || self.missing() > 0
    }

    /// How many declared chunks have not arrived.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.tally.missing(self.finish.as_ref())
    }

    /// The counts as a finalize would give them now. Costs the same for any window.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Tally { pieces, arrived, unsplit, uncuttable, .. } = &self.tally;
        Counts {
            chunks: *arrived,
            segments: pieces.segments,
            transcribed: pieces.transcribed,
            failed: pieces.failed + uncuttable,
            missing: self.missing() + unsplit + pieces.waiting,
        }
    }

    /// The stages' generations: of each its highest rerun's.
    #[must_use]
    pub fn generations(&self) -> Generations {
        self.generations
    }

    /// The standing reruns.
    pub fn reruns(&self) -> impl Iterator<Item = &Rerun> {
        self.reruns.values()
    }

    /// The segments, of one chunk or of all, that wait for a rerun's answer: what aggregate emits when it processes a
    /// Rerun, or a Split that one covers. Asking again gives what still waits.
    pub fn rerun_work<'a>(&'a self, only: Option<&'a ChunkId>) -> impl Iterator<Item = Work> + 'a {
        let one = only.and_then(|id| self.chunks.get_key_value(id));
        let all = only.is_none().then(|| self.chunks.iter()).into_iter().flatten();
        one.into_iter().chain(all).flat_map(move |(id, chunk)| {
            steps(1);
            let standing = chunk.upload.as_ref().zip(chunk.standing_cut());
            standing.into_iter().flat_map(move |(upload, cut)| {
                chunk.waiting().filter(|(_, generation, _)| *generation > Generation(0)).map(
                    move |(segment, generation, _)| Work {
                        chunk: id.clone(),
                        upload_digest: upload.digest,
                        split_digest: cut.digest,
                        segment,
                        of: cut.segments,
                        generation,
                        options: self.options_of(Stage::Transcribe, generation),
                    },
                )
            })
        })
    }

    /// The stage's rerun with this generation.
    fn rerun_with(&self, stage: Stage, generation: Generation) -> Option<&Rerun> {
        self.reruns.values().find(|rerun| rerun.stage == stage && rerun.offset.generation() == generation)
    }

    /// The options of the stage's rerun with this generation.
    #[must_use]
    pub fn options_of(&self, stage: Stage, generation: Generation) -> Option<Arc<Options>> {
        self.rerun_with(stage, generation).and_then(|rerun| rerun.options.clone())
    }

    /// When the stage's rerun with this generation was asked for.
    pub(crate) fn asked_at(&self, stage: Stage, generation: Generation) -> Option<Timestamp> {
        self.rerun_with(stage, generation).map(|rerun| rerun.time)
    }

    /// How the merge of the last finalize ended.
    #[must_use]
    pub fn merge(&self) -> Option<&Ended> {
        self.last_finalize().and_then(|last| self.merges.get(&last.digest)?.as_ref())
    }

    /// How the summary of the last finalize ended.
    #[must_use]
    pub fn summary(&self) -> Option<&Ended> {
        self.last_finalize().and_then(|last| self.summaries.get(&last.digest)?.as_ref())
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = (&ChunkId, &Chunk)> {
        self.chunks.iter()
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// When the conversation began, for windows that nothing else closes.
    pub(crate) fn began(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|open| open.time).or(self.earliest)
    }

    pub(crate) fn newest_rerun(&self) -> Option<Timestamp> {
        self.newest_rerun
    }
}

impl Ended {
    fn join(endings: &mut Keyed<FinalizeDigest, Option<Self>>, ending: &Ending) -> bool {
        let held = endings.at(ending.finalize_digest);
        let offered = Self { generation: ending.generation, failed: ending.failed.clone() };
        let greater = held.as_ref().is_none_or(|held| offered.rank() > held.rank());
        if greater {
            *held = Some(offered);
        }
        greater
    }

    fn rank(&self) -> (bool, Generation, Reverse<&Option<Arc<str>>>) {
        (self.failed.is_none(), self.generation, Reverse(&self.failed))
    }
}

#[cfg(test)]
std::thread_local! {
    /// Elementary steps taken by this thread's windows: what proves that the cost of a fact does not grow.
    pub(crate) static STEPS: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

/// Counts elementary steps in tests; nothing otherwise.
fn steps(number: u64) {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + number));
    #[cfg(not(test))]
    let _ = number;
}
