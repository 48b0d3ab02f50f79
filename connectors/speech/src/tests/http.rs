//! The provider over HTTP against real servers on free ports: every cause of failure, every dialect of answer,
//! and what is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{any, post};
use bytes::Bytes;
use hansard_core::redelivery::Class;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::recordings::{flac, request_of};
use crate::{AudioFormat, Detail, OpenAi, OpenAiConfig};

const KEY: &str = "sk-test-7f1c";
const PATH: &str = "/v1/audio/transcriptions";

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

fn config(base_url: String) -> OpenAiConfig {
    let mut config = OpenAiConfig::new(base_url, "whisper-1");
    config.service.key = Some(Secret::new(KEY));
    config.service.answer_within = Duration::from_secs(20);
    config
}

fn provider(base_url: String) -> OpenAi {
    OpenAi::new(config(base_url)).expect("a valid configuration")
}

pub(super) fn segment() -> SpeechRequest {
    request_of(flac(&[7; 16_000], 16_000), 30_000, 31_000)
}

async fn failure(provider: &OpenAi, request: SpeechRequest) -> Failed {
    provider.transcribe(request).await.expect_err("the call fails")
}

async fn answering(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
) -> OpenAi {
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
    provider(serve(Router::new().fallback(any(answer))).await)
}

#[tokio::test]
async fn each_status_has_its_class_and_code() {
    use Class::{Permanent, Transient, Unavailable};
    let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let plain = r#"{"error":{"message":"no","type":"x","code":null}}"#;
    let no_model = r#"{"error":{"message":"no","type":"invalid_request_error","code":"model_not_found"}}"#;
    let no_language =
        r#"{"error":{"message":"no","type":"invalid_request_error","code":"unsupported_language"}}"#;
    // Status, body, under the deployment's model, under the record's own, code.
    let table = [
        (400, plain, Permanent, Permanent, "rejected"),
        (401, plain, Unavailable, Permanent, "authentication"),
        (402, "", Unavailable, Permanent, "payment_required"),
        (403, "<html>no</html>", Unavailable, Permanent, "forbidden"),
        (404, plain, Permanent, Permanent, "rejected"),
        (408, "", Transient, Transient, "timeout"),
        (409, plain, Permanent, Permanent, "rejected"),
        (413, "", Permanent, Permanent, "too_large"),
        (415, plain, Permanent, Permanent, "unsupported_audio"),
        (422, r#"{"detail":[]}"#, Permanent, Permanent, "rejected"),
        (404, no_model, Unavailable, Permanent, "unsupported_model"),
        (400, no_language, Permanent, Permanent, "unsupported_language"),
        (429, plain, Transient, Transient, "rate_limited"),
        (429, quota, Unavailable, Permanent, "quota"),
        (500, plain, Transient, Transient, "server_error"),
        (502, "<html>bad gateway</html>", Transient, Transient, "server_error"),
        (503, r#"{"error":"overloaded"}"#, Transient, Transient, "server_error"),
        (504, "", Transient, Transient, "server_error"),
        (204, "", Transient, Transient, "bad_response"),
        (301, "", Unavailable, Unavailable, "redirected"),
        (307, "", Unavailable, Unavailable, "redirected"),
    ];
    for (status, body, deployments, records, code) in table {
        let provider = answering(status, &[], body).await;
        let model = |name: &str| Options { model: Some(name.into()), ..Options::default() };
        let own = SpeechRequest { options: model("whisper-1"), ..segment() };
        let other = SpeechRequest { options: model("other"), ..segment() };
        for (request, class) in [(segment(), deployments), (own, deployments), (other, records)] {
            let error = failure(&provider, request).await;
            assert_eq!((error.class, error.code, error.http_status), (class, code, Some(status)), "{error}");
        }
    }
}

#[tokio::test]
async fn retry_after_is_read_as_seconds_and_as_a_date() {
    const DATE: (&str, &str) = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
    type Headers = &'static [(&'static str, &'static str)];
    let table: [(Headers, Option<u64>); 7] = [
        (&[("retry-after", "7")], Some(7)),
        (&[("retry-after", "0")], Some(0)),
        (&[("retry-after", "Wed, 21 Oct 2026 07:30:05 GMT"), DATE], Some(125)),
        (&[("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT"), DATE], Some(0)),
        (&[("retry-after", "99999999999")], Some(86_400)),
        (&[("retry-after", "soon")], None),
        (&[], None),
    ];
    for (headers, wait) in table {
        let error = failure(&answering(429, headers, "").await, segment()).await;
        assert_eq!(error.retry_after, wait.map(Duration::from_secs), "{headers:?}");
    }
}

#[tokio::test]
async fn what_is_no_transcript_is_transient() {
    let bodies = ["", "<html>Sign in</html>", "null", "[]", "{}", r#"{"text":1}"#, r#"{"text":"cut o"#];
    for body in bodies {
        let error = failure(&answering(200, &[], body).await, segment()).await;
        assert_eq!(
            (error.class, error.code, error.http_status),
            (Class::Transient, "bad_response", None),
            "{body:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_is_read_only_up_to_its_limit() {
    let body = r#"{"text":"yes"}"#;
    let url = serve(Router::new().route(PATH, post(move || async move { body }))).await;
    let limited = |bytes| {
        let mut config = config(url.clone());
        config.service.answer_bytes_max = bytes;
        OpenAi::new(config).expect("valid")
    };
    let at = limited(body.len());
    assert_eq!(at.transcribe(segment()).await.expect("just within").text, "yes");
    let below = limited(body.len() - 1);
    let error = failure(&below, segment()).await;
    assert_eq!((error.class, error.code), (Class::Transient, "bad_response"), "{error}");
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
        let mut config = config(url);
        config.service.answer_within = answer_within;
        let error = failure(&OpenAi::new(config).expect("valid"), segment()).await;
        assert_eq!((error.class, error.code, error.http_status), (class, code, None), "{name}: {error}");
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
    let provider = provider(serve(Router::new().fallback(any(redirect))).await);
    assert_eq!(failure(&provider, segment()).await.code, "redirected");
    assert_eq!(provider.probe().await.expect_err("a redirect").code, "redirected");
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let echo = |headers: HeaderMap| async move {
        let sent = headers[header::AUTHORIZATION].to_str().expect("text").to_owned();
        assert_eq!(sent, format!("Bearer {KEY}"));
        let refusal =
            format!(r#"{{"error":{{"message":"incorrect key: {KEY}\nsee you","code":"invalid_api_key"}}}}"#);
        (StatusCode::UNAUTHORIZED, refusal)
    };
    let provider = provider(serve(Router::new().fallback(any(echo))).await);
    let unreachable = OpenAi::new(config("http://hansard.invalid".into())).expect("valid");
    for error in [
        failure(&provider, segment()).await,
        provider.probe().await.expect_err("refused"),
        failure(&unreachable, segment()).await,
    ] {
        assert_eq!(error.class, Class::Unavailable);
        assert!(!format!("{error} {error:?}").contains(KEY), "{error:?}");
    }
    let error = failure(&provider, segment()).await;
    assert_eq!(error.cause, "openai answered 401: invalid_api_key: incorrect key: *** see you");
    assert!(!format!("{provider:?}").contains(KEY), "{provider:?}");
}

#[tokio::test]
async fn what_is_sent_follows_the_request_and_the_configuration() {
    let (sent, mut seen) = tokio::sync::mpsc::channel(1);
    let capture = move |headers: HeaderMap, body: Bytes| async move {
        sent.send((headers, body)).await.expect("the test waits");
        r#"{"text":"yes"}"#
    };
    let url = serve(Router::new().route(PATH, post(capture))).await;
    let options = Options {
        language: Some("en-GB".into()),
        keyterms: vec!["Hansard".into(), "Scylla".into()],
        model: Some("other".into()),
        ..Options::default()
    };
    let full = SpeechRequest { options, ..segment() };
    let words = OpenAi::new(config(format!("{url}/v1/"))).expect("the usual base URL is taken");
    let reply = words.transcribe(full).await.expect("a transcript");
    assert_eq!(reply.model, "other");
    let (headers, body) = seen.recv().await.expect("a call");
    assert_eq!(headers["idempotency-key"], "8f3a");
    for part in [
        "name=\"model\"\r\n\r\nother\r\n",
        "name=\"response_format\"\r\n\r\nverbose_json\r\n",
        "name=\"timestamp_granularities[]\"\r\n\r\nword\r\n",
        "name=\"language\"\r\n\r\nen\r\n",
        "name=\"prompt\"\r\n\r\nHansard, Scylla\r\n",
        "filename=\"segment.flac\"\r\nContent-Type: audio/flac\r\n\r\nfLaC",
    ] {
        assert!(contains(&body, part.as_bytes()), "{part:?} was not sent");
    }
    let mut plain = OpenAiConfig { format: AudioFormat::Wav, detail: Detail::Text, ..config(url) };
    plain.service.key = None;
    OpenAi::new(plain).expect("valid").transcribe(segment()).await.expect("a transcript");
    let (headers, body) = seen.recv().await.expect("a call");
    assert!(!headers.contains_key(header::AUTHORIZATION));
    assert!(contains(&body, b"name=\"model\"\r\n\r\nwhisper-1\r\n"));
    assert!(contains(&body, b"name=\"response_format\"\r\n\r\njson\r\n"));
    assert!(contains(&body, b"filename=\"segment.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF"));
    for absent in ["timestamp_granularities", "\"language\"", "\"prompt\""] {
        assert!(!contains(&body, absent.as_bytes()), "{absent} was sent");
    }
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn audio_over_the_limit_is_not_sent() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let answer = move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
        r#"{"text":"yes"}"#
    };
    let url = serve(Router::new().route(PATH, post(answer))).await;
    let request = segment();
    // One second of WAV is 32,044 bytes.
    for (format, bytes) in
        [(AudioFormat::Flac, request.audio.bytes().await.expect("at hand").len()), (AudioFormat::Wav, 32_044)]
    {
        let limited = |audio_bytes_max| {
            OpenAi::new(OpenAiConfig { audio_bytes_max, format, ..config(url.clone()) }).expect("valid")
        };
        limited(bytes).transcribe(request.clone()).await.expect("just within");
        let error = failure(&limited(bytes - 1), request.clone()).await;
        assert_eq!(
            (error.class, error.code, error.http_status),
            (Class::Permanent, "too_large", None),
            "{error}"
        );
    }
    let wav = OpenAi::new(OpenAiConfig { format: AudioFormat::Wav, ..config(url) }).expect("valid");
    let error = failure(&wav, request_of(Bytes::from_static(b"no audio"), 0, 1)).await;
    assert_eq!((error.class, error.code), (Class::Permanent, "undecodable_audio"), "{error}");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

async fn reply_to(body: &'static str) -> SpeechReply {
    let provider = answering(200, &[("x-request-id", "req-9")], body).await;
    provider.transcribe(segment()).await.expect("a transcript")
}

#[tokio::test]
async fn the_dialects_of_answers_are_read() {
    let openai = reply_to(
        r#"{"task":"transcribe","language":"English","duration":0.98,"text":" Ever tried. ",
            "words":[{"word":"Ever","start":0.1,"end":0.4},{"word":"tried","start":0.4,"end":0.9}],
            "segments":[{"id":0,"start":0.0,"end":1.0,"text":" Ever tried."}],"usage":{"type":"duration"}}"#,
    )
    .await;
    let placed = |reply: &SpeechReply| {
        let words =
            reply.words.iter().map(|word| (word.text.clone(), word.start_ms, word.end_ms, word.confidence));
        words.collect::<Vec<_>>()
    };
    let expected = [("Ever".to_owned(), 30_100, 30_400, None), ("tried".to_owned(), 30_400, 30_900, None)];
    assert_eq!(placed(&openai), expected);
    assert_eq!(
        (openai.text.as_str(), openai.language.as_deref(), openai.audio_ms),
        ("Ever tried.", Some("english"), 980)
    );
    assert_eq!(openai.model, "whisper-1");
    assert_eq!(openai.call_id.as_deref(), Some("req-9"));

    let nested = reply_to(
        r#"{"text":"Ever","segments":[{"text":" Ever","start":0.0,"end":1.0,
            "words":[{"word":" Ever","start":0.1,"end":0.4,"probability":0.5},{"word":" ","start":0.5,"end":0.5}]}]}"#,
    )
    .await;
    assert_eq!(placed(&nested), [("Ever".to_owned(), 30_100, 30_400, Some(0.5))]);
    assert_eq!((nested.language, nested.audio_ms), (None, 1_000));

    let spread =
        reply_to(r#"{"text":"Same same","words":[],"segments":[{"text":"Same same","start":0.5,"end":1}]}"#)
            .await;
    let expected = [("Same".to_owned(), 30_500, 30_750, None), ("same".to_owned(), 30_750, 31_000, None)];
    assert_eq!(placed(&spread), expected);

    let nothing = reply_to(r#"{"text":"","duration":1.0,"words":null,"segments":null}"#).await;
    assert_eq!((nothing.text.as_str(), nothing.words.len()), ("", 0));
}

#[tokio::test]
async fn a_probe_pays_for_nothing() {
    let table = [(200, Ok(())), (404, Ok(())), (401, Err("authentication")), (503, Err("server_error"))];
    for (status, expected) in table {
        let answered = answering(status, &[], "").await.probe().await;
        assert_eq!(answered.map_err(|error| error.code), expected, "{status}");
    }
}

#[test]
fn a_wrong_configuration_is_refused() {
    for url in ["", "localhost:8000", "ftp://host", "http://", "https://me:pw@host", "https://host?k=1"] {
        let error = OpenAi::new(config(url.to_owned())).expect_err(url);
        assert!(matches!(error, ServiceError::BaseUrl), "{url}: {error}");
    }
    let mut broken = config("http://host".into());
    broken.service.key = Some(Secret::new("sk-1\n"));
    let error = OpenAi::new(broken).expect_err("a line break");
    assert!(matches!(error, ServiceError::Key), "{error}");
}
