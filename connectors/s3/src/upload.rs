//! Writing a body of unknown length in parts, leaving nothing when it fails.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::objects::{ObjectHead, ObjectName, Objects};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::client::{S3Objects, bare, shown};
use crate::errors::port_error;

/// Size of a part: above S3's minimum of 5 MiB, and 10,000 of them are 78 GiB. One is in memory at a time.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;

type Body = Box<dyn AsyncRead + Send + Unpin>;

/// Reads until `limit` bytes or the end.
async fn read_part(body: &mut Body, name: &ObjectName) -> Result<Bytes, PortError> {
    let mut part = BytesMut::with_capacity(PART_BYTES.min(1 << 20));
    while part.len() < PART_BYTES {
        let room = u64::try_from(PART_BYTES - part.len()).unwrap_or(0);
        let count = body.take(room).read_buf(&mut part).await.map_err(|error| source_failed(error, name))?;
        if count == 0 {
            break;
        }
    }
    Ok(part.freeze())
}

/// A body that is read from another object brings the port's own error, which keeps its meaning.
fn source_failed(error: std::io::Error, name: &ObjectName) -> PortError {
    error.downcast::<PortError>().unwrap_or_else(|error| PortError::Corrupt {
        what: format!("body for {}", shown(name)),
        cause: error.to_string(),
    })
}

/// Writes `body` under `name`: in one piece if it fits a part, else by a multipart upload that is aborted on any failure
/// and also when the caller drops this future.
pub(crate) async fn upload_stream(
    objects: &S3Objects,
    name: &ObjectName,
    content_type: &str,
    mut body: Body,
) -> Result<ObjectHead, PortError> {
    let first = read_part(&mut body, name).await?;
    if first.len() < PART_BYTES {
        return objects.put(name, content_type, first).await;
    }
    let call = objects.client.create_multipart_upload().bucket(&name.bucket).key(&name.key);
    let begun =
        call.content_type(content_type).send().await.map_err(|error| port_error(&error, || shown(name)))?;
    let upload = Upload {
        objects: objects.clone(),
        name: name.clone(),
        id: begun.upload_id().unwrap_or_default().to_owned(),
        open: true,
    };
    upload.run(first, body).await
}

/// A multipart upload under way; dropped while open, it is aborted.
struct Upload {
    objects: S3Objects,
    name: ObjectName,
    id: String,
    open: bool,
}

impl Upload {
    async fn run(mut self, first: Bytes, body: Body) -> Result<ObjectHead, PortError> {
        match self.send(first, body).await {
            Ok(etag) => {
                self.open = false;
                self.objects.written(&self.name, etag).await
            }
            Err(error) => {
                self.open = false;
                abort(&self.objects, &self.name, &self.id).await;
                Err(error)
            }
        }
    }

    async fn send(&self, first: Bytes, mut body: Body) -> Result<String, PortError> {
        let mut parts = Vec::new();
        let mut part = first;
        while !part.is_empty() {
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            let whole = part.len() == PART_BYTES;
            parts.push(self.send_part(number, part).await?);
            part = if whole { read_part(&mut body, &self.name).await? } else { Bytes::new() };
        }
        let ObjectName { bucket, key } = &self.name;
        let call =
            self.objects.client.complete_multipart_upload().bucket(bucket).key(key).upload_id(&self.id);
        let answer = call
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .send()
            .await
            .map_err(|error| port_error(&error, || shown(&self.name)))?;
        Ok(bare(answer.e_tag()))
    }

    async fn send_part(&self, number: i32, part: Bytes) -> Result<CompletedPart, PortError> {
        let ObjectName { bucket, key } = &self.name;
        let call = self.objects.client.upload_part().bucket(bucket).key(key).upload_id(&self.id);
        let answer = call
            .part_number(number)
            .body(ByteStream::from(part))
            .send()
            .await
            .map_err(|error| port_error(&error, || shown(&self.name)))?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).build())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (objects, name, id) = (self.objects.clone(), self.name.clone(), std::mem::take(&mut self.id));
            runtime.spawn(async move { abort(&objects, &name, &id).await });
        }
    }
}

/// Aborts an upload. A failure is only told: the parts are invisible, and sweep aborts stale uploads.
async fn abort(objects: &S3Objects, name: &ObjectName, id: &str) {
    let call = objects.client.abort_multipart_upload().bucket(&name.bucket).key(&name.key).upload_id(id);
    if let Err(error) = call.send().await.map_err(|error| port_error(&error, || shown(name))) {
        tracing::warn!(%error, "a multipart upload could not be aborted, sweep will");
    }
}
