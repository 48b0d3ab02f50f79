//! One server over HTTP: bounded in time and bytes, without redirects, its key sent and never shown.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use hansard_runtime::pace::Permit;
use hansard_runtime::stage::Failed;
use hansard_tls::Authorities;
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, Url, redirect};

use crate::cause::{Account, Cause};
use crate::refusal::{Refusal, plain};

/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of a refusal that are read, at most.
const REFUSAL_BYTES_MAX: usize = 1 << 16;

/// A key that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("***")
    }
}

/// How a server wants its key, in the header `Authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// `Bearer KEY`.
    Bearer,
    /// The key alone.
    Plain,
}

/// One server and the deployment's account there; [`ServiceConfig::new`] gives the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// What it is called in records, metrics and errors.
    pub name: String,
    /// The address below which its paths lie; a `/v1` or `/v2` at its end, which many write too, is dropped.
    pub base_url: String,
    /// Sent where the server wants one.
    pub key: Option<Secret>,
    /// How it is sent.
    pub authorization: Authorization,
    /// Whose certificates are accepted, where the address is an https one (the system's authorities').
    pub authorities: Authorities,
    /// The setting that names further authorities, for the remedy in an error.
    pub authorities_setting: &'static str,
    /// Time to connect (10 s).
    pub connect_within: Duration,
    /// Time for a whole call (5 min).
    pub answer_within: Duration,
    /// Largest answer, in bytes (8 MiB).
    pub answer_bytes_max: usize,
}

impl ServiceConfig {
    /// The defaults for a server.
    pub fn new(name: &str, base_url: impl Into<String>, authorities_setting: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            base_url: base_url.into(),
            key: None,
            authorization: Authorization::Bearer,
            authorities: Authorities::default(),
            authorities_setting,
            connect_within: Duration::from_secs(10),
            answer_within: Duration::from_secs(300),
            answer_bytes_max: 8 << 20,
        }
    }
}

/// Why a service cannot be called as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The base URL is none, or holds what would show in logs. It is not repeated for that reason.
    #[error(
        "the base url is no plain http or https address; give one like https://host, without user and query"
    )]
    BaseUrl,
    /// The key cannot be sent in a header.
    #[error("the provider's key holds characters that cannot be sent; check for a line break in it")]
    Key,
    /// TLS could not be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[source] reqwest::Error),
}

/// A server that is called. One connection pool; as many calls at once as the caller makes.
#[derive(Debug)]
pub struct Service {
    config: ServiceConfig,
    base: String,
    client: Client,
    key: Option<HeaderValue>,
}

impl Service {
    /// Checks the configuration; connects to nothing yet.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn new(config: ServiceConfig) -> Result<Self, ServiceError> {
        let base = base_url(&config.base_url)?.to_owned();
        let named = Certificate::from_pem_bundle(config.authorities.pem());
        let client = Client::builder()
            .tls_certs_merge(named.map_err(ServiceError::Client)?)
            .redirect(redirect::Policy::none())
            .connect_timeout(config.connect_within)
            .timeout(config.answer_within)
            .build()
            .map_err(ServiceError::Client)?;
        let key = config.key.as_ref().map(|key| authorization(config.authorization, &key.0));
        Ok(Self { base, client, key: key.transpose()?, config })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// How it is configured.
    #[must_use]
    pub fn config(&self) -> &ServiceConfig {
        &self.config
    }

    /// A call to a path below the base, such as `/v1/models`, with the key. Parts of it that come from outside must have
    /// been checked: nothing is escaped.
    ///
    /// # Errors
    /// `rejected`, permanent, where base and path are no address.
    pub fn call(&self, method: Method, path: &str) -> Result<RequestBuilder, Failed> {
        let told = crate::Told::Nothing;
        let wrong = Cause::Status { status: 400, account: Account::Record, told };
        let url = Url::parse(&format!("{}{path}", self.base))
            .map_err(|error| wrong.failed(format!("{}: {path:?} is no path: {error}", self.name())))?;
        let call = self.client.request(method, url);
        Ok(match &self.key {
            Some(key) => call.header(AUTHORIZATION, key.clone()),
            None => call,
        })
    }

