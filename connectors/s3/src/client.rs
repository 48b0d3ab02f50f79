//! The `Objects` port on the AWS client: pinned reads, checked writes, a time limit on everything.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials as AwsCredentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ChecksumMode;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::stream::BoxStream;
use hansard_core::id::Timestamp;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::objects::{ObjectHead, ObjectName, Objects};
use hansard_tls::Authorities;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncRead;

use crate::errors::{SERVICE, port_error};
use crate::upload::upload_stream;

/// A key pair. Its `Debug` shows the access key only.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The public half, which stands in every presigned URL.
    pub access_key: String,
    /// The secret half.
    pub secret_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// Where the objects are and how long to wait for them.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The service's URL; `None` is AWS in `region`.
    pub endpoint: Option<String>,
    /// The URL under which producers and readers reach the service, where it differs: presigned links name it.
    pub public_endpoint: Option<String>,
    /// The region; most services other than AWS take any.
    pub region: String,
    /// The key pair.
    pub credentials: Credentials,
    /// Whose certificates are accepted, where the URL is an https one.
    pub authorities: Authorities,
    /// Whether the bucket stands in the path (most services other than AWS) or in the host's name.
    pub path_style: bool,
    /// The limit for a connection to stand.
    pub connect_timeout: Duration,
    /// The limit for one attempt of one call, without the body of a read.
    pub attempt_timeout: Duration,
    /// The limit for one call with its repetitions, and for each wait while a body is read.
    pub call_timeout: Duration,
    /// Attempts of one call that fail in a passing way.
    pub attempts: u32,
}

impl S3Config {
    /// A service at `endpoint` with path style and the default limits: connect 3 s, attempt 30 s, call 60 s, 3 attempts.
    #[must_use]
    pub fn at(endpoint: String, credentials: Credentials) -> Self {
        Self {
            endpoint: Some(endpoint),
            public_endpoint: None,
            region: "us-east-1".to_owned(),
            credentials,
            authorities: Authorities::default(),
            path_style: true,
            connect_timeout: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(60),
            attempts: 3,
        }
    }

    /// With no limit longer than half of `call`: a caller who gives up after that must know by then that the service is
    /// silent, or takes the silence for a failure of what it was doing.
    #[must_use]
    pub fn within(self, call: Duration) -> Self {
        let half = call / 2;
        Self {
            connect_timeout: self.connect_timeout.min(half),
            attempt_timeout: self.attempt_timeout.min(half),
            call_timeout: self.call_timeout.min(half),
            ..self
        }
    }

    fn client(&self, endpoint: Option<&String>) -> Client {
        let Credentials { access_key, secret_key } = &self.credentials;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.connect_timeout)
            .operation_attempt_timeout(self.attempt_timeout)
            .operation_timeout(self.call_timeout)
            .build();
        let mut config = Builder::new()
            .behavior_version_latest()
            .region(Region::new(self.region.clone()))
            .credentials_provider(AwsCredentials::new(access_key, secret_key, None, None, "configuration"))
            .force_path_style(self.path_style)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(self.attempts))
            // Foreign services often lack the default checksums; where one matters, the call gives SHA-256 itself.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        if !self.authorities.pem().is_empty() {
            // Beside the system's, which a store holds from the beginning.
            let store = TrustStore::default().with_pem_certificate(self.authorities.pem());
            let context = TlsContext::builder().with_trust_store(store).build().expect("it is only kept");
            let http =
                aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
            config = config.http_client(http.tls_context(context).build_https());
        }
        Client::from_conf(config.build())
    }
}

/// The object store on an S3 service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct S3Objects {
    pub(crate) client: Client,
    /// Signs links with the host that the outside uses.
    pub(crate) public: Client,
    pub(crate) body_timeout: Duration,
}

impl S3Objects {
    /// Makes the client; nothing is sent until the first call.
    #[must_use]
    pub fn new(config: &S3Config) -> Self {
        let client = config.client(config.endpoint.as_ref());
        let public = match &config.public_endpoint {
            Some(endpoint) => config.client(Some(endpoint)),
            None => client.clone(),
        };
        Self { client, public, body_timeout: config.call_timeout }
    }
}

/// An object's name for an error: a key names a conversation but holds no secret.
pub(crate) fn shown(name: &ObjectName) -> String {
    format!("object {}/{}", name.bucket, name.key)
}

