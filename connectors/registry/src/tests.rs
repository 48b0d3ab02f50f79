//! Tests on a real registry, whose address is in `HANSARD_TEST_REGISTRY`, and of what a registry may answer instead.

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::schemas::Schemas as _;
use hansard_schemas::{Finish, Framing, Record, RecordName, Registry, Topics};
use hansard_tls::Authorities;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::client::Answer;
use crate::{Difference, RegistryConfig, SchemaRegistry, SubjectsError};

/// The real registry, and the topics of a deployment of its own.
fn deployment() -> (SchemaRegistry, Topics) {
    let url = std::env::var("HANSARD_TEST_REGISTRY")
        .expect("HANSARD_TEST_REGISTRY is not set; tests/run starts the services");
    let prefix = format!("t{}.", uuid::Uuid::new_v4().simple());
    (at(&url, None), Topics::new(&prefix).expect("a prefix"))
}

fn at(url: &str, password: Option<&str>) -> SchemaRegistry {
    let credentials = password.map(|password| ("hansard".to_owned(), password.to_owned()));
    SchemaRegistry::new(RegistryConfig {
        url: url.to_owned(),
        credentials,
        authorities: Authorities::default(),
    })
    .expect("a client")
}

/// A server that gives one answer to every call, except without the password.
async fn server(answer: (StatusCode, &'static str)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    // hansard:right
    let right = "Basic aGFuc2FyZDpyaWdodA==";
    let call = move |headers: HeaderMap| async move {
        let given = headers.get("authorization").and_then(|value| value.to_str().ok());
        if given == Some(right) { answer } else { (StatusCode::UNAUTHORIZED, "") }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(call))).await });
    url
}

async fn register(registry: &SchemaRegistry, subject: &str, schema: &str) -> u64 {
    let path = format!("/subjects/{subject}/versions");
    let answer = registry.call::<Value>(Method::POST, &path, Some(json!({ "schema": schema }))).await;
    let Ok(Answer::Is(registered)) = answer else { panic!("{subject} is not taken") };
    registered["id"].as_u64().expect("an id")
}

/// A schema of Finish with one field more.
fn extended(field: Value) -> String {
    let mut schema: Value = serde_json::from_str(RecordName::Finish.schema()).expect("json");
    schema["fields"].as_array_mut().expect("a list").push(field);
    schema.to_string()
}

#[tokio::test]
async fn schemas_are_registered_once() {
    let (registry, topics) = deployment();
    let missing = registry.ids(&topics).await.expect_err("nothing is registered");
    assert!(matches!(&missing, PortError::NotFound { what } if what.contains("Open")), "{missing}");
    let differences = registry.diff(&topics).await.expect("compared");
    let first = |record: RecordName| {
        differences.iter().any(|difference| {
        matches!(difference, Difference::Register { record: own, first: true, .. } if *own == record)
    })
    };
    assert!(RecordName::ALL.iter().all(|record| first(*record)), "{differences:?}");
    registry.apply(&differences).await.expect("registered");
    assert_eq!(registry.diff(&topics).await.expect("compared"), []);
    let ids = registry.ids(&topics).await.expect("registered");
    registry.apply(&differences).await.expect("registered again");
    assert_eq!(registry.ids(&topics).await.expect("registered"), ids);
    assert_eq!(ids.len(), RecordName::ALL.len());
}

#[tokio::test]
async fn an_incompatible_version_is_refused_before_anything_is_done() {
    let (registry, topics) = deployment();
    let (subject, _) = topics.subjects().swap_remove(2);
    // Who reads with this one cannot read what is written now.
    register(&registry, &subject, &extended(json!({ "name": "why", "type": "string" }))).await;
    let differences = registry.diff(&topics).await.expect("compared");
    let refused = registry.apply(&differences).await.expect_err("incompatible");
    let said = refused.to_string();
    assert!(matches!(refused, SubjectsError::Incompatible(_)), "{said}");
    assert!(said.contains(&subject) && said.contains("Finish is incompatible"), "{said}");
    assert!(registry.ids(&topics).await.is_err(), "the others are not registered either");
}

#[tokio::test]
async fn a_lowered_compatibility_is_raised_again() {
    let (registry, topics) = deployment();
    registry.apply(&registry.diff(&topics).await.expect("compared")).await.expect("registered");
    let (subject, _) = topics.subjects().swap_remove(0);
    let path = format!("/config/{subject}");
    let none = Some(json!({ "compatibility": "NONE" }));
    assert!(matches!(registry.call::<Value>(Method::PUT, &path, none).await, Ok(Answer::Is(_))));
    let differences = registry.diff(&topics).await.expect("compared");
    let expected = Difference::Compatibility { subject, found: Some("NONE".to_owned()) };
    assert_eq!(differences, [expected]);
    registry.apply(&differences).await.expect("raised");
    assert_eq!(registry.diff(&topics).await.expect("compared"), []);
}

