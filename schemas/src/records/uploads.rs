//! What producers and operators say about a conversation: the records of the topic `uploads`.

use std::collections::BTreeMap;

use super::shared::{Object, Options};
use crate::macros::record;

record! {
    /// A producer opens a conversation: its title, options and time limits.
    pub struct Open {
        /// Title for people.
        pub title: Option<String>,
        /// Producer's own name for the conversation.
        pub external_ref: Option<String>,
        /// Producer's labels, shown with the status.
        pub labels: BTreeMap<String, String>,
        /// Options of the conversation; null takes those of the deployment.
        pub options: Option<Options>,
        /// Time without a confirmed upload after which the conversation closes, in milliseconds; null
        /// takes that of the deployment.
        pub idle_after_ms: Option<i64>,
        /// Time after which a closing conversation that waits only for its producer is finalized as
        /// incomplete, in milliseconds; null takes that of the deployment.
        pub missing_after_ms: Option<i64>,
        /// URLs to be told about changes of status.
        pub webhook_urls: Vec<String>,
    }
}

record! {
    /// A producer has uploaded a chunk, and the object is known to be there.
    pub struct Upload {
        /// Name of the chunk within its conversation, at most 64 bytes.
        pub chunk_id: String,
        /// The uploaded object.
        pub object: Object,
        /// Media type as declared by the producer.
        pub content_type: Option<String>,
        /// Start of the recording by the producer's clock, milliseconds since 1970 UTC; places the
        /// chunk on the timeline.
        pub recorded_at: i64,
        /// Producer's line of chunks (one microphone or device), at most 32 bytes.
        pub track: String,
        /// Number of the chunk within its track, from 0, below 5,000.
        pub sequence: Option<i64>,
        /// Whether this is a slice without a header of its own, which needs the header of its track's
        /// first slice.
        pub continues: bool,
        /// Options of this chunk; producers that write directly repeat those of Open.
        pub options: Option<Options>,
    }
}

record! {
    /// A producer says that no more chunks will come, and perhaps how many there are.
    pub struct Finish {
        /// Number of chunks of the conversation, at least, below 5,000; null declares none.
        pub expected_chunks: Option<i32>,
        /// Number of chunks by track, at least, below 5,000.
        pub expected_by_track: BTreeMap<String, i32>,
    }
}

record! {
    /// Somebody asks for a stage to be run again.
    pub struct Rerun {
        /// `transcribe`, `merge` or `summarize`.
        pub stage: String,
        /// `failed` or `all`.
        pub only: String,
        /// Laid over the options of the uploads.
        pub options: Option<Options>,
    }
}

record! {
    /// Everything of a conversation is to be deleted, for good.
    pub struct Erase {
        /// Who asked for it.
        pub requested_by: Option<String>,
        /// Why, for example `request` or `retention`.
        pub reason: Option<String>,
    }
}
