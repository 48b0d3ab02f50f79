//! The port's promises and the links', against the embedded server over HTTP.

use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use hansard_core::id::Timestamp;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::objects::{ObjectName, Objects, PartUploads as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpListener;

use crate::{Credentials, ObjectServer, S3Config, S3Objects, SignedRequest};

const BUCKET: &str = "hansard";
const MINUTE: Duration = Duration::from_secs(60);

async fn serve(directory: &Path) -> (ObjectServer, S3Objects) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let server = ObjectServer::start(directory, BUCKET, listener).await.expect("serves");
    let config = S3Config::at(format!("http://{}", server.address()), server.credentials().clone());
    (server, S3Objects::new(&config))
}

async fn fixture() -> (TempDir, ObjectServer, S3Objects) {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, objects) = serve(directory.path()).await;
    (directory, server, objects)
}

fn name(key: &str) -> ObjectName {
    ObjectName { bucket: BUCKET.to_owned(), key: key.to_owned() }
}

/// Bytes that repeat in no part's length.
fn noise(length: usize) -> Bytes {
    let mut state = 7_u32;
    let mut bytes = BytesMut::with_capacity(length);
    for _ in 0..length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&[state.to_be_bytes()[0]]);
    }
    bytes.freeze()
}

async fn read(objects: &S3Objects, name: &ObjectName, etag: Option<&str>) -> Result<Bytes, PortError> {
    let mut body = objects.get(name, etag).await?;
    let mut whole = BytesMut::new();
    while let Some(bytes) = body.next().await {
        whole.extend_from_slice(&bytes?);
    }
    Ok(whole.freeze())
}

async fn send(request: &SignedRequest, body: Bytes) -> reqwest::Response {
    let method = reqwest::Method::from_bytes(request.method.as_bytes()).expect("a method");
    let mut call = reqwest::Client::new().request(method, &request.url);
    for (name, value) in request.headers.iter().filter(|(name, _)| name != "content-length") {
        call = call.header(name, value);
    }
    call.body(body).send().await.expect("an answer")
}

#[tokio::test]
async fn what_was_put_is_read_and_described() {
    let (directory, server, objects) = fixture().await;
    // Longer than a file's name, with what a file system would take for its own.
    let object = name(&format!("uploads/{}/../{}/a b+ü", "c".repeat(128), "k".repeat(64)));
    let put = objects.put(&object, "audio/ogg", Bytes::from_static(b"some audio")).await.expect("puts");
    assert_eq!(put.bytes, 10);
    assert_eq!(put.sha256, Some(hex::encode(Sha256::digest(b"some audio"))));
    assert!(put.modified > Timestamp(1_500_000_000_000), "{:?}", put.modified);
    assert_eq!(objects.head(&object).await.expect("heads"), put);
    assert_eq!(read(&objects, &object, Some(&put.etag)).await.expect("reads"), "some audio");
    drop(server);
    let (_server, objects) = serve(directory.path()).await;
    assert_eq!(
        read(&objects, &object, Some(&put.etag)).await.expect("reads"),
        "some audio",
        "after a restart"
    );
    objects.delete(&object).await.expect("deletes");
    objects.delete(&object).await.expect("deletes again");
    let missing = objects.head(&object).await.expect_err("gone");
    assert!(matches!(missing, PortError::NotFound { .. }), "{missing}");
    let missing = read(&objects, &object, None).await.expect_err("gone");
    assert!(matches!(missing, PortError::NotFound { .. }), "{missing}");
}

#[tokio::test]
async fn a_pinned_read_gives_that_content_or_none() {
    let (_directory, _server, objects) = fixture().await;
    let object = name("pinned");
    let first = objects.put(&object, "text/plain", Bytes::from_static(b"first")).await.expect("puts");
    objects.put(&object, "text/plain", Bytes::from_static(b"second")).await.expect("puts");
    let error = read(&objects, &object, Some(&first.etag)).await.expect_err("differs");
    assert!(matches!(error, PortError::Differs { .. }), "{error}");
    assert_eq!(read(&objects, &object, None).await.expect("reads"), "second");
    // Against a service that ignores If-Match the client's own comparison has to hold.
    let error = crate::client::pinned(&object, Some("a"), "b").expect_err("differs");
    assert!(matches!(error, PortError::Differs { .. }), "{error}");
    crate::client::pinned(&object, None, "b").expect("not pinned");
}

#[tokio::test]
async fn a_stream_of_any_length_arrives_whole() {
    let (_directory, _server, objects) = fixture().await;
    for length in [0, 5, crate::upload::PART_BYTES, 2 * crate::upload::PART_BYTES + 1] {
        let object = name(&format!("streams/{length}"));
        let body = noise(length);
        let head =
            objects.put_stream(&object, "audio/flac", Box::new(std::io::Cursor::new(body.clone()))).await;
        assert_eq!(head.expect("puts").bytes, length as u64);
        assert_eq!(read(&objects, &object, None).await.expect("reads"), body);
    }
}

/// Gives `left` bytes, then fails.
struct Breaks {
    left: usize,
    with: Option<PortError>,
}

