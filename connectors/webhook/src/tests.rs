//! Calls of real servers on loopback, and the addresses that may be called, at their edges.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hansard_core::id::Timestamp;
use tokio::net::TcpListener;

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn config(networks: &[&str]) -> WebhookConfig {
    let networks = networks.iter().map(|network| network.parse().expect("a network")).collect();
    WebhookConfig {
        secrets: vec![SECRET.parse().expect("a secret")],
        rules: Rules::new(networks),
        answer_within: Duration::from_millis(500),
    }
}

fn notice(url: &str) -> Notice {
    let body = Bytes::from_static(br#"{"test": 2432232314}"#);
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned();
    Notice { id, url: url.to_owned(), at: Timestamp(1_614_265_330_999), body }
}

/// What a receiver got.
type Got = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

async fn answer(State(got): State<Got>, uri: axum::http::Uri, headers: HeaderMap, body: Bytes) -> Response {
    got.lock().expect("no panic before").push((uri.path().to_owned(), headers, body));
    let status = uri.path().trim_start_matches('/').parse().unwrap_or(200);
    let status = StatusCode::from_u16(status).expect("a status");
    match uri.path() {
        "/302" => (status, [(header::LOCATION, "/204")]).into_response(),
        "/429" => (status, [(header::RETRY_AFTER, "7")]).into_response(),
        "/silent" => std::future::pending().await,
        // More than anybody would read.
        "/endless" => {
            let parts = std::iter::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1 << 16])));
            axum::body::Body::from_stream(futures_of(parts)).into_response()
        }
        _ => status.into_response(),
    }
}

fn futures_of<T>(parts: impl Iterator<Item = T>) -> impl futures::Stream<Item = T> {
    futures::stream::iter(parts)
}

async fn receiver() -> (String, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let got = Got::default();
    let router = Router::new().fallback(answer).with_state(Arc::clone(&got));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, got)
}

/// The example of the specification's own libraries.
#[test]
fn the_signature_is_that_of_the_specification() {
    let secret: Secret = SECRET.parse().expect("a secret");
    let Notice { id, body, .. } = notice("");
    let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(secret.sign(&id, 1_614_265_330, &body), signature);
}

#[test]
fn a_secret_has_24_to_64_bytes() {
    let secret = |bytes: usize| {
        use base64::Engine as _;
        format!("whsec_{}", base64::prelude::BASE64_STANDARD.encode(vec![7; bytes])).parse::<Secret>().is_ok()
    };
    assert_eq!([23, 24, 64, 65].map(secret), [false, true, true, false]);
    for wrong in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64 not base64 not ba"] {
        assert_eq!(wrong.parse::<Secret>().err(), Some(SecretError), "{wrong:?}");
    }
    assert_eq!(format!("{:?}", config(&[]).secrets), "[Secret]");
}

