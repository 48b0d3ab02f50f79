//! What the stages need beside the runtime's ports: the audio path, speech recognition, summaries, webhooks. Each
//! connector classes its own failures; no stage reads an error's text.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use hansard_core::document::Document;
use hansard_core::id::Timestamp;
use hansard_core::redelivery::Class;
use hansard_runtime::pace::Permit;
use hansard_runtime::ports::PortError;
use hansard_runtime::stage::Failed;
use hansard_schemas::{Options, SplitSegment, Word};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

pub use crate::peaks::Peaks;

/// A recording as it comes from the object store.
pub type Body = BoxStream<'static, Result<Bytes, PortError>>;

/// A recording that is to be decoded.
pub struct Recording {
    /// Its bytes.
    pub body: Body,
    /// For a slice that goes on where another ended, the bytes of the first slice, which begins with the header of both. Only
    /// its beginning is read.
    pub header: Option<Body>,
}

/// A segment as it comes from the cutter.
#[derive(Debug, Clone, PartialEq)]
pub struct CutSegment {
    /// What and where it is; `sha256` is that of `flac`.
    pub segment: SplitSegment,
    /// FLAC, 16 kHz, mono, 16 bits.
    pub flac: Bytes,
}

/// What cutting found, without the segments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// Decoded duration in milliseconds, from counted frames.
    pub duration_ms: i64,
    /// The codec's short name.
    pub codec: String,
    /// The container's short name.
    pub container: String,
    /// The recording's own sample rate in hertz.
    pub sample_rate: i32,
    /// The recording's own channels.
    pub channels: i32,
    /// Whether the file was damaged or cut short.
    pub truncated: bool,
    /// Silence that is in no segment, in milliseconds.
    pub silent_ms: i64,
    /// The waveform.
    pub peaks: Peaks,
}

/// A recording that is to be merged.
pub struct MergeSource {
    /// Its name in the report.
    pub chunk_id: String,
    /// Where it lies on the conversation's timeline, in milliseconds.
    pub offset_ms: i64,
    /// Its bytes, or why they cannot be had: a permanent failure skips this input, any other ends the merge.
    pub recording: Result<Recording, Failed>,
}

/// Opens the recordings of a merge from the first on, each when its turn comes; may be called again.
pub type Sources<'a> = &'a (dyn Fn() -> BoxStream<'static, MergeSource> + Send + Sync);

/// What became of a merge's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedInput {
    /// Its name.
    pub chunk_id: String,
    /// `merged`, `truncated` or `skipped`.
    pub status: &'static str,
    /// The stable code of why it is not whole.
    pub code: Option<String>,
    /// Where it begins in the merged file, in milliseconds.
    pub offset_ms: i64,
    /// How long it is there, in milliseconds.
    pub duration_ms: i64,
}

/// What merging gave.
pub struct Merged {
    /// The file; or, where too much was lost, the stable code of that: `no_audio` or `too_much_lost`.
    pub file: Result<MergedFile, &'static str>,
    /// The inputs, in order.
    pub inputs: Vec<MergedInput>,
}

/// A merged file.
pub struct MergedFile {
    /// The usual ending of its kind's names.
    pub extension: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// The bytes, to be read once; the file is gone when this is dropped.
    pub body: Box<dyn AsyncRead + Send + Unpin>,
    /// Its size.
    pub bytes: i64,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
    /// Its duration in milliseconds, from counted frames.
    pub duration_ms: i64,
}

/// The audio path.
///
/// An implementation must give: memory that does not grow with the recording; the same cuts for the same bytes; limits on
/// everything that a file could blow up; no harm to this process whatever the bytes. Dropping a future stops its work.
#[async_trait]
pub trait Audio: Send + Sync {
    /// Names the rules by which recordings are cut.
    fn plan_version(&self) -> &'static str;

    /// Decodes and cuts one recording. Segments are sent in order; a full channel makes the cutter wait. Those sent
    /// before a failure are worthless.
    async fn split(&self, recording: Recording, segments: mpsc::Sender<CutSegment>) -> Result<Cut, Failed>;

