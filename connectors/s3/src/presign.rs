//! Presigned links: a producer writes, and a reader reads, one object directly, with nothing but the link.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hansard_core::id::Timestamp;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::objects::{ObjectName, PartUploads};

use crate::client::{S3Objects, bare, shown, timestamp};
use crate::errors::{SERVICE, port_error};

/// A request that its holder may send until it expires. The headers are signed: they must be sent as they stand.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// `PUT` or `GET`.
    pub method: &'static str,
    /// The URL. It carries the signature, so it is as secret as what it allows.
    pub url: String,
    /// Names (lower case) and values.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedRequest").field("method", &self.method).finish_non_exhaustive()
    }
}

/// One part of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: i32,
    /// Its exact size.
    pub bytes: u64,
    /// How it is sent; the answer's `ETag` is needed to complete.
    pub request: SignedRequest,
}

/// A multipart upload that was begun for somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresignedMultipart {
    /// The service's id of the upload.
    pub upload_id: String,
    /// All parts, in order.
    pub parts: Vec<Part>,
}

fn refused() -> PortError {
    PortError::Refused { service: SERVICE, cause: "the link cannot be expressed".to_owned() }
}

fn expiry(expires_in: Duration) -> Result<PresigningConfig, PortError> {
    PresigningConfig::expires_in(expires_in).map_err(|_| refused())
}

fn signed(method: &'static str, request: &PresignedRequest) -> SignedRequest {
    let headers =
        request.headers().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    SignedRequest { method, url: request.uri().to_owned(), headers }
}

impl S3Objects {
    /// A link to write one object with exactly this length and type, and this SHA-256 (hex) where it is given.
    ///
    /// # Errors
    /// `Refused` where a value does not fit the protocol.
    pub async fn presign_put(
        &self,
        name: &ObjectName,
        content_type: &str,
        bytes: u64,
        sha256: Option<&str>,
        expires_in: Duration,
    ) -> Result<SignedRequest, PortError> {
        let sum = sha256.map(|hex| hex::decode(hex).map(|sum| BASE64.encode(sum))).transpose();
        let call = self.public.put_object().bucket(&name.bucket).key(&name.key);
        let request = call
            .content_type(content_type)
            .content_length(i64::try_from(bytes).map_err(|_| refused())?)
            .set_checksum_sha256(sum.map_err(|_| refused())?)
            .presigned(expiry(expires_in)?)
            .await
            .map_err(|error| port_error(&error, || shown(name)))?;
        Ok(signed("PUT", &request))
    }

    /// A link to read one object, as a download named `file_name` where that is given.
    ///
    /// # Errors
    /// `Refused` where a value does not fit the protocol.
    pub async fn presign_get(
        &self,
        name: &ObjectName,
        file_name: Option<&str>,
        expires_in: Duration,
    ) -> Result<SignedRequest, PortError> {
        let disposition = file_name.map(|file_name| format!("attachment; filename=\"{file_name}\""));
        let call = self.public.get_object().bucket(&name.bucket).key(&name.key);
        let request = call
            .set_response_content_disposition(disposition)
            .presigned(expiry(expires_in)?)
            .await
            .map_err(|error| port_error(&error, || shown(name)))?;
        Ok(signed("GET", &request))
    }

    /// Begins a multipart upload of `bytes` in parts of `part_bytes` (the last one smaller) and signs each part.
    ///
    /// # Errors
    /// `Unavailable`, `Refused`.
    pub async fn presign_multipart(
        &self,
        name: &ObjectName,
        content_type: &str,
        bytes: u64,
        part_bytes: u64,
        expires_in: Duration,
    ) -> Result<PresignedMultipart, PortError> {
        let call = self.client.create_multipart_upload().bucket(&name.bucket).key(&name.key);
        let begun = call
            .content_type(content_type)
            .send()
            .await
            .map_err(|error| port_error(&error, || shown(name)))?;
        let upload_id = begun.upload_id().unwrap_or_default().to_owned();
        let mut parts = Vec::new();
        let mut rest = bytes;
        while rest > 0 {
            let bytes = rest.min(part_bytes.max(1));
            rest -= bytes;
            let number = i32::try_from(parts.len() + 1).map_err(|_| refused())?;
            let call = self.public.upload_part().bucket(&name.bucket).key(&name.key).upload_id(&upload_id);
            let request = call
                .part_number(number)
                .content_length(i64::try_from(bytes).map_err(|_| refused())?)
                .presigned(expiry(expires_in)?)
                .await
                .map_err(|error| port_error(&error, || shown(name)))?;
            parts.push(Part { number, bytes, request: signed("PUT", &request) });
        }
        Ok(PresignedMultipart { upload_id, parts })
    }

    /// Joins the parts (number, ETag) of a multipart upload; gives the object's ETag.
    ///
    /// # Errors
    /// `NotFound` where the upload is not open (it may have been completed before: look at the object), `Differs`
    /// where parts are missing or differ.
    pub async fn complete_multipart(
        &self,
        name: &ObjectName,
        upload_id: &str,
        parts: &[(i32, String)],
    ) -> Result<String, PortError> {
        let parts = parts
            .iter()
            .map(|(number, etag)| {
                CompletedPart::builder().part_number(*number).e_tag(format!("\"{etag}\"")).build()
            })
            .collect();
        let joined = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let call = self.client.complete_multipart_upload().bucket(&name.bucket).key(&name.key);
        let answer = call
            .upload_id(upload_id)
            .multipart_upload(joined)
            .send()
            .await
            .map_err(|error| port_error(&error, || shown(name)))?;
        Ok(bare(answer.e_tag()))
    }
}

#[async_trait]
impl PartUploads for S3Objects {
    async fn abort_stale(
        &self,
        bucket: &str,
        prefix: &str,
        before: Timestamp,
        dry_run: bool,
    ) -> Result<Vec<String>, PortError> {
        let what = || format!("bucket {bucket}");
        let mut stale = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let call = self.client.list_multipart_uploads().bucket(bucket).prefix(prefix);
            let page = call
                .set_key_marker(key_marker.take())
                .set_upload_id_marker(id_marker.take())
                .send()
                .await
                .map_err(|error| port_error(&error, what))?;
            for upload in page.uploads() {
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                if timestamp(upload.initiated()) < before {
                    stale.push((key.to_owned(), id.to_owned()));
                }
            }
            if page.is_truncated() != Some(true) || page.next_key_marker().is_none() {
                break;
            }
            key_marker = page.next_key_marker;
            id_marker = page.next_upload_id_marker;
        }
        for (key, id) in stale.iter().filter(|_| !dry_run) {
            let call = self.client.abort_multipart_upload().bucket(bucket).key(key).upload_id(id);
            match call.send().await.map_err(|error| port_error(&error, what)) {
                Ok(_) | Err(PortError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(stale.into_iter().map(|(key, _)| key).collect())
    }
}
