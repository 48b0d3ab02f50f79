//! List, status and explain over rows as the stages write them.

use hansard_core::id::Millis;
use hansard_schemas::{
    Failure, Origin, Record, Split, SplitSegment, Topic, Transcript, Upload, split_digest, text_sha256,
    upload_digest,
};
use serde_json::{Value, json};

use super::{Fixture, fixture};

/// The standing Upload of a conversation's only chunk.
pub(super) async fn upload(gateway: &Fixture, id: &str) -> Upload {
    let records = gateway.records(Topic::Uploads, id).await;
    let mut uploads = records.into_iter().filter_map(|(_, _, record)| match record {
        Record::Upload(upload) => Some(upload),
        _ => None,
    });
    uploads.next_back().expect("an upload")
}

/// A split of a chunk into pieces of a second.
pub(super) fn split(upload: &Upload, pieces: i32) -> Split {
    let segment = |index: i32| SplitSegment {
        index,
        start_ms: i64::from(index) * 1_000,
        end_ms: i64::from(index) * 1_000 + 1_000,
        bytes: 10,
        sha256: vec![1; 32],
        forced_cut: false,
    };
    let mut split = Split {
        conversation_id: upload.conversation_id.clone(),
        event_id: "s".to_owned(),
        chunk_id: upload.chunk_id.clone(),
        upload_digest: upload_digest(upload),
        plan_version: "1".to_owned(),
        bucket: "hansard".to_owned(),
        key_prefix: "segments/".to_owned(),
        duration_ms: i64::from(pieces) * 1_000,
        segments: (0..pieces).map(segment).collect(),
        ..Default::default()
    };
    split.digest = split_digest(&split);
    split
}

pub(super) fn transcript(split: &Split, segment: i32, text: &str) -> Transcript {
    let mut transcript = Transcript {
        conversation_id: split.conversation_id.clone(),
        event_id: format!("t{segment}"),
        chunk_id: split.chunk_id.clone(),
        upload_digest: split.upload_digest.clone(),
        split_digest: split.digest.clone(),
        provider: "local".to_owned(),
        model: "tiny".to_owned(),
        text: text.to_owned(),
        segment,
        start_ms: i64::from(segment) * 1_000,
        end_ms: i64::from(segment) * 1_000 + 1_000,
        audio_ms: 1_000,
        ..Default::default()
    };
    transcript.text_sha256 = text_sha256(&transcript);
    transcript
}

pub(super) fn failure(split: &Split, segment: i32, code: &str, terminal: bool) -> Failure {
    Failure {
        conversation_id: split.conversation_id.clone(),
        event_id: format!("f{segment}{code}"),
        stage: "transcribe".to_owned(),
        class: "transient".to_owned(),
        code: code.to_owned(),
        message: "the provider answered 500".to_owned(),
        chunk_id: Some(split.chunk_id.clone()),
        upload_digest: Some(split.upload_digest.clone()),
        split_digest: Some(split.digest.clone()),
        segment: Some(segment),
        provider: Some("local".to_owned()),
        http_status: Some(500),
        attempt: 2,
        terminal,
        retry_at: (!terminal).then_some(9_000),
        origin: Some(Origin { topic: "hansard.segments".to_owned(), partition: 0, offset: 1 }),
        ..Default::default()
    }
}

#[tokio::test]
async fn the_status_says_what_happened_to_each_piece() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    gateway.chunk(&token, "c", "k").await;
    let split = split(&upload(&gateway, "c").await, 3);
    gateway.emit(split.clone()).await;
    gateway.emit(transcript(&split, 0, "said")).await;
    gateway.emit(failure(&split, 1, "timeout", false)).await;
    gateway.emit(failure(&split, 2, "too_loud", true)).await;
    gateway.absorb("c").await;

    let status = gateway.get("/v1/conversations/c").await.ok(200);
    assert_eq!(status["status"], "open");
    let progress =
        json!({ "chunks": 1, "split": 1, "segments": 3, "transcribed": 1, "failed": 1, "missing": 1 });
    assert_eq!(status["progress"], progress);
    let chunk = &status["chunks"][0];
    assert_eq!((&chunk["status"], &chunk["duration_ms"]), (&json!("pending"), &json!(3_000)));
    let segments = chunk["segments"].as_array().expect("segments");
    let statuses: Vec<&str> = segments.iter().filter_map(|segment| segment["status"].as_str()).collect();
    assert_eq!(statuses, ["transcribed", "pending", "failed"]);
    assert_eq!((&segments[0]["provider"], &segments[0]["failure"]), (&json!("local"), &Value::Null));
    assert_eq!(segments[1]["failure"]["retry_at"], 9_000);
    assert_eq!(segments[2]["failure"]["code"], "too_loud");
    assert_eq!(segments[2]["failure"]["attempts"], 2);
    assert_eq!(status["failures_total"], 2);
    assert_eq!(status["links"]["transcript"], Value::Null, "nothing is finalized yet");

    let short = gateway.get("/v1/conversations/c?segments=false").await.ok(200);
    assert_eq!(short["chunks"][0]["segments"], Value::Null);
    assert_eq!(short["chunks"][0]["transcribed"], 1);

    // A later success supersedes the failure.
    gateway.emit(transcript(&split, 2, "said after all")).await;
    gateway.absorb("c").await;
    let status = gateway.get("/v1/conversations/c").await.ok(200);
    assert_eq!(status["chunks"][0]["segments"][2]["status"], "transcribed");
    assert_eq!(status["chunks"][0]["segments"][2]["failure"], Value::Null);
    assert_eq!(status["failures_total"], 1);
}

