//! What sweep tells of itself to Prometheus.

use hansard_core::id::Timestamp;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::report::Report;

/// The metrics of sweep, registered once a process. Dry runs move none of them.
#[derive(Clone)]
pub struct SweepMetrics {
    runs: IntCounterVec,
    objects: IntCounterVec,
    deleted_bytes: IntCounter,
    erasures: IntCounterVec,
    aborted: IntCounter,
    jobs_waiting: IntGauge,
    last_success: IntGauge,
}

impl SweepMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When the registry already has one of their names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| {
            let all = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(all.clone())).map(|()| all)
        };
        let counter = |name: &str, help: &str| {
            let one = IntCounter::new(name, help)?;
            registry.register(Box::new(one.clone())).map(|()| one)
        };
        let gauge = |name: &str, help: &str| {
            let one = IntGauge::new(name, help)?;
            registry.register(Box::new(one.clone())).map(|()| one)
        };
        Ok(Self {
            runs: counters("hansard_sweep_runs_total", "Runs of sweep: done, unread or failed.", "result")?,
            objects: counters(
                "hansard_sweep_objects_total",
                "Objects that sweep looked at, marked or deleted.",
                "what",
            )?,
            deleted_bytes: counter("hansard_sweep_deleted_bytes_total", "Bytes of deleted objects.")?,
            erasures: counters(
                "hansard_sweep_erasures_total",
                "Erased conversations of which something was left, and those that retention has erased.",
                "what",
            )?,
            aborted: counter("hansard_sweep_aborted_total", "Multipart uploads that were aborted.")?,
            jobs_waiting: gauge(
                "hansard_sweep_jobs_waiting",
                "Providers' jobs of erased conversations whose deletion is not confirmed.",
            )?,
            last_success: gauge(
                "hansard_sweep_last_success_seconds",
                "When the last run without failure ended, in seconds since 1970.",
            )?,
        })
    }

    pub(super) fn ran(&self, report: &Report, well: bool, now: Timestamp) {
        if report.dry_run {
            return;
        }
        let result = match (well, report.log_read) {
            (false, _) => "failed",
            (true, false) => "unread",
            (true, true) => "done",
        };
        self.runs.with_label_values(&[result]).inc();
        let add = |family: &IntCounterVec, what, count| family.with_label_values(&[what]).inc_by(count);
        add(&self.objects, "looked_at", report.objects);
        add(&self.objects, "marked", report.marked);
        add(&self.objects, "deleted", report.deleted);
        self.deleted_bytes.inc_by(report.deleted_bytes);
        add(&self.erasures, "carried_out", report.erasures);
        add(&self.erasures, "retention", report.expired);
        self.aborted.inc_by(report.aborted);
        if well {
            self.jobs_waiting.set(i64::try_from(report.jobs_waiting).unwrap_or(i64::MAX));
            self.last_success.set(now.0 / 1000);
        }
    }
}
