//! What several records contain: options, objects in storage, and counts.

use crate::macros::part;

part! {
    /// How a conversation is to be transcribed, merged and summarised.
    ///
    /// It can also be read from JSON, since options reach us by HTTP and within upload tokens.
    #[derive(serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Options {
        /// Language spoken, BCP 47 (for example `en` or `nl-BE`); null lets the provider detect it.
        pub language: Option<String>,
        /// Name of the configured provider to use; null takes the default of the deployment.
        pub provider: Option<String>,
        /// Provider's name of the model; null takes the default of the deployment.
        pub model: Option<String>,
        /// Whether personal data is removed before a text is kept; the floor of the deployment can be
        /// tightened, not loosened.
        pub redact_pii: Option<bool>,
        /// Whether speakers are told apart.
        pub diarize: Option<bool>,
        /// Words that the provider should expect, such as names.
        pub keyterms: Vec<String>,
    }
}

part! {
    /// An object in object storage, pinned to one content.
    pub struct Object {
        /// Bucket that holds the object.
        pub bucket: String,
        /// Key of the object within its bucket.
        pub key: String,
        /// Entity tag that a read must match, without quotes; empty where none is known.
        pub etag: String,
        /// Size of the object in bytes.
        pub bytes: i64,
        /// Version of the object in a versioned bucket.
        pub version_id: Option<String>,
        /// SHA-256 of the object's bytes, lower-case hex.
        pub sha256: Option<String>,
    }
}

part! {
    /// How many chunks and segments there are, and what became of them.
    pub struct Counts {
        /// Number of chunks expected or seen.
        pub chunks: i32,
        /// Number of segments of all chunks that were split.
        pub segments: i32,
        /// Number of segments with a transcript.
        pub transcribed: i32,
        /// Number of segments and unsplit chunks that failed for good.
        pub failed: i32,
        /// Number of chunks and segments without any answer.
        pub missing: i32,
    }
}
