//! What merge and summarize give for one revision of a conversation.

use crate::macros::{part, record};

record! {
    /// The audio of a conversation was merged, or could not be.
    pub struct Merge {
        /// Revision of the Finalize that this answers, from 1.
        pub revision: i32,
        /// Generation of the stage: 0 at first, a rerun's is its offset in uploads + 1.
        pub generation: i64,
        /// Digest of the Finalize that this answers, with its version in front (`1:` and lower-case hex
        /// SHA-256).
        pub finalize_digest: String,
        /// `done`, `failed` or `superseded`.
        pub outcome: String,
        /// Key of the merged file.
        pub key: Option<String>,
        /// Format of the merged file.
        pub format: Option<String>,
        /// SHA-256 of the merged file, lower-case hex.
        pub sha256: Option<String>,
        /// Key of the file with the peaks of the waveform.
        pub peaks_key: Option<String>,
        /// Stable code of the reason for which it failed.
        pub code: Option<String>,
        /// Size of the merged file in bytes.
        pub bytes: Option<i64>,
        /// Duration of the merged file in milliseconds.
        pub duration_ms: Option<i64>,
        /// What became of each chunk, in the order of the timeline.
        pub inputs: Vec<MergeInput>,
    }
}

part! {
    /// What became of one chunk in the merged file.
    pub struct MergeInput {
        /// The chunk.
        pub chunk_id: String,
        /// Whether the chunk was `merged` or `skipped`.
        pub status: String,
        /// Stable code of the reason for which it was skipped.
        pub code: Option<String>,
        /// Start of the chunk in the merged file in milliseconds.
        pub offset_ms: i64,
        /// Duration that the chunk takes in the merged file in milliseconds; 0 where it was skipped.
        pub duration_ms: i64,
    }
}

record! {
    /// A conversation was summarised, or could not be.
    pub struct Summary {
        /// Revision of the Finalize that this answers, from 1.
        pub revision: i32,
        /// Generation of the stage: 0 at first, a rerun's is its offset in uploads + 1.
        pub generation: i64,
        /// Digest of the Finalize that this answers, with its version in front (`1:` and lower-case hex
        /// SHA-256).
        pub finalize_digest: String,
        /// SHA-256 of the transcript document that was summarised, lower-case hex.
        pub transcript_digest: String,
        /// `done`, `failed` or `superseded`.
        pub outcome: String,
        /// Key of the transcript document.
        pub transcript_key: Option<String>,
        /// The summary.
        pub text: Option<String>,
        /// A title found by the summary.
        pub title: Option<String>,
        /// Language of the summary, BCP 47.
        pub language: Option<String>,
        /// Provider that wrote it.
        pub provider: Option<String>,
        /// Provider's name of the model.
        pub model: Option<String>,
        /// Version of the prompt.
        pub prompt_version: Option<String>,
        /// Stable code of the reason for which it failed.
        pub code: Option<String>,
        /// Currency of cost_micros, ISO 4217.
        pub currency: Option<String>,
        /// Main points, in order.
        pub key_points: Vec<String>,
        /// What somebody agreed to do, in order.
        pub action_items: Vec<String>,
        /// Number of tokens read by the model.
        pub tokens_in: Option<i64>,
        /// Number of tokens written by the model.
        pub tokens_out: Option<i64>,
        /// Cost in millionths of the currency.
        pub cost_micros: Option<i64>,
    }
}
