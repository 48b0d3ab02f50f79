//! The chat server over HTTP against real servers on free ports: every cause of failure, what is sent, and how much of an
//! answer is taken.

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{any, post};
use bytes::Bytes;
use hansard_core::redelivery::Class;
use hansard_jobs::ports::Summarizer as _;
use hansard_provider::Secret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::answer::{CONTENT_BYTES_MAX, LIST_MAX};
use crate::{ChatError, Structure};

const PATH: &str = "/v1/chat/completions";

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

async fn answering(status: u16, body: impl Into<String>) -> Chat {
    let (status, body) = (StatusCode::from_u16(status).expect("a status"), body.into());
    chat(serve(Router::new().fallback(any(move || async move { (status, body) }))).await)
}

fn minutes() -> Value {
    json!({ "title": "Friday", "summary": "They meet.", "key_points": ["Friday"], "action_items": [], "language": "en" })
}

fn completion(content: &str) -> Value {
    let message = json!({ "role": "assistant", "content": content, "refusal": null });
    let choice = json!({ "index": 0, "message": message, "finish_reason": "stop", "logprobs": null });
    let usage = json!({ "prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150 });
    json!({ "id": "c-1", "object": "chat.completion", "created": 1, "model": "fake-2026", "choices": [choice], "usage": usage })
}

#[tokio::test]
async fn each_status_has_its_class_and_code() {
    use Class::{Permanent, Transient, Unavailable};
    let error = |code: &str| json!({ "error": { "message": "no", "type": "x", "code": code } }).to_string();
    // Status, body, under the deployment's model, under the record's own, code.
    let table = [
        (400, error("x"), Permanent, Permanent, "rejected"),
        (400, error("context_length_exceeded"), Permanent, Permanent, "too_large"),
        (400, error("exceed_context_size_error"), Permanent, Permanent, "too_large"),
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 4096 tokens","code":400}}"#
                .to_owned(),
            Permanent,
            Permanent,
            "too_large",
        ),
        (400, error("content_filter"), Permanent, Permanent, "content_refused"),
        (400, error("content_policy_violation"), Permanent, Permanent, "content_refused"),
        (401, error("x"), Unavailable, Permanent, "authentication"),
        (402, String::new(), Unavailable, Permanent, "payment_required"),
        (403, "<html>no</html>".to_owned(), Unavailable, Permanent, "forbidden"),
        (404, error("model_not_found"), Unavailable, Permanent, "unsupported_model"),
        (
            404,
            r#"{"error":{"message":"model 'x' not found","code":null}}"#.to_owned(),
            Unavailable,
            Permanent,
            "unsupported_model",
        ),
        (404, "not found".to_owned(), Unavailable, Unavailable, "wrong_url"),
        (408, String::new(), Transient, Transient, "timeout"),
        (413, String::new(), Permanent, Permanent, "too_large"),
        (422, r#"{"detail":[]}"#.to_owned(), Permanent, Permanent, "rejected"),
        (429, error("rate_limit_exceeded"), Transient, Transient, "rate_limited"),
        (429, error("insufficient_quota"), Unavailable, Permanent, "quota"),
        (500, error("x"), Transient, Transient, "server_error"),
        (502, "<html>bad gateway</html>".to_owned(), Transient, Transient, "server_error"),
        (529, r#"{"error":"overloaded"}"#.to_owned(), Transient, Transient, "server_error"),
        (301, String::new(), Unavailable, Unavailable, "redirected"),
    ];
    for (status, body, deployments, records, code) in table {
        let chat = answering(status, body).await;
        let of = |provider: Option<&str>, model: Option<&str>| Options {
            provider: provider.map(str::to_owned),
            model: model.map(str::to_owned),
            ..Options::default()
        };
        let table = [
            (of(None, None), deployments),
            (of(None, Some("fake")), deployments),
            (of(None, Some("other")), records),
            (of(Some("openai"), None), records),
        ];
        for (options, class) in table {
            let error = failure(&chat, &options).await;
            assert_eq!((error.class, error.code, error.http_status), (class, code, Some(status)), "{error}");
        }
    }
}

#[tokio::test]
async fn each_answer_has_its_cause() {
    use Class::{Permanent, Transient};
    let with = |path: &str, value: Value| {
        let mut body = completion(&minutes().to_string());
        *body.pointer_mut(path).expect("a place") = value;
        body.to_string()
    };
    let content = |change: &dyn Fn(&mut Value)| {
        let mut minutes = minutes();
        change(&mut minutes);
        completion(&minutes.to_string()).to_string()
    };
    let set = |name: &'static str, value: Value| content(&move |minutes| minutes[name] = value.clone());
    let without = |name: &str| content(&|minutes| drop(minutes.as_object_mut().expect("one").remove(name)));
    let table = [
        ("nothing", String::new(), Transient, "bad_response"),
        ("HTML", "<html>Sign in</html>".to_owned(), Transient, "bad_response"),
        ("no object", "[]".to_owned(), Transient, "bad_response"),
        ("no choice", with("/choices", json!([])), Transient, "bad_response"),
        ("no choices", json!({ "model": "m" }).to_string(), Transient, "bad_response"),
        ("no content", with("/choices/0/message/content", Value::Null), Transient, "bad_response"),
        ("empty content", with("/choices/0/message/content", json!("")), Transient, "bad_response"),
        ("prose", completion("They meet on Friday.").to_string(), Transient, "bad_response"),
        (
            "fenced",
            completion(&format!("```json\n{}\n```", minutes())).to_string(),
            Transient,
            "bad_response",
        ),
        ("twice", completion(&format!("{0}{0}", minutes())).to_string(), Transient, "bad_response"),
        ("a member more", set("mood", json!("good")), Transient, "bad_response"),
        ("a member less", without("title"), Transient, "bad_response"),
        ("another type", set("key_points", json!("Friday")), Transient, "bad_response"),
        ("mixed types", set("action_items", json!(["a", 1])), Transient, "bad_response"),
        ("null", set("title", Value::Null), Transient, "bad_response"),
        ("no summary", set("summary", json!(" \n")), Transient, "bad_response"),
        ("cut off", with("/choices/0/finish_reason", json!("length")), Transient, "answer_truncated"),
        ("filtered", with("/choices/0/finish_reason", json!("content_filter")), Permanent, "content_refused"),
        ("refused", with("/choices/0/message/refusal", json!("I cannot")), Permanent, "content_refused"),
    ];
    for (name, body, class, code) in table {
        let error = failure(&answering(200, body).await, &Options::default()).await;
        assert_eq!((error.class, error.code, error.http_status), (class, code, None), "{name}: {error}");
        assert!(!error.cause.contains("Friday"), "{name} repeats what was said: {error}");
    }
}

#[tokio::test]
async fn an_answer_is_taken_with_what_it_cost() {
    let bare = json!({ "choices": [{ "message": { "content": minutes().to_string() } }] }).to_string();
    let told = asked(&answering(200, bare).await, Material::Whole(PASSAGE), &Options::default())
        .await
        .expect("a summary");
    assert_eq!((told.model, told.tokens_in, told.tokens_out), (None, None, None));
    let full = completion(&minutes().to_string()).to_string();
    let told = asked(&answering(200, full).await, Material::Whole(PASSAGE), &Options::default())
        .await
        .expect("a summary");
    let expected = SummaryReply {
        text: "They meet.".to_owned(),
        title: Some("Friday".to_owned()),
        key_points: vec!["Friday".to_owned()],
        action_items: Vec::new(),
        language: Some("en".to_owned()),
        model: Some("fake-2026".to_owned()),
        tokens_in: Some(120),
        tokens_out: Some(30),
    };
    assert_eq!(told, expected);
    let mut odd = completion(
        &json!({ "title": "t", "summary": "s", "key_points": [], "action_items": [], "language": "no tag" })
            .to_string(),
    );
    odd["model"] = json!("m".repeat(129));
    odd["usage"] = json!({ "prompt_tokens": -1, "completion_tokens": null });
    let told = asked(&answering(200, odd.to_string()).await, Material::Whole(PASSAGE), &Options::default())
        .await
        .expect("a summary");
    assert_eq!((told.language, told.model, told.tokens_in, told.tokens_out), (None, None, None, None));
}

#[tokio::test]
async fn limits_hold_at_their_edge() {
    let sized = |bytes: usize| {
        let mut minutes = minutes();
        let length = bytes - minutes.to_string().len() + "They meet.".len();
        minutes["summary"] = json!("s".repeat(length));
        assert_eq!(minutes.to_string().len(), bytes);
        completion(&minutes.to_string()).to_string()
    };
    let listed = |many: usize| {
        let mut minutes = minutes();
        minutes["action_items"] = json!(vec!["do"; many]);
        completion(&minutes.to_string()).to_string()
    };
    let table = [
        (sized(CONTENT_BYTES_MAX), true),
        (sized(CONTENT_BYTES_MAX + 1), false),
        (listed(LIST_MAX), true),
        (listed(LIST_MAX + 1), false),
    ];
    for (body, fits) in table {
        let told = asked(&answering(200, body).await, Material::Whole(PASSAGE), &Options::default()).await;
        assert_eq!(told.map_err(|error| error.code).err(), (!fits).then_some("bad_response"));
    }
    let body = completion(&minutes().to_string()).to_string();
    let (length, answer) = (body.len(), body);
    let url = serve(Router::new().route(PATH, post(move || async move { answer }))).await;
    for (bytes, fits) in [(length, true), (length - 1, false)] {
        let mut config = config(url.clone());
        config.service.answer_bytes_max = bytes;
        let told =
            asked(&Chat::new(config).expect("valid"), Material::Whole(PASSAGE), &Options::default()).await;
        assert_eq!(told.map_err(|error| error.code).err(), (!fits).then_some("bad_response"));
    }
}

#[tokio::test]
async fn broken_connections_are_told_apart() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        format!("http://{}", listener.local_addr().expect("bound"))
    };
    let truncated = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\":";
    let table = [
        ("refused", closed, Class::Unavailable, "unreachable"),
        ("reset", serve_raw(b"", true).await, Class::Transient, "connection_lost"),
        ("truncated", serve_raw(truncated, true).await, Class::Transient, "connection_lost"),
        ("silent", serve_raw(b"", false).await, Class::Transient, "timeout"),
    ];
    for (name, url, class, code) in table {
        let mut config = config(url);
        // Long where it must not pass, short where it must.
        config.service.answer_within = Duration::from_millis(if code == "timeout" { 300 } else { 30_000 });
        let error = failure(&Chat::new(config).expect("valid"), &Options::default()).await;
        assert_eq!((error.class, error.code), (class, code), "{name}: {error}");
    }
}

#[tokio::test]
async fn what_is_sent_follows_the_configuration() {
    let (sent, mut seen) = tokio::sync::mpsc::channel(1);
    let capture = move |headers: HeaderMap, body: Bytes| async move {
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        sent.send((headers, body)).await.expect("the test waits");
        completion(&minutes().to_string()).to_string()
    };
    let url = serve(Router::new().route(PATH, post(capture))).await;
    let options =
        Options { model: Some("other".into()), language: Some("fr-CA".into()), ..Options::default() };
    asked(&chat(format!("{url}/v1/")), Material::Notes("[]"), &options).await.expect("a summary");
    let (headers, body) = seen.recv().await.expect("a call");
    assert_eq!(
        (&headers["idempotency-key"], &headers["content-type"]),
        (&"8f3a".parse().expect("text"), &"application/json".parse().expect("text"))
    );
    assert_eq!(headers[header::AUTHORIZATION], format!("Bearer {KEY}"));
    assert_eq!((&body["model"], &body["max_completion_tokens"]), (&json!("other"), &json!(4_000)));
    let names = |body: &Value| body.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&body), ["max_completion_tokens", "messages", "model", "response_format"]);
    let format = &body["response_format"];
    assert_eq!((&format["type"], &format["json_schema"]["strict"]), (&json!("json_schema"), &json!(true)));
    let data: Value =
        serde_json::from_str(body["messages"][1]["content"].as_str().expect("text")).expect("JSON");
    assert_eq!(data, json!({ "language": "fr-CA", "keyterms": [], "summaries": [] }));

    let mut plain = ChatConfig { structure: Structure::Object, answer_tokens_max: 500, ..config(url) };
    plain.service.key = None;
    let plain = Chat::new(plain).expect("valid");
    asked(&plain, Material::Whole(PASSAGE), &Options::default()).await.expect("a summary");
    let (headers, body) = seen.recv().await.expect("a call");
    assert!(!headers.contains_key(header::AUTHORIZATION));
    assert_eq!((&body["model"], &body["max_tokens"]), (&json!("fake"), &json!(500)));
    assert_eq!(names(&body), ["max_tokens", "messages", "model", "response_format"]);
    assert_eq!(body["response_format"], json!({ "type": "json_object" }));
    let roles: Vec<&Value> =
        body["messages"].as_array().expect("a list").iter().map(|message| &message["role"]).collect();
    assert_eq!(roles, ["system", "user"]);
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let echo = |headers: HeaderMap| async move {
        assert_eq!(headers[header::AUTHORIZATION], format!("Bearer {KEY}"));
        let refusal =
            json!({ "error": { "message": format!("incorrect key: {KEY}"), "code": "invalid_api_key" } });
        (StatusCode::UNAUTHORIZED, refusal.to_string())
    };
    let chat = chat(serve(Router::new().fallback(any(echo))).await);
    for error in
        [failure(&chat, &Options::default()).await, chat.probe(&permit().await).await.expect_err("refused")]
    {
        assert_eq!((error.class, error.code), (Class::Unavailable, "authentication"));
        assert!(!format!("{error} {error:?}").contains(KEY), "{error:?}");
    }
    assert!(!format!("{chat:?}").contains(KEY), "{chat:?}");
}

#[tokio::test]
async fn a_probe_pays_for_nothing() {
    let table = [(200, Ok(())), (404, Ok(())), (401, Err("authentication")), (503, Err("server_error"))];
    for (status, expected) in table {
        let answered = answering(status, "").await.probe(&permit().await).await;
        assert_eq!(answered.map_err(|error| error.code), expected, "{status}");
    }
}

#[test]
fn a_wrong_configuration_is_refused() {
    let error = Chat::new(config("localhost:8000".to_owned())).expect_err("no address");
    assert!(matches!(error, ChatError::Service(hansard_provider::ServiceError::BaseUrl)), "{error}");
    let mut broken = config("http://host".to_owned());
    broken.service.key = Some(Secret::new("sk-1\n"));
    let error = Chat::new(broken).expect_err("a line break");
    assert!(matches!(error, ChatError::Service(hansard_provider::ServiceError::Key)), "{error}");
}
