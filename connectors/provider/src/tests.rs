//! The shared client against real servers on free ports: every status, every way in which a connection breaks, and what
//! must never be shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::any;
use bytes::Bytes;
use hansard_core::redelivery::Class;
use hansard_runtime::pace::Pace;
use hansard_runtime::stage::Failed;
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{Account, Authorization, Secret, Service, ServiceConfig, ServiceError};

const KEY: &str = "sk-test-7f1c";

/// Serves on a free port until the test's runtime ends.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Answers every connection with these bytes once a request has begun, then resets it or keeps silent.
async fn serve_raw(answer: &'static [u8], reset: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 64]).await;
            let _ = socket.write_all(answer).await;
            if reset {
                // Closing with unread bytes resets the connection.
                drop(socket);
            } else {
                open.push(socket);
            }
        }
    });
    format!("http://{address}")
}

fn config(base_url: impl Into<String>) -> ServiceConfig {
    let mut config = ServiceConfig::new("tested", base_url, "tested.ca");
    config.key = Some(Secret::new(KEY));
    config.answer_within = Duration::from_secs(20);
    config
}

fn service(base_url: impl Into<String>) -> Service {
    Service::new(config(base_url)).expect("a valid configuration")
}

/// One call with a body, so that a server that closes the connection finds bytes that it has not read.
async fn call(service: &Service, account: Account) -> Result<Bytes, Failed> {
    let call = service.call(Method::POST, "/v2/thing").expect("a path").body(vec![7; 4096]);
    service.body(service.send(call, account, &Pace::unlimited().permit().await).await?).await
}

async fn failure(service: &Service) -> Failed {
    call(service, Account::Deployment).await.expect_err("the call fails")
}

async fn answering(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
) -> Service {
    let status = StatusCode::from_u16(status).expect("a status");
    let answer = move || async move {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (name.parse::<header::HeaderName>().expect("a name"), value.parse().expect("a value"))
            })
            .collect();
        (status, headers, body)
    };
    service(serve(Router::new().fallback(any(answer))).await)
}

