//! Receiving a body: into a draft, and against the checksums that its sender declares, before anything is visible.

use futures::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, ChecksumAlgorithm, PutObjectInput, StreamingBlob, UploadPartInput};
use s3s::{S3Result, s3_error};

use super::api::failed;
use super::files::{Draft, Files};

/// Copies a request's body into a draft, hashing on the way.
async fn receive(body: Option<StreamingBlob>, draft: &mut Draft, sums: &mut ChecksumHasher) -> S3Result<()> {
    let mut body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|_| s3_error!(IncompleteBody))?;
        sums.update(&bytes);
        draft.write(&bytes).await.map_err(failed)?;
    }
    Ok(())
}

/// The checksums that a request declares, in its headers or (by a streaming client) in trailers behind the body.
pub(super) struct Declared {
    sums: Checksum,
    algorithm: Option<ChecksumAlgorithm>,
}

impl Declared {
    pub(super) fn of_object(input: &PutObjectInput) -> Self {
        let sums = Checksum {
            checksum_crc32: input.checksum_crc32.clone(),
            checksum_crc32c: input.checksum_crc32c.clone(),
            checksum_crc64nvme: input.checksum_crc64nvme.clone(),
            checksum_sha1: input.checksum_sha1.clone(),
            checksum_sha256: input.checksum_sha256.clone(),
            ..Default::default()
        };
        Self { sums, algorithm: input.checksum_algorithm.clone() }
    }

    pub(super) fn of_part(input: &UploadPartInput) -> Self {
        let sums = Checksum {
            checksum_crc32: input.checksum_crc32.clone(),
            checksum_crc32c: input.checksum_crc32c.clone(),
            checksum_crc64nvme: input.checksum_crc64nvme.clone(),
            checksum_sha1: input.checksum_sha1.clone(),
            checksum_sha256: input.checksum_sha256.clone(),
            ..Default::default()
        };
        Self { sums, algorithm: input.checksum_algorithm.clone() }
    }

    fn hasher(&self) -> S3Result<ChecksumHasher> {
        let algorithm = self.algorithm.as_ref().map(ChecksumAlgorithm::as_str);
        let wanted = |sum: &Option<String>, name: &str| sum.is_some() || algorithm == Some(name);
        if let Some(algorithm) = algorithm
            && !["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"].contains(&algorithm)
        {
            return Err(s3_error!(NotImplemented));
        }
        Ok(ChecksumHasher {
            crc32: wanted(&self.sums.checksum_crc32, "CRC32").then(Default::default),
            crc32c: wanted(&self.sums.checksum_crc32c, "CRC32C").then(Default::default),
            crc64nvme: wanted(&self.sums.checksum_crc64nvme, "CRC64NVME").then(Default::default),
            sha1: wanted(&self.sums.checksum_sha1, "SHA1").then(Default::default),
            sha256: wanted(&self.sums.checksum_sha256, "SHA256").then(Default::default),
        })
    }

    /// Compares with what was received, before anything becomes visible.
    fn check(mut self, seen: &Checksum, trailers: Option<s3s::TrailingHeaders>) -> S3Result<()> {
        if let Some(trailers) = trailers.and_then(|trailers| trailers.take()) {
            let sums = [
                (&mut self.sums.checksum_crc32, "x-amz-checksum-crc32"),
                (&mut self.sums.checksum_crc32c, "x-amz-checksum-crc32c"),
                (&mut self.sums.checksum_crc64nvme, "x-amz-checksum-crc64nvme"),
                (&mut self.sums.checksum_sha1, "x-amz-checksum-sha1"),
                (&mut self.sums.checksum_sha256, "x-amz-checksum-sha256"),
            ];
            for (sum, name) in sums {
                if let Some(value) = trailers.get(name) {
                    *sum = Some(value.to_str().map_err(|_| s3_error!(InvalidArgument))?.to_owned());
                }
            }
        }
        let pairs = [
            (&self.sums.checksum_crc32, &seen.checksum_crc32),
            (&self.sums.checksum_crc32c, &seen.checksum_crc32c),
            (&self.sums.checksum_crc64nvme, &seen.checksum_crc64nvme),
            (&self.sums.checksum_sha1, &seen.checksum_sha1),
            (&self.sums.checksum_sha256, &seen.checksum_sha256),
        ];
        if pairs.iter().any(|(declared, seen)| declared.is_some() && declared != seen) {
            return Err(s3_error!(BadDigest));
        }
        Ok(())
    }
}

/// Receives a whole body and verifies what was declared of it; gives the draft and the SHA-256, if declared.
pub(super) async fn received(
    files: &Files,
    body: Option<StreamingBlob>,
    declared: Declared,
    trailers: Option<s3s::TrailingHeaders>,
) -> S3Result<(Draft, Option<String>)> {
    let mut draft = files.draft().await.map_err(failed)?;
    let mut sums = declared.hasher()?;
    receive(body, &mut draft, &mut sums).await?;
    let seen = sums.finalize();
    declared.check(&seen, trailers)?;
    Ok((draft, seen.checksum_sha256))
}
