//! Reruns, dead letters, probes, and what is served as it stands.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use hansard_core::id::{Offset, Partition, Timestamp};
use hansard_core::redelivery::{Cause, Class, Headers, Origin};
use hansard_runtime::ports::dead_letters::{DeadLetter, DeadLetterId};
use hansard_runtime::ports::log::{LogRecord, TopicPartition};
use hansard_schemas::{Finish, Record, Stage, Topic, encode};
use serde_json::{Value, json};

use super::{Fixture, fixture};
use crate::ROUTES;

#[tokio::test]
async fn a_rerun_has_its_generation_from_its_offset() {
    let gateway = fixture().await;
    let rerun = "/v1/conversations/c/rerun";
    gateway.post(rerun, json!({ "stage": "merge" })).await.refused(404, "unknown_conversation");
    gateway.open("c").await;
    gateway.absorb("c").await;
    gateway.post(rerun, json!({ "stage": "split" })).await.refused(400, "invalid_field");
    gateway.post(rerun, json!({ "stage": "merge", "only": "some" })).await.refused(400, "invalid_field");
    let body = json!({ "stage": "transcribe", "only": "all", "options": { "language": "de" } });
    let accepted = gateway.post(rerun, body).await.ok(202);
    let records = gateway.records(Topic::Uploads, "c").await;
    let Some((offset, _, Record::Rerun(record))) = records.last() else { panic!("{records:?}") };
    assert_eq!(accepted["generation"], offset.0 + 1);
    assert_eq!((record.stage.as_str(), record.only.as_str()), ("transcribe", "all"));
    assert_eq!(record.options.as_ref().and_then(|options| options.language.as_deref()), Some("de"));
}

fn letter(stage: Stage, offset: i64, code: &str) -> DeadLetter {
    let value =
        encode(&Finish { conversation_id: "c".to_owned(), event_id: "e".to_owned(), ..Default::default() });
    let history = Headers {
        stage: stage.to_string(),
        attempt: 4,
        not_before: Some(Timestamp(7)),
        first_failed_at: Timestamp(1),
        redrives: 1,
        origin: Origin {
            topic: "hansard.uploads".to_owned(),
            partition: Partition(1),
            offset: Offset(offset),
            timestamp: Timestamp(1),
        },
        failure: Cause {
            class: Class::Permanent,
            code: code.to_owned(),
            message: "no audio track".to_owned(),
        },
    };
    let headers = history.to_pairs().into_iter().map(|(name, value)| (name.to_owned(), Bytes::from(value)));
    DeadLetter {
        id: DeadLetterId {
            stage,
            origin: TopicPartition { topic: Topic::Uploads, partition: Partition(1) },
            offset: Offset(offset),
        },
        conversation: "c".to_owned(),
        class: "permanent".to_owned(),
        code: code.to_owned(),
        cause: "no audio track".to_owned(),
        attempts: 4,
        redrives: 1,
        at: Timestamp(offset * 1_000),
        key: Some(Bytes::from_static(b"c")),
        value: Some(value),
        headers: headers.collect(),
    }
}

async fn with_letters() -> Fixture {
    let gateway = fixture().await;
    let letters = [
        letter(Stage::Split, 1, "undecodable"),
        letter(Stage::Split, 2, "too_large"),
        letter(Stage::Split, 3, "undecodable"),
        letter(Stage::Merge, 4, "undecodable"),
    ];
    gateway.ports.dead_letters.write(&letters).await.expect("writes");
    gateway
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["dead_letters"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|letter| letter["id"].as_str())
        .collect()
}

async fn retried(gateway: &Fixture, stage: Stage) -> Vec<LogRecord> {
    let place = TopicPartition { topic: Topic::Retry(stage, 1), partition: Partition(1) };
    let read = gateway.ports.log.read(place, Offset(0), 1 << 20, Duration::ZERO);
    read.await.expect("reads").records
}

#[tokio::test]
async fn dead_letters_are_listed_in_pages_and_shown_whole() {
    let gateway = with_letters().await;
    let first = gateway.get("/v1/dead-letters?limit=3").await.ok(200);
    assert_eq!(ids(&first), ["split:uploads:1:1", "split:uploads:1:2", "split:uploads:1:3"]);
    let next = first["next"].as_str().expect("more");
    let rest = gateway.get(&format!("/v1/dead-letters?limit=3&cursor={next}")).await.ok(200);
    assert_eq!((ids(&rest), &rest["next"]), (vec!["merge:uploads:1:4"], &Value::Null));
    let filtered = gateway.get("/v1/dead-letters?stage=split&code=too_large&conversation=c").await.ok(200);
    assert_eq!(ids(&filtered), ["split:uploads:1:2"]);
    gateway.get("/v1/dead-letters?stage=nowhere").await.refused(400, "invalid_field");
    gateway.get("/v1/dead-letters?cursor=x").await.refused(400, "invalid_cursor");
    let shown = gateway.get("/v1/dead-letters/split:uploads:1:2").await.ok(200);
    assert_eq!((&shown["record"]["record"], &shown["cause"]), (&json!("Finish"), &json!("no audio track")));
    for unknown in ["split:uploads:1:9", "nonsense"] {
        gateway.get(&format!("/v1/dead-letters/{unknown}")).await.refused(404, "unknown_dead_letter");
    }
}

