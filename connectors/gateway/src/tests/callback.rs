//! Providers' calls: what is ours goes into the log once each, and nothing makes a provider give up.

use hansard_core::id::Millis;
use hansard_schemas::{Record, Topic};

use super::*;
use crate::{Role, Told, callback_token};

const EFFECT: &str = "transcribe:00:0:00:c.1";

async fn told() -> Fixture {
    Fixture::with(|config, _| {
        config.keys.add("app", &[Role::Producer], "key-producer");
        config.told = Some(Told::new(|provider, body| {
            let id = std::str::from_utf8(body).ok()?.strip_prefix("job ")?;
            (provider == "deaf").then(|| id.to_owned())
        }));
    })
    .await
}

fn path(provider: &str, key: u8, effect: &str) -> String {
    format!("/v1/callbacks/{provider}/{}", callback_token(&SigningKey::new([key; 32]), effect))
}

async fn call(gateway: &Fixture, path: &str, body: impl Into<reqwest::Body>) -> u16 {
    let request = gateway.http.post(format!("{}{path}", gateway.public));
    gateway.send(request.header("content-type", "application/json").body(body)).await.status
}

async fn taken(gateway: &Fixture) -> Vec<hansard_schemas::Callback> {
    let records = gateway.records(Topic::Callbacks, "c.1").await.into_iter();
    let callback = |(_, _, record)| match record {
        Record::Callback(callback) => callback,
        other => panic!("{other:?} in callbacks"),
    };
    records.map(callback).collect()
}

#[tokio::test]
async fn a_providers_call_goes_into_the_log_as_it_came() {
    let gateway = told().await;
    // A provider has no key of ours, comes from anywhere, and may come years later.
    gateway.clock.ahead(Millis::hours(20_000));
    assert_eq!(call(&gateway, &path("deaf", 3, EFFECT), "job j-1").await, 202);
    assert_eq!(call(&gateway, &path("deaf", 3, EFFECT), "job j-1").await, 202, "twice");
    let taken = taken(&gateway).await;
    assert_eq!(taken.len(), 2);
    let one = &taken[0];
    assert_eq!((one.conversation_id.as_str(), one.journal_key.as_str()), ("c.1", EFFECT));
    assert_eq!((one.provider.as_str(), one.job_id.as_str()), ("deaf", "j-1"));
    assert_eq!((&one.body[..], one.content_type.as_deref()), (&b"job j-1"[..], Some("application/json")));
    assert_eq!(one.event_id, taken[1].event_id, "a repetition is known by its id");
}

#[tokio::test]
async fn what_is_not_ours_is_taken_and_forgotten() {
    let gateway = told().await;
    let good = path("deaf", 3, EFFECT);
    let upload_token =
        gateway.post_as("key-producer", "/v1/conversations", json!({ "id": "c.1" })).await.ok(201);
    let upload_token = upload_token["upload_token"].as_str().expect("a token").to_owned();
    let forged = [
        path("deaf", 4, EFFECT),
        good[..good.len() - 2].to_owned(),
        "/v1/callbacks/deaf/x".to_owned(),
        format!("/v1/callbacks/deaf/{upload_token}"),
        path("other", 3, EFFECT),
    ];
    for path in &forged {
        assert_eq!(call(&gateway, path, "job j-1").await, 202, "{path}");
    }
    let long = "job ".to_owned() + &"j".repeat(64 << 10);
    for body in [String::new(), "<html>".to_owned(), "job".to_owned(), long] {
        assert_eq!(call(&gateway, &good, body).await, 202);
    }
    assert_eq!(taken(&gateway).await, []);
    let metrics = gateway.http.get(format!("{}/metrics", gateway.probes));
    let metrics = gateway.send(metrics).await.text;
    for counted in ["foreign\"} 4", "unread\"} 1", "of_no_job\"} 4"] {
        assert!(metrics.contains(&format!("hansard_callbacks_total{{result=\"{counted}")), "{metrics}");
    }
}
