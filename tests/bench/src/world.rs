//! The embedded engine with the ports that the aggregator uses, and none that it does not.

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
use hansard_runtime::ports::clock::{Clock, Entropy};
use hansard_runtime::ports::log::Log;
use hansard_runtime::ports::objects::{ObjectHead, ObjectName, Objects};
use hansard_runtime::ports::{PortError, Ports};
use hansard_schemas::Framing;
use tokio::io::AsyncRead;

/// Partitions of the benchmark, as in the comparison with other systems.
pub(crate) const PARTITIONS: u32 = 4;

pub(crate) fn open(directory: &Path) -> Result<(Engine, Ports)> {
    let engine = Engine::open(directory, Config { partitions: PARTITIONS, ..Config::default() })?;
    let log = engine.log();
    let ports = on(log, &engine);
    Ok((engine, ports))
}

/// The engine's store beside some log.
pub(crate) fn on(log: Arc<dyn Log>, engine: &Engine) -> Ports {
    Ports {
        log,
        facts: engine.facts(),
        windows: engine.windows(),
        journal: engine.journal(),
        dead_letters: engine.dead_letters(),
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
