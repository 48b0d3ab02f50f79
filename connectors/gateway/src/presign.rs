//! The port for links: how a producer writes, and a reader reads, one object without passing through the gateway.

use std::time::Duration;

use async_trait::async_trait;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::objects::ObjectName;

/// A request that its holder may send until it expires. The headers are signed: they must be sent as they stand.
#[derive(Clone, PartialEq, Eq, serde::Serialize)]
pub struct Link {
    /// `PUT` or `GET`.
    pub method: &'static str,
    /// The URL; it carries the signature, so it is as secret as what it allows.
    pub url: String,
    /// Names in lower case, and values.
    pub headers: std::collections::BTreeMap<String, String>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("method", &self.method).finish_non_exhaustive()
    }
}

/// A part of an upload in parts: its number from 1, its exact size, and how to send it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PartLink {
    /// From 1.
    pub number: i32,
    /// Its exact size.
    pub bytes: u64,
    /// How it is sent; the answer's `ETag` is wanted when the chunk is confirmed.
    #[serde(flatten)]
    pub link: Link,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where.
    pub name: ObjectName,
    /// The exact media type.
    pub content_type: String,
    /// The exact size.
    pub bytes: u64,
    /// The SHA-256 in hex, where it is declared.
    pub sha256: Option<String>,
}

/// Links to the object store.
///
/// An implementation must give: links that allow exactly what they were made for, refuse another length or type, and
/// expire. It need not give: links that work only once.
#[async_trait]
pub trait Presign: Send + Sync {
    /// A link that writes one object.
    async fn put(&self, wanted: &Wanted, lifetime: Duration) -> Result<Link, PortError>;

    /// Begins an upload in parts of `part_bytes`: the service's id of it, and a link for each part. S3 cannot check a
    /// SHA-256 over all parts, so `wanted.sha256` is not enforced here.
    async fn begin_parts(
        &self,
        wanted: &Wanted,
        part_bytes: u64,
        lifetime: Duration,
    ) -> Result<(String, Vec<PartLink>), PortError>;

    /// Joins the parts (number, ETag). `NotFound` where the upload is not open, perhaps since it was joined before;
    /// `Differs` where parts are missing or differ.
    async fn join_parts(
        &self,
        name: &ObjectName,
        upload_id: &str,
        parts: &[(i32, String)],
    ) -> Result<(), PortError>;

    /// A link that reads one object, as a download under `file_name`.
    async fn get(&self, name: &ObjectName, file_name: &str, lifetime: Duration) -> Result<Link, PortError>;
}
