//! A process of a cluster: some of the jobs, on Kafka, a CQL database and S3. Others like it run beside it, and any of
//! them may die at any time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hansard_gateway::{SigningKey, Surface};
use hansard_kafka::{KafkaConfig, KafkaLog};
use hansard_registry::{RegistryConfig, SchemaRegistry};
use hansard_runtime::ports::schemas::Schemas;
use hansard_runtime::ports::{PortError, Ports};
use hansard_s3::S3Objects;
use hansard_schemas::{Framing, Registry, Stage, Topics};
use hansard_scylla::{ScyllaConfig, ScyllaStore};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::config::{self, Config, given};
use crate::parts::{Basis, Parts};
use crate::providers;
use crate::running::{Running, answer_probes, listen};
use crate::system::{SystemClock, SystemEntropy};
use crate::traces;

/// The wait before a registry that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// A job that a process can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Job {
    /// Takes uploads in and gives results out.
    Gateway,
    /// Cuts chunks into segments.
    Split,
    /// Turns segments into text.
    Transcribe,
    /// Joins all facts of a conversation and finalizes it.
    Aggregate,
    /// Joins the audio of a conversation.
    Merge,
    /// Summarises a conversation.
    Summarize,
    /// Calls webhooks.
    Notify,
    /// Removes what nothing refers to.
    Sweep,
}

impl Job {
    /// The stage of the dataflow, where it is one.
    fn stage(self) -> Option<Stage> {
        match self {
            Self::Gateway | Self::Sweep => None,
            Self::Split => Some(Stage::Split),
            Self::Transcribe => Some(Stage::Transcribe),
            Self::Aggregate => Some(Stage::Aggregate),
            Self::Merge => Some(Stage::Merge),
            Self::Summarize => Some(Stage::Summarize),
            Self::Notify => Some(Stage::Notify),
        }
    }
}

/// A running process.
pub(crate) struct Cluster {
    /// Where the gateway listens, if it is one of the jobs.
    pub(crate) address: Option<SocketAddr>,
    /// Where probes and metrics are answered.
    pub(crate) admin: SocketAddr,
    running: Running,
    // Held for as long as anything runs.
    _temporary: TempDir,
}

impl Cluster {
    /// Starts the jobs, also while the store does not answer. A registry that does not answer is waited for; meanwhile
    /// probes say so.
    ///
    /// # Errors
    /// A port in use, a part of the configuration that is missing, a registry without the schemas, or a store
    /// without its tables.
    pub(crate) async fn start(config: Config, jobs: &BTreeSet<Job>) -> Result<Self> {
        let config::Cluster { kafka, topics, registry, store, objects, instance, listen: public, .. } =
            config.cluster.clone();
        let (kafka, store) = (given(kafka)?, given(store)?);
        let config::Bucket { name: bucket, service } = given(objects)?;
        if jobs.contains(&Job::Gateway) {
            config.refuse_open(&[public, config.cluster.admin_listen])?;
        }
        if jobs.contains(&Job::Notify) && config.webhook.secrets.is_empty() {
            given(Err("webhook.secret"))?;
        }
        let signing_key = signing_key(&config, jobs)?;
        let address = match jobs.contains(&Job::Gateway) {
            true => Some(listen(public, "--run-listen").await?),
            false => None,
        };
        let admin = listen(config.cluster.admin_listen, "--run-admin-listen").await?;
        let temporary = tempfile::Builder::new().prefix("hansard-").tempdir()?;
        let speakers = providers::speakers(&config, jobs.contains(&Job::Transcribe)).await?;
        let objects = S3Objects::new(&service.within(shortest_call(&config, jobs)));
        let traces = traces::start(&config.traces, &instance)?;
        let (awaits, awaited) = watch::channel("registry");
        let admin = answer_probes(admin, awaited)?;
        let framing = Box::pin(framing(registry, &topics)).await?;
        awaits.send_replace("database");
        let store = Box::pin(self::store(store)).await?;
        drop(awaits);
        let ports = ports(kafka, &store, &objects, framing)?;
        let mut running = Running::new(config.drain, traces.clone());
        let basis = Basis {
            ports,
            traces,
            objects,
            erasures: store,
            speakers,
            bucket,
            instance,
            topics,
            temporary: temporary.path().to_owned(),
            signing_key,
        };
        let parts = Parts::new(config, basis)?;
        for stage in jobs.iter().filter_map(|job| job.stage()) {
            running.job(stage, &parts);
        }
        running.watch(&parts);
        if jobs.contains(&Job::Split) || jobs.contains(&Job::Merge) {
            parts.tell_containment();
        }
        if jobs.contains(&Job::Sweep) {
            running.sweep(Arc::clone(&parts.sweep));
        }
        let addresses =
            (address.as_ref().map(|listener| listener.local_addr()).transpose()?, admin.local_addr()?);
        let operators = if address.is_some() { Surface::Everything } else { Surface::Probes };
        if let Some(address) = address {
            running.serve(address, &parts.gateway, Surface::Public);
        }
        running.serve(admin, &parts.gateway, operators);
        Ok(Self { address: addresses.0, admin: addresses.1, running, _temporary: temporary })
    }

