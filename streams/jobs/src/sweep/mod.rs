//! The job sweep: removes what nobody will ask for again.
//!
//! Consumes: the clock. Emits: retention's `Erase` into `uploads`. Key: the conversation. Effect: deletes the objects and
//! the providers' copies of erased conversations; deletes objects that nothing refers to; aborts multipart uploads that
//! nobody joined. Bad input: a failure of a dependency ends the run, and the next one goes on.
//!
//! An object is unreferenced only where it is older than a day, aggregate has read everything that was in the log before
//! the look, and neither a row nor the journal refers to it. A run marks it first; one that comes `every` later or more
//! deletes it if it is still the same content and still unreferenced. The gateway confirms nothing older than 20 h, so the
//! two cannot meet.
//!
//! Nothing keeps two runs apart: a gateway sweeps when it is asked to, and a process that is being replaced runs on beside
//! the next one. Every step can be repeated, also in the middle of another run's, so that a crash, or two runs at once, do
//! no harm; and since the age of a mark decides, two runs in one minute delete no more than one. Both may count what only
//! one of them had to do, and both may append retention's `Erase`, which erases once, and not at all where something newer
//! has come between the look and the Erase: aggregate judges that.

mod erasures;
mod marks;
mod metrics;
mod read;
mod references;
mod report;
mod unreferenced;

use std::sync::Arc;

use hansard_core::id::{Millis, Timestamp};
use hansard_runtime::ports::facts::Erasures;
use hansard_runtime::ports::log::LogError;
use hansard_runtime::ports::objects::{ObjectName, PartUploads};
use hansard_runtime::ports::{PortError, Ports};
use tokio::sync::watch;

use crate::effects::Storage;
use crate::providers::Providers;

pub use metrics::SweepMetrics;
pub use report::{Fate, Found, Report};

/// What is swept: the beginnings of all keys that Hansard gives. The conversation's id follows.
const OWN_PREFIXES: [&str; 4] = ["uploads/", "segments/", "merged/", "transcripts/"];

/// What sweep needs beside the shared ports.
#[derive(Clone)]
pub struct Reach {
    /// The markers that it carries out.
    pub erasures: Arc<dyn Erasures>,
    /// The multipart uploads that it aborts.
    pub part_uploads: Arc<dyn PartUploads>,
    /// The providers that may keep copies.
    pub providers: Arc<Providers>,
}

/// How sweep behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepConfig {
    /// From the end of a run to the next (default 1 h), and the least age of a mark that deletes.
    pub every: Millis,
    /// From the start of the process to the first run (default 1 min).
    pub first: Millis,
    /// Nothing that is younger is called unreferenced (default 24 h): longer than the gateway confirms, and than any
    /// effect may take.
    pub unreferenced_after: Millis,
    /// For so long after an erasure its conversation's objects are looked for by its marker in each run (default 7 d);
    /// later writes are met when all objects are looked at.
    pub erasure_fresh: Millis,
    /// Conversations without a newer fact are erased; by default none.
    pub retention: Option<Millis>,
    /// How long a run waits for aggregate to have read the log (default 1 min).
    pub read_within: Millis,
    /// Marks of one run, at most (default 10,000): what is beyond waits for a later run.
    pub marks_max: usize,
    /// Runs by the clock only tell what they would do.
    pub dry_run: bool,
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self {
            every: Millis::hours(1),
            first: Millis::minutes(1),
            unreferenced_after: Millis::hours(24),
            erasure_fresh: Millis::hours(7 * 24),
            retention: None,
            read_within: Millis::minutes(1),
            marks_max: 10_000,
            dry_run: false,
        }
    }
}

/// What ended a run. The next one goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SweepError {
    /// The store or the object store.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The job.
pub struct Sweep {
    ports: Ports,
    reach: Reach,
    storage: Arc<Storage>,
    config: SweepConfig,
    metrics: SweepMetrics,
}

impl Sweep {
    /// The job with its ports.
    #[must_use]
    pub fn new(
        ports: Ports,
        reach: Reach,
        storage: Arc<Storage>,
        config: SweepConfig,
        metrics: SweepMetrics,
    ) -> Self {
        Self { ports, reach, storage, config, metrics }
    }

    /// Runs by the clock until `shutdown` turns true, which also ends a run under way.
    pub async fn keep_running(&self, mut shutdown: watch::Receiver<bool>) {
        let mut wait = self.config.first;
        loop {
            let next = async {
                self.ports.clock.sleep_until(self.ports.clock.now() + wait).await;
                // What went wrong is logged and counted; the next run goes on.
                self.run(self.config.dry_run).await.ok();
            };
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return,
                () = next => wait = self.config.every,
            }
        }
    }

    /// One run; with `dry_run` it changes nothing and tells what it would do.
    ///
    /// # Errors
    /// A dependency failed; what was done stays done.
    pub async fn run(&self, dry_run: bool) -> Result<Report, SweepError> {
        let mut report = Report { dry_run, ..Report::default() };
        let done = self.steps(&mut report).await;
        let now = self.ports.clock.now();
        self.metrics.ran(&report, done.is_ok(), now);
        report.log(done.as_ref().err());
        done.map(|()| report)
    }

    async fn steps(&self, report: &mut Report) -> Result<(), SweepError> {
        self.carry_erasures_out(report).await?;
        report.log_read = self.log_is_read().await?;
        let found = self.look_at_objects(report).await?;
        self.act_on(found, report).await?;
        self.abort_part_uploads(report).await
    }

    /// Aborts the multipart uploads that were begun too long ago to be joined.
    async fn abort_part_uploads(&self, report: &mut Report) -> Result<(), SweepError> {
        let before = self.old();
        for prefix in OWN_PREFIXES {
            let bucket = &self.storage.bucket;
            let aborted = self.reach.part_uploads.abort_stale(bucket, prefix, before, report.dry_run).await?;
            aborted.into_iter().for_each(|key| report.aborted(key));
        }
        Ok(())
    }

    /// What was written before this time may be unreferenced.
    fn old(&self) -> Timestamp {
        Timestamp(self.ports.clock.now().0.saturating_sub(self.config.unreferenced_after.0))
    }

    fn name(&self, key: &str) -> ObjectName {
        ObjectName { bucket: self.storage.bucket.clone(), key: key.to_owned() }
    }
}

/// The conversation whose key it is by our layout.
fn conversation_of(key: &str) -> &str {
    key.split('/').nth(1).unwrap_or_default()
}
