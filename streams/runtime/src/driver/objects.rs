//! The objects port: bytes under names, each content with its ETag.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use hansard_core::id::{Digest, Timestamp};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::process::Process;
use super::world::World;
use crate::ports::PortError;
use crate::ports::objects::{ObjectHead, ObjectName, Objects, PartUploads};

/// The object store as one process has it.
pub(super) struct SimObjects(pub(super) Process);

/// What is kept: objects, and multipart uploads under way with their beginning.
#[derive(Debug, Default)]
pub(super) struct Shelf(BTreeMap<ObjectName, (Bytes, Timestamp)>, BTreeMap<ObjectName, Timestamp>);

fn head_of(body: &Bytes, modified: Timestamp) -> ObjectHead {
    let sha256 = Digest(Sha256::digest(body).into()).to_string();
    ObjectHead { bytes: body.len() as u64, etag: sha256[..16].to_owned(), sha256: Some(sha256), modified }
}

impl Shelf {
    fn put(&mut self, name: &ObjectName, body: Bytes, now: Timestamp) -> ObjectHead {
        let head = head_of(&body, now);
        self.0.insert(name.clone(), (body, now));
        head
    }

    fn get(&self, name: &ObjectName) -> Result<(Bytes, ObjectHead), PortError> {
        let missing = || PortError::NotFound { what: format!("object {}/{}", name.bucket, name.key) };
        let (body, modified) = self.0.get(name).ok_or_else(missing)?;
        Ok((body.clone(), head_of(body, *modified)))
    }
}

#[async_trait]
impl Objects for SimObjects {
    async fn head(&self, name: &ObjectName) -> Result<ObjectHead, PortError> {
        Ok(self.0.on("objects.head", |state| state.shelf.get(name)).await??.1)
    }

    async fn get(
        &self,
        name: &ObjectName,
        etag: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Bytes, PortError>>, PortError> {
        let (body, head) = self.0.on("objects.get", |state| state.shelf.get(name)).await??;
        if etag.is_some_and(|etag| etag != head.etag) {
            let difference = format!("its etag is {}", head.etag);
            return Err(PortError::Differs { what: format!("object {}", name.key), difference });
        }
        Ok(stream::iter([Ok(body)]).boxed())
    }

    async fn put(
        &self,
        name: &ObjectName,
        _content_type: &str,
        body: Bytes,
    ) -> Result<ObjectHead, PortError> {
        let put = self.0.on("objects.put", |state| {
            let now = state.now;
            state.shelf.put(name, body, now)
        });
        Ok(put.await?)
    }

    async fn put_stream(
        &self,
        name: &ObjectName,
        content_type: &str,
        mut body: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<ObjectHead, PortError> {
        let mut bytes = Vec::new();
        let unreadable = |error: std::io::Error| PortError::Corrupt {
            what: format!("body of {}", name.key),
            cause: error.to_string(),
        };
        body.read_to_end(&mut bytes).await.map_err(unreadable)?;
        self.put(name, content_type, bytes.into()).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), PortError> {
        self.0.on("objects.delete", |state| state.shelf.0.remove(name)).await?;
        Ok(())
    }

    async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, ObjectHead)>, PortError> {
        let list = self.0.on("objects.list", |state| {
            let below = state.shelf.0.iter().filter(|(name, _)| {
                name.bucket == bucket
                    && name.key.starts_with(prefix)
                    && after.is_none_or(|after| name.key.as_str() > after)
            });
            below.take(limit).map(|(name, (body, at))| (name.key.clone(), head_of(body, *at))).collect()
        });
        Ok(list.await?)
    }
}

#[async_trait]
impl PartUploads for SimObjects {
    async fn abort_stale(
        &self,
        bucket: &str,
        prefix: &str,
        before: Timestamp,
        dry_run: bool,
    ) -> Result<Vec<String>, PortError> {
        let abort = self.0.on("objects.abort", |state| {
            let stale = |(name, begun): &(&ObjectName, &Timestamp)| {
                name.bucket == bucket && name.key.starts_with(prefix) && **begun < before
            };
            let found: Vec<ObjectName> =
                state.shelf.1.iter().filter(stale).map(|(name, _)| name.clone()).collect();
            if !dry_run {
                state.shelf.1.retain(|name, _| !found.contains(name));
            }
            found.into_iter().map(|name| name.key).collect()
        });
        Ok(abort.await?)
    }
}

impl World {
    /// Begins a multipart upload as a producer outside would, which nobody joins.
    pub fn begin_parts(&self, name: &ObjectName) {
        let mut state = self.state();
        let now = state.now;
        state.shelf.1.insert(name.clone(), now);
    }

    /// The keys of the multipart uploads under way.
    #[must_use]
    pub fn part_uploads(&self) -> Vec<String> {
        self.state().shelf.1.keys().map(|name| name.key.clone()).collect()
    }

    /// Puts an object as a producer outside would.
    pub fn put_object(&self, name: &ObjectName, body: Bytes) -> ObjectHead {
        let mut state = self.state();
        let now = state.now;
        state.shelf.put(name, body, now)
    }

    /// The keys of all objects below a prefix.
    #[must_use]
    pub fn object_keys(&self, prefix: &str) -> Vec<String> {
        let state = self.state();
        state
            .shelf
            .0
            .keys()
            .filter(|name| name.key.starts_with(prefix))
            .map(|name| name.key.clone())
            .collect()
    }
}
