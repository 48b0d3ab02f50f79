//! Open, chunks, confirm, finish.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hansard_core::id::{Millis, Offset};
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::ports::traces::{Span, Traces};
use hansard_runtime::trace::TraceParent;
use hansard_schemas::{Record, Topic, upload_digest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{BUCKET, Down, Fixture, fixture};
use crate::UrlCheck;

#[tokio::test]
async fn webhooks_are_checked_before_they_are_promised() {
    let opening = |urls: &[&str]| json!({ "id": "c-1", "webhook_urls": urls });
    let off = fixture().await;
    let refused = off.post("/v1/conversations", opening(&["https://example.org/"])).await;
    refused.refused(400, "invalid_field");
    assert!(refused.text.contains("webhook.secret"), "{}", refused.text);
    off.post("/v1/conversations", opening(&[])).await.ok(201);
    let check = |url: &str| if url.contains("good") { Ok(()) } else { Err("is not good".to_owned()) };
    let gateway = Fixture::with(|config, _| config.webhooks = Some(UrlCheck::new(check))).await;
    let refused = gateway.post("/v1/conversations", opening(&["https://good/", "https://bad/?t0ken"])).await;
    refused.refused(400, "invalid_field");
    assert!(refused.text.contains("webhook_urls[1] is not good"), "{}", refused.text);
    assert!(!refused.text.contains("t0ken"), "{}", refused.text);
    gateway.post("/v1/conversations", opening(&["https://good/"; 9])).await.refused(400, "invalid_field");
    assert!(gateway.records(Topic::Uploads, "c-1").await.is_empty());
    gateway.post("/v1/conversations", opening(&["https://good/"; 8])).await.ok(201);
    let records = gateway.records(Topic::Uploads, "c-1").await;
    let [(.., Record::Open(open))] = &records[..] else { panic!("{records:?}") };
    assert_eq!(open.webhook_urls, ["https://good/"; 8]);
}

#[tokio::test]
async fn a_recording_comes_in_and_is_confirmed_once() {
    let gateway = fixture().await;
    let opening = json!({
        "id": "c-1", "title": "Council", "language": "nl", "keyterms": ["polder"], "redact_pii": true,
        "labels": { "room": "3" }, "idle_after_ms": 60_000,
    });
    let opened = gateway.post("/v1/conversations", opening).await.ok(201);
    assert_eq!(opened["id"], "c-1");
    let token = opened["upload_token"].as_str().expect("a token");
    let sum = hex::encode(Sha256::digest(b"audio"));
    let declared = json!({
        "chunk_id": "k", "content_type": "audio/ogg", "bytes": 5, "recorded_at": 1_700_000_000_000_i64,
        "track": "mic", "sequence": 0, "sha256": sum,
    });
    let invitation = gateway.post_as(token, "/v1/conversations/c-1/chunks", declared).await.ok(201);
    let confirm = "/v1/conversations/c-1/chunks/k/confirm";
    let confirmation = json!({ "upload": invitation["upload"] });
    gateway.post_as(token, confirm, confirmation.clone()).await.refused(409, "not_uploaded");
    assert_eq!(gateway.put(&invitation["put"], Bytes::from_static(b"audio")).await.status, 200);
    let first = gateway.post_as(token, confirm, confirmation.clone()).await.ok(202);
    let again = gateway.post_as(token, confirm, confirmation).await.ok(202);
    assert_eq!(first["upload_digest"], again["upload_digest"]);
    let finish = json!({ "expected_chunks": 1, "expected_by_track": { "mic": 1 } });
    gateway.post_as(token, "/v1/conversations/c-1/finish", finish).await.ok(202);

    let records: Vec<Record> =
        gateway.records(Topic::Uploads, "c-1").await.into_iter().map(|(_, _, record)| record).collect();
    let [Record::Open(open), Record::Upload(upload), Record::Upload(repeated), Record::Finish(finish)] =
        &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((open.title.as_deref(), open.idle_after_ms), (Some("Council"), Some(60_000)));
    let options = open.options.as_ref().expect("options");
    assert_eq!((options.language.as_deref(), options.redact_pii), (Some("nl"), Some(true)));
    assert_eq!(upload.options, open.options, "the options travel with the token");
    assert_eq!(
        (upload.event_id.as_str(), upload_digest(upload)),
        (repeated.event_id.as_str(), upload_digest(repeated))
    );
    assert_eq!(upload.object.sha256.as_ref(), Some(&sum));
    assert!(upload.object.key.starts_with("uploads/c-1/k/"), "{}", upload.object.key);
    assert_eq!((upload.track.as_str(), upload.sequence, upload.object.bytes), ("mic", Some(0), 5));
    assert_eq!((finish.expected_chunks, finish.expected_by_track["mic"]), (Some(1), 1));
    gateway.absorb("c-1").await;
    let status = gateway.get("/v1/conversations/c-1").await.ok(200);
    assert_eq!(status["progress"]["chunks"], 1, "two confirmations are one chunk");
    assert_eq!(status["chunks"][0]["status"], "pending");
}

/// What was told of work.
#[derive(Default)]
struct Told(Mutex<Vec<Span>>);

impl Traces for Told {
    fn samples(&self, _: [u8; 16]) -> bool {
        true
    }

    fn ended(&self, span: Span) {
        self.0.lock().expect("no panic before").push(span);
    }
}

#[tokio::test]
async fn a_call_goes_on_with_its_trace_or_the_conversations_own() {
    let told = Arc::new(Told::default());
    let gateway = Fixture::with(|_, ports| ports.traces = Some(told.clone())).await;
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for traceparent in [given, "00-4bf9", ""] {
        let call = gateway.http.post(format!("{}/v1/conversations", gateway.base));
        gateway.send(call.header("traceparent", traceparent).json(&json!({ "id": "c" }))).await.ok(201);
    }
    let read = gateway.ports.log.read(gateway.place(Topic::Uploads, "c"), Offset(0), 1 << 20, Duration::ZERO);
    let places = read.await.expect("reads").records.into_iter();
    let places: Vec<TraceParent> =
        places.map(|record| TraceParent::read(&record.headers).expect("a place")).collect();
    let spans = told.0.lock().expect("no panic before").clone();
    assert_eq!(spans.iter().map(|span| span.place).collect::<Vec<_>>(), places);
    let given = TraceParent::parse(given.as_bytes()).expect("a place");
    let own = TraceParent { sampled: true, ..TraceParent::of_conversation("c") };
    for (span, follows) in spans.iter().zip([given, own, own]) {
        assert_eq!((span.place.trace, span.parent), (follows.trace, Some(follows.span)), "{span:?}");
        assert_ne!(span.place, follows, "it has a place of its own");
        assert_eq!((span.what.name.as_str(), span.what.failed), ("gateway Open", None));
    }
}

#[tokio::test]
async fn what_cannot_be_a_chunk_is_refused_before_anything_is_uploaded() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    let long = "x".repeat(65);
    let cases = [
        (json!({ "bytes": 0 }), 400, "invalid_field"),
        (json!({ "bytes": 6_u64 << 30 }), 413, "upload_too_large"),
        (json!({ "content_type": "text/html" }), 415, "unsupported_audio"),
        (json!({ "content_type": "audio/" }), 415, "unsupported_audio"),
        (json!({ "chunk_id": "a/b" }), 400, "invalid_id"),
        (json!({ "chunk_id": ".." }), 400, "invalid_id"),
        (json!({ "chunk_id": long }), 400, "invalid_id"),
        (json!({ "sequence": 5_000 }), 400, "invalid_field"),
        (json!({ "sequence": -1 }), 400, "invalid_field"),
        (json!({ "track": "x".repeat(33) }), 400, "invalid_field"),
        (json!({ "sha256": "abc" }), 400, "invalid_field"),
        (json!({ "recorded_at": -1 }), 400, "invalid_field"),
        (json!({ "recorded_at": "noon" }), 400, "invalid_request"),
        (json!({ "colour": "red" }), 400, "invalid_request"),
    ];
    for (change, status, code) in cases {
        let mut declared = json!({ "content_type": "audio/ogg", "bytes": 5, "recorded_at": 1 });
        for (name, value) in change.as_object().expect("an object") {
            declared[name] = value.clone();
        }
        let answered = gateway.post_as(&token, "/v1/conversations/c/chunks", declared).await;
        assert_eq!(answered.problem(), (status, code.to_owned()), "{change}");
    }
    for kind in ["audio/webm;codecs=opus", "video/mp4", "application/octet-stream", "AUDIO/OGG"] {
        let declared = json!({ "content_type": kind, "bytes": 4_999, "recorded_at": 0, "sequence": 4_999 });
        let invited = gateway.post_as(&token, "/v1/conversations/c/chunks", declared).await.ok(201);
        assert_eq!(invited["put"]["headers"]["content-type"], kind);
    }
}

