//! The S3 calls that Hansard and its producers use, answered from files. Other calls are answered `NotImplemented`.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::files::{Files, Opened, open_object};
use super::receive::{Declared, received};

/// S3 answered from a directory.
pub(super) struct Api {
    pub(super) files: Arc<Files>,
}

/// Runs file calls off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> S3Result<T> {
    tokio::task::spawn_blocking(call).await.map_err(s3s::S3Error::internal_error)?.map_err(failed)
}

/// A file's error as S3's: what is absent is `NoSuchKey`, a full disk asks to come again.
pub(super) fn failed(error: std::io::Error) -> s3s::S3Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => s3_error!(NoSuchKey),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            s3_error!(error, ServiceUnavailable)
        }
        _ => s3s::S3Error::internal_error(error),
    }
}

impl Api {
    pub(super) fn path(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        if !self.files.bucket(bucket).is_dir() {
            return Err(s3_error!(NoSuchBucket));
        }
        self.files.object(bucket, key).ok_or_else(|| s3_error!(KeyTooLongError))
    }

    async fn open(&self, bucket: &str, key: &str, wanted: Option<&ETagCondition>) -> S3Result<Opened> {
        let path = self.path(bucket, key)?;
        let opened = blocking(move || open_object(&path)).await?;
        if let Some(ETagCondition::ETag(wanted)) = wanted
            && wanted.value() != opened.description.etag
        {
            return Err(s3_error!(PreconditionFailed));
        }
        Ok(opened)
    }
}

#[async_trait]
impl S3 for Api {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let files = self.files.clone();
        blocking(move || files.create_bucket(&req.input.bucket)).await?;
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        if !self.files.bucket(&req.input.bucket).is_dir() {
            return Err(s3_error!(NoSuchBucket));
        }
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        if input.if_match.is_some() || input.if_none_match.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        let at = self.path(&input.bucket, &input.key)?;
        let declared = Declared::of_object(&input);
        let (draft, sha256) = received(&self.files, input.body, declared, req.trailing_headers).await?;
        let put = draft.commit(at, input.content_type, sha256, None).await.map_err(failed)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(put.etag)),
            checksum_sha256: put.sha256,
            ..Default::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let opened = self.open(&input.bucket, &input.key, input.if_match.as_ref()).await?;
        let range = match &input.range {
            Some(range) => range.check(opened.bytes)?,
            None => 0..opened.bytes,
        };
        let mut file = tokio::fs::File::from_std(opened.file);
        file.seek(std::io::SeekFrom::Start(range.start)).await.map_err(failed)?;
        let length = range.end - range.start;
        let body = ReaderStream::with_capacity(file.take(length), 1 << 16);
        let whole = length == opened.bytes;
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::wrap(body)),
            content_length: i64::try_from(length).ok(),
            content_range: input
                .range
                .map(|_| format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), opened.bytes)),
            last_modified: Some(opened.description.modified().into()),
            content_type: opened.description.content_type,
            e_tag: Some(ETag::Strong(opened.description.etag)),
            checksum_sha256: opened.description.sha256.filter(|_| whole),
            ..Default::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let opened = self.open(&input.bucket, &input.key, input.if_match.as_ref()).await?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: i64::try_from(opened.bytes).ok(),
            last_modified: Some(opened.description.modified().into()),
            content_type: opened.description.content_type,
            e_tag: Some(ETag::Strong(opened.description.etag)),
            checksum_sha256: opened.description.sha256,
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let path = self.path(&req.input.bucket, &req.input.key)?;
        let files = self.files.clone();
        blocking(move || files.remove(&req.input.bucket, &path)).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        if input.delimiter.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        self.path(&input.bucket, "")?;
        let after = input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default();
        let prefix = input.prefix.clone().unwrap_or_default();
        let limit = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap_or(0).min(1000);
        let (files, bucket) = (self.files.clone(), input.bucket.clone());
        let (contents, next) = blocking(move || page(&files, &bucket, &prefix, &after, limit)).await?;
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(contents.len()).ok(),
            max_keys: i32::try_from(limit).ok(),
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            contents: Some(contents),
            name: Some(input.bucket),
            prefix: input.prefix,
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.begin_parts(req.input).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.put_part(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.join_parts(req.input).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.drop_parts(req.input).await
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.open_uploads(req.input).await
    }
}

/// One page of a listing, and where the next begins. What vanishes between the two looks is left out.
fn page(
    files: &Files,
    bucket: &str,
    prefix: &str,
    after: &str,
    limit: usize,
) -> std::io::Result<(Vec<Object>, Option<String>)> {
    let mut keys = files.keys(bucket, prefix, after)?;
    let more = keys.len() > limit;
    keys.truncate(limit);
    let next = keys.last().filter(|_| more).cloned();
    let mut contents = Vec::with_capacity(keys.len());
    for key in keys {
        let Some(path) = files.object(bucket, &key) else { continue };
        let opened = match open_object(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        contents.push(Object {
            key: Some(key),
            size: i64::try_from(opened.bytes).ok(),
            last_modified: Some(opened.description.modified().into()),
            e_tag: Some(ETag::Strong(opened.description.etag)),
            ..Default::default()
        });
    }
    Ok((contents, next))
}
