//! The port `Speech`: what the transcribe stage asks of a provider, and the answers it may get.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::redelivery::Class;

use crate::cause::Cause;

/// A provider of speech recognition.
///
/// An implementer must: answer every call within its own configured time limit; submit the audio at most once
/// a call; say by class and code why a call failed, so that nobody reads texts; keep keys and audio out of
/// errors. It need not retry, limit its callers' rate, or remember calls.
#[async_trait]
pub trait Speech: Send + Sync {
    /// Transcribes one segment. A segment in which nothing is said is a success with an empty text.
    async fn transcribe(&self, request: Request) -> Result<Reply, SpeechError>;

    /// Asks whether the provider could answer at all, without paying for audio.
    async fn probe(&self) -> Result<(), SpeechError>;
}

/// One segment to transcribe.
#[derive(Clone, Debug)]
pub struct Request {
    /// FLAC, 16 kHz, mono.
    pub audio: Bytes,
    /// Where the segment starts in its chunk, in milliseconds; the times of words are relative to the chunk too.
    pub start_ms: i64,
    /// Where the segment ends in its chunk, in milliseconds.
    pub end_ms: i64,
    /// The language spoken, as a BCP 47 tag or its first subtag; `None` lets the provider find out.
    pub language: Option<String>,
    /// Names and terms that are likely to occur.
    pub keyterms: Vec<String>,
    /// A model other than the deployment's own.
    pub model: Option<String>,
    /// Whether speakers are to be told apart. A provider that cannot leaves `Word::speaker` empty.
    pub diarize: bool,
    /// The same for every repetition of one submission; sent to providers that honour it.
    pub idempotency_key: String,
}

/// A transcript of one segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The text; empty where nothing is said.
    pub text: String,
    /// The words in order; empty where the provider gives no times.
    pub words: Vec<Word>,
    /// The language as the provider names it, in lower case (a code or an English name).
    pub language: Option<String>,
    /// How sure the provider is of the language, 0 to 1.
    pub language_confidence: Option<f32>,
    /// `local` or the configured name of the server.
    pub provider: String,
    /// The model that answered.
    pub model: String,
    /// From the call to its answer, in milliseconds.
    pub latency_ms: i64,
    /// How much audio was transcribed, in milliseconds.
    pub audio_ms: i64,
    /// The provider's own id of the call, where it gives one.
    pub provider_job_id: Option<String>,
}

/// One word and when it is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// The word with its punctuation.
    pub text: String,
    /// Its start, in milliseconds from the start of the chunk.
    pub start_ms: i64,
    /// Its end, in milliseconds from the start of the chunk.
    pub end_ms: i64,
    /// 0 to 1. `None` also marks a time that was interpolated between the ends of a spoken stretch.
    pub confidence: Option<f32>,
    /// A label that is stable within the segment only.
    pub speaker: Option<String>,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct SpeechError {
    /// Whose fault it is; the stage decides what happens next, not the provider.
    pub class: Class,
    /// A stable name of the cause; all of them stand in `cause.rs`.
    pub code: &'static str,
    /// For people: what happened and, where there is one, the remedy. Never holds a key.
    pub message: String,
    /// The status of the answer, where there was one.
    pub http_status: Option<u16>,
    /// How long the provider asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl SpeechError {
    /// The error of a call whose caller gives it up after so long.
    #[must_use]
    pub fn no_answer(within: Duration) -> Self {
        Cause::TimedOut.error(format!("no answer within {} s", within.as_secs_f32()))
    }
}