#[tokio::test]
async fn what_one_writes_another_reads_by_its_id() {
    let (registry, topics) = deployment();
    registry.apply(&registry.diff(&topics).await.expect("compared")).await.expect("registered");
    let ids = registry.ids(&topics).await.expect("registered");
    let framing = Framing::Registry(Registry::new(&ids).expect("all"));
    let finish = Finish { conversation_id: "c-1".into(), expected_chunks: Some(2), ..Finish::default() };
    let bytes = framing.encode(&finish);
    assert_eq!(bytes[..5], [&[0][..], &ids[&RecordName::Finish].to_be_bytes()].concat());
    let schema = registry.schema(ids[&RecordName::Finish]).await.expect("it is there");
    assert_eq!(
        serde_json::from_str::<Value>(&schema).expect("json"),
        serde_json::from_str::<Value>(RecordName::Finish.schema()).expect("json")
    );

    // A later version of a producer, under a subject of its own.
    let later = extended(json!({ "name": "why", "type": ["null", "string"], "default": null }));
    let subject =
        format!("{}-value", topics.name(hansard_schemas::Topic::Deliveries).replace("deliveries", "later"));
    let id = u32::try_from(register(&registry, &subject, &later).await).expect("small");
    let mut foreign = [&[0][..], &id.to_be_bytes(), &bytes[5..]].concat();
    foreign.push(0);
    let Framing::Registry(known) = &framing else { unreachable!() };
    assert!(framing.decode(&foreign).is_err());
    known.learn(id, &registry.schema(id).await.expect("it is there")).expect("it resolves");
    assert_eq!(framing.decode(&foreign).expect("it is read"), Record::from(finish));
}

#[tokio::test]
async fn an_unknown_id_is_asked_for_once() {
    let (registry, _) = deployment();
    for _ in 0..2 {
        let unknown = registry.schema(0x7FFF_FFFF).await.expect_err("no such id");
        assert!(matches!(unknown, PortError::NotFound { .. }), "{unknown}");
    }
    let url = server((StatusCode::NOT_FOUND, r#"{"error_code": 40403, "message": "no"}"#)).await;
    let mut registry = at(&url, Some("right"));
    let first = registry.schema(7).await;
    registry.config.url = unreachable();
    assert_eq!(first, registry.schema(7).await, "what is known to be missing needs no call");
    assert!(matches!(registry.schema(8).await, Err(PortError::Unavailable { .. })));
}

/// Whatever the connector remembers.
#[tokio::test]
async fn a_probe_finds_a_registry_that_is_down() {
    let (mut registry, _) = deployment();
    registry.schema(0x7FFF_FFFF).await.expect_err("no such id");
    registry.probe().await.expect("it answers");
    registry.config.url = unreachable();
    let down = registry.probe().await.expect_err("nobody is there");
    assert!(matches!(down, PortError::Unavailable { .. }), "{down}");
}

/// A port that nobody listens on.
fn unreachable() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn each_refusal_has_its_kind_and_tells_no_password() {
    let said = |error: &PortError| {
        let said = error.to_string();
        assert!(!said.contains("wrong-word"), "{said}");
        said
    };
    let url = server((StatusCode::OK, "<html>")).await;
    let refused = at(&url, Some("wrong-word")).schema(1).await.expect_err("another password");
    assert!(matches!(refused, PortError::Refused { .. }), "{refused}");
    assert!(said(&refused).contains("registry.password"), "{refused}");
    let html = at(&url, Some("right")).schema(1).await.expect_err("no registry");
    assert!(said(&html).contains("no schema registry"), "{html}");
    let path =
        at(&server((StatusCode::NOT_FOUND, "")).await, Some("right")).schema(1).await.expect_err("no path");
    assert!(said(&path).contains("registry.url"), "{path}");
    let busy = at(&server((StatusCode::BAD_GATEWAY, "")).await, Some("right")).schema(1).await;
    assert!(matches!(busy, Err(PortError::Unavailable { .. })), "{busy:?}");
    let down = at(&unreachable(), Some("wrong-word")).schema(1).await.expect_err("nobody is there");
    assert!(matches!(down, PortError::Unavailable { .. }) && said(&down).contains("refused"), "{down}");
    let shown = format!("{:?}", at("http://x", Some("wrong-word")));
    assert!(!shown.contains("wrong-word"), "{shown}");
}
