//! Transcript, summary and audio, before and after they are there.

use bytes::Bytes;
use hansard_core::document::{Document, Line};
use hansard_core::export::to_json;
use hansard_core::id::Millis;
use hansard_runtime::ports::objects::ObjectName;
use hansard_schemas::{Failure, Finalize, Merge, MergeInput, Summary};
use serde_json::json;

use super::{BUCKET, Fixture, fixture};

fn finalize(revision: i32) -> Finalize {
    Finalize {
        conversation_id: "c".to_owned(),
        event_id: format!("f{revision}"),
        revision,
        outcome: "complete".to_owned(),
        cause: "finish".to_owned(),
        digest: digest(revision),
        ..Default::default()
    }
}

fn digest(revision: i32) -> String {
    format!("1:{revision:064}")
}

fn merge(revision: i32) -> Merge {
    Merge {
        conversation_id: "c".to_owned(),
        event_id: format!("m{revision}"),
        revision,
        finalize_digest: digest(revision),
        ..Default::default()
    }
}

fn summary(revision: i32) -> Summary {
    Summary {
        conversation_id: "c".to_owned(),
        event_id: format!("s{revision}"),
        revision,
        finalize_digest: digest(revision),
        transcript_digest: "0".repeat(64),
        outcome: "done".to_owned(),
        ..Default::default()
    }
}

fn ended(stage: &str, revision: i32) -> Failure {
    Failure {
        conversation_id: "c".to_owned(),
        event_id: format!("e{stage}{revision}"),
        stage: stage.to_owned(),
        class: "permanent".to_owned(),
        code: "quota".to_owned(),
        message: "the provider refuses".to_owned(),
        revision: Some(revision),
        finalize_digest: Some(digest(revision)),
        attempt: 1,
        terminal: true,
        ..Default::default()
    }
}

async fn write(gateway: &Fixture, key: &str, body: impl Into<Bytes>) {
    let name = ObjectName { bucket: BUCKET.to_owned(), key: key.to_owned() };
    gateway.ports.objects.put(&name, "application/octet-stream", body.into()).await.expect("puts");
}

fn document(revision: i32) -> String {
    let line = Line {
        start: Millis(0),
        end: Millis(1_500),
        text: "Order, \"order\" & <calm>!".to_owned(),
        ..Default::default()
    };
    to_json(&Document { conversation: "c".to_owned(), revision, lines: vec![line], ..Default::default() })
}

async fn finalized() -> Fixture {
    let gateway = fixture().await;
    gateway.open("c").await;
    gateway.emit(finalize(1)).await;
    gateway.absorb("c").await;
    gateway
}

#[tokio::test]
async fn before_there_is_anything_each_call_says_so() {
    let gateway = fixture().await;
    gateway.open("c").await;
    gateway.absorb("c").await;
    for call in ["transcript", "summary", "audio"] {
        gateway.get(&format!("/v1/conversations/c/{call}")).await.refused(409, "not_finalized");
    }
    let gateway = finalized().await;
    gateway.get("/v1/conversations/c/transcript").await.refused(409, "transcript_pending");
    gateway.get("/v1/conversations/c/summary").await.refused(409, "summary_pending");
    gateway.get("/v1/conversations/c/audio").await.refused(409, "merge_pending");
    gateway.get("/v1/conversations/c/audio?revision=2").await.refused(404, "unknown_revision");
    gateway.get("/v1/conversations/c/transcript?format=doc").await.refused(400, "invalid_request");
}

#[tokio::test]
async fn a_transcript_comes_in_every_form() {
    let gateway = finalized().await;
    write(&gateway, "transcripts/c/1-x.json", document(1)).await;
    gateway.emit(Summary { transcript_key: Some("transcripts/c/1-x.json".to_owned()), ..summary(1) }).await;
    gateway.absorb("c").await;
    let cases = [
        ("", "application/json", "\"revision\":1"),
        ("?format=txt", "text/plain; charset=utf-8", "Order, \"order\" & <calm>!"),
        ("?format=srt", "application/x-subrip; charset=utf-8", "00:00:00,000 --> 00:00:01,500"),
        ("?format=vtt&revision=1", "text/vtt; charset=utf-8", "&amp; &lt;calm&gt;!"),
    ];
    for (query, kind, holds) in cases {
        let answered = gateway.get(&format!("/v1/conversations/c/transcript{query}")).await;
        assert_eq!(answered.status, 200, "{query}");
        assert_eq!(answered.headers["content-type"], kind, "{query}");
        assert!(answered.text.contains(holds), "{query}: {}", answered.text);
    }
}

#[tokio::test]
async fn a_transcript_is_there_although_the_summary_failed() {
    let gateway = finalized().await;
    gateway.emit(ended("summarize", 1)).await;
    gateway.absorb("c").await;
    gateway.get("/v1/conversations/c/transcript").await.refused(409, "transcript_failed");
    write(&gateway, "transcripts/c/1-y.json", document(1)).await;
    let answered = gateway.get("/v1/conversations/c/transcript?format=txt").await;
    assert!(answered.text.contains("Order"), "{}", answered.text);
    let failed = gateway.get("/v1/conversations/c/summary").await;
    failed.refused(409, "summary_failed");
    assert_eq!(failed.json()["reason"], "quota");
}