/// Declares a chunk of five bytes; gives the path of its confirmation and the body for it.
async fn declare(gateway: &Fixture, token: &str, chunk: &str) -> (String, Value, Value) {
    let declared = json!({ "chunk_id": chunk, "content_type": "audio/ogg", "bytes": 5, "recorded_at": 1 });
    let invitation = gateway.post_as(token, "/v1/conversations/c/chunks", declared).await.ok(201);
    let body = json!({ "upload": invitation["upload"] });
    (format!("/v1/conversations/c/chunks/{chunk}/confirm"), body, invitation)
}

#[tokio::test]
async fn a_confirmation_is_for_the_declared_object_only() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    let (path, body, _) = declare(&gateway, &token, "k").await;
    let other = "/v1/conversations/c/chunks/other/confirm";
    gateway.post_as(&token, other, body.clone()).await.refused(400, "invalid_upload");
    gateway.post_as(&token, &path, json!({ "upload": "made.up" })).await.refused(400, "invalid_upload");
    gateway.post_as(&token, &path, json!({})).await.refused(400, "invalid_request");
    let foreign = gateway.open("d").await;
    gateway.post_as(&foreign, &path, body.clone()).await.refused(403, "forbidden");
    gateway.post_as(&token, &path, json!({ "upload": token })).await.refused(400, "invalid_upload");

    // Somebody with the store's own keys wrote something else there.
    let payload = body["upload"].as_str().and_then(|upload| upload.split('.').next()).expect("a payload");
    let claims =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).expect("base64");
    let claims: Value = serde_json::from_slice(&claims).expect("json");
    let name =
        ObjectName { bucket: BUCKET.to_owned(), key: claims["key"].as_str().expect("a key").to_owned() };
    gateway.ports.objects.put(&name, "audio/ogg", Bytes::from_static(b"longer audio")).await.expect("puts");
    gateway.post_as(&token, &path, body).await.refused(409, "object_differs");
    assert_eq!(gateway.records(Topic::Uploads, "c").await.len(), 1, "only the Open is in the log");
}

