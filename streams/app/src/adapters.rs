//! What knows nothing of each other, joined: links made by S3 for the gateway and for providers, and the job sweep for the
//! gateway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hansard_gateway::{Link, PartLink, Presign, Problem, Sweeper, Wanted};
use hansard_jobs::sweep::{Sweep, SweepError};
use hansard_jobs::transcribe::Links;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::stage::Failed;
use hansard_s3::{S3Objects, SignedRequest};

/// How long a provider may take to read what it was given a link to: as long as a job may wait in its queue.
const LINK_LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);

/// Links to objects on S3.
pub(crate) struct S3Links(pub(crate) S3Objects);

fn link(request: SignedRequest) -> Link {
    let headers: BTreeMap<String, String> = request.headers.into_iter().collect();
    Link { method: request.method, url: request.url, headers }
}

#[async_trait]
impl Presign for S3Links {
    async fn put(&self, wanted: &Wanted, lifetime: Duration) -> Result<Link, PortError> {
        let Wanted { name, content_type, bytes, sha256 } = wanted;
        let request = self.0.presign_put(name, content_type, *bytes, sha256.as_deref(), lifetime).await?;
        Ok(link(request))
    }

    async fn begin_parts(
        &self,
        wanted: &Wanted,
        part_bytes: u64,
        lifetime: Duration,
    ) -> Result<(String, Vec<PartLink>), PortError> {
        let Wanted { name, content_type, bytes, .. } = wanted;
        let begun = self.0.presign_multipart(name, content_type, *bytes, part_bytes, lifetime).await?;
        let parts = begun.parts.into_iter().map(|part| PartLink {
            number: part.number,
            bytes: part.bytes,
            link: link(part.request),
        });
        Ok((begun.upload_id, parts.collect()))
    }

    async fn join_parts(
        &self,
        name: &ObjectName,
        upload_id: &str,
        parts: &[(i32, String)],
    ) -> Result<(), PortError> {
        self.0.complete_multipart(name, upload_id, parts).await.map(|_| ())
    }

    async fn get(&self, name: &ObjectName, file_name: &str, lifetime: Duration) -> Result<Link, PortError> {
        Ok(link(self.0.presign_get(name, Some(file_name), lifetime).await?))
    }
}

/// The job sweep for the gateway's call.
pub(crate) struct SweepPort(pub(crate) Arc<Sweep>);

#[async_trait]
impl Sweeper for SweepPort {
    async fn sweep(&self, dry_run: bool) -> Result<serde_json::Value, Problem> {
        let report = self.0.run(dry_run).await.map_err(|error| match error {
            SweepError::Port(error) => Problem::from(error),
            SweepError::Log(error) => Problem::from(error),
        })?;
        Ok(serde_json::json!(report))
    }
}

#[async_trait]
impl Links for S3Links {
    async fn link(&self, object: &ObjectName) -> Result<String, Failed> {
        Ok(self.0.presign_get(object, None, LINK_LIFETIME).await?.url)
    }
}
