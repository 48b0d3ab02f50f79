//! What the stages need beside the runtime's ports: the audio path, speech recognition, summaries, webhooks. Each
//! connector classes its own failures; no stage reads an error's text.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use hansard_core::document::Document;
use hansard_core::id::Timestamp;
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

/// A segment that is to be transcribed.
#[derive(Debug, Clone)]
pub struct SpeechRequest {
    /// FLAC, 16 kHz, mono.
    pub audio: Bytes,
    /// Where the segment starts and ends in its chunk, in milliseconds; the times of words are relative to the chunk.
    pub start_ms: i64,
    /// See `start_ms`.
    pub end_ms: i64,
    /// Language, model, key terms and so on.
    pub options: Options,
    /// The same for every repetition of one submission.
    pub idempotency_key: String,
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
    /// Who answered.
    pub provider: String,
    /// With which model.
    pub model: String,
    /// From the call to its answer, in milliseconds.
    pub latency_ms: i64,
    /// How much audio was transcribed, in milliseconds.
    pub audio_ms: i64,
    /// The provider's own id of the call.
    pub provider_job_id: Option<String>,
}

/// A provider of speech recognition.
///
/// An implementation must: answer within its own time limit; submit the audio at most once a call; keep keys, audio
/// and what was heard out of failures. It need not retry, limit its callers' rate, or remember calls.
#[async_trait]
pub trait Speech: Send + Sync {
    /// Transcribes one segment. Silence is a success with an empty text.
    async fn transcribe(&self, request: SpeechRequest) -> Result<SpeechReply, Failed>;

    /// Has the provider delete what it keeps of a job; done where it keeps nothing. Confirmed once it answers without a
    /// failure; asked again until then. A provider that keeps nothing confirms at once.
    async fn forget(&self, _job: &str) -> Result<(), Failed> {
        Ok(())
    }
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
}

/// A writer of summaries.
///
/// An implementation must: answer within its own time limit, and give the same for the same document where it says that
/// it is deterministic. It need not retry or remember.
#[async_trait]
pub trait Summarizer: Send + Sync {
    /// Its name, its model and the version of its prompt or rule; together with the document they key the journal.
    fn identity(&self) -> SummarizerIdentity;

    /// Summarises a transcript.
    async fn summarize(&self, document: &Document, options: &Options) -> Result<SummaryReply, Failed>;
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
