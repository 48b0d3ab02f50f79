//! Who may call what, over every route; and what is answered to what is no call.

use std::sync::Arc;

use serde_json::json;

use super::{Down, Fixture, fixture};
use crate::{ROUTES, Role};

/// Who a call is open to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Everybody,
    /// Holders of this role; operators always; and of the conversation's upload token, where `true`.
    To(Role, bool),
}

/// Every route has a line; a new one fails the test until somebody decides.
fn open_to(method: &str, path: &str) -> Open {
    use Open::{Everybody, To};
    use Role::{Operator, Producer, Reader};
    match (method, path) {
        ("post", "/v1/conversations") => To(Producer, false),
        ("post", "/v1/conversations/{id}/chunks") => To(Producer, true),
        ("post", "/v1/conversations/{id}/chunks/{chunk}/confirm") => To(Producer, true),
        ("post", "/v1/conversations/{id}/finish") => To(Producer, true),
        (
            "get",
            "/v1/conversations/{id}" | "/v1/conversations/{id}/explain" | "/v1/conversations/{id}/events",
        ) => To(Reader, true),
        (
            "get",
            "/v1/conversations"
            | "/v1/conversations/{id}/transcript"
            | "/v1/conversations/{id}/summary"
            | "/v1/conversations/{id}/audio",
        ) => To(Reader, false),
        ("post", "/v1/conversations/{id}/rerun") | ("delete", "/v1/conversations/{id}") => {
            To(Operator, false)
        }
        ("get", "/v1/topics/{topic}" | "/metrics") | ("post", "/v1/sweep") => To(Operator, false),
        (_, path) if path.starts_with("/v1/dead-letters") => To(Operator, false),
        ("get", "/openapi.json" | "/healthz" | "/readyz" | "/") => Everybody,
        // Its token says who may.
        ("post", "/v1/callbacks/{provider}/{token}") => Everybody,
        (method, path) => panic!("who may {method} {path}?"),
    }
}

