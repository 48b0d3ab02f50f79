//! What transcribing gives: a provider's webhook as received, and the transcript of a segment.

use crate::macros::{part, record};
use crate::words::Words;

record! {
    /// A provider's webhook as it was received.
    pub struct Callback {
        /// Key of the effect in the journal, from the signed token of the URL.
        pub journal_key: String,
        /// Name of the provider.
        pub provider: String,
        /// Provider's id of the job.
        pub job_id: String,
        /// Body of the request, byte for byte.
        #[serde(with = "hex::serde")]
        pub body: Vec<u8>,
        /// Media type of the body as declared.
        pub content_type: Option<String>,
    }
}

record! {
    /// What was said in one segment.
    pub struct Transcript {
        /// Name of the chunk within its conversation, at most 64 bytes.
        pub chunk_id: String,
        /// Digest of the Upload that this answers, lower-case hex SHA-256 of its own fields.
        pub upload_digest: String,
        /// Digest of the Split that the segment belongs to, lower-case hex SHA-256.
        pub split_digest: String,
        /// Provider that transcribed it.
        pub provider: String,
        /// Provider's name of the model.
        pub model: String,
        /// The text after redaction; empty where nothing was said.
        pub text: String,
        /// SHA-256 over text, words and redactions, lower-case hex.
        pub text_sha256: String,
        /// Position of the segment within its chunk, from 0.
        pub segment: i32,
        /// Generation of the stage: 0 at first, a rerun's is its offset in uploads + 1.
        pub generation: i64,
        /// Start of the segment within the chunk in milliseconds.
        pub start_ms: i64,
        /// End of the segment within the chunk in milliseconds, exclusive.
        pub end_ms: i64,
        /// Audio that the provider was given, in milliseconds.
        pub audio_ms: i64,
        /// Language that was asked for or detected, BCP 47.
        pub language: Option<String>,
        /// Provider's id of the job.
        pub provider_job_id: Option<String>,
        /// Currency of cost_micros, ISO 4217.
        pub currency: Option<String>,
        /// Provider's confidence in the language, from 0 to 1.
        pub language_confidence: Option<f32>,
        /// The words with their times, where the provider gives them.
        pub words: Words,
        /// Where something was removed from the text.
        pub redactions: Vec<Redaction>,
        /// Time from submission to result in milliseconds.
        pub latency_ms: Option<i64>,
        /// Cost in millionths of the currency.
        pub cost_micros: Option<i64>,
    }
}

part! {
    /// A word with its place in time.
    pub struct Word {
        /// The word as written in the text.
        pub text: String,
        /// Start within the chunk in milliseconds.
        pub start_ms: i64,
        /// End within the chunk in milliseconds.
        pub end_ms: i64,
        /// Provider's confidence, from 0 to 1.
        pub confidence: Option<f32>,
        /// Provider's label of the speaker, comparable within one segment only.
        pub speaker: Option<String>,
    }
}

part! {
    /// A place of the text where something personal was removed.
    pub struct Redaction {
        /// What was removed, for example `email`, `phone` or `card`.
        pub kind: String,
        /// Offset in the text, in bytes of UTF-8.
        pub start: i32,
        /// End offset in the text, in bytes of UTF-8, exclusive.
        pub end: i32,
    }
}
