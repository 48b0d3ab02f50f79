//! What the world outside is told: the latest status, and the outcome of telling it.

use std::collections::BTreeMap;

use super::shared::Counts;
use crate::macros::record;

record! {
    /// Latest status of a conversation, written when the status changes.
    pub struct Conversation {
        /// `open`, `closing`, `finalized` or `delivered`.
        pub status: String,
        /// Latest revision; 0 before the first finalize.
        pub revision: i32,
        /// Outcome of the latest finalize.
        pub outcome: Option<String>,
        /// Key of the merged file of the latest revision that has one.
        pub merge_key: Option<String>,
        /// Key of the transcript document of the latest revision that has one.
        pub transcript_key: Option<String>,
        /// Outcome of the summary of the latest revision; null while there is none.
        pub summary_status: Option<String>,
        /// Outcome of the merge of the latest revision; null while there is none.
        pub merge_status: Option<String>,
        /// How many chunks and segments there are, and what became of them, from the latest finalize.
        pub counts: Option<Counts>,
        /// Time of the first fact in the log, milliseconds since 1970 UTC.
        pub opened_at: i64,
        /// Time of the fact that changed the status, milliseconds since 1970 UTC.
        pub updated_at: i64,
        /// When the latest revision was delivered, milliseconds since 1970 UTC.
        pub delivered_at: Option<i64>,
        /// Producer's labels, from Open.
        pub labels: BTreeMap<String, String>,
        /// Whether the conversation was erased; nothing else is told about it then.
        pub erased: bool,
        /// Whether Open names webhooks, which notify is to call.
        pub webhooks: bool,
    }
}

record! {
    /// Outcome of an outbound webhook.
    pub struct Delivery {
        /// SHA-256 of the URL, lower-case hex, since a URL may hold a secret.
        pub url_hash: String,
        /// Id that the receiver saw.
        pub delivery_id: String,
        /// `delivered` or `failed`.
        pub outcome: String,
        /// Number of attempts made, from 1.
        pub attempt: i32,
        /// HTTP status of the last answer, where there was one.
        pub http_status: Option<i32>,
    }
}