#[tokio::test]
async fn a_redrive_sends_the_original_bytes_with_a_clean_count() {
    let gateway = with_letters().await;
    let filter = json!({ "stage": "split", "code": "undecodable", "dry_run": true });
    let dry = gateway.post("/v1/dead-letters/redrive", filter).await.ok(200);
    assert_eq!((&dry["matched"], &dry["redriven"]), (&json!(2), &json!(0)));
    assert!(retried(&gateway, Stage::Split).await.is_empty(), "a dry run only looks");

    let capped = json!({ "stage": "split", "code": "undecodable", "limit": 1 });
    let done = gateway.post("/v1/dead-letters/redrive", capped).await.ok(200);
    assert_eq!((&done["redriven"], &done["more"]), (&json!(1), &json!(true)));
    let original = letter(Stage::Split, 1, "undecodable");
    let records = retried(&gateway, Stage::Split).await;
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0].key, &records[0].value), (&original.key, &original.value));
    let of = |name: &str| {
        let mut headers = records[0].headers.iter();
        headers.find(|(header, _)| header == name).and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let history = Headers::read(of).expect("a history").expect("redelivered");
    assert_eq!((history.attempt, history.redrives, history.not_before), (0, 2, None));
    assert_eq!((history.origin.offset, history.first_failed_at), (Offset(1), Timestamp(1)));
    let left = gateway.get("/v1/dead-letters").await.ok(200);
    assert_eq!(ids(&left), ["split:uploads:1:2", "split:uploads:1:3", "merge:uploads:1:4"]);

    let named = json!({ "ids": ["merge:uploads:1:4"] });
    assert_eq!(gateway.post("/v1/dead-letters/redrive", named.clone()).await.ok(200)["redriven"], 1);
    gateway.post("/v1/dead-letters/redrive", named).await.refused(404, "unknown_dead_letter");
    assert_eq!(retried(&gateway, Stage::Merge).await.len(), 1);
}

#[tokio::test]
async fn a_dismissed_letter_is_given_up() {
    let gateway = with_letters().await;
    let dismissal = json!({ "stage": "split", "older_than_s": 0, "class": "permanent" });
    let done = gateway.post("/v1/dead-letters/dismiss", dismissal).await.ok(200);
    assert_eq!(done["dismissed"], 3);
    assert_eq!(ids(&gateway.get("/v1/dead-letters").await.ok(200)), ["merge:uploads:1:4"]);
    assert!(retried(&gateway, Stage::Split).await.is_empty());
}

#[tokio::test]
async fn a_topic_is_read_as_lines_up_to_its_end() {
    let gateway = fixture().await;
    gateway.open("c").await;
    gateway.open("d").await;
    let answered = gateway.get("/v1/topics/uploads?from_beginning=true&once=true").await;
    assert_eq!(answered.headers["content-type"], "application/x-ndjson");
    let lines = answered.text.lines().map(|line| serde_json::from_str(line).expect("a line of json"));
    let lines: Vec<Value> = lines.collect();
    let mut keys: Vec<&str> = lines.iter().filter_map(|line| line["log"]["key"].as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["c", "d"]);
    assert!(
        lines.iter().all(|line| line["record"] == "Open" && line["log"]["topic"] == "uploads"),
        "{lines:?}"
    );
    let from_now = gateway.get("/v1/topics/uploads?once=true").await;
    assert_eq!((from_now.status, from_now.text.as_str()), (200, ""));
    gateway.get("/v1/topics/nowhere").await.refused(404, "no_such_call");
}

#[tokio::test]
async fn probes_and_metrics_answer() {
    let gateway = fixture().await;
    assert_eq!(gateway.get("/healthz").await.text, "ok\n");
    assert_eq!(gateway.get("/readyz").await.ok(200)["ready"], true);
    gateway.get("/v1/conversations/some-id").await.refused(404, "unknown_conversation");
    let metrics = gateway.get("/metrics").await;
    let line =
        "hansard_http_requests_total{method=\"get\",route=\"/v1/conversations/{id}\",status=\"404\"} 1";
    assert!(metrics.text.contains(line), "{}", metrics.text);
    assert!(!metrics.text.contains("some-id"), "ids are no labels");
}

#[tokio::test]
async fn the_description_names_exactly_the_calls_that_exist() {
    let gateway = fixture().await;
    let described = gateway.get("/openapi.json").await.ok(200);
    let mut calls = BTreeSet::new();
    for (path, methods) in described["paths"].as_object().expect("paths") {
        for (method, call) in methods.as_object().expect("methods") {
            assert!(call["summary"].is_string(), "{method} {path} has no summary");
            assert!(call["responses"].is_object(), "{method} {path} has no responses");
            for name in path.split('{').skip(1).filter_map(|part| part.split('}').next()) {
                let named = |parameter: &Value| {
                    let reference = parameter["$ref"].as_str().unwrap_or_default();
                    parameter["name"] == name || reference.ends_with(&format!("/{name}"))
                };
                let parameters = call["parameters"].as_array().expect("parameters");
                assert!(parameters.iter().any(named), "{method} {path} does not describe {name}");
            }
            calls.insert((method.clone(), path.clone()));
        }
    }
    let served = ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(calls, served);
    let codes = described["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].clone();
    let known: Vec<&str> = crate::Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes, json!(known));
    references_resolve(&described, &described);
}

/// Every `$ref` leads somewhere.
fn references_resolve(value: &Value, whole: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("within the document");
                assert!(whole.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            fields.values().for_each(|value| references_resolve(value, whole));
        }
        Value::Array(items) => items.iter().for_each(|value| references_resolve(value, whole)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_stands_alone() {
    let gateway = fixture().await;
    let page = gateway.get("/").await;
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(page.text.contains("<title>"), "a page");
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.text.contains(outside), "the page loads {outside}");
    }
}
