//! What a finalize says: outcome, counts, chunks in timeline order and gaps, and the digest that tells two apart.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use crate::fact::{Finalize, Options};
use crate::id::{
    ChunkId, Digest, FinalizeDigest, Generation, Millis, Revision, Stage, Timestamp, Track, words,
};

/// The rule by which new manifests are digested.
pub const DIGEST_VERSION: u32 = 1;

/// At most so many gaps are listed.
pub const GAPS_LISTED: usize = 500;

words! {
    /// What became of the conversation.
    Outcome, "outcome", {
        /// Everything declared has arrived and has a text.
        Complete = "complete",
        /// Everything was answered, some of it by a failure.
        WithFailures = "with_failures",
        /// Something declared never arrived, or a stage never answered.
        Incomplete = "incomplete",
        /// Nothing was uploaded and nothing declared.
        Empty = "empty",
    }
}

words! {
    /// Why the revision was made.
    Cause, "cause", {
        /// The producer said that it was done.
        Finish = "finish",
        /// No chunk was confirmed for `idle_after`.
        Idle = "idle",
        /// The time to wait has passed.
        Deadline = "deadline",
        /// Something arrived after the revision before.
        Late = "late",
        /// A person asked for it.
        Rerun = "rerun",
    }
}

words! {
    /// How a chunk stands.
    ChunkStatus, "chunk status", {
        /// Every segment has a text.
        Complete = "complete",
        /// Every segment was answered, at least one by a failure.
        WithFailures = "with_failures",
        /// It could not be cut.
        Failed = "failed",
        /// It is not cut yet, or a segment waits.
        Pending = "pending",
    }
}

words! {
    /// How a piece that the finalize lacks stands.
    GapStatus, "gap status", {
        /// A declared chunk has not arrived.
        Missing = "missing",
        /// A chunk is not cut yet, or a segment waits.
        Pending = "pending",
        /// It failed for good.
        Failed = "failed",
    }
}

/// How a segment stands by its value; a text counts although a rerun of it may still be awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentStatus {
    /// It has a text with this digest.
    Transcribed(Digest),
    /// It failed for good.
    Failed,
    /// It has no answer.
    Pending,
}

/// How many pieces there are, and how they stand. Without truncation there are `failed + missing` gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Counts {
    /// Chunks that arrived.
    pub chunks: u64,
    /// Segments of those that are cut.
    pub segments: u64,
    /// Segments with a text.
    pub transcribed: u64,
    /// Segments and uncut chunks that failed for good.
    pub failed: u64,
    /// Declared chunks that have not arrived, chunks not cut yet, and segments that wait.
    pub missing: u64,
}

/// The generations of the stages that can be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generations {
    /// Of transcribe.
    pub transcribe: Generation,
    /// Of merge.
    pub merge: Generation,
    /// Of summarize.
    pub summarize: Generation,
}

impl Generations {
    /// The stage's generation; 0 for a stage that is never run again.
    #[must_use]
    pub fn of(&self, stage: Stage) -> Generation {
        match stage {
            Stage::Transcribe => self.transcribe,
            Stage::Merge => self.merge,
            Stage::Summarize => self.summarize,
            Stage::Split | Stage::Aggregate | Stage::Notify => Generation(0),
        }
    }

    /// Raises the stage's generation to at least this one.
    pub fn raise(&mut self, stage: Stage, generation: Generation) {
        let held = match stage {
            Stage::Transcribe => &mut self.transcribe,
            Stage::Merge => &mut self.merge,
            Stage::Summarize => &mut self.summarize,
            Stage::Split | Stage::Aggregate | Stage::Notify => return,
        };
        *held = generation.max(*held);
    }

    /// The stages that were run again, with their generations.
    pub fn iter(self) -> impl Iterator<Item = (Stage, Generation)> {
        let all = [Stage::Transcribe, Stage::Merge, Stage::Summarize].map(|stage| (stage, self.of(stage)));
        all.into_iter().filter(|(_, generation)| *generation > Generation(0))
    }
}

/// What one revision of a conversation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Number of the revision.
    pub revision: Revision,
    /// What became of the conversation.
    pub outcome: Outcome,
    /// Why the revision was made.
    pub cause: Cause,
    /// The digest by which the next decision compares.
    pub digest: FinalizeDigest,
    /// The counts.
    pub counts: Counts,
    /// The stages' generations.
    pub generations: Generations,
    /// The options of the highest rerun of each stage that was run again with options.
    pub options: BTreeMap<Stage, Arc<Options>>,
    /// The chunks that arrived, in timeline order.
    pub chunks: Vec<ManifestChunk>,
    /// What is missing, pending or failed; at most [`GAPS_LISTED`].
    pub gaps: Vec<Gap>,
    /// Whether there are more gaps than are listed.
    pub gaps_truncated: bool,
}

impl Manifest {
    /// The fact that this manifest becomes once it is emitted, for the job's own memory.
    ///
    /// `time` must not be later than the log's will be; `content` is the digest of the whole record as it is written.
    #[must_use]
    pub fn to_fact(&self, time: Timestamp, content: Digest) -> Finalize {
        Finalize {
            time,
            revision: self.revision,
            digest: self.digest,
            content,
            outcome: self.outcome,
            generations: self.generations,
            counts: self.counts,
        }
    }
}

/// One chunk of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestChunk {
    /// Which chunk.
    pub chunk: ChunkId,
    /// Its track.
    pub track: Track,
    /// How it stands.
    pub status: ChunkStatus,
    /// [`chunk_digest`] of its segments.
    pub digest: Digest,
    /// Its standing Upload.
    pub upload_digest: Digest,
    /// Its number within the track.
    pub sequence: Option<u32>,
    /// Start, from the start of the conversation.
    pub offset: Millis,
    /// Length; 0 where it is not cut.
    pub duration: Millis,
    /// Number of segments.
    pub segments: u32,
}

/// One piece that the revision lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The track, where it is known.
    pub track: Track,
    /// How the piece stands.
    pub status: GapStatus,
    /// Code of the failure, or `not_uploaded`, `not_split`, `not_transcribed`.
    pub code: Arc<str>,
    /// Which chunk, where it is known.
    pub chunk: Option<ChunkId>,
    /// Which segment, where it is one.
    pub segment: Option<u32>,
    /// The number within the track, where it is known.
    pub sequence: Option<u32>,
}

/// The digest of a chunk's content: over the status of each of its segments, from 0, and the digest of its text.
///
/// A stage that rebuilds it from rows gives [`SegmentStatus::Pending`] for a segment without a row.
#[must_use]
pub fn chunk_digest(segments: impl IntoIterator<Item = SegmentStatus>) -> Digest {
    let mut hash = Sha256::new_with_prefix(b"hansard chunk 1\n");
    for segment in segments {
        match segment {
            SegmentStatus::Pending => hash.update([0]),
            SegmentStatus::Failed => hash.update([1]),
            SegmentStatus::Transcribed(text) => {
                let mut bytes = [2; 33];
                bytes[1..].copy_from_slice(&text.0);
                hash.update(bytes);
            }
        }
    }
    Digest(hash.finalize().into())
}
