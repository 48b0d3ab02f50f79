//! Webhooks behind the port of notify: a POST to a URL that somebody else has named. It goes to public addresses only, and
//! is signed over the bytes sent. It never follows a redirect, asks a proxy, or reads more of an answer than its status.

mod addresses;
mod signature;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hansard_core::redelivery::Class;
use hansard_jobs::ports::{Notice, Webhook};
use hansard_runtime::stage::Failed;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Url, redirect};

pub use addresses::{Rules, UrlError};
pub use ipnet::IpNet;
pub use signature::{Secret, SecretError};

use addresses::Forbidden;

/// How webhooks are called.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Each signs every call, so that receivers can move from one to the next.
    pub secrets: Vec<Secret>,
    /// Which URLs are called.
    pub rules: Rules,
    /// Time for a whole call.
    pub answer_within: Duration,
}

/// Calls webhooks.
#[derive(Debug)]
pub struct Webhooks {
    secrets: Vec<Secret>,
    rules: Rules,
    /// For https, and for plain http, which reaches fewer addresses.
    clients: [Client; 2],
}

impl Webhooks {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(config: WebhookConfig) -> Result<Self, reqwest::Error> {
        let WebhookConfig { secrets, rules, answer_within } = config;
        let client = |plain: bool| {
            Client::builder()
                .user_agent(concat!("hansard/", env!("CARGO_PKG_VERSION")))
                .timeout(answer_within)
                .redirect(redirect::Policy::none())
                .no_proxy()
                .https_only(!plain)
                .dns_resolver(rules.reach(plain))
                .build()
        };
        Ok(Self { clients: [client(false)?, client(true)?], secrets, rules })
    }
}

#[async_trait]
impl Webhook for Webhooks {
    async fn post(&self, notice: &Notice) -> Result<u16, Failed> {
        if self.secrets.is_empty() {
            let cause = "webhooks wait for the secret that signs them; set webhook.secret";
            return Err(Failed::new(Class::Unavailable, "no_secret", cause));
        }
        let url = self
            .rules
            .check(&notice.url)
            .map_err(|error| Failed::new(Class::Permanent, "url_refused", format!("the URL {error}")))?;
        let seconds = notice.at.0.div_euclid(1_000);
        let sign = |secret: &Secret| secret.sign(&notice.id, seconds, &notice.body);
        let signatures: Vec<String> = self.secrets.iter().map(sign).collect();
        let [secure, plain] = &self.clients;
        let client = if url.scheme() == "https" { secure } else { plain };
        let sent = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &notice.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures.join(" "))
            .body(notice.body.clone())
            .send()
            .await;
        match sent {
            // What else the receiver says is nobody's, and may be endless: the connection is closed.
            Ok(answer) => answered(answer.status().as_u16(), answer.headers(), &url),
            Err(error) => Err(not_answered(&error, &url)),
        }
    }
}

/// What an answer comes to. A path or a query may be a secret: only the host is named.
fn answered(status: u16, headers: &HeaderMap, url: &Url) -> Result<u16, Failed> {
    let (class, code) = match status {
        200..=299 => return Ok(status),
        300..=399 => (Class::Permanent, "redirected"),
        408 | 425 | 429 | 500.. => (Class::Transient, "receiver_failed"),
        _ => (Class::Permanent, "receiver_refused"),
    };
    let cause = format!("{} answers {status}", host(url));
    let retry_after = if class == Class::Transient { retry_after(headers) } else { None };
    Err(Failed { http_status: Some(status), retry_after, ..Failed::new(class, code, cause) })
}

fn not_answered(error: &reqwest::Error, url: &Url) -> Failed {
    let (class, code, cause) = if is_forbidden(error) {
        (Class::Permanent, "address_forbidden", "stands for no address that may be called")
    } else if error.is_timeout() {
        (Class::Transient, "timeout", "does not answer in time")
    } else if error.is_connect() {
        (Class::Transient, "unreachable", "cannot be reached")
    } else {
        (Class::Transient, "broken_off", "breaks the call off")
    };
    Failed::new(class, code, format!("{} {cause}", host(url)))
}

/// Whether the resolver has refused: the client wraps its errors.
fn is_forbidden(error: &(dyn Error + 'static)) -> bool {
    error.is::<Forbidden>() || error.source().is_some_and(is_forbidden)
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// `Retry-After` as seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let asked = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(asked).ok()?.duration_since(SystemTime::now()).ok()
}
