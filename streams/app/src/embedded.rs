//! Embedded mode: every job, the engine, the S3 server and the gateway in one process, in one data directory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use hansard_audio::{AudioPath, Decoder, PlanMs};
use hansard_core::id::Millis;
use hansard_embedded::Engine;
use hansard_gateway::{Gateway, SigningKey, Surface};
use hansard_jobs::effects::Storage;
use hansard_jobs::ports::Speech;
use hansard_jobs::sweep::{Reach, Sweep, SweepConfig, SweepMetrics};
use hansard_jobs::topology::{self, Connectors, JOBS, JobSettings, Settings};
use hansard_runtime::metrics::Families;
use hansard_runtime::ordered::OrderedConfig;
use hansard_runtime::ports::Ports;
use hansard_runtime::ports::clock::Clock as _;
use hansard_runtime::ports::log::LogError;
use hansard_s3::{ObjectServer, S3Config, S3Objects};
use hansard_schemas::{Framing, Stage, Topics};
use hansard_summary::Extractive;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::adapters::{S3Links, SweepPort};
use crate::config::{self, Audio, Config};
use crate::journal::OneOwner;
use crate::system::{SystemClock, SystemEntropy};

/// Waits before a job begins again, first and last.
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_LAST: Duration = Duration::from_secs(30);
/// How long a call under way may go on after a stop was asked for.
const CALLS_END_WITHIN: Duration = Duration::from_secs(2);

/// The bucket of the embedded object store.
pub(crate) const BUCKET: &str = "hansard";

/// A running Hansard.
pub(crate) struct Embedded {
    /// Where the gateway listens.
    pub(crate) address: SocketAddr,
    running: JoinSet<Result<()>>,
    shutdown: watch::Sender<bool>,
    drain: Duration,
    // Held for as long as anything runs.
    engine: Arc<Engine>,
    _objects: ObjectServer,
}

impl Embedded {
    /// Opens the data directory and starts everything.
    ///
    /// # Errors
    /// A port or the data directory in use, a directory that cannot be written, or a store that cannot be read.
    pub(crate) async fn start(config: Config, speech: Arc<dyn Speech>) -> Result<Self> {
        let Config {
            data_dir, cache: _, listen, keys, cors_origins, drain, log: _, engine, aggregate, ..
        } = config;
        let Config { limits, speech: recognizer, audio, jobs, sweep, .. } = config;
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen}; give another address with --listen, or end what uses it")
        })?;
        private(&data_dir)?;
        let engine = Arc::new(Engine::open(&data_dir.join("engine"), engine)?);
        // Only who holds the engine's lock may clear up.
        let temporary = fresh(&data_dir.join("tmp"))?;
        let (objects, server) = objects(&data_dir).await?;
        let ports = ports(&engine, &objects);
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        let mut gateway = hansard_gateway::Config::new(BUCKET, signing_key(&data_dir)?);
        (gateway.keys, gateway.cors_origins, gateway.rules, gateway.limits) =
            (keys, cors_origins, aggregate.rules, limits);
        gateway.objects_gone_within = gone_within(&sweep);
        let mut storage = Storage::new(BUCKET);
        storage.upload_bytes_max = i64::try_from(limits.upload_bytes).unwrap_or(i64::MAX);
        let storage = Arc::new(storage);
        let reach = Reach {
            erasures: engine.erasures(),
            part_uploads: Arc::new(objects.clone()),
            speech: Arc::clone(&speech),
        };
        let metrics = SweepMetrics::register(&registry)?;
        let sweep = Arc::new(Sweep::new(ports.clone(), reach, Arc::clone(&storage), sweep, metrics));
        let connectors = Connectors {
            audio: Arc::new(audio_path(audio, temporary, limits.upload_bytes)?),
            speech,
            summarizer: Arc::new(Extractive),
        };
        let settings = Arc::new(Settings {
            instance: "embedded".to_owned(),
            topics: Arc::new(Topics::default()),
            storage,
            jobs: in_line(jobs, &recognizer),
            aggregate,
            ordered: OrderedConfig::default(),
        });
        let (shutdown, stopping) = watch::channel(false);
        let mut running = JoinSet::new();
        for job in JOBS {
            let (ports, connectors, settings) = (ports.clone(), connectors.clone(), Arc::clone(&settings));
            running.spawn(keep_running(job, ports, connectors, settings, families.clone(), stopping.clone()));
        }
        let (by_clock, stop_sweeping) = (Arc::clone(&sweep), stopping.clone());
        running.spawn(async move {
            by_clock.keep_running(stop_sweeping).await;
            Ok(())
        });
        running.spawn(maintain(Arc::clone(&engine), stopping.clone()));
        let address = listener.local_addr()?;
        let links = Arc::new(S3Links(objects));
        let gateway = Arc::new(Gateway::new(ports, links, Arc::new(SweepPort(sweep)), registry, gateway)?);
        running.spawn(serve(listener, gateway, stopping));
        Ok(Self { address, running, shutdown, drain, engine, _objects: server })
    }

    /// Runs until `stop` ends, or something that must not end does; then drains, bounded.
    ///
    /// # Errors
    /// What ended that must not.
    pub(crate) async fn run_until<T>(mut self, stop: impl Future<Output = T>) -> Result<T> {
        let ended = tokio::select! {
            stopped = stop => Ok(stopped),
            ended = self.running.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Err(error)) => Err(error.into()),
                Some(Ok(Ok(()))) | None => Err(anyhow!("a job ended by itself")),
            },
        };
        self.shutdown.send_replace(true);
        let drained = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(self.drain, drained).await.is_err() {
            tracing::warn!("some work did not end in time; it is taken up again at the next start");
        }
        self.running.shutdown().await;
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
    }
}