#[tokio::test]
async fn a_chunk_that_cannot_be_split_says_why() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    gateway.chunk(&token, "c", "k").await;
    let upload = upload(&gateway, "c").await;
    let mut failed = failure(&split(&upload, 1), 0, "undecodable", true);
    failed.stage = "split".to_owned();
    failed.split_digest = None;
    failed.segment = None;
    gateway.emit(failed).await;
    gateway.absorb("c").await;
    let status = gateway.get("/v1/conversations/c").await.ok(200);
    assert_eq!(status["chunks"][0]["status"], "failed");
    assert_eq!(status["chunks"][0]["failure"]["code"], "undecodable");
    assert_eq!(status["failures"][0]["stage"], "split");
}

#[tokio::test]
async fn explain_names_who_owes_what() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    gateway.chunk(&token, "c", "k").await;
    gateway.post_as(&token, "/v1/conversations/c/finish", json!({ "expected_chunks": 2 })).await.ok(202);
    gateway.absorb("c").await;
    let explained = gateway.get("/v1/conversations/c/explain").await.ok(200);
    assert_eq!(explained["status"], "closing");
    assert_eq!(explained["awaited_total"], 2);
    let owners: Vec<&str> = explained["awaited"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|owed| owed["owner"].as_str())
        .collect();
    assert_eq!(owners, ["producer", "split"]);
    assert_eq!(explained["awaited"][1]["chunk_id"], "k");
    assert_eq!(explained["awaited"][1]["input_offset"], 1);
    assert!(explained["look_at"].as_i64() > explained["judged_at"].as_i64(), "{explained}");

    let split = split(&upload(&gateway, "c").await, 1);
    gateway.emit(split.clone()).await;
    gateway.emit(failure(&split, 0, "timeout", false)).await;
    gateway.absorb("c").await;
    let explained = gateway.get("/v1/conversations/c/explain").await.ok(200);
    let owed = &explained["awaited"][1];
    assert_eq!((&owed["owner"], &owed["segment"]), (&json!("transcribe"), &json!(0)));
    assert_eq!(owed["last_failure"]["attempts"], 2);
}

#[tokio::test]
async fn an_idle_conversation_is_shown_as_closing_to_the_millisecond() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    gateway.chunk(&token, "c", "k").await;
    gateway.absorb("c").await;
    let closing_at =
        gateway.get("/v1/conversations/c/explain").await.ok(200)["closing_at"].as_i64().expect("a time");
    let (_, confirmed, _) = gateway.records(Topic::Uploads, "c").await.pop().expect("an upload");
    assert_eq!(closing_at, (confirmed + Millis::minutes(5)).0);
    gateway.clock.ahead(Millis::minutes(5));
    assert_eq!(gateway.get("/v1/conversations/c").await.ok(200)["status"], "closing");
}

#[tokio::test]
async fn the_list_pages_through_all_conversations() {
    let gateway = fixture().await;
    for index in 0..5 {
        let id = format!("c{index}");
        gateway.open(&id).await;
        gateway.absorb(&id).await;
    }
    let mut seen = Vec::new();
    let mut path = "/v1/conversations?limit=2".to_owned();
    for _ in 0..4 {
        let page = gateway.get(&path).await.ok(200);
        let listed = page["conversations"].as_array().expect("a list");
        assert!(listed.len() <= 2, "{listed:?}");
        seen.extend(listed.iter().map(|listed| listed["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/conversations?limit=2&cursor={next}");
    }
    seen.sort();
    assert_eq!(seen, ["c0", "c1", "c2", "c3", "c4"]);
}

#[tokio::test]
async fn an_erased_conversation_is_gone_for_readers_and_producers() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    let request = gateway.http.delete(format!("{}/v1/conversations/c", gateway.base));
    let receipt = gateway.send(request.json(&json!({ "reason": "asked" }))).await.ok(202);
    let day = 86_400_000;
    let after = |name: &str| {
        receipt[name].as_i64().expect("a time") - receipt["accepted_at"].as_i64().expect("a time")
    };
    assert_eq!((after("texts_gone_by"), after("records_gone_by")), (7 * day, 30 * day));
    gateway.absorb("c").await;
    gateway.get("/v1/conversations/c").await.refused(410, "erased");
    gateway.get("/v1/conversations/c/transcript").await.refused(410, "erased");
    let declared = json!({ "content_type": "audio/ogg", "bytes": 5, "recorded_at": 1 });
    gateway.post_as(&token, "/v1/conversations/c/chunks", declared).await.refused(410, "erased");
    gateway.post_as(&token, "/v1/conversations/c/finish", json!({})).await.refused(410, "erased");
    gateway.post("/v1/conversations", json!({ "id": "c" })).await.refused(410, "erased");
}
