//! What a job tells of itself: counters, gauges and histograms, one set a job.

use hansard_core::id::{Millis, Timestamp};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::ports::log::TransactError;
use crate::stage::{Answer, Failed};

/// All metrics of the runtime, registered once a process and labelled by job.
#[derive(Clone)]
pub struct Families {
    registry: Registry,
    answers: IntCounterVec,
    seconds: HistogramVec,
    end_to_end: HistogramVec,
    oldest: IntGaugeVec,
    in_flight: IntGaugeVec,
    paused: IntGaugeVec,
    transactions: IntCounterVec,
    emitted: IntCounterVec,
    unavailable: IntCounterVec,
    conflicts: IntCounterVec,
}

/// The metrics of one job.
#[derive(Clone)]
pub struct Metrics {
    job: &'static str,
    families: Families,
}

impl Families {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When the registry already has one of their names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).and_then(|c| {
                registry.register(Box::new(c.clone()))?;
                Ok(c)
            })
        };
        let gauge = |name: &str, help: &str| {
            IntGaugeVec::new(Opts::new(name, help), &["job"]).and_then(|g| {
                registry.register(Box::new(g.clone()))?;
                Ok(g)
            })
        };
        let opts = HistogramOpts::new("hansard_stage_seconds", "Time from a record's start to its answer.")
            .buckets(vec![0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0]);
        let seconds = HistogramVec::new(opts, &["job"])?;
        registry.register(Box::new(seconds.clone()))?;
        let opts = HistogramOpts::new(
            "hansard_end_to_end_seconds",
            "Time from when the log took a record in to when what it led to was committed.",
        )
        .buckets(vec![0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0]);
        let end_to_end = HistogramVec::new(opts, &["job"])?;
        registry.register(Box::new(end_to_end.clone()))?;
        Ok(Self {
            registry: registry.clone(),
            answers: counter(
                "hansard_answers_total",
                "Attempts by how they were answered: done, parked, or a failure's class and code.",
                &["job", "answer", "code"],
            )?,
            seconds,
            end_to_end,
            oldest: gauge(
                "hansard_oldest_undone_seconds",
                "Age of the oldest new record that was fetched and is not done.",
            )?,
            in_flight: gauge("hansard_in_flight", "Records under way.")?,
            paused: gauge("hansard_paused_partitions", "Partitions that wait for a dependency.")?,
            transactions: counter(
                "hansard_transactions_total",
                "Transactions by result.",
                &["job", "result"],
            )?,
            emitted: counter("hansard_emitted_total", "Records emitted.", &["job"])?,
            unavailable: counter("hansard_unavailable_total", "Waits in place for a dependency.", &["job"])?,
            conflicts: counter(
                "hansard_revision_conflicts_total",
                "Further contents that were read of a revision; another revision follows each.",
                &["job"],
            )?,
        })
    }

    /// The metrics of one job.
    #[must_use]
    pub fn job(&self, job: &'static str) -> Metrics {
        Metrics { job, families: self.clone() }
    }

    /// The registry that they are in.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Metrics {
    pub(crate) fn answered(&self, answer: &Result<Answer, Failed>, begun: Timestamp, ended: Timestamp) {
        let (what, code) = match answer {
            Ok(Answer::Done(_)) => ("done", ""),
            Ok(Answer::Parked) => ("parked", ""),
            Err(failed) => (failed.class.as_str(), failed.code),
        };
        self.families.answers.with_label_values(&[self.job, what, code]).inc();
        self.families.seconds.with_label_values(&[self.job]).observe(seconds(ended - begun));
    }

    /// Records that the log took in at these times are committed.
    pub(crate) fn committed(&self, appended: &[Timestamp], now: Timestamp) {
        let histogram = self.families.end_to_end.with_label_values(&[self.job]);
        appended.iter().for_each(|at| histogram.observe(seconds(now - *at)));
    }

    /// The oldest record that is not done was taken in at this time.
    pub(crate) fn oldest(&self, appended: Option<Timestamp>, now: Timestamp) {
        let age = appended.map_or(0, |at| (now - at).0.max(0) / 1000);
        self.families.oldest.with_label_values(&[self.job]).set(age);
    }

    pub(crate) fn in_flight(&self, in_flight: usize, paused: usize) {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.families.in_flight.with_label_values(&[self.job]).set(gauge(in_flight));
        self.families.paused.with_label_values(&[self.job]).set(gauge(paused));
    }

    pub(crate) fn unavailable(&self, cause: &str) {
        tracing::debug!(job = self.job, cause, "waits in place");
        self.families.unavailable.with_label_values(&[self.job]).inc();
    }

    /// One revision turned out to have two contents.
    pub fn revision_conflict(&self) {
        self.families.conflicts.with_label_values(&[self.job]).inc();
    }

    pub(crate) fn transaction(&self, emitted: usize) {
        self.families.transactions.with_label_values(&[self.job, "begun"]).inc();
        self.families.emitted.with_label_values(&[self.job]).inc_by(emitted as u64);
    }

    pub(crate) fn aborted(&self, error: TransactError) {
        let result = match error {
            TransactError::Fenced => "fenced",
            TransactError::Aborted => "aborted",
            TransactError::Indefinite => "indefinite",
            TransactError::TooLarge { .. } => "too_large",
        };
        self.families.transactions.with_label_values(&[self.job, result]).inc();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a histogram's buckets are coarser than a double")]
fn seconds(length: Millis) -> f64 {
    length.0 as f64 / 1000.0
}