    /// The format that merged files are asked to have. Together with the recordings it decides what they are.
    fn merge_format(&self) -> &'static str;

    /// Merges recordings in the given order. A bad one is skipped with its reason.
    async fn merge(&self, sources: Sources<'_>) -> Result<Merged, Failed>;
}

/// The audio of a segment, which a provider takes in one way or the other.
///
/// An implementation must give the same bytes each time: FLAC, 16 kHz, mono.
#[async_trait]
pub trait SegmentAudio: Send + Sync {
    /// The bytes.
    async fn bytes(&self) -> Result<Bytes, Failed>;

    /// A link by which anybody can read them for some hours; it is a secret.
    async fn link(&self) -> Result<String, Failed>;
}

/// A segment that is to be transcribed.
#[derive(Clone)]
pub struct SpeechRequest {
    /// What was said.
    pub audio: Arc<dyn SegmentAudio>,
    /// Where the segment starts and ends in its chunk, in milliseconds; the times of words are relative to the chunk.
    pub start_ms: i64,
    /// See `start_ms`.
    pub end_ms: i64,
    /// Language, model, key terms and so on. `provider` is set only where the record chose another than the deployment's: what
    /// is then refused is that choice.
    pub options: Options,
    /// Whether the provider is to redact what it can by itself.
    pub redact: bool,
    /// The same for every repetition of one submission.
    pub idempotency_key: String,
    /// Where a provider that works in jobs is to tell that one has ended; it is a secret.
    pub callback: Option<String>,
}

/// What was said in a segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpeechReply {
    /// The text; empty where nothing is said.
    pub text: String,
    /// The words in order; empty where the provider gives no times.
    pub words: Vec<Word>,
    /// The language as the provider names it.
    pub language: Option<String>,
    /// How sure the provider is of it, 0 to 1.
    pub language_confidence: Option<f32>,
    /// With which model.
    pub model: String,
    /// How much audio was transcribed, in milliseconds.
    pub audio_ms: i64,
    /// The provider's own id of the call.
    pub call_id: Option<String>,
}

/// What a submission led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// The provider answers at once.
    Reply(SpeechReply),
    /// It works on a job of this id.
    Job(String),
}

/// What a provider says of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobState {
    /// It is queued or worked on.
    UnderWay,
    /// It is done.
    Done(SpeechReply),
    /// It has ended without a result.
    Ended(Failed),
}

