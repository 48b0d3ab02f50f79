//! What happened to a conversation, reduced to what decisions need.
//!
//! These are not wire types: a job converts at its two ends. Where facts of one kind compete, their order is total and
//! is the derived one, so the field that decides comes first.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::id::{
    ChunkId, Digest, FinalizeDigest, Generation, Millis, Offset, Only, Revision, Stage, Timestamp, Track,
};
use crate::manifest::{Counts, Generations, Outcome};

/// One fact of one conversation. Every `time` is the log's, never a producer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The conversation was opened.
    Open(Open),
    /// A chunk was confirmed.
    Upload(Upload),
    /// The producer says that it is done.
    Finish(Finish),
    /// A person wants a stage to run again.
    Rerun(Rerun),
    /// The conversation is to be forgotten.
    Erase,
    /// A chunk was cut.
    Split(Split),
    /// A segment has a text.
    Transcript(Transcript),
    /// An attempt failed, or a piece failed for good.
    Failure(Failure),
    /// A revision was emitted.
    Finalize(Finalize),
    /// The audio of a revision was merged, or could not be.
    Merge(Ending),
    /// A revision was summarised, or could not be.
    Summary(Ending),
}

/// The conversation was opened; the lowest offset stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Open {
    /// Offset in `uploads`.
    pub offset: Offset,
    /// Log time.
    pub time: Timestamp,
    /// The conversation's own `idle_after`.
    pub idle_after: Option<Millis>,
    /// The conversation's own `missing_after`.
    pub missing_after: Option<Millis>,
}

/// A chunk was confirmed; the lowest offset stands (a redriven Upload keeps its origin's offset and time).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Offset in `uploads`.
    pub offset: Offset,
    /// Log time.
    pub time: Timestamp,
    /// Which chunk.
    pub chunk: ChunkId,
    /// `upload_digest`: of the Upload's own fields.
    pub digest: Digest,
    /// The producer's line of chunks.
    pub track: Track,
    /// Number within the track, from 0.
    pub sequence: Option<u32>,
    /// Start of the recording by the producer's clock; orders and places chunks, decides nothing.
    pub recorded_at: Timestamp,
}

/// The producer says that it is done; the highest offset stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finish {
    /// Offset in `uploads`.
    pub offset: Offset,
    /// Log time.
    pub time: Timestamp,
    /// At least so many chunks are to arrive.
    pub expected_chunks: Option<u32>,
    /// At least so many chunks are to arrive in each of these tracks.
    pub expected_by_track: BTreeMap<Track, u32>,
}

/// A person wants a stage to run again; of one `event` the lowest offset stands. Its generation is its offset + 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rerun {
    /// Offset in `uploads`.
    pub offset: Offset,
    /// Log time.
    pub time: Timestamp,
    /// `event_id`.
    pub event: Arc<str>,
    /// Which stage: transcribe, merge or summarize.
    pub stage: Stage,
    /// Which of its pieces.
    pub only: Only,
    /// What is to be done otherwise this time.
    pub options: Option<Arc<Options>>,
}

/// How a stage is to do its work; absent fields leave what holds already.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Options {
    /// Language of the speech.
    pub language: Option<Arc<str>>,
    /// Who transcribes or summarises.
    pub provider: Option<Arc<str>>,
    /// With which model.
    pub model: Option<Arc<str>>,
    /// Whether personal data are blanked.
    pub redact_pii: Option<bool>,
    /// Whether speakers are told apart.
    pub diarize: Option<bool>,
    /// Words to listen for.
    pub keyterms: Vec<Arc<str>>,
}

/// A chunk was cut; of one Upload's the lowest offset stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Offset in `splits`.
    pub offset: Offset,
    /// Log time.
    pub time: Timestamp,
    /// Which chunk.
    pub chunk: ChunkId,
    /// Of which Upload.
    pub upload_digest: Digest,
    /// The Split's own digest, which its segments carry.
    pub digest: Digest,
    /// Number of segments; they are numbered from 0.
    pub segments: u32,
    /// Length of the decoded chunk.
    pub duration: Millis,
}

/// A segment has a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Log time.
    pub time: Timestamp,
    /// Which chunk.
    pub chunk: ChunkId,
    /// Of which Upload.
    pub upload_digest: Digest,
    /// Of which Split.
    pub split_digest: Digest,
    /// Which segment, from 0.
    pub segment: u32,
    /// Generation of the transcription.
    pub generation: Generation,
    /// Digest of text, words and redactions.
    pub text_sha256: Digest,
}

/// An attempt failed, or, where terminal, a piece failed for good. Only terminal ones end a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Log time.
    pub time: Timestamp,
    /// Which stage failed.
    pub stage: Stage,
    /// Whether this was the end of it.
    pub terminal: bool,
    /// Stable code of the cause.
    pub code: Arc<str>,
    /// Generation of the attempt.
    pub generation: Generation,
    /// Which chunk, for split and transcribe.
    pub chunk: Option<ChunkId>,
    /// Of which Upload, for split and transcribe.
    pub upload_digest: Option<Digest>,
    /// Of which Split, for transcribe.
    pub split_digest: Option<Digest>,
    /// Which segment, for transcribe.
    pub segment: Option<u32>,
    /// Of which finalize, for merge and summarize.
    pub finalize_digest: Option<FinalizeDigest>,
}

/// A revision was emitted; the highest revision stands, and two contents of it are a conflict.
///
/// A job that applies its own emission before it is read back gives a `time` not later than the log's; the greater
/// time stands, so the log's replaces it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finalize {
    /// Log time.
    pub time: Timestamp,
    /// Number of the revision.
    pub revision: Revision,
    /// The manifest's digest.
    pub digest: FinalizeDigest,
    /// Digest of everything that the record says; tells two contents of one revision apart.
    pub content: Digest,
    /// The outcome.
    pub outcome: Outcome,
    /// The stages' generations.
    pub generations: Generations,
    /// The counts.
    pub counts: Counts,
}

/// A merge or a summary of one revision ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Log time.
    pub time: Timestamp,
    /// Of which finalize.
    pub finalize_digest: FinalizeDigest,
    /// Generation of the work.
    pub generation: Generation,
    /// Nothing where it is done, the code of the cause where it failed.
    pub failed: Option<Arc<str>>,
}

impl Fact {
    /// The log time of the fact; an Erase needs none.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Open(open) => Some(open.time),
            Self::Upload(upload) => Some(upload.time),
            Self::Finish(finish) => Some(finish.time),
            Self::Rerun(rerun) => Some(rerun.time),
            Self::Erase => None,
            Self::Split(split) => Some(split.time),
            Self::Transcript(transcript) => Some(transcript.time),
            Self::Failure(failure) => Some(failure.time),
            Self::Finalize(finalize) => Some(finalize.time),
            Self::Merge(ending) | Self::Summary(ending) => Some(ending.time),
        }
    }
}
