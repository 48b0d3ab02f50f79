//! The settings of a cluster: where its log, its store and its objects are. Each part may be left out, since every
//! command needs only some of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hansard_kafka::KafkaConfig;
use hansard_registry::RegistryConfig;
use hansard_s3::{Credentials, S3Config};
use hansard_schemas::Topics;
use hansard_scylla::ScyllaConfig;

use super::layers::{ConfigError, Values};
use super::text::{Text, address, authorities, flag, is_https};

/// A part of the configuration, or the setting that is missing from it.
pub(crate) type Part<T> = Result<T, &'static str>;

/// How jobs on a cluster run.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// The log.
    pub(crate) kafka: Part<KafkaConfig>,
    /// The names of topics.
    pub(crate) topics: Topics,
    /// Replicas of each topic that is created.
    pub(crate) replication: u8,
    /// The schema registry; without one, records name their schemas by themselves.
    pub(crate) registry: Option<RegistryConfig>,
    /// The store.
    pub(crate) store: Part<ScyllaConfig>,
    /// The objects.
    pub(crate) objects: Part<Bucket>,
    /// Unique among the processes of the deployment.
    pub(crate) instance: String,
    /// Where recordings of foreign producers may lie.
    pub(crate) upload_prefixes: Vec<String>,
    /// Where the gateway listens.
    pub(crate) listen: SocketAddr,
    /// Where probes, metrics and the operators' calls are answered.
    pub(crate) admin_listen: SocketAddr,
    /// Signs upload tokens.
    pub(crate) signing_key: Option<String>,
}

/// A bucket and the service that has it.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// Its name.
    pub(crate) name: String,
    /// The service.
    pub(crate) service: S3Config,
}

/// Passwords stand in several of the parts.
impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// The part of the configuration that a command needs.
///
/// # Errors
/// A setting of it is missing.
pub(crate) fn given<T>(part: Part<T>) -> Result<T, ConfigError> {
    part.map_err(|key| ConfigError::Missing { key })
}

impl Cluster {
    /// Reads the cluster's settings.
    ///
    /// # Errors
    /// A value is wrong.
    pub(super) fn read(values: &mut Values) -> Result<Self, ConfigError> {
        let (topics, prefix) = values.take_by("topics.prefix", |text| {
            let topics = Topics::new(text).map_err(|error| error.to_string())?;
            Ok((topics, text.to_owned()))
        })?;
        let partitions = values.take_within("topics.partitions", 1..=1_024, "1 to 1024")?;
        let brokers: Option<String> = values.take("kafka.brokers")?;
        let overrides = kafka_overrides(values)?;
        let static_members = values.take_by("kafka.static-membership", flag)?;
        let progress_within =
            values.take_by("kafka.progress-within", |text| at_least(text, Duration::from_secs(10)))?;
        let kafka = brokers.ok_or("kafka.brokers").map(|brokers| {
            let mut kafka = KafkaConfig::new(brokers, prefix, partitions);
            (kafka.overrides, kafka.static_members) = (overrides, static_members);
            kafka.progress_within = progress_within;
            kafka
        });
        Ok(Self {
            kafka,
            topics,
            replication: values.take_within("topics.replication", 1..=100, "1 to 100")?,
            registry: registry(values)?,
            store: store(values, partitions)?,
            objects: objects(values)?,
            instance: values.take_by("instance", instance)?,
            upload_prefixes: values.take_by("upload.prefixes", prefixes)?,
            listen: values.take("run.listen")?,
            admin_listen: values.take("run.admin-listen")?,
            signing_key: values.take_by("run.signing-key", |text| match text.len() {
                0 => Ok(None),
                32.. => Ok(Some(text.to_owned())),
                _ => Err("32 letters or more are wanted".to_owned()),
            })?,
        })
    }
}

/// What `kafka.set` says, with the file of authorities that `kafka.ca` names.
fn kafka_overrides(values: &mut Values) -> Result<BTreeMap<String, String>, ConfigError> {
    const LOCATION: &str = "ssl.ca.location";
    let mut set = values.take_by("kafka.set", overrides)?;
    let named = values.take_by("kafka.ca", |path| Ok(authorities(path)?.map(|_| path.to_owned())))?;
    let Some(path) = named else { return Ok(set) };
    let encrypts = |(name, value): (&String, &String)| {
        name.ends_with("security.protocol") && value.to_ascii_lowercase().ends_with("ssl")
    };
    if !set.iter().any(encrypts) {
        return Err(ConfigError::Contradiction(
            "kafka.ca is set, and kafka.set has no security.protocol with SSL",
        ));
    }
    if set.insert(LOCATION.to_owned(), path).is_some() {
        return Err(ConfigError::Contradiction("kafka.ca is set, and kafka.set has ssl.ca.location"));
    }
    Ok(set)
}

