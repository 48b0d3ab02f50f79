//! OpenAI's call against real servers on free ports: every dialect of answer, answers that are none, and what is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{any, post};
use bytes::Bytes;
use hansard_core::redelivery::Class;
use hansard_jobs::ports::{Speech, SpeechReply, SpeechRequest};
use hansard_provider::Secret;
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;
use tokio::net::TcpListener;

use super::permit;
use super::recordings::{Answers, flac, request_of};
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
async fn what_was_said_is_in_no_failure() {
    let bodies = [
        r#"{"text":["a secret"]}"#,
        r#"{"text":"a secret","words":[{"word":"secret"}]}"#,
        r#"{"text":"a secret""#,
    ];
    for body in bodies {
        let error = failure(&answering(200, &[], body).await, segment()).await;
        assert_eq!(error.code, "bad_response");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
    let provider = answering(401, &[], "").await;
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
    assert_eq!((error.class, error.code), (Class::Permanent, "unsupported_audio"), "{error}");
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
        let answered = answering(status, &[], "").await.probe(&permit().await).await;
        assert_eq!(answered.map_err(|error| error.code), expected, "{status}");
    }
}

#[tokio::test]
async fn times_that_cannot_be_are_brought_into_the_segment_and_into_order() {
    let reply = reply_to(
        r#"{"text":"a b c d e","language":"","duration":1e300,"words":[
            {"word":"b","start":0.5,"end":0.2,"probability":7},
            {"word":"a","start":-3,"end":-1,"probability":-1e308},
            {"word":"e","start":1e308,"end":1e308},
            {"word":"c","start":0.5,"end":0.5,"speaker":"\u0000"},
            {"word":"d","start":0.9,"end":999999999999999999999}]}"#,
    )
    .await;
    let words: Vec<_> = reply
        .words
        .iter()
        .map(|word| (word.text.as_str(), word.start_ms, word.end_ms, word.confidence))
        .collect();
    let expected = [
        ("a", 30_000, 30_000, Some(0.0)),
        ("b", 30_500, 30_500, Some(1.0)),
        ("c", 30_500, 30_500, None),
        ("d", 30_900, 31_000, None),
        ("e", 31_000, 31_000, None),
    ];
    assert_eq!(words, expected);
    assert_eq!((reply.audio_ms, reply.language), (1_000, None));
    assert!(reply.words.iter().all(|word| word.speaker.is_none()), "a control character is no name");

    let spread = reply_to(r#"{"text":"a b","segments":[{"text":"a b","start":9,"end":-9}]}"#).await;
    assert_eq!(spread.words.iter().map(|word| word.start_ms).collect::<Vec<_>>(), [31_000, 31_000]);

    let refused = [
        r#"{"text":"a","words":[{"word":"a","start":NaN,"end":1}]}"#,
        r#"{"text":"a","words":[{"word":"a","start":1e999,"end":1}]}"#,
        r#"{"text":"a","text":"b"}"#,
        r#"{"text":"\ud800"}"#,
    ];
    for body in refused {
        assert_eq!(failure(&answering(200, &[], body).await, segment()).await.code, "bad_response", "{body}");
    }
    let emoji = reply_to("{\"text\":\" \\ud83d\\ude00\u{301}\u{202e} \"}").await;
    assert_eq!(emoji.text, "\u{1f600}\u{301}\u{202e}");
}

#[tokio::test]
async fn more_than_can_be_said_is_refused() {
    let long = |letters| format!(r#"{{"text":"{}"}}"#, "x".repeat(letters));
    for (letters, taken) in [(256 << 10, true), ((256 << 10) + 1, false)] {
        let body = long(letters);
        let url = serve(Router::new().route(PATH, post(move || async move { body }))).await;
        let answered = provider(url).transcribe(segment()).await;
        assert_eq!(
            answered.map_err(|failed| failed.code).map(|_| ()),
            if taken { Ok(()) } else { Err("bad_response") }
        );
    }
}