impl AsyncRead for Breaks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(match self.with.take() {
                Some(error) => std::io::Error::other(error),
                None => std::io::Error::other("the source broke"),
            }));
        }
        let count = self.left.min(buffer.remaining()).min(1 << 16);
        buffer.put_slice(&vec![7; count]);
        self.left -= count;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_stream_that_fails_leaves_nothing() {
    let (_directory, _server, objects) = fixture().await;
    let gone = PortError::NotFound { what: "the source".to_owned() };
    for (left, with) in [(3, None), (crate::upload::PART_BYTES + 3, None), (3, Some(gone))] {
        let object = name("broken");
        let body = Box::new(Breaks { left, with: with.clone() });
        let error = objects.put_stream(&object, "audio/flac", body).await.expect_err("breaks");
        match with {
            Some(with) => assert_eq!(error, with, "the source's error keeps its meaning"),
            None => assert!(error.to_string().contains("the source broke"), "{error}"),
        }
        assert!(objects.list(BUCKET, "", None, 10).await.expect("lists").is_empty());
        let open = objects.abort_stale(BUCKET, "", Timestamp::MAX, true).await.expect("lists");
        assert_eq!(open, Vec::<String>::new());
    }
}

#[tokio::test]
async fn listing_pages_in_the_order_of_keys() {
    let (_directory, _server, objects) = fixture().await;
    for key in ["a", "a/b", "a/c", "a/b/c", "a.b", "b/x", "ab"] {
        objects.put(&name(key), "text/plain", Bytes::from_static(b"x")).await.expect("puts");
    }
    let keys = async |prefix: &str, after: Option<&str>, limit: usize| -> Vec<String> {
        let found = objects.list(BUCKET, prefix, after, limit).await.expect("lists");
        assert!(found.iter().all(|(_, head)| head.bytes == 1 && head.etag.len() == 32));
        found.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys("", None, 100).await, ["a", "a.b", "a/b", "a/b/c", "a/c", "ab", "b/x"]);
    assert_eq!(keys("a/", None, 100).await, ["a/b", "a/b/c", "a/c"]);
    assert_eq!(keys("", Some("a/b"), 2).await, ["a/b/c", "a/c"]);
    assert_eq!(keys("a/b", Some("a/b/c"), 2).await, Vec::<String>::new());
    assert_eq!(keys("nowhere/", None, 2).await, Vec::<String>::new());
}

#[tokio::test]
async fn more_than_a_page_is_listed() {
    let (directory, _server, objects) = fixture().await;
    let object = name("seed/0");
    objects.put(&object, "text/plain", Bytes::from_static(b"x")).await.expect("puts");
    // Copies of the file stand for a thousand slow puts; the layout is the server's own.
    let seed = directory.path().join("buckets").join("hansard.d").join("seed.d");
    for index in 1..1_500 {
        std::fs::copy(seed.join("0.o"), seed.join(format!("{index}.o"))).expect("copies");
    }
    assert_eq!(objects.list(BUCKET, "seed/", None, 1_400).await.expect("lists").len(), 1_400);
    assert_eq!(objects.list(BUCKET, "seed/", None, 5_000).await.expect("lists").len(), 1_500);
}

