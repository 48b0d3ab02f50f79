//! What splitting a chunk gives: its manifest, and a work item for each segment.

use super::shared::{Object, Options};
use crate::macros::{part, record};

record! {
    /// A chunk was decoded and cut: the manifest of all its segments.
    pub struct Split {
        /// Name of the chunk within its conversation, at most 64 bytes.
        pub chunk_id: String,
        /// Digest of the Upload that this answers, lower-case hex SHA-256 of its own fields.
        pub upload_digest: String,
        /// Version of the rules by which the chunk was cut.
        pub plan_version: String,
        /// SHA-256 over all other own fields, lower-case hex; segments carry it as split_digest.
        pub digest: String,
        /// Bucket of the segments' objects.
        pub bucket: String,
        /// Prefix of the keys of the segments' objects; the SHA-256 in hex follows it.
        pub key_prefix: String,
        /// Decoded duration in milliseconds, counted in frames and not taken from a header.
        pub duration_ms: i64,
        /// Codec of the upload.
        pub codec: Option<String>,
        /// Container format of the upload.
        pub container: Option<String>,
        /// Sample rate of the upload in hertz.
        pub sample_rate: Option<i32>,
        /// Number of channels of the upload.
        pub channels: Option<i32>,
        /// Whether the upload ended in the middle of its data.
        pub truncated: bool,
        /// Silence that is in no segment, in milliseconds.
        pub silent_ms: i64,
        /// The segments in order; none for a chunk of silence.
        pub segments: Vec<SplitSegment>,
    }
}

part! {
    /// A piece of a chunk.
    pub struct SplitSegment {
        /// Position within the chunk, from 0.
        pub index: i32,
        /// Start within the chunk in milliseconds.
        pub start_ms: i64,
        /// End within the chunk in milliseconds, exclusive.
        pub end_ms: i64,
        /// Size of the segment's object in bytes.
        pub bytes: i64,
        /// SHA-256 of the segment's object, 32 bytes; in hex it is the object's name below key_prefix.
        #[serde(with = "hex::serde")]
        pub sha256: Vec<u8>,
        /// Whether the segment ends at its greatest allowed length and not at a silence.
        pub forced_cut: bool,
    }
}

record! {
    /// A work item: one segment is to be transcribed.
    pub struct Segment {
        /// Name of the chunk within its conversation, at most 64 bytes.
        pub chunk_id: String,
        /// Digest of the Upload that this answers, lower-case hex SHA-256 of its own fields.
        pub upload_digest: String,
        /// Digest of the Split that the segment belongs to, lower-case hex SHA-256.
        pub split_digest: String,
        /// Position of the segment within its chunk, from 0.
        pub segment: i32,
        /// Number of segments of the chunk.
        pub of: i32,
        /// Generation of the stage: 0 at first, a rerun's is its offset in uploads + 1.
        pub generation: i64,
        /// The segment's audio; its etag is empty, since a Split has none.
        pub object: Object,
        /// Start within the chunk in milliseconds.
        pub start_ms: i64,
        /// End within the chunk in milliseconds, exclusive.
        pub end_ms: i64,
        /// The Upload's options, overlaid by the Rerun's.
        pub options: Options,
    }
}
