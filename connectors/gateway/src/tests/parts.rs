//! Recordings above the bound come in parts.

use bytes::Bytes;
use hansard_schemas::{Record, Topic};
use serde_json::{Value, json};

use super::Fixture;

#[tokio::test]
async fn a_large_recording_comes_in_parts() {
    let part_bytes = 5 << 20;
    let gateway = Fixture::with(|config, _| {
        config.limits.single_bytes = 1 << 20;
        config.limits.part_bytes = part_bytes;
    })
    .await;
    let token = gateway.open("c").await;
    let length = part_bytes + 10;
    let declared = json!({ "chunk_id": "k", "content_type": "audio/wav", "bytes": length, "recorded_at": 1 });
    let invitation = gateway.post_as(&token, "/v1/conversations/c/chunks", declared).await.ok(201);
    assert_eq!(invitation["put"], Value::Null);
    let parts = invitation["parts"].as_array().expect("parts");
    let sizes: Vec<u64> = parts.iter().filter_map(|part| part["bytes"].as_u64()).collect();
    assert_eq!(sizes, [part_bytes, 10]);
    let confirm = "/v1/conversations/c/chunks/k/confirm";
    let upload = &invitation["upload"];
    gateway.post_as(&token, confirm, json!({ "upload": upload })).await.refused(409, "not_uploaded");
    let mut done = Vec::new();
    for (part, size) in parts.iter().zip(sizes) {
        let body = Bytes::from(vec![7; usize::try_from(size).expect("small")]);
        let sent = gateway.put(part, body).await;
        assert_eq!(sent.status, 200, "{}", sent.text);
        let etag = sent.headers["etag"].to_str().expect("text");
        done.push(json!({ "number": part["number"], "etag": etag }));
    }
    let wrong = json!({ "upload": upload, "parts": [{ "number": 1, "etag": "0000" }] });
    gateway.post_as(&token, confirm, wrong).await.refused(400, "invalid_parts");
    let confirmation = json!({ "upload": upload, "parts": done });
    let first = gateway.post_as(&token, confirm, confirmation.clone()).await.ok(202);
    let again = gateway.post_as(&token, confirm, confirmation).await.ok(202);
    assert_eq!(first["upload_digest"], again["upload_digest"]);
    let records = gateway.records(Topic::Uploads, "c").await;
    let Some((_, _, Record::Upload(upload))) = records.last() else { panic!("{records:?}") };
    assert_eq!(upload.object.bytes, i64::try_from(length).expect("small"));
    assert!(upload.object.etag.ends_with("-2"), "{}", upload.object.etag);
}
