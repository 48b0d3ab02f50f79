//! Embedded mode: every job, the engine, the S3 server and the gateway in one process, in one data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hansard_embedded::Engine;
use hansard_gateway::{SigningKey, Surface};
use hansard_jobs::topology::JOBS;
use hansard_runtime::ports::Ports;
use hansard_runtime::ports::clock::Clock as _;
use hansard_s3::{ObjectServer, S3Config, S3Objects};
use hansard_schemas::{Framing, Topics};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::journal::OneOwner;
use crate::parts::{Basis, Parts};
use crate::providers::Speakers;
use crate::running::{Running, listen};
use crate::system::{SystemClock, SystemEntropy};
use crate::traces;

/// The bucket of the embedded object store.
pub(crate) const BUCKET: &str = "hansard";

/// A running Hansard.
pub(crate) struct Embedded {
    /// Where the gateway listens.
    pub(crate) address: SocketAddr,
    running: Running,
    // Held for as long as anything runs.
    engine: Arc<Engine>,
    _objects: ObjectServer,
}

impl Embedded {
    /// Opens the data directory and starts everything.
    ///
    /// # Errors
    /// A port or the data directory in use, a directory that cannot be written, or a store that cannot be read.
    pub(crate) async fn start(config: Config, speakers: Speakers) -> Result<Self> {
        config.refuse_cluster()?;
        config.refuse_open(&[config.listen])?;
        let listener = listen(config.listen, "--listen").await?;
        let data_dir = config.data_dir.as_path();
        private(data_dir)?;
        let engine = Arc::new(Engine::open(&data_dir.join("engine"), config.engine.clone())?);
        // Only who holds the engine's lock may clear up.
        let temporary = fresh(&data_dir.join("tmp"))?;
        let (objects, server) = objects(data_dir).await?;
        let instance = "embedded".to_owned();
        let traces = traces::start(&config.traces, &instance)?;
        let basis = Basis {
            ports: ports(&engine, &objects),
            traces: traces.clone(),
            objects,
            erasures: engine.erasures(),
            speakers,
            bucket: BUCKET.to_owned(),
            instance,
            topics: Topics::default(),
            temporary,
            signing_key: signing_key(data_dir)?,
        };
        let mut running = Running::new(config.drain, traces);
        let parts = Parts::new(config, basis)?;
        for job in JOBS {
            running.job(job, &parts);
        }
        running.watch(&parts);
        parts.tell_containment();
        running.sweep(Arc::clone(&parts.sweep));
        let maintained = Arc::clone(&engine);
        running.spawn(|stopping| maintain(maintained, stopping));
        let address = listener.local_addr()?;
        running.serve(listener, &parts.gateway, Surface::Everything);
        Ok(Self { address, running, engine, _objects: server })
    }

    /// Runs until `stop` ends, or something that must not end does; then drains, bounded.
    ///
    /// # Errors
    /// What ended that must not.
    pub(crate) async fn run_until<T>(self, stop: impl Future<Output = T>) -> Result<T> {
        let ended = self.running.run_until(stop).await;
        drop(self.engine);
        ended
    }
}

/// The ports of this machine.
fn ports(engine: &Engine, objects: &S3Objects) -> Ports {
    Ports {
        log: engine.log(),
        facts: engine.facts(),
        windows: engine.windows(),
        journal: Arc::new(OneOwner { inner: engine.journal(), since: SystemClock.now() }),
        dead_letters: engine.dead_letters(),
        objects: Arc::new(objects.clone()),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        framing: Arc::new(Framing::SingleObject),
        schemas: None,
        traces: None,
    }
}

/// Retention and compaction, once a minute.
async fn maintain(engine: Arc<Engine>, mut stopping: watch::Receiver<bool>) -> Result<()> {
    loop {
        let tick = tokio::time::sleep(Duration::from_secs(60));
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            () = tick => {}
        }
        if let Err(error) = engine.maintain(SystemClock.now()).await {
            tracing::warn!(%error, "maintenance failed; it is tried again in a minute");
        }
    }
}

/// The S3 server in this process, and the same client to it that a cluster would use.
async fn objects(data_dir: &Path) -> Result<(S3Objects, ObjectServer)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let directory = data_dir.join("objects");
    let server = ObjectServer::start(&directory, BUCKET, listener)
        .await
        .with_context(|| format!("cannot keep objects in {}", directory.display()))?;
    let config = S3Config::at(format!("http://{}", server.address()), server.credentials().clone());
    Ok((S3Objects::new(&config), server))
}

/// The data directory, for its owner only: it holds what was said.
fn private(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.with_context(|| format!("cannot make the data directory {}", directory.display()))
}

/// An empty directory for temporary files: what an earlier process left in it is worthless.
fn fresh(directory: &Path) -> Result<PathBuf> {
    let what = || format!("cannot make {}", directory.display());
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(what),
        _ => {}
    }
    std::fs::create_dir_all(directory).with_context(what)?;
    Ok(directory.to_owned())
}

/// The key that signs tokens, made at first use and readable by its owner only.
fn signing_key(data_dir: &Path) -> Result<SigningKey> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = data_dir.join("signing-key");
    if let Ok(bytes) = std::fs::read(&path) {
        let key: [u8; 32] = bytes.try_into().ok().with_context(|| {
            format!(
                "{} is not a key of ours; remove it to make a new one, which ends all tokens",
                path.display()
            )
        })?;
        return Ok(SigningKey::new(key));
    }
    let mut key = [0; 32];
    key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(SigningKey::new(key))
}
