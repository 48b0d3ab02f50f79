//! A deployment in a world: processes that run jobs as they ship, crash, and are started again.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use hansard_core::id::{Digest, Millis, Timestamp};
use hansard_jobs::aggregate::AggregateConfig;
use hansard_jobs::effects::{Storage, journal_key};
use hansard_jobs::redaction::Redaction;
use hansard_jobs::sweep::{Reach, Report, Sweep, SweepConfig, SweepError, SweepMetrics};
use hansard_jobs::topology::{self, Connectors, JOBS, JobSettings, Settings};
use hansard_runtime::driver::{Process, ProcessId, World, WorldConfig};
use hansard_runtime::metrics::Families;
use hansard_runtime::ordered::OrderedConfig;
use hansard_runtime::ports::journal::{Step, SubmissionId};
use hansard_schemas::{Stage, Topics};
use tokio::sync::watch;

use super::fakes::{Fakes, Shared};
use super::{speech, summary};

/// When every world begins: the first of January 2026.
pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000);

/// Compiled once, for thousands of worlds.
static BUILT_IN: LazyLock<Redaction> =
    LazyLock::new(|| Redaction::built_in().expect("the rules of the build"));

/// A process and what it runs.
struct Seat {
    process: Process,
    jobs: Vec<Stage>,
    stop: watch::Sender<bool>,
}

/// Jobs over a world.
pub(crate) struct Deployment {
    pub(crate) world: World,
    pub(crate) ledger: Shared,
    pub(crate) jobs: BTreeMap<Stage, JobSettings>,
    pub(crate) redaction: Redaction,
    pub(crate) aggregate: AggregateConfig,
    pub(crate) ordered: OrderedConfig,
    pub(crate) sweep: SweepConfig,
    /// What the last run of sweep told.
    pub(crate) swept: Arc<Mutex<Option<Result<Report, SweepError>>>>,
    pub(crate) partitions: u32,
    /// How often a process has crashed.
    pub(crate) crashes: usize,
    families: Families,
    sweep_metrics: SweepMetrics,
    seats: BTreeMap<String, Seat>,
    /// Processes that are to be started: when, under which name, with which jobs.
    restarts: Vec<(Timestamp, String, Vec<Stage>)>,
    /// How long a crashed process stays away, at most; exactly so long in scenarios.
    pub(crate) away: Millis,
    /// Whether `away` is a bound that the world draws below, and names may change.
    pub(crate) erratic: bool,
}

impl Deployment {
    pub(crate) fn new(config: &WorldConfig) -> Self {
        let registry = prometheus::Registry::new();
        Self {
            world: World::new(config),
            ledger: Shared::default(),
            jobs: JOBS.iter().map(|job| (*job, JobSettings::of(*job))).collect(),
            redaction: BUILT_IN.clone(),
            aggregate: AggregateConfig::default(),
            ordered: OrderedConfig::default(),
            sweep: SweepConfig::default(),
            swept: Arc::default(),
            partitions: config.partitions,
            crashes: 0,
            sweep_metrics: SweepMetrics::register(&registry).expect("a fresh registry"),
            families: Families::register(&registry).expect("a fresh registry"),
            seats: BTreeMap::new(),
            restarts: Vec::new(),
            away: Millis::seconds(1),
            erratic: false,
        }
    }

    /// Starts a process.
    pub(crate) fn start(&mut self, name: &str, jobs: &[Stage]) {
        let process = self.world.boot(name);
        let (stop, stopping) = watch::channel(false);
        let fakes = Arc::new(Fakes { process: process.clone(), ledger: self.ledger.clone() });
        let settings = Settings {
            instance: name.to_owned(),
            topics: Arc::new(Topics::default()),
            storage: Arc::new(Storage::new("b")),
            jobs: self.jobs.clone(),
            redaction: self.redaction.clone(),
            aggregate: self.aggregate.clone(),
            ordered: self.ordered.clone(),
        };
        for job in jobs.iter().copied() {
            let connectors = Connectors {
                audio: fakes.clone(),
                providers: speech::providers(&fakes, &process.ports()),
                links: fakes.clone(),
                callbacks: speech::callbacks(&fakes),
                summarizers: summary::summarizers(&fakes, &process.ports()),
                webhook: fakes.clone(),
            };
            let (settings, families) = (settings.clone(), self.families.clone());
            let (ports, stopping, world) = (process.ports(), stopping.clone(), self.world.clone());
            let task = async move {
                loop {
                    let connectors = connectors.clone();
                    let run =
                        topology::run(job, ports.clone(), connectors, &settings, &families, stopping.clone());
                    let Err(error) = run.await else { break };
                    world.note(&format!("{} of {job} ends: {error}", settings.instance));
                    let again = ports.clock.now() + Millis::seconds(1);
                    ports.clock.sleep_until(again).await;
                }
            };
            self.world.spawn(process.id, Box::pin(task));
        }
        self.seats.insert(name.to_owned(), Seat { process, jobs: jobs.to_vec(), stop });
    }

