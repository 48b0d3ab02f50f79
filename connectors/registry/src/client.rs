//! Calls of the registry, and what their answers mean for those who wait for them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::schemas::Schemas;
use hansard_tls::Authorities;
use reqwest::{Certificate, Client, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const SERVICE: &str = "registry";

/// Time for a whole call: nobody reads on meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long it is remembered that an id has no schema. A replica of a registry may learn of one later than its writer.
const MISSING_FOR: Duration = Duration::from_secs(60);

/// Ids that are remembered so, at most: anybody can write any id before a record.
const MISSING_MAX: usize = 10_000;

/// Codes of the registry for what it does not have: a subject, a version, a schema, a subject's own compatibility.
const NOT_FOUND: [i64; 4] = [40401, 40402, 40403, 40408];

/// Where the registry is.
#[derive(Clone)]
pub struct RegistryConfig {
    /// The address below which `/subjects` and `/schemas` lie.
    pub url: String,
    /// User and password, if it wants them.
    pub credentials: Option<(String, String)>,
    /// Whose certificates are accepted, where the address is an https one.
    pub authorities: Authorities,
}

/// The password is not shown.
impl std::fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryConfig").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A schema registry. One connection pool; it keeps no schema, since whoever asks does.
#[derive(Debug)]
pub struct SchemaRegistry {
    pub(crate) config: RegistryConfig,
    client: Client,
    /// Since when an id is known to have no schema.
    missing: Mutex<HashMap<u32, Instant>>,
}

/// A refusal as the registry words it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refusal {
    pub(crate) error_code: i64,
    pub(crate) message: String,
}

/// What a call came to, where the registry answered it.
pub(crate) enum Answer<T> {
    /// As asked.
    Is(T),
    /// It has no such thing.
    NotFound,
    /// The schema and those before it do not go together.
    Incompatible(String),
}

#[derive(Debug, Deserialize)]
struct SchemaOfId {
    schema: String,
}

impl SchemaRegistry {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(config: RegistryConfig) -> Result<Self, PortError> {
        // A redirect would carry the password elsewhere.
        let redirects = reqwest::redirect::Policy::none();
        let wrong = |error: reqwest::Error| refused(error.to_string());
        let client = Client::builder()
            .timeout(ANSWER_WITHIN)
            .redirect(redirects)
            .tls_certs_merge(Certificate::from_pem_bundle(config.authorities.pem()).map_err(wrong)?)
            .build()
            .map_err(wrong)?;
        Ok(Self { config, client, missing: Mutex::default() })
    }

    /// One call.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer<T>, PortError> {
        let url = format!("{}{path}", self.config.url);
        let mut request = self.client.request(method, url);
        if let Some((user, password)) = &self.config.credentials {
            request = request.basic_auth(user, Some(password));
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(unavailable)?;
        let (status, bytes) = (response.status(), response.bytes().await.map_err(unavailable)?);
        if status.is_success() {
            let wrong = |error| refused(format!("{path} is answered by what is no schema registry: {error}"));
            return serde_json::from_slice(&bytes).map(Answer::Is).map_err(wrong);
        }
        let refusal: Refusal = serde_json::from_slice(&bytes).unwrap_or_default();
        match status {
            StatusCode::NOT_FOUND if NOT_FOUND.contains(&refusal.error_code) => Ok(Answer::NotFound),
            StatusCode::NOT_FOUND => Err(refused(format!("{path} is not there; check registry.url"))),
            StatusCode::CONFLICT => Ok(Answer::Incompatible(refusal.message)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(refused(format!("{status}; check registry.user and registry.password")))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Err(busy(status, &refusal)),
            _ if status.is_server_error() => Err(busy(status, &refusal)),
            _ => Err(refused(format!("{status} {}", refusal.message))),
        }
    }

    fn is_missing(&self, id: u32) -> bool {
        let missing = self.missing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        missing.get(&id).is_some_and(|since| since.elapsed() < MISSING_FOR)
    }

    fn remember_missing(&self, id: u32) {
        let mut missing = self.missing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if missing.len() >= MISSING_MAX {
            missing.clear();
        }
        missing.insert(id, Instant::now());
    }
}

#[async_trait]
impl Schemas for SchemaRegistry {
    async fn schema(&self, id: u32) -> Result<String, PortError> {
        let not_found = || PortError::NotFound { what: format!("schema id {id}") };
        if self.is_missing(id) {
            return Err(not_found());
        }
        match self.call::<SchemaOfId>(Method::GET, &format!("/schemas/ids/{id}"), None).await? {
            Answer::Is(SchemaOfId { schema }) => Ok(schema),
            Answer::Incompatible(cause) => Err(refused(cause)),
            Answer::NotFound => {
                self.remember_missing(id);
                Err(not_found())
            }
        }
    }

    async fn probe(&self) -> Result<(), PortError> {
        // The kinds of schemas that it knows: the least that there is to ask for.
        self.call::<Vec<String>>(Method::GET, "/schemas/types", None).await.map(drop)
    }
}

/// The cause without the address, which may hold a password.
fn unavailable(error: reqwest::Error) -> PortError {
    let error = error.without_url();
    if let Some(cause) = hansard_tls::refusal(&error, "registry.ca") {
        return PortError::Unavailable { service: SERVICE, cause };
    }
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        cause = format!("{cause}: {inner}");
        source = inner.source();
    }
    PortError::Unavailable { service: SERVICE, cause }
}

fn busy(status: StatusCode, refusal: &Refusal) -> PortError {
    PortError::Unavailable { service: SERVICE, cause: format!("{status} {}", refusal.message) }
}

pub(crate) fn refused(cause: String) -> PortError {
    PortError::Refused { service: SERVICE, cause }
}