#[tokio::test]
async fn a_link_takes_only_what_was_signed() {
    let (_directory, _server, objects) = fixture().await;
    let object = name("uploads/c/k/r");
    let sum = hex::encode(Sha256::digest(b"0123456789"));
    let link = objects.presign_put(&object, "audio/webm", 10, Some(&sum), MINUTE).await.expect("signs");
    assert!(!format!("{link:?}").contains("Signature"), "{link:?}");

    assert_eq!(send(&link, Bytes::from_static(b"01234567890")).await.status(), 403, "another length");
    let mut other = link.clone();
    for (name, value) in &mut other.headers {
        if name == "content-type" {
            *value = "text/html".to_owned();
        }
    }
    assert_eq!(send(&other, Bytes::from_static(b"0123456789")).await.status(), 403, "another type");
    assert_eq!(send(&link, Bytes::from_static(b"9876543210")).await.status(), 400, "another content");
    assert!(
        matches!(objects.head(&object).await, Err(PortError::NotFound { .. })),
        "a refused body is not kept"
    );

    let answer = send(&link, Bytes::from_static(b"0123456789")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    let head = objects.head(&object).await.expect("is there");
    assert_eq!((head.bytes, head.sha256.as_deref()), (10, Some(sum.as_str())));

    let link = objects.presign_get(&object, Some("meeting.ogg"), MINUTE).await.expect("signs");
    let answer = send(&link, Bytes::new()).await;
    assert_eq!(answer.bytes().await.expect("a body"), "0123456789");
    let unsigned = link.url.split('?').next().expect("a path").to_owned();
    let answer = reqwest::get(&unsigned).await.expect("an answer");
    assert_eq!(answer.status(), 403, "without a signature");
}

#[tokio::test]
async fn a_browser_may_ask_before_it_sends() {
    let (_directory, server, _objects) = fixture().await;
    let url = format!("http://{}/hansard/uploads/x", server.address());
    let answer =
        reqwest::Client::new().request(reqwest::Method::OPTIONS, url).send().await.expect("an answer");
    assert_eq!(answer.status(), 204);
    assert!(answer.headers()["access-control-allow-methods"].to_str().expect("text").contains("PUT"));
}

#[tokio::test]
async fn parts_are_joined_once_and_stale_ones_aborted() {
    let (_directory, _server, objects) = fixture().await;
    let object = name("uploads/c/large");
    let part_bytes = 5 * 1024 * 1024;
    let body = noise(part_bytes + 100);
    let length = body.len() as u64;
    let upload = objects
        .presign_multipart(&object, "audio/wav", length, part_bytes as u64, MINUTE)
        .await
        .expect("begins");
    assert_eq!(upload.parts.iter().map(|part| part.bytes).collect::<Vec<_>>(), [part_bytes as u64, 100]);
    let pieces = [body.slice(..part_bytes), body.slice(part_bytes..)];
    assert_eq!(send(&upload.parts[1].request, pieces[0].clone()).await.status(), 403, "another length");
    let mut etags = Vec::new();
    for (part, piece) in upload.parts.iter().zip(pieces) {
        let answer = send(&part.request, piece).await;
        assert_eq!(answer.status(), 200);
        let etag = answer.headers()["etag"].to_str().expect("text").trim_matches('"').to_owned();
        etags.push((part.number, etag));
    }
    let wrong = [(1, etags[1].1.clone()), (2, etags[0].1.clone())];
    let error =
        objects.complete_multipart(&object, &upload.upload_id, &wrong).await.expect_err("wrong parts");
    assert!(matches!(error, PortError::Differs { .. }), "{error}");
    let etag = objects.complete_multipart(&object, &upload.upload_id, &etags).await.expect("joins");
    assert_eq!(objects.head(&object).await.expect("is there").etag, etag);
    assert_eq!(read(&objects, &object, Some(&etag)).await.expect("reads"), body);
    let again =
        objects.complete_multipart(&object, &upload.upload_id, &etags).await.expect_err("done before");
    assert!(matches!(again, PortError::NotFound { .. }), "{again}");

    objects.presign_multipart(&name("uploads/stale"), "audio/wav", 10, 10, MINUTE).await.expect("begins");
    let early = objects.abort_stale(BUCKET, "uploads/", Timestamp(0), false).await.expect("looks");
    assert_eq!(early, Vec::<String>::new());
    let late = objects.abort_stale(BUCKET, "uploads/", Timestamp::MAX, false).await.expect("aborts");
    assert_eq!(late, ["uploads/stale"]);
    let none = objects.abort_stale(BUCKET, "uploads/", Timestamp::MAX, false).await.expect("looks");
    assert_eq!(none, Vec::<String>::new());
}

#[tokio::test]
async fn failures_have_their_class_and_show_no_secret() {
    let (directory, server, objects) = fixture().await;
    let error = objects
        .put(&ObjectName { bucket: "elsewhere".to_owned(), key: "x".to_owned() }, "text/plain", Bytes::new())
        .await
        .expect_err("no bucket");
    assert!(matches!(&error, PortError::Refused { .. }), "{error}");
    let error = objects.list("elsewhere", "", None, 1).await.expect_err("no bucket").to_string();
    assert!(error.ends_with("create the bucket"), "{error}");
    objects.list(BUCKET, "", None, 1).await.expect("is there");

    let address = server.address();
    let known = server.credentials().clone();
    let stranger = Credentials { access_key: known.access_key.clone(), secret_key: "guessed".to_owned() };
    assert!(!format!("{known:?} {server:?}").contains(&known.secret_key));
    let stranger = S3Objects::new(&S3Config::at(format!("http://{address}"), stranger));
    let error = stranger.head(&name("x")).await.expect_err("refused");
    assert!(matches!(&error, PortError::Refused { .. }), "{error}");

    drop(server);
    drop(objects);
    let mut config = S3Config::at(format!("http://{address}"), known.clone());
    config.attempts = 1;
    let error = S3Objects::new(&config).head(&name("x")).await.expect_err("nobody there");
    assert!(matches!(&error, PortError::Unavailable { .. }), "{error}");

    // The same data directory keeps its keys, so links outlive a restart.
    let (again, _) = serve(directory.path()).await;
    assert_eq!(again.credentials(), &known);
}

/// Connections are taken and nothing is ever said.
#[tokio::test]
async fn a_silent_service_is_known_within_a_call() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            open.push(socket);
        }
    });
    let call = Duration::from_secs(2);
    let keys = Credentials { access_key: "any".to_owned(), secret_key: "any".to_owned() };
    let objects = S3Objects::new(&S3Config::at(url, keys).within(call));
    let read = tokio::time::timeout(call, objects.get(&name("x"), None)).await;
    let error = read.expect("the call's limit cuts nothing off").err().expect("nobody answers");
    assert!(matches!(&error, PortError::Unavailable { .. }), "{error}");
}