    /// Runs until `stop` ends, or something that must not end does; then drains, bounded.
    ///
    /// # Errors
    /// What ended that must not.
    pub(crate) async fn run_until<T>(self, stop: impl Future<Output = T>) -> Result<T> {
        self.running.run_until(stop).await
    }
}

/// The ports of a cluster.
fn ports(
    kafka: KafkaConfig,
    store: &Arc<ScyllaStore>,
    objects: &S3Objects,
    (framing, schemas): (Framing, Option<Arc<dyn Schemas>>),
) -> Result<Ports> {
    let store = || Arc::clone(store);
    Ok(Ports {
        log: Arc::new(KafkaLog::new(kafka)?),
        facts: store(),
        windows: store(),
        journal: store(),
        dead_letters: store(),
        objects: Arc::new(objects.clone()),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        framing: Arc::new(framing),
        schemas,
        traces: None,
    })
}

/// How records are framed, once the registry answers; what is written without one is read in either case.
async fn framing(
    registry: Option<RegistryConfig>,
    topics: &Topics,
) -> Result<(Framing, Option<Arc<dyn Schemas>>)> {
    let Some(config) = registry else { return Ok((Framing::SingleObject, None)) };
    let registry = SchemaRegistry::new(config)?;
    loop {
        match registry.ids(topics).await {
            Ok(ids) => return Ok((Framing::Registry(Registry::new(&ids)?), Some(Arc::new(registry)))),
            Err(error @ PortError::Unavailable { .. }) => {
                tracing::warn!(%error, "the schema registry is waited for");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                return Err(error)
                    .context("the schema registry cannot be used; run `hansard schemas register` first");
            }
        }
    }
}

/// The store. One that does not answer connects later, since uploads need it not; one that refuses has to be migrated.
async fn store(config: ScyllaConfig) -> Result<Arc<ScyllaStore>> {
    let store = ScyllaStore::new(config);
    match store.connect().await {
        Err(error @ PortError::Unavailable { .. }) => tracing::warn!(%error, "the store is waited for"),
        connected => connected.context("the store cannot be used; run `hansard store migrate` first")?,
    }
    Ok(Arc::new(store))
}

/// All gateways sign and know the same tokens; a process without one gives none out, so that its key is nobody's.
fn signing_key(config: &Config, jobs: &BTreeSet<Job>) -> Result<SigningKey> {
    // What one process signs another reads.
    let calls_back = jobs.contains(&Job::Transcribe) && config.speech.callback_url.is_some();
    let secret = match (&config.cluster.signing_key, jobs.contains(&Job::Gateway) || calls_back) {
        (None, true) => given(Err("run.signing-key"))?,
        (None, false) => uuid::Uuid::new_v4().to_string(),
        (Some(secret), _) => secret.clone(),
    };
    Ok(SigningKey::new(Sha256::digest(secret.as_bytes()).into()))
}

/// The shortest limit of an effect of these jobs that uses objects.
fn shortest_call(config: &Config, jobs: &BTreeSet<Job>) -> Duration {
    let calls = jobs.iter().filter_map(|job| job.stage()).filter(|stage| *stage != Stage::Notify);
    let calls = calls.filter_map(|stage| config.jobs.get(&stage)).map(|job| job.call_max.0.unsigned_abs());
    calls.min().map_or(Duration::MAX, Duration::from_millis)
}