#[tokio::test]
async fn every_call_is_open_to_whom_it_should_be() {
    let gateway = Fixture::with(|config, _| {
        config.keys.add("app", &[Role::Producer], "key-producer");
        config.keys.add("desk", &[Role::Reader], "key-reader");
        config.keys.add("ops", &[Role::Operator], "key-operator");
    })
    .await;
    let opened = gateway.post_as("key-producer", "/v1/conversations", json!({ "id": "c" })).await.ok(201);
    let token = opened["upload_token"].as_str().expect("a token");
    let opened = gateway.post_as("key-producer", "/v1/conversations", json!({ "id": "d" })).await.ok(201);
    let foreign = opened["upload_token"].as_str().expect("a token");
    gateway.absorb("c").await;
    let callers = [
        (None, None),
        (Some("wrong"), None),
        (Some("key-producer"), Some(Role::Producer)),
        (Some("key-reader"), Some(Role::Reader)),
        (Some("key-operator"), Some(Role::Operator)),
        (Some(token), None),
        (Some(foreign), None),
    ];
    for route in ROUTES {
        // Without a body most calls fail, but behind the question who may; and the log changes no answer until absorbed.
        let path = route.path.replace("{id}", "c").replace("{chunk}", "k").replace("{topic}", "uploads");
        for (bearer, role) in callers {
            let method =
                reqwest::Method::from_bytes(route.method.to_uppercase().as_bytes()).expect("a method");
            let mut request = gateway.http.request(method, format!("{}{path}", gateway.base));
            if let Some(bearer) = bearer {
                request = request.bearer_auth(bearer);
            }
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            let expected = match open_to(route.method, route.path) {
                Open::Everybody => None,
                Open::To(..) if bearer.is_none() || bearer == Some("wrong") => Some(401),
                Open::To(needed, by_token) => {
                    let allowed = role.is_some_and(|role| role == needed || role == Role::Operator)
                        || (by_token && bearer == Some(token));
                    (!allowed).then_some(403)
                }
            };
            let at = format!("{} {} as {bearer:?}", route.method, route.path);
            match expected {
                Some(expected) => assert_eq!(status, expected, "{at}"),
                None => assert!(![401, 403].contains(&status), "{at}: {status}"),
            }
        }
    }
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_use_an_open_port() {
    let gateway = fixture().await;
    let from = async |name: &str, value: &str| {
        let request = gateway.http.get(format!("{}/v1/conversations", gateway.base));
        gateway.send(request.header(name, value)).await
    };
    from("origin", "https://evil.example").await.refused(403, "foreign_origin");
    from("host", "evil.example").await.refused(403, "foreign_origin");
    from("origin", "http://localhost:3000").await.ok(200);
}

#[tokio::test]
async fn listed_origins_are_told_that_they_may() {
    let gateway = Fixture::with(|config, _| {
        config.cors_origins = vec!["https://app.example.org".to_owned(), "*".to_owned()];
    })
    .await;
    let from = async |origin: &str| {
        let url = format!("{}/v1/conversations", gateway.base);
        let request = gateway.http.request(reqwest::Method::OPTIONS, url).header("origin", origin);
        gateway.send(request.header("access-control-request-method", "POST")).await
    };
    let listed = from("https://app.example.org").await;
    assert_eq!(listed.headers["access-control-allow-origin"], "https://app.example.org");
    let other = from("https://evil.example").await;
    assert!(!other.headers.contains_key("access-control-allow-origin"), "no wildcard without keys");
}

#[tokio::test]
async fn what_is_no_call_is_told_with_a_code() {
    let gateway = Fixture::with(|config, _| config.limits.body_bytes = 1_000).await;
    gateway.get("/v2").await.refused(404, "no_such_call");
    gateway.get("/v1/conversations/c/finish").await.refused(405, "method_not_allowed");
    gateway.get("/v1/conversations/a%20b").await.refused(400, "invalid_id");
    gateway.get("/v1/conversations/none").await.refused(404, "unknown_conversation");
    gateway.get("/v1/conversations?cursor=!").await.refused(400, "invalid_cursor");
    gateway.get("/v1/conversations?limit=many").await.refused(400, "invalid_request");
    let open = "/v1/conversations";
    gateway.post(open, json!({ "title": "x".repeat(1_001) })).await.refused(413, "body_too_large");
    gateway.post(open, json!([])).await.refused(400, "invalid_request");
    let text = gateway.http.post(format!("{}{open}", gateway.base)).body("{}");
    gateway.send(text).await.refused(415, "unsupported_media_type");
}

/// An orchestrator asks by whatever address a process has, and has no key.
#[tokio::test]
async fn probes_are_answered_under_any_name() {
    let open = fixture().await;
    let locked = Fixture::with(|config, _| config.keys.add("ops", &[Role::Operator], "key-operator")).await;
    for gateway in [&open, &locked] {
        let ask = async |base: &str, path: &str| {
            let request = gateway.http.get(format!("{base}{path}")).header("host", "10.1.2.3:8081");
            gateway.send(request).await.status
        };
        for base in [&gateway.base, &gateway.public, &gateway.probes] {
            assert_eq!((ask(base, "/healthz").await, ask(base, "/readyz").await), (200, 200), "{base}");
        }
        assert_eq!(ask(&gateway.probes, "/metrics").await, 200);
        assert_ne!(ask(&gateway.base, "/metrics").await, 200, "whoever calls there may be anybody");
        for (base, path) in [(&gateway.public, "/metrics"), (&gateway.probes, "/v1/conversations")] {
            assert!([403, 404].contains(&ask(base, path).await), "{path}");
        }
    }
}

/// Why a process is not ready names hosts and causes, which only operators are told.
#[tokio::test]
async fn readiness_says_why_to_operators() {
    let gateway = Fixture::with(|config, ports| {
        config.keys.add("ops", &[Role::Operator], "key-operator");
        config.keys.add("desk", &[Role::Reader], "key-reader");
        ports.facts = Arc::new(Down);
    })
    .await;
    let why = |key: Option<&str>, base: &str| {
        let request = gateway.http.get(format!("{base}/readyz"));
        gateway.send(key.iter().fold(request, |request, key| request.bearer_auth(key)))
    };
    let cause = json!({ "database": "cql is unavailable: refused" });
    let told = why(Some("key-operator"), &gateway.base).await.ok(200);
    assert_eq!((&told["ready"], &told["why"]), (&json!(true), &cause), "uploads do without it");
    for (key, base) in [(None, &gateway.base), (Some("key-reader"), &gateway.base), (None, &gateway.public)] {
        assert_eq!(why(key, base).await.ok(200)["why"], json!(null), "{key:?}");
    }
    let told = why(None, &gateway.probes).await.ok(503);
    assert_eq!((&told["ready"], &told["why"]), (&json!(false), &cause), "jobs do not");
}