    /// Sends a call when its turn has come; an answer of success.
    ///
    /// # Errors
    /// What kept it from one, by [`Cause`].
    pub async fn send(
        &self,
        call: RequestBuilder,
        account: Account,
        permit: &Permit<'_>,
    ) -> Result<Response, Failed> {
        permit.turn().await;
        let response = call.send().await.map_err(|error| self.lost(&error))?;
        match response.status().as_u16() {
            200..=299 => Ok(response),
            _ => Err(self.refused(response, account).await),
        }
    }

    /// The whole body of an answer.
    ///
    /// # Errors
    /// `bad_response` where it is longer than allowed; as [`Service::send`]'s where it breaks off.
    pub async fn body(&self, response: Response) -> Result<Bytes, Failed> {
        let limit = self.config.answer_bytes_max;
        let body = self.read(response, limit).await?;
        body.ok_or_else(|| {
            Cause::BadResponse.failed(format!("{} answered with more than {limit} bytes", self.name()))
        })
    }

    /// Reads a body, up to a limit; `None` where it is longer.
    async fn read(&self, mut response: Response, bytes_max: usize) -> Result<Option<Bytes>, Failed> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.lost(&error))? {
            if body.len() + chunk.len() > bytes_max {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body.freeze()))
    }

    /// The failure of a call that got no whole answer.
    #[must_use]
    pub fn lost(&self, error: &reqwest::Error) -> Failed {
        let cause = match error {
            error if error.is_connect() => Cause::Unreachable,
            error if error.is_timeout() => Cause::TimedOut,
            _ => Cause::ConnectionLost,
        };
        let mut text = format!("{}: ", self.name());
        if let Some(refusal) = hansard_tls::refusal(error, self.config.authorities_setting) {
            return cause.failed(text + &refusal);
        }
        let mut at: Option<&dyn Error> = error.source();
        match at {
            None if cause == Cause::TimedOut => text.push_str("no answer in time"),
            None => text.push_str("the connection failed"),
            Some(_) => {}
        }
        // The outermost text would repeat the URL.
        while let Some(source) = at {
            text.push_str(&source.to_string().to_lowercase());
            at = source.source();
            text.push_str(if at.is_some() { ": " } else { "" });
        }
        cause.failed(text)
    }

    /// The failure that a refusal tells of.
    pub async fn refused(&self, response: Response, account: Account) -> Failed {
        let status = response.status().as_u16();
        let wait = retry_after(response.headers());
        // The status decides also where the body breaks off.
        let body = self.read(response, REFUSAL_BYTES_MAX).await.ok().flatten().unwrap_or_default();
        let refusal = Refusal::read(&body);
        let mut text = format!("{} answered {status}", self.name());
        if let Some(said) = refusal.text() {
            text = format!("{text}: {}", self.plain(&said));
        }
        Cause::Status { status, account, told: refusal.told() }.failed_after(text, wait)
    }

    /// Words of the server as they may stand in a failure: without the key and without links, which it may repeat, at most
    /// 300 characters on one line.
    #[must_use]
    pub fn plain(&self, said: &str) -> String {
        match &self.config.key {
            Some(key) if !key.0.is_empty() => plain(&said.replace(&key.0, "***")),
            _ => plain(said),
        }
    }
}

fn authorization(style: Authorization, key: &str) -> Result<HeaderValue, ServiceError> {
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ServiceError::Key);
    }
    let text = match style {
        Authorization::Bearer => format!("Bearer {key}"),
        Authorization::Plain => key.to_owned(),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| ServiceError::Key)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The address without a slash or a version at its end.
fn base_url(text: &str) -> Result<&str, ServiceError> {
    let base = text.trim_end_matches('/');
    let base = base.strip_suffix("/v1").or_else(|| base.strip_suffix("/v2")).unwrap_or(base);
    let url = Url::parse(base).map_err(|_| ServiceError::BaseUrl)?;
    let is_http = ["http", "https"].contains(&url.scheme()) && url.has_host();
    let is_plain = url.username().is_empty() && url.password().is_none();
    if !is_http || !is_plain || url.query().is_some() || url.fragment().is_some() {
        return Err(ServiceError::BaseUrl);
    }
    Ok(base)
}

/// `Retry-After` as seconds or as a date; a date counts from the server's own clock, where it tells it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let asked = text(RETRY_AFTER)?.trim();
    let wait = match asked.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(asked).ok()?;
            let now = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
            until.duration_since(now.unwrap_or_else(SystemTime::now)).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}
