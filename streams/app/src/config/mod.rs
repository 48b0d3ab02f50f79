//! Configuration: one struct, read in one place from the joined layers.

mod cluster;
mod flags;
mod layers;
mod redaction;
mod settings;
mod speech;
mod summary;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hansard_audio::Format;
use hansard_core::Rules;
use hansard_core::id::Millis;
use hansard_core::redelivery::Policy;
use hansard_gateway::{Keys, Role};
use hansard_jobs::aggregate::AggregateConfig;
use hansard_jobs::redaction::Redaction;
use hansard_jobs::sweep::SweepConfig;
use hansard_jobs::topology::JobSettings;
use hansard_schemas::{RETRY_TIERS, Stage};
use hansard_tls::Authorities;
use hansard_webhook::{IpNet, Rules as UrlRules, WebhookConfig};

pub(crate) use cluster::{Bucket, Cluster, given};
pub(crate) use flags::{AllFlags, ClientFlags, ServerFlags};
pub(crate) use layers::{ConfigError, Source, Values};
use settings::{EFFECT_JOBS, Side};
pub(crate) use speech::{Kind, Speech, Terms};
pub(crate) use summary::{Server as SummaryServer, Summary};
use text::{Bytes, Share, Text, address, authorities, flag, is_https, one_of};

/// How a process with jobs runs.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Everything durable is below it.
    pub(crate) data_dir: PathBuf,
    /// Models and recordings are kept here.
    pub(crate) cache: PathBuf,
    /// Where the gateway listens.
    pub(crate) listen: SocketAddr,
    /// Who may call.
    pub(crate) keys: Keys,
    /// Origins whose pages may call.
    pub(crate) cors_origins: Vec<String>,
    /// How long work under way may go on after a stop was asked for.
    pub(crate) drain: Duration,
    /// What is logged, and how.
    pub(crate) log: Log,
    /// Where traces go.
    pub(crate) traces: Traces,
    /// Of the embedded engine.
    pub(crate) engine: hansard_embedded::Config,
    /// Of the aggregator.
    pub(crate) aggregate: AggregateConfig,
    /// Of the gateway.
    pub(crate) limits: hansard_gateway::Limits,
    /// Who recognises speech.
    pub(crate) speech: Speech,
    /// Who writes summaries.
    pub(crate) summary: Summary,
    /// What is done about personal data in what it hears.
    pub(crate) redaction: Redaction,
    /// Of the audio path.
    pub(crate) audio: Audio,
    /// How webhooks are called.
    pub(crate) webhook: WebhookConfig,
    /// Of the effect jobs.
    pub(crate) jobs: BTreeMap<Stage, JobSettings>,
    /// Of sweep.
    pub(crate) sweep: SweepConfig,
    /// Of jobs on a cluster.
    pub(crate) cluster: Cluster,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// Levels by module.
    pub(crate) filter: String,
    /// `Some(true)` is JSON, `Some(false)` text, `None` whichever fits standard error.
    pub(crate) json: Option<bool>,
}

/// Where traces go.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    /// A collector's address, if there is one.
    pub(crate) otlp: Option<String>,
    /// Whose certificates are accepted there.
    pub(crate) authorities: Authorities,
    /// Of those that nobody outside has begun, the share that is recorded.
    pub(crate) ratio: f64,
}

/// Of the audio path.
#[derive(Debug, Clone)]
pub(crate) struct Audio {
    /// The program that decodes and merges; `None` is this one.
    pub(crate) child: Option<PathBuf>,
    /// What a recording may cost.
    pub(crate) limits: hansard_audio::Limits,
    /// The format of merged files.
    pub(crate) format: Format,
    /// The share of a merge's inputs that may be lost.
    pub(crate) lost_share_max: f64,
    /// The longest gap that stays as silence, in milliseconds.
    pub(crate) fill_gaps_ms: u64,
}

/// How a command reaches the gateway.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    /// Its address.
    pub(crate) url: String,
    /// The caller's key.
    pub(crate) key: Option<String>,
}

impl ClientConfig {
    /// Reads the client's settings.
    ///
    /// # Errors
    /// A value is wrong.
    pub(crate) fn read(mut values: Values) -> Result<Self, ConfigError> {
        let url = values.take_by("url", |text| {
            let http = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
            let wrong = || format!("{text:?} is no address; give one like http://127.0.0.1:8080");
            if http { Ok(text.trim_end_matches('/').to_owned()) } else { Err(wrong()) }
        })?;
        Ok(Self { url, key: values.take("key")? })
    }
}

