//! What went wrong, as a record: so that nothing waits for an answer that will not come.

use crate::macros::{part, record};

record! {
    /// An attempt failed; where it is terminal, nobody need wait any longer.
    pub struct Failure {
        /// Stage in which it failed.
        pub stage: String,
        /// `transient`, `unavailable`, `permanent`, `fenced` or `defect`.
        pub class: String,
        /// Stable code of the cause.
        pub code: String,
        /// The cause in words for people, without secrets.
        pub message: String,
        /// The chunk, where one is concerned.
        pub chunk_id: Option<String>,
        /// Digest of the Upload concerned, lower-case hex SHA-256.
        pub upload_digest: Option<String>,
        /// Digest of the Split concerned, lower-case hex SHA-256.
        pub split_digest: Option<String>,
        /// Digest of the Finalize concerned, with its version in front.
        pub finalize_digest: Option<String>,
        /// Provider that was called.
        pub provider: Option<String>,
        /// Position of the segment within its chunk, from 0, where one is concerned.
        pub segment: Option<i32>,
        /// Revision of the Finalize concerned, from 1.
        pub revision: Option<i32>,
        /// HTTP status of the answer, where there was one.
        pub http_status: Option<i32>,
        /// Generation of the stage: 0 at first, a rerun's is its offset in uploads + 1.
        pub generation: i64,
        /// Which attempt failed, from 1.
        pub attempt: i32,
        /// Whether no further attempt follows by itself.
        pub terminal: bool,
        /// When the first attempt failed, milliseconds since 1970 UTC.
        pub first_failed_at: i64,
        /// When the next attempt is due, milliseconds since 1970 UTC; null where it is terminal.
        pub retry_at: Option<i64>,
        /// Where the record that failed was first read.
        pub origin: Option<Origin>,
    }
}

part! {
    /// A place in the log.
    pub struct Origin {
        /// Full name of the topic.
        pub topic: String,
        /// Number of the partition.
        pub partition: i32,
        /// Offset within the partition.
        pub offset: i64,
    }
}