#[tokio::test]
async fn each_status_has_its_class_and_code() {
    use Class::{Permanent, Transient, Unavailable};
    let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let balance =
        r#"{"error":"Your current account balance is negative. Please top up to continue using the API."}"#;
    let plain = r#"{"error":{"message":"no","type":"x","code":null}}"#;
    let no_model = r#"{"error":{"message":"no","type":"invalid_request_error","code":"model_not_found"}}"#;
    let no_models =
        r#"{"error":"\"speech_models\" must be a non-empty list containing one or more of: \"a\""}"#;
    let no_language =
        r#"{"error":{"message":"no","type":"invalid_request_error","code":"unsupported_language"}}"#;
    let no_labels = r#"{"error":"The following models are not available in this language: speaker_labels"}"#;
    let no_audio = r#"{"error":{"message":"The audio file could not be decoded or its format is not supported.","type":"invalid_request_error","param":null,"code":null}}"#;
    let no_job = r#"{"error":"Transcript lookup error, transcript id not found"}"#;
    // Status, body, under the deployment's model, under the record's own, code.
    let table = [
        (400, plain, Permanent, Permanent, "rejected"),
        (401, plain, Unavailable, Permanent, "authentication"),
        (402, "", Unavailable, Permanent, "payment_required"),
        (403, "<html>no</html>", Unavailable, Permanent, "forbidden"),
        (404, plain, Permanent, Permanent, "rejected"),
        (404, r#"{"detail":"there is no such thing"}"#, Permanent, Permanent, "rejected"),
        (404, r#"{"detail":"Not Found"}"#, Unavailable, Unavailable, "wrong_url"),
        (404, "<html>Not Found</html>", Unavailable, Unavailable, "wrong_url"),
        (404, "", Unavailable, Unavailable, "wrong_url"),
        (405, "", Unavailable, Unavailable, "wrong_url"),
        (408, "", Transient, Transient, "timeout"),
        (409, plain, Permanent, Permanent, "rejected"),
        (413, "", Permanent, Permanent, "too_large"),
        (415, plain, Permanent, Permanent, "unsupported_audio"),
        (422, r#"{"detail":[]}"#, Permanent, Permanent, "rejected"),
        (404, no_model, Unavailable, Permanent, "unsupported_model"),
        (400, no_models, Unavailable, Permanent, "unsupported_model"),
        (400, no_language, Permanent, Permanent, "unsupported_language"),
        (400, no_labels, Permanent, Permanent, "unsupported_language"),
        (400, no_audio, Permanent, Permanent, "unsupported_audio"),
        (400, no_job, Permanent, Permanent, "no_such_job"),
        (429, plain, Transient, Transient, "rate_limited"),
        (429, quota, Unavailable, Permanent, "quota"),
        (400, balance, Unavailable, Permanent, "quota"),
        (500, plain, Transient, Transient, "server_error"),
        (502, "<html>bad gateway</html>", Transient, Transient, "server_error"),
        (503, r#"{"error":"overloaded"}"#, Transient, Transient, "server_error"),
        (504, "", Transient, Transient, "server_error"),
        (301, "", Unavailable, Unavailable, "redirected"),
        (307, "", Unavailable, Unavailable, "redirected"),
    ];
    for (status, body, deployments, records, code) in table {
        let service = answering(status, &[], body).await;
        for (account, class) in [(Account::Deployment, deployments), (Account::Record, records)] {
            let error = call(&service, account).await.expect_err("a refusal");
            assert_eq!((error.class, error.code, error.http_status), (class, code, Some(status)), "{body}");
        }
    }
}

#[tokio::test]
async fn retry_after_is_read_as_seconds_and_as_a_date() {
    const DATE: (&str, &str) = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
    type Headers = &'static [(&'static str, &'static str)];
    let table: [(Headers, Option<u64>); 8] = [
        (&[("retry-after", "7")], Some(7)),
        (&[("retry-after", "0")], Some(0)),
        (&[("retry-after", "Wed, 21 Oct 2026 07:30:05 GMT"), DATE], Some(125)),
        (&[("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT"), DATE], Some(0)),
        (&[("retry-after", "99999999999")], Some(86_400)),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "-1")], None),
        (&[], None),
    ];
    for (headers, wait) in table {
        let error = failure(&answering(429, headers, "").await).await;
        assert_eq!((error.class, error.retry_after), (Class::Transient, wait.map(Duration::from_secs)));
    }
}

#[tokio::test]
async fn who_says_how_long_it_serves_nobody_is_unavailable() {
    for (headers, class) in [(&[("retry-after", "7")][..], Class::Unavailable), (&[], Class::Transient)] {
        let error = failure(&answering(503, headers, "").await).await;
        assert_eq!((error.class, error.code), (class, "server_error"), "{headers:?}");
    }
}

#[tokio::test]
async fn an_answer_is_read_only_up_to_its_limit() {
    let body = r#"{"text":"yes"}"#;
    let url = serve(Router::new().fallback(any(move || async move { body }))).await;
    let limited = |answer_bytes_max| {
        Service::new(ServiceConfig { answer_bytes_max, ..config(url.clone()) }).expect("valid")
    };
    let within = call(&limited(body.len()), Account::Deployment).await.expect("just within");
    assert_eq!(within, body);
    let error = failure(&limited(body.len() - 1)).await;
    assert_eq!((error.class, error.code), (Class::Transient, "bad_response"), "{}", error.cause);
}

#[tokio::test]
async fn broken_connections_are_told_apart() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        format!("http://{}", listener.local_addr().expect("bound"))
    };
    let truncated = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"text\":";
    let table = [
        ("refused", closed, Class::Unavailable, "unreachable"),
        ("no such host", "http://hansard.invalid".to_owned(), Class::Unavailable, "unreachable"),
        ("reset", serve_raw(b"", true).await, Class::Transient, "connection_lost"),
        ("no HTTP", serve_raw(b"SSH-2.0-x\r\n\r\n", true).await, Class::Transient, "connection_lost"),
        ("truncated", serve_raw(truncated, true).await, Class::Transient, "connection_lost"),
        ("silent", serve_raw(b"", false).await, Class::Transient, "timeout"),
        ("stalls", serve_raw(truncated, false).await, Class::Transient, "timeout"),
    ];
    for (name, url, class, code) in table {
        // Long where it must not pass, short where it must.
        let answer_within = Duration::from_millis(if code == "timeout" { 300 } else { 30_000 });
        let service = Service::new(ServiceConfig { answer_within, ..config(url) }).expect("valid");
        let error = failure(&service).await;
        assert_eq!(
            (error.class, error.code, error.http_status),
            (class, code, None),
            "{name}: {}",
            error.cause
        );
    }
}