/// Settings as `name=value`, separated by commas; what holds no `=` belongs to the value before it, since a value may be a
/// list itself. No error repeats a value.
fn overrides(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match (part.split_once('='), pairs.last_mut()) {
            (Some((name, value)), _) if !name.trim().is_empty() => {
                pairs.push((name.trim(), value.trim().into()));
            }
            (None, Some((_, value))) => value.extend([",", part]),
            _ => return Err(format!("entry {} is not name=value", pairs.len() + 1)),
        }
    }
    Ok(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A prefix without its bucket would allow every bucket whose name begins so.
fn prefixes(text: &str) -> Result<Vec<String>, String> {
    let prefixes = Vec::<String>::read(text)?;
    match prefixes.iter().find(|prefix| prefix.find('/').is_none_or(|at| at == 0)) {
        Some(wrong) => Err(format!("{wrong:?} is not bucket/prefix")),
        None => Ok(prefixes),
    }
}

/// The host and the process, where no name is given: no two processes share them.
fn instance(text: &str) -> Result<String, String> {
    if text.is_empty() {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        return Ok(format!("{}-{}", host.trim(), std::process::id()));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = text.len() <= 128 && text.bytes().all(allowed);
    if fits { Ok(text.to_owned()) } else { Err("at most 128 of A-Z a-z 0-9 . _ - are wanted".to_owned()) }
}

fn registry(values: &mut Values) -> Result<Option<RegistryConfig>, ConfigError> {
    let url = values.take_by("registry.url", address)?;
    let user: Option<String> = values.take("registry.user")?;
    let password: String = values.take("registry.password")?;
    let credentials = user.map(|user| (user, password));
    let named = values.take_by("registry.ca", authorities)?;
    if named.is_some() && url.as_ref().is_some_and(|url| !is_https(url)) {
        return Err(ConfigError::Contradiction("registry.ca is set, and registry.url is no https address"));
    }
    let authorities = named.unwrap_or_default();
    Ok(url.map(|url| RegistryConfig { url, credentials, authorities }))
}

/// A duration that is not too short for what it bounds.
fn at_least(text: &str, least: Duration) -> Result<Duration, String> {
    match Duration::read(text)? {
        within if within >= least => Ok(within),
        _ => Err(format!("{} s or more is wanted", least.as_secs())),
    }
}

fn store(values: &mut Values, partitions: u32) -> Result<Part<ScyllaConfig>, ConfigError> {
    let nodes: Vec<String> = values.take("store.nodes")?;
    let keyspace: String = values.take_by("store.keyspace", |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let fits = (1..=48).contains(&text.len()) && text.bytes().all(allowed);
        if fits { Ok(text.to_owned()) } else { Err("1 to 48 of A-Z a-z 0-9 _ are wanted".to_owned()) }
    })?;
    let replicas = values.take_within("store.replication", 1_u8..=100, "1 to 100")?;
    let datacenter = values.take("store.datacenter")?;
    let connect_within =
        values.take_by("store.connect-within", |text| at_least(text, Duration::from_secs(1)))?;
    let user: Option<String> = values.take("store.user")?;
    let password: String = values.take("store.password")?;
    let tls = values.take_by("store.tls", flag)?;
    let named = values.take_by("store.ca", authorities)?;
    if named.is_some() && !tls {
        return Err(ConfigError::Contradiction("store.ca is set, and store.tls is not true"));
    }
    let mut store = ScyllaConfig::new(nodes, keyspace, partitions);
    store.replication = format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {replicas}}}");
    store.datacenter = datacenter;
    store.connect_within = connect_within;
    store.credentials = user.map(|user| (user, password));
    store.tls = tls.then(|| named.unwrap_or_default());
    Ok(if store.nodes.is_empty() { Err("store.nodes") } else { Ok(store) })
}

fn objects(values: &mut Values) -> Result<Part<Bucket>, ConfigError> {
    let endpoint: Option<String> = values.take("s3.endpoint")?;
    let public_endpoint = values.take("s3.public-endpoint")?;
    let region = values.take("s3.region")?;
    let name: Option<String> = values.take("s3.bucket")?;
    let access_key: Option<String> = values.take("s3.access-key")?;
    let secret_key: Option<String> = values.take("s3.secret-key")?;
    let named = values.take_by("s3.ca", authorities)?;
    if named.is_some() && endpoint.as_ref().is_some_and(|endpoint| !is_https(endpoint)) {
        return Err(ConfigError::Contradiction("s3.ca is set, and s3.endpoint is no https address"));
    }
    let authorities = named.unwrap_or_default();
    let bucket = || {
        let name = name.ok_or("s3.bucket")?;
        let access_key = access_key.ok_or("s3.access-key")?;
        let credentials = Credentials { access_key, secret_key: secret_key.ok_or("s3.secret-key")? };
        // AWS wants the bucket in the host's name, and most others in the path.
        let path_style = endpoint.is_some();
        let mut service = S3Config::at(String::new(), credentials);
        (service.endpoint, service.public_endpoint) = (endpoint, public_endpoint);
        (service.region, service.authorities, service.path_style) = (region, authorities, path_style);
        Ok(Bucket { name, service })
    };
    Ok(bucket())
}