impl Config {
    /// Reads the server's settings.
    ///
    /// # Errors
    /// A value is wrong, or settings contradict each other.
    pub(crate) fn read(mut values: Values) -> Result<Self, ConfigError> {
        values.only(Side::Server);
        let sweep = sweep(&mut values)?;
        let config = Self {
            data_dir: values.take("data-dir")?,
            cache: values.take_by("cache", cache)?,
            listen: values.take("listen")?,
            keys: values.take_by("keys", keys)?,
            cors_origins: values.take("cors-origins")?,
            drain: values.take("drain")?,
            log: log(&mut values)?,
            traces: traces(&mut values)?,
            engine: engine(&mut values)?,
            aggregate: aggregate(&mut values, sweep.retention)?,
            limits: limits(&mut values)?,
            speech: speech::read(&mut values)?,
            summary: summary::read(&mut values)?,
            redaction: redaction::read(&mut values)?,
            audio: audio(&mut values)?,
            webhook: webhook(&mut values)?,
            jobs: EFFECT_JOBS
                .into_iter()
                .map(|stage| Ok((stage, job(&mut values, stage)?)))
                .collect::<Result<_, _>>()?,
            sweep,
            cluster: Cluster::read(&mut values)?,
        };
        debug_assert!(values.0.is_empty(), "settings that nobody reads: {:?}", values.0.keys());
        Ok(config)
    }

    /// Refuses to serve calls where others than this machine's could make them, unless there are keys.
    ///
    /// # Errors
    /// An address is no loopback address, and there are no keys.
    pub(crate) fn refuse_open(&self, listeners: &[SocketAddr]) -> Result<(), ConfigError> {
        let open = self.keys.is_empty() && listeners.iter().any(|at| !at.ip().is_loopback());
        let cause = "listen is no loopback address and there are no keys, so everybody could call; set keys, or \
                     listen on 127.0.0.1";
        if open { Err(ConfigError::Contradiction(cause)) } else { Ok(()) }
    }

    /// The embedded mode has everything in itself.
    ///
    /// # Errors
    /// A cluster is configured, which it would not use.
    pub(crate) fn refuse_cluster(&self) -> Result<(), ConfigError> {
        let Cluster { kafka, store, .. } = &self.cluster;
        let cause =
            "kafka.brokers or store.nodes is set, which this command does not use; `hansard run` does";
        if kafka.is_ok() || store.is_ok() { Err(ConfigError::Contradiction(cause)) } else { Ok(()) }
    }
}