#[tokio::test]
async fn the_newest_revision_answers_until_a_newer_one_is_ready() {
    let gateway = finalized().await;
    write(&gateway, "transcripts/c/1-x.json", document(1)).await;
    let first = Summary {
        transcript_key: Some("transcripts/c/1-x.json".to_owned()),
        text: Some("first".to_owned()),
        ..summary(1)
    };
    gateway.emit(first).await;
    gateway.emit(finalize(2)).await;
    gateway.absorb("c").await;
    let answer = gateway.get("/v1/conversations/c/summary").await.ok(200);
    assert_eq!(
        (&answer["text"], &answer["revision"], &answer["latest_revision"]),
        (&json!("first"), &json!(1), &json!(2))
    );
    assert_eq!(gateway.get("/v1/conversations/c/transcript").await.ok(200)["revision"], 1);
    gateway.get("/v1/conversations/c/summary?revision=2").await.refused(409, "summary_pending");
    gateway.get("/v1/conversations/c/transcript?revision=2").await.refused(409, "transcript_pending");
    gateway.emit(Summary { text: Some("second".to_owned()), ..summary(2) }).await;
    gateway.absorb("c").await;
    assert_eq!(gateway.get("/v1/conversations/c/summary").await.ok(200)["text"], "second");
    assert_eq!(gateway.get("/v1/conversations/c/summary?revision=1").await.ok(200)["text"], "first");
}

#[tokio::test]
async fn audio_is_a_link_or_a_reason() {
    let gateway = finalized().await;
    gateway
        .emit(Merge { outcome: "failed".to_owned(), code: Some("too_much_lost".to_owned()), ..merge(1) })
        .await;
    gateway.absorb("c").await;
    let failed = gateway.get("/v1/conversations/c/audio").await;
    failed.refused(409, "merge_failed");
    assert_eq!(failed.json()["reason"], "too_much_lost");

    gateway.emit(finalize(2)).await;
    gateway.emit(Merge { outcome: "failed".to_owned(), code: Some("no_audio".to_owned()), ..merge(2) }).await;
    gateway.absorb("c").await;
    gateway.get("/v1/conversations/c/audio").await.refused(409, "no_audio");

    gateway.emit(finalize(3)).await;
    write(&gateway, "merged/c/x.ogg", "merged audio").await;
    write(&gateway, "merged/c/x.peaks.json", "peaks").await;
    let skipped = MergeInput {
        chunk_id: "k".to_owned(),
        status: "skipped".to_owned(),
        code: Some("undecodable".to_owned()),
        ..Default::default()
    };
    let done = Merge {
        outcome: "done".to_owned(),
        key: Some("merged/c/x.ogg".to_owned()),
        format: Some("ogg".to_owned()),
        peaks_key: Some("merged/c/x.peaks.json".to_owned()),
        inputs: vec![skipped],
        ..merge(3)
    };
    gateway.emit(done).await;
    gateway.absorb("c").await;
    let answer = gateway.get("/v1/conversations/c/audio").await.ok(200);
    assert_eq!(answer["inputs"][0]["code"], "undecodable", "what was skipped is told");
    let file = reqwest::get(answer["url"].as_str().expect("a url")).await.expect("an answer");
    let named = file.headers()["content-disposition"].to_str().expect("text").to_owned();
    assert_eq!(named, "attachment; filename=\"c-3.ogg\"");
    assert_eq!(file.text().await.expect("a body"), "merged audio");
    let peaks = reqwest::get(answer["peaks_url"].as_str().expect("a url")).await.expect("an answer");
    assert_eq!(peaks.text().await.expect("a body"), "peaks");
    let redirect = gateway.get("/v1/conversations/c/audio?redirect=true").await;
    assert_eq!(redirect.status, 302);
    assert!(redirect.headers["location"].to_str().expect("text").contains("merged/c/x.ogg"));
    gateway.get("/v1/conversations/c/audio?revision=1").await.refused(409, "merge_failed");
}

#[tokio::test]
async fn a_failed_merge_without_a_record_of_its_own_is_told_too() {
    let gateway = finalized().await;
    gateway.emit(ended("merge", 1)).await;
    gateway.absorb("c").await;
    let failed = gateway.get("/v1/conversations/c/audio").await;
    failed.refused(409, "merge_failed");
    assert_eq!(failed.json()["reason"], "quota");
}

#[tokio::test]
async fn two_contents_of_a_revision_are_shown() {
    let gateway = fixture().await;
    gateway.emit(finalize(1)).await;
    gateway.absorb("c").await;
    let conflicting = async |call: &str| gateway.get(call).await.ok(200)["conflicting_revision"].clone();
    let calls = ["/v1/conversations/c", "/v1/conversations/c/explain"];
    for call in calls {
        assert_eq!(conflicting(call).await, false);
    }
    gateway.emit(Finalize { digest: digest(9), ..finalize(1) }).await;
    gateway.absorb("c").await;
    for call in calls {
        assert_eq!(conflicting(call).await, true);
    }
}