    /// Sweeps once, in a process of its own.
    pub(crate) fn sweep(&self, name: &str, dry_run: bool) {
        let process = self.world.boot(name);
        let fakes = Fakes { process: process.clone(), ledger: self.ledger.clone() };
        let (erasures, part_uploads) = (process.erasures(), process.part_uploads());
        let providers = speech::providers(&fakes, &process.ports());
        let reach = Reach { erasures, part_uploads, providers };
        let (storage, metrics) = (Arc::new(Storage::new("b")), self.sweep_metrics.clone());
        let sweep = Sweep::new(process.ports(), reach, storage, self.sweep.clone(), metrics);
        let (world, swept) = (self.world.clone(), Arc::clone(&self.swept));
        let task = async move {
            let told = sweep.run(dry_run).await;
            world.note(&format!("sweep: {told:?}"));
            *swept.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        };
        self.world.spawn(process.id, Box::pin(task));
    }

    /// Lets the journal know of a provider's job, as a stage with such a provider would.
    pub(crate) fn note_job(&self, conversation: &str, job: &str) {
        let process = self.world.boot("journal");
        let (ports, id) = (process.ports(), format!("simulated/{job}"));
        let key = journal_key(conversation, Stage::Transcribe, Digest::default(), 0);
        let task = async move {
            let (submission, deadline) = (SubmissionId(ports.entropy.id()), ports.clock.now());
            let written =
                ports.journal.write(&key, submission, Step::Job { id, deadline, asked: Bytes::new() });
            written.await.expect("the store is up");
        };
        self.world.spawn(process.id, Box::pin(task));
    }

    /// A provider's call about the last job of this segment; or one by somebody who has learnt its URL, about another.
    pub(crate) fn call_back(&self, segment: &str, forged: Option<&str>) {
        let ledger = self.ledger.open();
        let last =
            ledger.manner.last_of(segment).unwrap_or_else(|| panic!("{segment} has no job with a URL"));
        speech::call_back(&self.world, self.partitions, &last.1, forged.unwrap_or(&last.0));
    }

    /// What the jobs tell of themselves, as Prometheus reads it.
    pub(crate) fn metrics(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.families.registry().gather()).expect("metrics")
    }

    fn process(&self, name: &str) -> ProcessId {
        self.seats.get(name).unwrap_or_else(|| panic!("no process {name:?}")).process.id
    }

    /// The names of the processes that run.
    pub(crate) fn running(&self) -> Vec<String> {
        self.seats.keys().cloned().collect()
    }

    /// Asks a process to stop in order; it does not come back.
    pub(crate) fn stop(&mut self, name: &str) {
        let id = self.process(name);
        if let Some(seat) = self.seats.remove(name) {
            // Nobody listens where it has crashed.
            let _ = seat.stop.send(true);
            assert!(seat.process.id == id);
        }
    }

    /// Crashes a process, which comes back after a while.
    pub(crate) fn kill(&mut self, name: &str) {
        let id = self.process(name);
        self.world.kill(id);
        self.replace(&[id]);
    }

    pub(crate) fn freeze(&self, name: &str, length: Millis) {
        self.world.freeze(self.process(name), self.world.now() + length);
    }

    pub(crate) fn isolate(&self, name: &str, length: Millis) {
        self.world.isolate(self.process(name), self.world.now() + length);
    }

    pub(crate) fn set_skew(&self, name: &str, skew: Millis) {
        self.seats.get(name).unwrap_or_else(|| panic!("no process {name:?}")).process.set_skew(skew);
    }

    /// Plans the return of crashed processes: under the same name, or, erratically, under another.
    fn replace(&mut self, crashed: &[ProcessId]) {
        self.crashes += crashed.len();
        for id in crashed {
            let name =
                self.seats.iter().find(|(_, seat)| seat.process.id == *id).map(|(name, _)| name.clone());
            let Some((name, seat)) = name.and_then(|name| self.seats.remove_entry(&name)) else { continue };
            let mut away = self.away;
            let mut again = name.clone();
            if self.erratic {
                away = Millis(i64::try_from(self.world.draw(self.away.0.unsigned_abs())).unwrap_or(0));
                if self.world.draw(2) == 0 {
                    again = format!("{}-{}", name.split('-').next().unwrap_or(&name), id.number());
                }
            }
            self.restarts.push((self.world.now() + away, again, seat.jobs));
        }
    }

    /// Lets the world run until then; crashed processes come back in their time.
    pub(crate) fn run_until(&mut self, until: Timestamp) {
        loop {
            let next = self.restarts.iter().map(|(at, ..)| *at).min().filter(|at| *at <= until);
            self.world.run_until(next.unwrap_or(until));
            let crashed = self.world.take_crashed();
            if !crashed.is_empty() {
                self.replace(&crashed);
                continue;
            }
            let now = self.world.now();
            let due: Vec<_> = self.restarts.extract_if(.., |(at, ..)| *at <= now).collect();
            if due.is_empty() {
                return;
            }
            for (_, name, jobs) in due {
                self.start(&name, &jobs);
            }
        }
    }
}