/// The user's cache directory by the XDG rules, unless another is given.
fn cache(text: &str) -> Result<PathBuf, String> {
    if !text.is_empty() {
        return Ok(text.into());
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    base.map(|base| base.join("hansard"))
        .ok_or_else(|| "neither XDG_CACHE_HOME nor HOME is set; give one".to_owned())
}

/// Keys as `name:role+role:secret`, separated by commas. No error repeats a secret.
fn keys(text: &str) -> Result<Keys, String> {
    const ROLES: [(&str, Role); 3] =
        [("producer", Role::Producer), ("reader", Role::Reader), ("operator", Role::Operator)];
    let mut keys = Keys::default();
    for (number, entry) in Vec::<String>::read(text)?.iter().enumerate() {
        let wrong =
            || format!("key {} is not name:role+role:secret with a secret of 16 letters or more", number + 1);
        let mut parts = entry.splitn(3, ':');
        let (Some(name), Some(roles), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        if name.is_empty() || secret.len() < 16 {
            return Err(wrong());
        }
        let roles: Result<Vec<Role>, String> = roles.split('+').map(|role| one_of(role, &ROLES)).collect();
        // What stands in the wrong place may be the secret.
        keys.add(name, &roles.map_err(|_| wrong())?, secret);
    }
    Ok(keys)
}

fn log(values: &mut Values) -> Result<Log, ConfigError> {
    const FORMATS: [(&str, Option<bool>); 3] = [("auto", None), ("text", Some(false)), ("json", Some(true))];
    Ok(Log {
        filter: values.take_by("log.filter", |text| {
            let filter = text.parse::<tracing_subscriber::filter::Targets>();
            filter.map(|_| text.to_owned()).map_err(|error| error.to_string())
        })?,
        json: values.take_by("log.format", |text| one_of(text, &FORMATS))?,
    })
}

fn traces(values: &mut Values) -> Result<Traces, ConfigError> {
    let otlp = values.take_by("traces.otlp", address)?;
    let named = values.take_by("traces.ca", authorities)?;
    if named.is_some() && otlp.as_ref().is_some_and(|url| !is_https(url)) {
        return Err(ConfigError::Contradiction("traces.ca is set, and traces.otlp is no https address"));
    }
    let ratio = values.take::<Share>("traces.ratio")?.0;
    Ok(Traces { otlp, authorities: named.unwrap_or_default(), ratio })
}

fn engine(values: &mut Values) -> Result<hansard_embedded::Config, ConfigError> {
    Ok(hansard_embedded::Config {
        partitions: values.take_within("engine.partitions", 1..=1_024, "1 to 1024")?,
        reserve_bytes: values.take::<Bytes>("engine.reserve")?.0,
        ..hansard_embedded::Config::default()
    })
}

#[allow(clippy::needless_update, reason = "a feature for tests adds a field")]
fn aggregate(values: &mut Values, retention: Option<Millis>) -> Result<AggregateConfig, ConfigError> {
    let rules = Rules {
        idle_after: values.take("window.idle-after")?,
        missing_after: values.take("window.missing-after")?,
        stalled_after: values.take("window.stalled-after")?,
        abandon_after: values.take("window.abandon-after")?,
        pace_base: values.take("window.pace-base")?,
        pace_cap: values.take("window.pace-cap")?,
        ..Rules::default()
    };
    Ok(AggregateConfig {
        rules,
        cache_bytes_max: size(values, "aggregate.cache")?,
        pause_max: values.take_by("aggregate.pause", pause)?,
        expire_after: retention,
        ..AggregateConfig::default()
    })
}

fn size(values: &mut Values, key: &str) -> Result<usize, ConfigError> {
    values.take_by(key, |text| {
        let bytes = Bytes::read(text)?.0;
        usize::try_from(bytes).map_err(|_| format!("{text:?} is more than this machine can address"))
    })
}

/// Four hours before an unconfirmed upload may be swept, so that the two cannot meet, whatever the clocks say.
const CONFIRM_WITHIN_MAX: Millis = Millis(20 * 3_600_000);

fn limits(values: &mut Values) -> Result<hansard_gateway::Limits, ConfigError> {
    Ok(hansard_gateway::Limits {
        body_bytes: size(values, "limits.request-bytes")?,
        upload_bytes: values.take::<Bytes>("limits.upload-bytes")?.0,
        single_bytes: values.take::<Bytes>("limits.single-bytes")?.0,
        part_bytes: values.take_by("limits.part-bytes", |text| match Bytes::read(text)?.0 {
            bytes if bytes >= 5 << 20 => Ok(bytes),
            _ => Err("S3 takes parts of 5 MiB or more".to_owned()),
        })?,
        link_lifetime: values.take("limits.link-lifetime")?,
        token_lifetime: values.take("limits.token-lifetime")?,
        confirm_within: values.take_by("limits.confirm-within", |text| match Millis::read(text)? {
            within if within <= CONFIRM_WITHIN_MAX => Ok(within),
            _ => Err("at most 20 h are wanted, since sweep deletes unconfirmed uploads of 24 h".to_owned()),
        })?,
        streams: values.take("limits.streams")?,
        page: values.take_within("limits.page", 1..=10_000, "1 to 10000")?,
        redrive: values.take_within("limits.redrive", 1..=100_000, "1 to 100000")?,
        database_patience: values.take("limits.database-patience")?,
    })
}

fn audio(values: &mut Values) -> Result<Audio, ConfigError> {
    const FORMATS: [(&str, Format); 4] =
        [("auto", Format::Auto), ("opus", Format::OPUS), ("flac", Format::Flac), ("wav", Format::Wav)];
    let millis = |time: Millis| u64::try_from(time.0).unwrap_or_default();
    let limits = hansard_audio::Limits {
        decoded_ms: millis(values.take("audio.decoded")?),
        segments: values.take_within("audio.segments", 1..=5_000, "1 to 5000")?,
        cpu_seconds: values.take::<Duration>("audio.cpu-time")?.as_secs(),
        wall_seconds: values.take::<Duration>("audio.wall-time")?.as_secs(),
        memory_bytes: values.take::<Bytes>("audio.memory")?.0,
        output_bytes: values.take::<Bytes>("audio.output")?.0,
        header_bytes: values.take::<Bytes>("audio.header")?.0,
    };
    Ok(Audio {
        child: values.take::<Option<String>>("audio.child")?.map(PathBuf::from),
        limits,
        format: values.take_by("audio.merge-format", |text| one_of(text, &FORMATS))?,
        lost_share_max: values.take::<Share>("audio.lost-share")?.0,
        fill_gaps_ms: millis(values.take("audio.fill-gaps")?),
    })
}

/// No error repeats a secret.
fn webhook(values: &mut Values) -> Result<WebhookConfig, ConfigError> {
    Ok(WebhookConfig {
        secrets: values.take_by("webhook.secret", |text| {
            let secrets = Vec::<String>::read(text)?.into_iter().map(|secret| secret.parse());
            secrets.collect::<Result<_, _>>().map_err(|error: hansard_webhook::SecretError| error.to_string())
        })?,
        rules: values.take_by("webhook.networks", |text| {
            let network = |text: String| {
                text.parse::<IpNet>()
                    .map_err(|_| format!("{text:?} is no network; give one like 10.1.0.0/16"))
            };
            Vec::<String>::read(text)?.into_iter().map(network).collect::<Result<_, _>>().map(UrlRules::new)
        })?,
        answer_within: values.take("webhook.answer-within")?,
    })
}

/// How long a pause may be; the first is as long as the least.
fn pause(text: &str) -> Result<Millis, String> {
    match Millis::read(text)? {
        pause if pause >= Policy::default().pause_base => Ok(pause),
        _ => Err("1 s or more is wanted".to_owned()),
    }
}

fn job(values: &mut Values, stage: Stage) -> Result<JobSettings, ConfigError> {
    let key = |name: &str| format!("{}.{name}", stage.as_str());
    let mut job = JobSettings::of(stage);
    let tiers: Vec<Millis> = values.take_by(&key("tiers"), |text| {
        let tiers = Vec::<Millis>::read(text)?;
        let many = (1..=usize::from(RETRY_TIERS)).contains(&tiers.len());
        if many { Ok(tiers) } else { Err(format!("from 1 to {RETRY_TIERS} delays are wanted")) }
    })?;
    let attempts = values.take_within(&key("attempts"), 1..=100, "1 to 100")?;
    let pause_cap = values.take_by(&key("pause"), pause)?;
    let pause_wish_cap = values.take(&key("pause-asked"))?;
    let retry_after_cap = values.take(&key("retry-after"))?;
    job.policy = Policy { tiers, attempts, pause_cap, pause_wish_cap, retry_after_cap, ..job.policy };
    job.call_max = values.take(&key("call"))?;
    let bounds = &mut job.effects.bounds;
    bounds.in_flight_max = values.take_within(&key("in-flight"), 1..=10_000, "1 to 10000")?;
    bounds.in_flight_per_conversation_max =
        values.take_within(&key("in-flight-per-conversation"), 1..=10_000, "1 to 10000")?;
    Ok(job)
}

fn sweep(values: &mut Values) -> Result<SweepConfig, ConfigError> {
    let every = values.take_by("sweep.every", |text| match Millis::read(text)? {
        every if every >= Millis::minutes(1) => Ok(every),
        _ => Err("1 min or more is wanted".to_owned()),
    })?;
    let days: i64 = values.take_within("retention.days", 0_u32..=36_500, "0 to 36500")?.into();
    Ok(SweepConfig {
        every,
        retention: (days > 0).then_some(Millis(days * 86_400_000)),
        dry_run: values.take_by("sweep.dry-run", flag)?,
        ..SweepConfig::default()
    })
}

/// What stands for a secret that is set.
const MASK: &str = "***";

/// The effective values as they are shown: secrets masked.
fn shown(values: &Values) -> impl Iterator<Item = (&'static settings::Setting, &str, Source)> {
    settings::SETTINGS.iter().filter_map(|setting| {
        let found = values.0.get(setting.key.as_str())?;
        let hidden = setting.secret && !found.text.is_empty();
        Some((setting, if hidden { MASK } else { found.text.as_str() }, found.source))
    })
}

/// The effective configuration as a file, with where each value came from.
pub(crate) fn to_toml(values: &Values) -> String {
    let (mut top, mut tables) = (String::new(), BTreeMap::<&str, String>::new());
    for (setting, text, source) in shown(values) {
        let (table, name) =
            setting.key.split_once('.').map_or((None, setting.key.as_str()), |(t, n)| (Some(t), n));
        let out = table.map_or(&mut top, |table| tables.entry(table).or_default());
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name} = {} # {}", toml::Value::from(text), source.as_str());
    }
    for (table, lines) in tables {
        let _ = write!(top, "\n[{table}]\n{lines}");
    }
    top
}

/// The effective configuration as JSON.
pub(crate) fn to_json(values: &Values) -> serde_json::Value {
    let entries = shown(values).map(|(setting, text, source)| {
        (setting.key.clone(), serde_json::json!({ "value": text, "source": source.as_str() }))
    });
    serde_json::Value::Object(entries.collect())
}