/// A provider of speech recognition; one file each.
///
/// An implementation must: answer every call within a time limit of its own; submit the audio at most once a call; class
/// what went wrong by the one table that all share; keep keys, links and what was said out of failures; and wait for its
/// turn before each call of the provider, which the permit that came with the work gives. It need not retry or remember
/// calls.
#[async_trait]
pub trait Speech: Send + Sync {
    /// Transcribes one segment, or begins to. Silence is a success with an empty text.
    async fn submit(&self, request: &SpeechRequest, permit: &Permit<'_>) -> Result<Submitted, Failed>;

    /// Asks for a job that `request` led to. A failure is one of asking, and says nothing of the job.
    async fn check(
        &self,
        job: &str,
        _request: &SpeechRequest,
        _permit: &Permit<'_>,
    ) -> Result<JobState, Failed> {
        let cause = format!("job {job:?} is of a provider that works in no jobs");
        Ok(JobState::Ended(Failed::new(Class::Defect, "not_a_job", cause)))
    }

    /// Looks for a job that `request` led to although its id never became known here, begun since then. A provider that
    /// cannot be asked finds none.
    async fn find(
        &self,
        _request: &SpeechRequest,
        _since: Timestamp,
        _permit: &Permit<'_>,
    ) -> Result<Option<String>, Failed> {
        Ok(None)
    }

    /// Has the provider stop a job and delete what it keeps of it; done where it keeps nothing. Confirmed once it answers
    /// without a failure; asked again until then. A provider that keeps nothing confirms at once.
    async fn forget(&self, _job: &str, _permit: &Permit<'_>) -> Result<(), Failed> {
        Ok(())
    }

    /// Asks whether the provider could answer at all, without paying for audio.
    async fn probe(&self, permit: &Permit<'_>) -> Result<(), Failed>;

    /// The job that the body of a webhook tells of; nothing where it tells of none.
    fn told(&self, _body: &[u8]) -> Option<String> {
        None
    }
}

/// What is to be summarised.
#[derive(Debug, Clone, Copy)]
pub enum Material<'a> {
    /// A transcript, for a writer that takes any length.
    Transcript(&'a Document),
    /// All that was said, as [`hansard_core::passages`] writes it; like what follows within the writer's room.
    Whole(&'a str),
    /// One of several passages.
    Passage(&'a str),
    /// Summaries of passages that follow each other, likewise.
    Notes(&'a str),
}

/// A summary that is wanted.
#[derive(Debug, Clone)]
pub struct SummaryRequest<'a> {
    /// Of what.
    pub material: Material<'a>,
    /// The language to write in, as whoever chose it or recognised the speech names it.
    pub language: Option<&'a str>,
    /// Model, key terms and so on. `provider` and `model` are set only where the record chose them: what is then refused is
    /// that choice.
    pub options: &'a Options,
    /// The same for every repetition of one submission.
    pub idempotency_key: String,
}

/// A summary.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SummaryReply {
    /// The summary; empty where nothing was said.
    pub text: String,
    /// A title, where one was found.
    pub title: Option<String>,
    /// Main points.
    pub key_points: Vec<String>,
    /// What somebody agreed to do.
    pub action_items: Vec<String>,
    /// The summary's language.
    pub language: Option<String>,
    /// The model that wrote it, where the writer was told another name than it asked for.
    pub model: Option<String>,
    /// Tokens that the model read.
    pub tokens_in: Option<i64>,
    /// Tokens that it wrote.
    pub tokens_out: Option<i64>,
}

/// A writer of summaries.
///
/// An implementation must: answer within its own time limit, in one call that costs; let nothing in the material change what
/// it is asked; class what went wrong by the one table that all share; keep keys and what was said out of failures; and give
/// the same for the same material where it says that it is deterministic. It need not retry, limit its callers' rate, or
/// remember calls.
#[async_trait]
pub trait Summarizer: Send + Sync {
    /// Its name, the model that it uses under these options, and the version of its prompt or rule; together with the
    /// material they key the journal.
    fn identity(&self, options: &Options) -> SummarizerIdentity;

    /// Tokens of material that it takes in one call, as [`hansard_core::passages::tokens`] counts them; `None` where it takes
    /// a [`Material::Transcript`] of any length, and nothing else.
    fn room(&self) -> Option<usize> {
        None
    }

    /// Summarises.
    async fn summarize(
        &self,
        request: &SummaryRequest<'_>,
        permit: &Permit<'_>,
    ) -> Result<SummaryReply, Failed>;

    /// Asks whether it could answer at all, without paying.
    async fn probe(&self, _permit: &Permit<'_>) -> Result<(), Failed> {
        Ok(())
    }
}

/// What tells one way of summarising from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummarizerIdentity {
    /// Who summarises.
    pub provider: String,
    /// With which model.
    pub model: String,
    /// By which prompt or rule.
    pub prompt_version: String,
}

/// What is told to a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The same for every repetition, so that the receiver can drop repetitions.
    pub id: String,
    /// Whom to tell.
    pub url: String,
    /// When.
    pub at: Timestamp,
    /// JSON, sent as it is.
    pub body: Bytes,
}

/// Calls URLs that somebody outside has named.
///
/// An implementation must: answer within its own time limit; send the body's bytes, signed together with the id and the
/// time; reach no address but those that outsiders may have called; follow no redirect; read no more of an answer than it
/// needs; keep all of a URL but its host out of failures. A receiver that cannot be reached is transient, never
/// unavailable: others go on.
#[async_trait]
pub trait Webhook: Send + Sync {
    /// Sends one notice; the status of an answer that says it was taken.
    async fn post(&self, notice: &Notice) -> Result<u16, Failed>;
}