#[tokio::test]
async fn a_redirect_carries_the_key_nowhere() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let elsewhere = serve(Router::new().fallback(any(move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
    })))
    .await;
    let redirect = move || async move { (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, elsewhere)]) };
    let service = service(serve(Router::new().fallback(any(redirect))).await);
    assert_eq!(failure(&service).await.code, "redirected");
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn key_and_links_are_sent_and_never_shown() {
    let echo = |headers: HeaderMap| async move {
        let sent = headers[header::AUTHORIZATION].to_str().expect("text").to_owned();
        let refusal = format!(
            r#"{{"error":{{"message":"incorrect: {sent}\ncannot get \"https://s3.test/a?X-Sig=5ec2e7\", see HTTPS://x.test.","code":"invalid_api_key"}}}}"#
        );
        (StatusCode::UNAUTHORIZED, refusal)
    };
    let url = serve(Router::new().fallback(any(echo))).await;
    for (authorization, sent) in [(Authorization::Bearer, "Bearer ***"), (Authorization::Plain, "***")] {
        let service = Service::new(ServiceConfig { authorization, ..config(url.clone()) }).expect("valid");
        let error = failure(&service).await;
        let said = format!("incorrect: {sent} cannot get \"(link)\", see (link)");
        assert_eq!(error.cause, format!("tested answered 401: invalid_api_key: {said}"));
        assert!(!format!("{service:?} {error:?}").contains(KEY), "{service:?}");
    }
    let error = failure(&service("http://hansard.invalid/secret-path")).await;
    assert!(!format!("{error:?}").contains("secret-path"), "{error:?}");
}

#[test]
fn words_of_a_server_are_made_plain() {
    let service = service("http://host");
    let table = [
        ("", ""),
        ("://", "(link)"),
        ("a://b c", "(link) c"),
        ("see <https://x/é?s=1>, (s3://b/k) or x", "see <(link)>, ((link) or x"),
        ("bell\u{7} and \r\n", "bell  and   "),
        ("no key: sk-test-7f1c", "no key: ***"),
    ];
    for (said, plain) in table {
        assert_eq!(service.plain(said), plain);
    }
    assert_eq!(service.plain(&"ü".repeat(1_000)).chars().count(), 300);
    let cut = format!("{}{KEY}", "x".repeat(295));
    assert!(!service.plain(&cut).contains("sk"), "a key at the cut does not show in part");
}

#[test]
fn a_wrong_configuration_is_refused() {
    for url in ["", "localhost:8000", "ftp://host", "http://", "https://me:pw@host", "https://host?k=1"] {
        let error = Service::new(config(url)).expect_err(url);
        assert!(matches!(error, ServiceError::BaseUrl), "{url}: {error}");
    }
    let key = Some(Secret::new("sk-1\n"));
    let error = Service::new(ServiceConfig { key, ..config("http://host") }).expect_err("a line break");
    assert!(matches!(error, ServiceError::Key), "{error}");
}
