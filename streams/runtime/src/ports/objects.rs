//! The objects port: recordings, segments, merged audio and documents, as S3 keeps them.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use hansard_core::id::Timestamp;
use tokio::io::AsyncRead;

use super::PortError;

/// Names one object; with an ETag it names one content of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
}

/// What the service says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its ETag, without quotes.
    pub etag: String,
    /// The SHA-256 that the service keeps, in lower-case hex, where it does.
    pub sha256: Option<String>,
    /// When it was last written, by the service's clock.
    pub modified: Timestamp,
}

/// The object store.
///
/// An implementation must give: read after write; a `get` pinned by ETag gives that content or `Differs`, also where the
/// service ignores `If-Match`; a `put` becomes visible as a whole or not at all. Bodies are streamed: memory does not
/// grow with the object.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Size, ETag and times; `NotFound` where there is none.
    async fn head(&self, name: &ObjectName) -> Result<ObjectHead, PortError>;

    /// The body. With `etag` the content must be that one. A stream that breaks ends with an error, never early.
    async fn get(
        &self,
        name: &ObjectName,
        etag: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Bytes, PortError>>, PortError>;

    /// Writes a body of known content; overwriting the same bytes is harmless.
    async fn put(&self, name: &ObjectName, content_type: &str, body: Bytes) -> Result<ObjectHead, PortError>;

    /// Writes a body of unknown length in parts; nothing is visible, and nothing is left, when `body` fails.
    async fn put_stream(
        &self,
        name: &ObjectName,
        content_type: &str,
        body: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<ObjectHead, PortError>;

    /// Deletes; deleting what is not there is done.
    async fn delete(&self, name: &ObjectName) -> Result<(), PortError>;

    /// Keys below a prefix after `after`, with their heads (`sha256` may be missing), at most `limit`.
    async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, ObjectHead)>, PortError>;
}

/// Multipart uploads that were begun and never joined: they are no objects, and cost room all the same.
///
/// An implementation must give: an aborted upload can be neither continued nor joined, and its parts are gone; aborting
/// what was joined or aborted meanwhile is done.
#[async_trait]
pub trait PartUploads: Send + Sync {
    /// Aborts the uploads below `prefix` that were begun before `before`; gives their keys. With `dry_run` it only looks.
    async fn abort_stale(
        &self,
        bucket: &str,
        prefix: &str,
        before: Timestamp,
        dry_run: bool,
    ) -> Result<Vec<String>, PortError>;
}