/// An erasure's objects are gone after two runs at the latest: the marker may come while one is under way.
fn gone_within(sweep: &SweepConfig) -> Option<Millis> {
    (!sweep.dry_run).then_some(Millis(sweep.every.0.saturating_mul(2)))
}

fn audio_path(audio: Audio, directory: PathBuf, recording_bytes_max: u64) -> Result<AudioPath> {
    let Audio { limits, format, lost_share_max, fill_gaps_ms } = audio;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let (decoder, plan) = (Decoder::new(program, limits), PlanMs::default());
    Ok(AudioPath { decoder, plan, format, fill_gaps_ms, lost_share_max, directory, recording_bytes_max })
}

/// A call to the local model waits for a free process, and its time limit goes on meanwhile: no more wait than are soon
/// served.
fn in_line(mut jobs: BTreeMap<Stage, JobSettings>, speech: &config::Speech) -> BTreeMap<Stage, JobSettings> {
    if let (config::Speech::Local { children, .. }, Some(job)) = (speech, jobs.get_mut(&Stage::Transcribe)) {
        let bounds = &mut job.effects.bounds;
        bounds.in_flight_max = bounds.in_flight_max.min(children * 4);
    }
    jobs
}

/// Runs a job, and begins it again with a growing wait when the log fails under it.
async fn keep_running(
    job: Stage,
    ports: Ports,
    connectors: Connectors,
    settings: Arc<Settings>,
    families: Families,
    mut stopping: watch::Receiver<bool>,
) -> Result<()> {
    let mut wait = WAIT_FIRST;
    loop {
        let began = Instant::now();
        let run =
            topology::run(job, ports.clone(), connectors.clone(), &settings, &families, stopping.clone());
        let Err(error) = run.await else { return Ok(()) };
        if matches!(error, LogError::OutOfRange { .. }) {
            // Beginning again would read the same; what was deleted unread is for a person to know of.
            return Err(error).with_context(|| {
                format!("{job} has stopped; keep the log longer, or accept the loss and set its group's offset anew")
            });
        }
        tracing::error!(job = job.as_str(), %error, "the job begins again");
        if began.elapsed() > WAIT_LAST {
            wait = WAIT_FIRST;
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT_LAST),
        }
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

/// Serves calls until the stop, and a little longer those under way: streams of events would never end.
async fn serve(listener: TcpListener, gateway: Arc<Gateway>, stopping: watch::Receiver<bool>) -> Result<()> {
    let stopped = |mut stopping: watch::Receiver<bool>| async move {
        // A dropped sender means the same: nobody is left to serve.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let router = gateway.router(Surface::Everything);
    let served = axum::serve(listener, router).with_graceful_shutdown(stopped(stopping.clone()));
    let late = async {
        stopped(stopping).await;
        tokio::time::sleep(CALLS_END_WITHIN).await;
    };
    tokio::select! {
        served = served.into_future() => Ok(served?),
        () = late => Ok(()),
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