/// ETags travel in quotes; ours are without.
pub(crate) fn bare(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

pub(crate) fn timestamp(time: Option<&DateTime>) -> Timestamp {
    Timestamp(time.and_then(|time| time.to_millis().ok()).unwrap_or(0))
}

/// Compares what came with what was meant, since some services ignore `If-Match` on reads.
pub(crate) fn pinned(name: &ObjectName, meant: Option<&str>, seen: &str) -> Result<(), PortError> {
    match meant {
        Some(meant) if meant != seen => Err(PortError::Differs {
            what: shown(name),
            difference: format!("etag {meant} was expected, {seen} is there"),
        }),
        _ => Ok(()),
    }
}

/// The service's SHA-256 as hex; a multipart upload's composite sum (`…-3`) says nothing about the whole.
fn hex_sha256(base64: Option<&str>) -> Option<String> {
    BASE64.decode(base64?).ok().filter(|sum| sum.len() == 32).map(hex::encode)
}

#[async_trait]
impl Objects for S3Objects {
    async fn head(&self, name: &ObjectName) -> Result<ObjectHead, PortError> {
        let call = self.client.head_object().bucket(&name.bucket).key(&name.key);
        let head = call
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|error| port_error(&error, || shown(name)))?;
        Ok(ObjectHead {
            bytes: head.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
            etag: bare(head.e_tag()),
            sha256: hex_sha256(head.checksum_sha256()),
            modified: timestamp(head.last_modified()),
        })
    }

    async fn get(
        &self,
        name: &ObjectName,
        etag: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Bytes, PortError>>, PortError> {
        let call = self.client.get_object().bucket(&name.bucket).key(&name.key);
        let call = call.set_if_match(etag.map(|etag| format!("\"{etag}\"")));
        let answer = call.send().await.map_err(|error| port_error(&error, || shown(name)))?;
        pinned(name, etag, &bare(answer.e_tag()))?;
        let expected = answer.content_length().and_then(|bytes| u64::try_from(bytes).ok());
        Ok(body(answer.body, expected, self.body_timeout))
    }

    async fn put(&self, name: &ObjectName, content_type: &str, body: Bytes) -> Result<ObjectHead, PortError> {
        let digest = Sha256::digest(&body);
        let call = self.client.put_object().bucket(&name.bucket).key(&name.key).content_type(content_type);
        let answer = call
            .checksum_sha256(BASE64.encode(digest))
            .body(ByteStream::from(body))
            .send()
            .await
            .map_err(|error| port_error(&error, || shown(name)))?;
        self.written(name, bare(answer.e_tag())).await
    }

    async fn put_stream(
        &self,
        name: &ObjectName,
        content_type: &str,
        body: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<ObjectHead, PortError> {
        upload_stream(self, name, content_type, body).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), PortError> {
        let call = self.client.delete_object().bucket(&name.bucket).key(&name.key);
        match call.send().await.map_err(|error| port_error(&error, || shown(name))) {
            Ok(_) | Err(PortError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, ObjectHead)>, PortError> {
        let mut found = Vec::new();
        let mut after = after.map(str::to_owned);
        while found.len() < limit {
            let page = i32::try_from((limit - found.len()).min(1000)).unwrap_or(1000);
            let call = self.client.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(page);
            let answer = call
                .set_start_after(after.take())
                .send()
                .await
                .map_err(|error| port_error(&error, || format!("bucket {bucket}")))?;
            for object in answer.contents() {
                let Some(key) = object.key() else { continue };
                let head = ObjectHead {
                    bytes: object.size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
                    etag: bare(object.e_tag()),
                    sha256: None,
                    modified: timestamp(object.last_modified()),
                };
                found.push((key.to_owned(), head));
            }
            after = found.last().map(|(key, _)| key.clone());
            if answer.is_truncated() != Some(true) || answer.contents().is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

impl S3Objects {
    /// Looks at what was just written: the service's own size and time, and whether somebody wrote over it.
    pub(crate) async fn written(&self, name: &ObjectName, etag: String) -> Result<ObjectHead, PortError> {
        let head = self.head(name).await?;
        pinned(name, Some(&etag), &head.etag)?;
        Ok(head)
    }
}

/// A body as a stream that cannot end early unnoticed, nor hang.
fn body(
    body: ByteStream,
    expected: Option<u64>,
    timeout: Duration,
) -> BoxStream<'static, Result<Bytes, PortError>> {
    let unavailable = |cause: String| PortError::Unavailable { service: SERVICE, cause };
    let cut = Arc::new(unavailable);
    Box::pin(futures::stream::try_unfold((body, 0_u64), move |(mut body, read)| {
        let unavailable = cut.clone();
        async move {
            let next = tokio::time::timeout(timeout, body.next()).await;
            match next.map_err(|_| unavailable("a body stood still".to_owned()))? {
                Some(Ok(bytes)) => {
                    let read = read + bytes.len() as u64;
                    Ok(Some((bytes, (body, read))))
                }
                Some(Err(_)) => Err(unavailable(format!("a body broke after {read} bytes"))),
                None => match expected {
                    Some(expected) if expected != read => {
                        Err(unavailable(format!("a body ended after {read} of {expected} bytes")))
                    }
                    _ => Ok(None),
                },
            }
        }
    }))
}
