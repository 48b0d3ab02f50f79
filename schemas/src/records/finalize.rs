//! What closes a window: the manifest of a conversation with every gap named.

use std::collections::BTreeMap;

use super::shared::{Counts, Options};
use crate::macros::{part, record};

record! {
    /// A conversation is complete, or is called so with all its gaps named: the record that closes a
    /// window.
    pub struct Finalize {
        /// Number of this finalize, 1, 2, 3 and so on; one revision has one content.
        pub revision: i32,
        /// Generation by stage (`transcribe`, `merge`, `summarize`); a stage without a rerun may be
        /// left out and has 0.
        pub generations: BTreeMap<String, i64>,
        /// Options by stage, from its highest Rerun.
        pub options: BTreeMap<String, Options>,
        /// `complete`, `with_failures`, `incomplete` or `empty`.
        pub outcome: String,
        /// `finish`, `idle`, `deadline`, `late` or `rerun`.
        pub cause: String,
        /// Digest of the manifest, with its version in front (`1:` and lower-case hex SHA-256).
        pub digest: String,
        /// How many chunks and segments there are, and what became of them.
        pub counts: Counts,
        /// The chunks in the order of the timeline.
        pub chunks: Vec<FinalizeChunk>,
        /// What is missing or failed, at most 500.
        pub gaps: Vec<Gap>,
        /// Whether there are more gaps than listed.
        pub gaps_truncated: bool,
    }
}

part! {
    /// A chunk with its place on the timeline.
    pub struct FinalizeChunk {
        /// The chunk.
        pub chunk_id: String,
        /// Producer's line of chunks that it belongs to; empty for the only one.
        pub track: String,
        /// `complete`, `with_failures`, `failed` or `pending`.
        pub status: String,
        /// SHA-256 over the chunk's segments' status and text_sha256, 32 bytes; empty where the chunk
        /// has no segments.
        #[serde(with = "hex::serde")]
        pub digest: Vec<u8>,
        /// Number of the chunk within its track, from 0, where the producer gave one.
        pub sequence: Option<i64>,
        /// Start of the chunk on the timeline of the conversation in milliseconds.
        pub offset_ms: i64,
        /// Decoded duration of the chunk in milliseconds; 0 where it is unknown.
        pub duration_ms: i64,
        /// Number of segments of the chunk.
        pub segments: i32,
    }
}

part! {
    /// Something that is not there, and why.
    pub struct Gap {
        /// Producer's line of chunks in which it is missing.
        pub track: String,
        /// `missing`, `pending` or `failed`.
        pub status: String,
        /// Stable code of the reason.
        pub code: String,
        /// The chunk, where it is known.
        pub chunk_id: Option<String>,
        /// Position of the segment within the chunk, from 0; null where the whole chunk is meant.
        pub segment: Option<i32>,
        /// Number of the chunk within its track, where it is known.
        pub sequence: Option<i64>,
    }
}