#[tokio::test]
async fn what_is_sent_is_what_was_signed() {
    let (url, got) = receiver().await;
    let mut config = config(&["127.0.0.0/8"]);
    config.secrets.push("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".parse().expect("a secret"));
    let webhooks = Webhooks::new(config.clone()).expect("TLS");
    let sent = notice(&format!("{url}/hook?token=t"));
    assert_eq!(webhooks.post(&sent).await.expect("taken"), 200);
    let [(path, headers, body)] = &got.lock().expect("no panic before")[..] else { panic!("one call") };
    assert_eq!((path.as_str(), body), ("/hook", &sent.body));
    let signatures: Vec<_> = config.secrets.iter().map(|s| s.sign(&sent.id, 1_614_265_330, body)).collect();
    for (name, value) in [
        ("webhook-id", sent.id.as_str()),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", signatures.join(" ").as_str()),
        ("content-type", "application/json"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
}

#[tokio::test]
async fn each_answer_has_its_class_and_code() {
    use Class::{Permanent, Transient};
    let (url, got) = receiver().await;
    let webhooks = Webhooks::new(config(&["127.0.0.0/8"])).expect("TLS");
    for (path, class, code) in [
        ("302", Permanent, "redirected"),
        ("400", Permanent, "receiver_refused"),
        ("410", Permanent, "receiver_refused"),
        ("408", Transient, "receiver_failed"),
        ("429", Transient, "receiver_failed"),
        ("503", Transient, "receiver_failed"),
        ("silent", Transient, "timeout"),
    ] {
        let failed = webhooks.post(&notice(&format!("{url}/{path}?token=t0ken"))).await.expect_err(path);
        assert_eq!((failed.class, failed.code), (class, code), "{path}");
        assert_eq!(failed.http_status, path.parse().ok(), "{path}");
        assert_eq!(failed.retry_after, (path == "429").then_some(Duration::from_secs(7)), "{path}");
        assert!(!failed.cause.contains("t0ken"), "{failed}");
    }
    assert!(!got.lock().expect("no panic before").iter().any(|(path, ..)| path == "/204"), "followed");
    assert_eq!(webhooks.post(&notice(&format!("{url}/endless"))).await.expect("its status is enough"), 200);
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/t0ken", gone.local_addr().expect("bound"));
    drop(gone);
    let failed = webhooks.post(&notice(&url)).await.expect_err("nobody is there");
    assert_eq!((failed.class, failed.code), (Transient, "unreachable"));
    assert!(!failed.cause.contains("t0ken"), "{failed}");
}

#[tokio::test]
async fn a_name_is_judged_by_what_it_stands_for() {
    let (url, got) = receiver().await;
    let named = url.replace("127.0.0.1", "localhost");
    let webhooks = Webhooks::new(config(&["10.0.0.0/8"])).expect("TLS");
    for url in [named.clone(), named.replace("http:", "https:")] {
        let failed = webhooks.post(&notice(&url)).await.expect_err("loopback is not listed");
        assert_eq!((failed.class, failed.code), (Class::Permanent, "address_forbidden"), "{url}");
    }
    assert!(got.lock().expect("no panic before").is_empty());
    let webhooks = Webhooks::new(config(&["127.0.0.0/8"])).expect("TLS");
    assert_eq!(webhooks.post(&notice(&named)).await.expect("listed"), 200);
}

#[tokio::test]
async fn nothing_is_sent_unsigned() {
    let (url, got) = receiver().await;
    let webhooks = Webhooks::new(WebhookConfig { secrets: Vec::new(), ..config(&["127.0.0.0/8"]) });
    let failed = webhooks.expect("TLS").post(&notice(&url)).await.expect_err("no secret");
    assert_eq!((failed.class, failed.code), (Class::Unavailable, "no_secret"));
    assert!(got.lock().expect("no panic before").is_empty());
}

#[test]
fn only_public_addresses_may_be_called() {
    let allowed = |text: &str| Rules::default().reach(false).allows(text.parse::<IpAddr>().expect(text));
    // The last before a network, its first and last, and the first after it.
    for (before, first, last, after) in [
        ("", "0.0.0.0", "0.255.255.255", "1.0.0.0"),
        ("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"),
        ("100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"),
        ("126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"),
        ("169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"),
        ("172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"),
        ("191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"),
        ("192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"),
        ("192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"),
        ("192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"),
        ("198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"),
        ("198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"),
        ("203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"),
        ("223.255.255.255", "224.0.0.0", "255.255.255.255", ""),
        ("", "::", "1fff:ffff::", "2000::"),
        ("2000:ffff::", "2001::", "2001:1ff:ffff::", "2001:200::"),
        ("2001:db7:ffff::", "2001:db8::", "2001:db8:ffff::", "2001:db9::"),
        ("2001:ffff::", "2002::", "2002:ffff::", "2003::"),
        ("3ffe:ffff::", "3fff::", "3fff:fff:ffff::", "3fff:1000::"),
        ("3fff:ffff::", "4000::", "ffff:ffff::", ""),
    ] {
        assert!(!allowed(first) && !allowed(last), "{first} to {last}");
        assert!([before, after].iter().all(|text| text.is_empty() || allowed(text)), "{before}, {after}");
    }
    for hidden in
        ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "fe80::1", "fc00::1", "ff02::1", "::1"]
    {
        assert!(!allowed(hidden), "{hidden}");
    }
    assert!(allowed("::ffff:1.1.1.1"));
}

#[test]
fn urls_are_refused_with_their_reason() {
    use UrlError::{Address, Credentials, Port, Scheme};
    let public = Rules::default();
    let listed = config(&["127.0.0.0/8", "fd00::/8"]).rules;
    for (url, by_public, by_listed) in [
        ("https://example.org/hook?a=b", None, None),
        ("https://example.org:8443/", None, None),
        ("https://example.org:443/", None, None),
        ("https://example.org:1024/", None, None),
        ("https://example.org:1023/", Some(Port), Some(Port)),
        ("https://example.org:22/", Some(Port), Some(Port)),
        ("http://example.org/", Some(Scheme), None),
        ("http://example.org:443/", Some(Scheme), Some(Port)),
        ("ftp://example.org/", Some(Scheme), Some(Scheme)),
        ("example.org", Some(Scheme), Some(Scheme)),
        ("https://", Some(Scheme), Some(Scheme)),
        ("https://user@example.org/", Some(Credentials), Some(Credentials)),
        ("https://:secret@example.org/", Some(Credentials), Some(Credentials)),
        ("https://1.1.1.1/", None, None),
        ("http://1.1.1.1/", Some(Scheme), Some(Address)),
        ("https://127.0.0.1:8443/", Some(Address), None),
        ("http://127.0.0.1:8080/", Some(Scheme), None),
        // Ways to write 127.0.0.1.
        ("https://2130706433/", Some(Address), None),
        ("https://0x7f.1/", Some(Address), None),
        ("https://[::ffff:127.0.0.1]/", Some(Address), None),
        ("https://[fd00::1]/", Some(Address), None),
        ("https://10.0.0.1/", Some(Address), Some(Address)),
        ("https://169.254.169.254/latest/meta-data", Some(Address), Some(Address)),
    ] {
        assert_eq!(public.check(url).err(), by_public, "{url}");
        assert_eq!(listed.check(url).err(), by_listed, "{url} with listed networks");
    }
}