#[tokio::test]
async fn an_old_upload_is_not_confirmed() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    let (path, body, invitation) = declare(&gateway, &token, "k").await;
    assert_eq!(gateway.put(&invitation["put"], Bytes::from_static(b"audio")).await.status, 200);
    gateway.clock.ahead(Millis::hours(20) + Millis(-60_000));
    gateway.post_as(&token, &path, body.clone()).await.ok(202);
    gateway.clock.ahead(Millis::hours(20) + Millis(1));
    gateway.post_as(&token, &path, body).await.refused(410, "upload_expired");
    gateway.clock.ahead(Millis::hours(48) + Millis(1));
    let finish = gateway.post_as(&token, "/v1/conversations/c/finish", json!({})).await;
    finish.refused(401, "token_expired");
}

#[tokio::test]
async fn ingest_works_while_the_database_is_down() {
    let gateway = Fixture::with(|_, ports| ports.facts = Arc::new(Down)).await;
    let token = gateway.open("c").await;
    gateway.chunk(&token, "c", "k").await;
    gateway.post_as(&token, "/v1/conversations/c/finish", json!({})).await.ok(202);
    assert_eq!(gateway.records(Topic::Uploads, "c").await.len(), 3);
    let status = gateway.get("/v1/conversations/c").await;
    status.refused(503, "unavailable");
    assert_eq!(status.headers["retry-after"], "5");
    let ready = gateway.get("/readyz").await.ok(200);
    assert_eq!((&ready["ready"], &ready["database"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn opening_again_gives_the_same_conversation_or_says_that_it_differs() {
    let gateway = fixture().await;
    let with_key = async |key: &str, body: Value| {
        let request = gateway.http.post(format!("{}/v1/conversations", gateway.base));
        gateway.send(request.header("idempotency-key", key).json(&body)).await
    };
    let first = with_key("a", json!({ "title": "T" })).await.ok(201);
    let again = with_key("a", json!({ "title": "T" })).await.ok(201);
    let other = with_key("b", json!({ "title": "T" })).await.ok(201);
    assert_eq!(first["id"], again["id"]);
    assert_ne!(first["id"], other["id"]);
    let id = first["id"].as_str().expect("an id");
    let opens = gateway.records(Topic::Uploads, id).await;
    let ids: Vec<&str> = opens.iter().map(|(_, _, record)| record.event_id()).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "one event, told twice");
    gateway.absorb(id).await;
    with_key("a", json!({ "title": "T" })).await.ok(201);
    with_key("a", json!({ "title": "Another" })).await.refused(409, "conversation_exists");
    with_key("", json!({})).await.refused(400, "invalid_request");
    for id in ["", ".", "..", "a b", &"x".repeat(129)] {
        gateway.post("/v1/conversations", json!({ "id": id })).await.refused(400, "invalid_id");
    }
    let patience = gateway.post("/v1/conversations", json!({ "idle_after_ms": 0 })).await;
    patience.refused(400, "invalid_field");
}

#[tokio::test]
async fn without_a_token_the_options_come_from_the_open() {
    let gateway = fixture().await;
    gateway.post("/v1/conversations", json!({ "id": "c", "redact_pii": true })).await.ok(201);
    let declared = json!({ "chunk_id": "k", "content_type": "audio/ogg", "bytes": 5, "recorded_at": 1 });
    let unknown = gateway.post("/v1/conversations/c/chunks", declared.clone()).await;
    unknown.refused(404, "unknown_conversation");
    gateway.absorb("c").await;
    let invitation = gateway.post("/v1/conversations/c/chunks", declared).await.ok(201);
    gateway.put(&invitation["put"], Bytes::from_static(b"audio")).await;
    let confirm = "/v1/conversations/c/chunks/k/confirm";
    gateway.post(confirm, json!({ "upload": invitation["upload"] })).await.ok(202);
    let records = gateway.records(Topic::Uploads, "c").await;
    let Some((_, _, Record::Upload(upload))) = records.last() else { panic!("{records:?}") };
    assert_eq!(upload.options.as_ref().and_then(|options| options.redact_pii), Some(true));
}

#[tokio::test]
async fn finishing_declares_within_the_limits() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    let finish = "/v1/conversations/c/finish";
    for body in [json!({ "expected_chunks": -1 }), json!({ "expected_chunks": 5_000 })] {
        gateway.post_as(&token, finish, body).await.refused(400, "invalid_field");
    }
    // A call without a body says nothing more than that.
    let bare = gateway.http.post(format!("{}{finish}", gateway.base)).bearer_auth(&token);
    gateway.send(bare).await.ok(202);
    gateway.post_as(&token, finish, json!({ "expected_chunks": 4_999 })).await.ok(202);
}
