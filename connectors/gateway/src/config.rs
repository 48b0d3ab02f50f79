//! What can be set of the gateway, with defaults.

use std::sync::Arc;
use std::time::Duration;

use hansard_core::Rules;
use hansard_core::id::Millis;

use crate::callback::Told;
use crate::caller::Keys;
use crate::token::SigningKey;

/// The gateway's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The bucket of all objects.
    pub bucket: String,
    /// What the keys of uploads begin with, without a slash at the end.
    pub upload_prefix: String,
    /// Who may call. None: everybody who reaches the port, which must then be a loopback one.
    pub keys: Keys,
    /// Signs tokens.
    pub signing_key: SigningKey,
    /// Origins whose pages may call, for example `https://app.example.org`. Without keys no wildcard is honoured.
    pub cors_origins: Vec<String>,
    /// The deployment's rules, for status and explain.
    pub rules: Rules,
    /// Within so long of an erasure sweep has deleted its objects, as receipts say; `None` where it only tells what it
    /// would do. Default 2 h: two runs.
    pub objects_gone_within: Option<Millis>,
    /// Which URLs may be webhooks; `None` where nobody calls any.
    pub webhooks: Option<UrlCheck>,
    /// What finds the job in a provider's webhook; `None` where no provider works in jobs.
    pub told: Option<Told>,
    /// What an outsider can grow.
    pub limits: Limits,
}

impl Config {
    /// With the defaults and without keys.
    #[must_use]
    pub fn new(bucket: &str, signing_key: SigningKey) -> Self {
        Self {
            bucket: bucket.to_owned(),
            upload_prefix: "uploads".to_owned(),
            keys: Keys::default(),
            signing_key,
            cors_origins: Vec::new(),
            rules: Rules::default(),
            objects_gone_within: Some(Millis::hours(2)),
            webhooks: None,
            told: None,
            limits: Limits::default(),
        }
    }
}

/// Says why a URL may not be called.
type Why = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// Which URLs may be webhooks: what calls them knows.
#[derive(Clone)]
pub struct UrlCheck(Arc<Why>);

impl UrlCheck {
    /// By a function that says why a URL may not be called.
    pub fn new(why: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(why))
    }

    pub(crate) fn check(&self, url: &str) -> Result<(), String> {
        (self.0)(url)
    }
}

impl std::fmt::Debug for UrlCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UrlCheck")
    }
}

/// Limits of what callers may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body. Default 256 KiB.
    pub body_bytes: usize,
    /// Bytes of one recording. Default 5 GiB.
    pub upload_bytes: u64,
    /// Recordings larger than this are uploaded in parts. Default 64 MiB.
    pub single_bytes: u64,
    /// Size of a part; grows with recordings that would have more than 1,000 parts. Default 16 MiB.
    pub part_bytes: u64,
    /// How long a link works. Default 1 h.
    pub link_lifetime: Duration,
    /// How long an upload token works. Default 48 h.
    pub token_lifetime: Millis,
    /// An object older than this is not confirmed any more, so that sweep (24 h) and confirm cannot meet. Default 20 h.
    pub confirm_within: Millis,
    /// Open event streams. Default 64.
    pub streams: usize,
    /// Conversations or dead letters in one page. Default 100.
    pub page: usize,
    /// Dead letters in one redrive or dismissal. Default 1,000.
    pub redrive: usize,
    /// How long a call that must work without the database waits for its opinion. Default 1 s.
    pub database_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 256 * 1024,
            upload_bytes: 5 << 30,
            single_bytes: 64 << 20,
            part_bytes: 16 << 20,
            link_lifetime: Duration::from_secs(3_600),
            token_lifetime: Millis::hours(48),
            confirm_within: Millis::hours(20),
            streams: 64,
            page: 100,
            redrive: 1_000,
            database_patience: Duration::from_secs(1),
        }
    }
}
