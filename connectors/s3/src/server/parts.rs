//! Multipart uploads: parts wait as objects of their own in a directory an upload, and are joined into one draft.

use std::fs;
use std::path::PathBuf;

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use super::api::{Api, blocking, failed};
use super::files::{create_dirs, open_object};
use super::receive::{Declared, received};

/// S3's bounds of a part: all but the last have at least this size, and none a higher number.
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
const PART_NUMBER_MAX: i32 = 10_000;

/// What an upload is to become.
#[derive(Serialize, Deserialize)]
struct About {
    bucket: String,
    key: String,
    content_type: Option<String>,
    begun_ms: u64,
}

impl Api {
    fn upload_dir(&self, upload_id: &str) -> S3Result<PathBuf> {
        let id = uuid::Uuid::parse_str(upload_id).map_err(|_| s3_error!(NoSuchUpload))?;
        Ok(self.files.uploads().join(id.simple().to_string()))
    }

    async fn about(&self, bucket: &str, key: &str, upload_id: &str) -> S3Result<(PathBuf, About)> {
        let directory = self.upload_dir(upload_id)?;
        let bytes = tokio::fs::read(directory.join("about")).await.map_err(|_| s3_error!(NoSuchUpload))?;
        let about: About = serde_json::from_slice(&bytes).map_err(s3s::S3Error::internal_error)?;
        if about.bucket != bucket || about.key != key {
            return Err(s3_error!(NoSuchUpload));
        }
        Ok((directory, about))
    }

    pub(super) async fn begin_parts(
        &self,
        input: CreateMultipartUploadInput,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.path(&input.bucket, &input.key)?;
        let upload_id = uuid::Uuid::new_v4().simple().to_string();
        let directory = self.upload_dir(&upload_id)?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let about = About {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            content_type: input.content_type,
            begun_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        };
        let about = serde_json::to_vec(&about).map_err(s3s::S3Error::internal_error)?;
        blocking(move || {
            create_dirs(&directory)?;
            fs::write(directory.join("about"), about)?;
            fs::File::open(directory.join("about"))?.sync_all()
        })
        .await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            ..Default::default()
        }))
    }

    pub(super) async fn put_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        if !(1..=PART_NUMBER_MAX).contains(&input.part_number) {
            return Err(s3_error!(InvalidArgument));
        }
        let (directory, _) = self.about(&input.bucket, &input.key, &input.upload_id).await?;
        let declared = Declared::of_part(&input);
        let (draft, _) = received(&self.files, input.body, declared, req.trailing_headers).await?;
        let at = directory.join(format!("{:05}", input.part_number));
        let part = draft.commit(at, None, None, None).await.map_err(failed)?;
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(ETag::Strong(part.etag)), ..Default::default() }))
    }

    pub(super) async fn join_parts(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        if input.if_match.is_some() || input.if_none_match.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        let at = self.path(&input.bucket, &input.key)?;
        let (directory, about) = self.about(&input.bucket, &input.key, &input.upload_id).await?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        if parts.is_empty() {
            return Err(s3_error!(InvalidPart));
        }
        let mut draft = self.files.draft().await.map_err(failed)?;
        let mut sums = Vec::with_capacity(parts.len());
        let mut last = 0;
        for (index, part) in parts.iter().enumerate() {
            let number = part.part_number.unwrap_or(0);
            if number <= last {
                return Err(s3_error!(InvalidPartOrder));
            }
            last = number;
            let path = directory.join(format!("{number:05}"));
            let opened = tokio::task::spawn_blocking(move || open_object(&path))
                .await
                .map_err(s3s::S3Error::internal_error)?;
            let opened = opened.map_err(|_| s3_error!(InvalidPart))?;
            if part.e_tag.as_ref().is_some_and(|etag| etag.value() != opened.description.etag) {
                return Err(s3_error!(InvalidPart));
            }
            if opened.bytes < PART_BYTES_MIN && index + 1 < parts.len() {
                return Err(s3_error!(EntityTooSmall));
            }
            sums.extend(hex::decode(&opened.description.etag).map_err(s3s::S3Error::internal_error)?);
            let mut content = tokio::fs::File::from_std(opened.file).take(opened.bytes);
            let mut buffer = vec![0; 1 << 18];
            loop {
                let count = content.read(&mut buffer).await.map_err(failed)?;
                if count == 0 {
                    break;
                }
                draft.write(&buffer[..count]).await.map_err(failed)?;
            }
        }
        let etag = format!("{}-{}", hex::encode(Md5::checksum(&sums)), parts.len());
        let joined = draft.commit(at, about.content_type, None, Some(etag)).await.map_err(failed)?;
        blocking(move || fs::remove_dir_all(directory)).await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(joined.etag)),
            ..Default::default()
        }))
    }

    pub(super) async fn drop_parts(
        &self,
        input: AbortMultipartUploadInput,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let (directory, _) = self.about(&input.bucket, &input.key, &input.upload_id).await?;
        blocking(move || fs::remove_dir_all(directory)).await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    /// All open uploads at once: an embedded deployment has few, since sweep aborts the stale ones.
    pub(super) async fn open_uploads(
        &self,
        input: ListMultipartUploadsInput,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let (root, bucket) = (self.files.uploads(), input.bucket.clone());
        let prefix = input.prefix.clone().unwrap_or_default();
        let uploads = blocking(move || {
            let mut uploads = Vec::new();
            for entry in fs::read_dir(root)? {
                let entry = entry?;
                let Ok(about) = fs::read(entry.path().join("about")) else { continue };
                let Ok(about) = serde_json::from_slice::<About>(&about) else { continue };
                if about.bucket == bucket && about.key.starts_with(&prefix) {
                    let begun = std::time::UNIX_EPOCH + std::time::Duration::from_millis(about.begun_ms);
                    uploads.push(MultipartUpload {
                        key: Some(about.key),
                        upload_id: entry.file_name().into_string().ok(),
                        initiated: Some(begun.into()),
                        ..Default::default()
                    });
                }
            }
            Ok(uploads)
        })
        .await?;
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix,
            uploads: Some(uploads),
            is_truncated: Some(false),
            ..Default::default()
        }))
    }
}
