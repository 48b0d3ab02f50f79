//! The aggregator with the ports that it uses, and none that it does not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use hansard_core::id::Timestamp;
use hansard_embedded::{Config, Engine};
use hansard_jobs::aggregate::AggregateConfig;
use hansard_jobs::effects::Storage;
use hansard_jobs::redaction::Redaction;
use hansard_jobs::topology::{Settings, aggregate};
use hansard_runtime::metrics::Families;
use hansard_runtime::ordered::OrderedConfig;
use hansard_runtime::ports::clock::{Clock, Entropy};
use hansard_runtime::ports::dead_letters::DeadLetters;
use hansard_runtime::ports::facts::Facts;
use hansard_runtime::ports::journal::Journal;
use hansard_runtime::ports::log::Log;
use hansard_runtime::ports::objects::{ObjectHead, ObjectName, Objects};
use hansard_runtime::ports::windows::Windows;
use hansard_runtime::ports::{PortError, Ports};
use hansard_schemas::{Framing, Topics};
use hansard_scylla::ScyllaStore;
use prometheus::Registry;
use tokio::io::AsyncRead;
use tokio::sync::watch;

/// Partitions of the benchmark, as in the comparison with other systems.
pub(crate) const PARTITIONS: u32 = 4;

pub(crate) fn open(directory: &Path) -> Result<(Engine, Ports)> {
    let engine = Engine::open(directory, Config { partitions: PARTITIONS, ..Config::default() })?;
    let ports = on_engine(engine.log(), &engine);
    Ok((engine, ports))
}

/// The aggregator with its defaults, until it is stopped.
pub(crate) async fn aggregator(ports: Ports, stop: watch::Receiver<bool>) -> Result<()> {
    let settings = Settings {
        instance: "bench".to_owned(),
        topics: Arc::new(Topics::default()),
        storage: Arc::new(Storage::new("bench")),
        jobs: BTreeMap::new(),
        redaction: Redaction::built_in()?,
        aggregate: AggregateConfig::default(),
        ordered: OrderedConfig::default(),
    };
    aggregate(ports, &settings, &Families::register(&Registry::new())?, stop).await?;
    Ok(())
}

/// The embedded store beside some log.
pub(crate) fn on_engine(log: Arc<dyn Log>, engine: &Engine) -> Ports {
    on(log, engine.facts(), engine.windows(), engine.journal(), engine.dead_letters())
}

/// The store in a database beside some log.
pub(crate) fn on_cql(log: Arc<dyn Log>, store: &Arc<ScyllaStore>) -> Ports {
    let store = || Arc::clone(store);
    on(log, store(), store(), store(), store())
}

fn on(
    log: Arc<dyn Log>,
    facts: Arc<dyn Facts>,
    windows: Arc<dyn Windows>,
    journal: Arc<dyn Journal>,
    dead_letters: Arc<dyn DeadLetters>,
) -> Ports {
    Ports {
        log,
        facts,
        windows,
        journal,
        dead_letters,
        objects: Arc::new(NoObjects),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(NoEntropy),
        framing: Arc::new(Framing::SingleObject),
        schemas: None,
        traces: None,
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()> {
        let left = u64::try_from((until - self.now()).0).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(left)).boxed()
    }
}

struct NoEntropy;

impl Entropy for NoEntropy {
    fn id(&self) -> [u8; 16] {
        unreachable!("the aggregator submits nothing")
    }
}

struct NoObjects;

fn none<T>() -> Result<T, PortError> {
    Err(PortError::Refused { service: "benchmark", cause: "the aggregator has no objects".to_owned() })
}

#[async_trait]
impl Objects for NoObjects {
    async fn head(&self, _: &ObjectName) -> Result<ObjectHead, PortError> {
        none()
    }
    async fn get(
        &self,
        _: &ObjectName,
        _: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Bytes, PortError>>, PortError> {
        none()
    }
    async fn put(&self, _: &ObjectName, _: &str, _: Bytes) -> Result<ObjectHead, PortError> {
        none()
    }
    async fn put_stream(
        &self,
        _: &ObjectName,
        _: &str,
        _: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<ObjectHead, PortError> {
        none()
    }
    async fn delete(&self, _: &ObjectName) -> Result<(), PortError> {
        none()
    }
    async fn list(
        &self,
        _: &str,
        _: &str,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<(String, ObjectHead)>, PortError> {
        none()
    }
}
