//! Sweeping over HTTP, by the job as it ships; and what becomes of a confirmation that comes too late.

use bytes::Bytes;
use hansard_core::id::Millis;
use serde_json::json;

use super::{Fixture, fixture};

async fn sweep(gateway: &Fixture, query: &str) -> serde_json::Value {
    gateway.post(&format!("/v1/sweep{query}"), json!({})).await.ok(200)
}

#[tokio::test]
async fn an_upload_that_nobody_confirmed_is_swept_and_its_late_confirmation_told_so() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    let declared = json!({ "content_type": "audio/ogg", "bytes": 4, "recorded_at": 1, "chunk_id": "k" });
    let chunks = "/v1/conversations/c/chunks";
    let kept = gateway.post_as(&token, chunks, declared.clone()).await.ok(201);
    gateway.put(&kept["put"], Bytes::from_static(b"kept")).await;
    let confirm = json!({ "upload": kept["upload"] });
    gateway.post_as(&token, &format!("{chunks}/k/confirm"), confirm).await.ok(202);
    let lost = gateway.post_as(&token, chunks, declared).await.ok(201);
    gateway.put(&lost["put"], Bytes::from_static(b"lost")).await;
    gateway.absorb("c").await;
    gateway.read_by_aggregate().await;

    let young = sweep(&gateway, "").await;
    assert_eq!((&young["objects"], &young["marked"]), (&json!(2), &json!(0)), "{young}");
    gateway.clock.ahead(Millis::hours(25));
    for query in ["?dry_run=true", "?dry_run=true", ""] {
        let report = sweep(&gateway, query).await;
        assert_eq!((&report["log_read"], &report["marked"]), (&json!(true), &json!(1)), "{report}");
        assert_eq!(report["deleted"], 0);
        assert_eq!(report["found"][0]["fate"], "marked");
    }
    let report = sweep(&gateway, "?dry_run=true").await;
    assert_eq!((&report["deleted"], &report["waiting"]), (&json!(0), &json!(1)), "{report}");
    gateway.clock.ahead(Millis::hours(26));
    let report = sweep(&gateway, "?dry_run=true").await;
    assert_eq!((&report["deleted"], &report["deleted_bytes"]), (&json!(1), &json!(4)), "{report}");
    let report = sweep(&gateway, "").await;
    assert_eq!((&report["objects"], &report["deleted"]), (&json!(2), &json!(1)), "{report}");
    let report = sweep(&gateway, "").await;
    assert_eq!((&report["objects"], &report["deleted"]), (&json!(1), &json!(0)), "{report}");
    let late = json!({ "upload": lost["upload"] });
    gateway.post_as(&token, &format!("{chunks}/k/confirm"), late).await.refused(410, "upload_expired");

    let metrics = gateway.get("/metrics").await.text;
    for line in [
        "hansard_sweep_objects_total{what=\"deleted\"} 1",
        "hansard_sweep_objects_total{what=\"marked\"} 1",
        "hansard_sweep_deleted_bytes_total 4",
        "hansard_sweep_runs_total{result=\"done\"} 4",
        "hansard_sweep_last_success_seconds 1",
    ] {
        assert!(metrics.contains(line), "no {line:?} in {metrics}");
    }
}

#[tokio::test]
async fn an_erasure_takes_the_objects_by_when_its_receipt_says() {
    let gateway = fixture().await;
    let token = gateway.open("c").await;
    let declared = json!({ "content_type": "audio/ogg", "bytes": 4, "recorded_at": 1 });
    let upload = gateway.post_as(&token, "/v1/conversations/c/chunks", declared).await.ok(201);
    gateway.put(&upload["put"], Bytes::from_static(b"gone")).await;
    let erase = gateway.http.delete(format!("{}/v1/conversations/c", gateway.base)).json(&json!({}));
    let receipt = gateway.send(erase).await.ok(202);
    let at = |name: &str| receipt[name].as_i64().expect("a time");
    assert_eq!(at("objects_gone_by") - at("accepted_at"), Millis::hours(2).0);
    gateway.absorb("c").await;
    gateway.read_by_aggregate().await;
    let report = sweep(&gateway, "").await;
    assert_eq!((&report["erasures"], &report["deleted"]), (&json!(1), &json!(1)), "{report}");
    assert_eq!(report["found"][0]["fate"], "erased");
    let left = gateway.ports.objects.list(super::BUCKET, "", None, 10).await.expect("a list");
    assert!(left.iter().all(|(key, _)| key == "sweep/marks"), "{left:?}");
}
