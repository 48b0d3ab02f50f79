//! The S3 server inside the process: embedded mode and tests use the same client as a cluster, against this.
//!
//! It binds only where the caller says, answers only signed requests under one key pair that is made at random for each
//! data directory, and adds the CORS answers that a browser's upload needs. An acknowledged write is on disk (fsync of
//! content and directory before the answer). It is our own layer below s3s and not s3s-fs 0.14, because that one syncs
//! nothing, writes content and ETag in two steps, leaves a body whose checksum was wrong in place, ignores `If-Match`,
//! lists no ETags, resolves `..` in keys, and cannot store keys longer than about 128 bytes.

mod api;
mod files;
mod parts;
mod receive;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::Credentials;
use api::Api;
use files::Files;

/// A running server. Dropping it closes the listener and all connections.
#[derive(Debug)]
pub struct ObjectServer {
    address: SocketAddr,
    credentials: Credentials,
    accepting: tokio::task::JoinHandle<()>,
}

impl ObjectServer {
    /// Serves `directory`, creating it and `bucket` where missing, on `listener`, which should be a loopback one.
    ///
    /// # Errors
    /// When the directory or the credentials in it cannot be made or read.
    pub async fn start(directory: &Path, bucket: &str, listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (root, name) = (directory.to_owned(), bucket.to_owned());
        let (files, credentials) = tokio::task::spawn_blocking(move || {
            let files = Files::open(&root)?;
            files.create_bucket(&name)?;
            Ok::<_, io::Error>((files, own_credentials(&root)?))
        })
        .await
        .map_err(io::Error::other)??;
        let mut builder = S3ServiceBuilder::new(Api { files: Arc::new(files) });
        builder.set_auth(SimpleAuth::from_single(
            credentials.access_key.clone(),
            credentials.secret_key.as_str(),
        ));
        let accepting = tokio::spawn(accept(listener, builder.build()));
        Ok(Self { address, credentials, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key pair that it accepts.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The data directory's key pair, made at first use and readable by its owner only.
fn own_credentials(root: &Path) -> io::Result<Credentials> {
    let path = root.join("credentials");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let (access_key, secret_key) = text.trim_end().split_once(' ').ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "the credentials file is not ours")
            })?;
            Ok(Credentials { access_key: access_key.to_owned(), secret_key: secret_key.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let random = || uuid::Uuid::new_v4().simple().to_string();
            let made = Credentials { access_key: random(), secret_key: format!("{}{}", random(), random()) };
            let fresh = root.join("credentials.new");
            write_private(&fresh, &format!("{} {}\n", made.access_key, made.secret_key))?;
            std::fs::rename(&fresh, &path)?;
            std::fs::File::open(root)?.sync_all()?;
            Ok(made)
        }
        Err(error) => Err(error),
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

async fn accept(listener: TcpListener, service: S3Service) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let service = service.clone();
                    connections.spawn(async move {
                        let answer = hyper::service::service_fn(move |request| respond(service.clone(), request));
                        let http = Builder::new(TokioExecutor::new());
                        if let Err(error) = http.serve_connection(TokioIo::new(socket), answer).await {
                            tracing::debug!(%error, "a connection to the object server broke");
                        }
                    });
                }
                Err(error) => {
                    // Usually too many open files: accepting again at once would spin.
                    tracing::warn!(%error, "the object server could not accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// Answers a browser's preflight, and S3 for everything else. Any origin may ask: the signature in the URL is what
/// allows, and no cookie is involved.
async fn respond(
    service: S3Service,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<hyper::Response<s3s::Body>, Infallible> {
    let preflight = request.method() == hyper::Method::OPTIONS;
    let mut response = if preflight {
        let mut response = hyper::Response::new(s3s::Body::empty());
        *response.status_mut() = hyper::StatusCode::NO_CONTENT;
        response
    } else {
        match service.call(request.map(s3s::Body::from)).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(?error, "the object server failed on a request");
                let mut response = hyper::Response::new(s3s::Body::empty());
                *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag"));
    if preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, PUT"));
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("content-type, range, x-amz-checksum-sha256"),
        );
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    }
    Ok(response)
}
