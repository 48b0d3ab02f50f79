//! What a job tells of itself: counters, gauges and histograms, one set a job.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hansard_core::id::{Millis, Offset, Timestamp};
use hansard_schemas::Stage;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::ports::log::{Fetched, TopicPartition, TransactError};
use crate::stage::{Answer, Failed};
use crate::standing::{Shared, Standing};

/// All metrics of the runtime, registered once a process and labelled by job.
#[derive(Clone)]
pub struct Families {
    registry: Registry,
    standings: Arc<Mutex<BTreeMap<&'static str, Shared>>>,
    records: IntCounterVec,
    answers: IntCounterVec,
    seconds: HistogramVec,
    end_to_end: HistogramVec,
    calls: IntCounterVec,
    repeated: IntCounterVec,
    gauges: Gauges,
    transactions: IntCounterVec,
    emitted: IntCounterVec,
    unavailable: IntCounterVec,
    conflicts: IntCounterVec,
    spared: IntCounterVec,
    stalls: IntCounterVec,
}

/// What rises and falls.
#[derive(Clone)]
struct Gauges {
    oldest: IntGaugeVec,
    oldest_unstarted: IntGaugeVec,
    oldest_window: IntGaugeVec,
    lag: IntGaugeVec,
    dead_letters: IntGaugeVec,
    in_flight: IntGaugeVec,
    paused: IntGaugeVec,
}

/// The metrics of one job.
#[derive(Clone)]
pub struct Metrics {
    job: &'static str,
    families: Families,
    standing: Shared,
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
            standings: Arc::default(),
            records: counter("hansard_records_total", "Records read, by topic.", &["job", "topic"])?,
            answers: counter(
                "hansard_answers_total",
                "Attempts by how they were answered: done, parked, or a failure's class and code.",
                &["job", "answer", "code"],
            )?,
            seconds,
            end_to_end,
            calls: counter(
                "hansard_calls_total",
                "Calls that cost something outside, by how they ended: done, or a failure's class.",
                &["job", "result"],
            )?,
            gauges: Gauges::register(registry)?,
            repeated: counter(
                "hansard_repeated_calls_total",
                "Calls made although an earlier one for the same had begun and never told its end.",
                &["job"],
            )?,
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
            spared: counter(
                "hansard_erasures_spared_total",
                "Erasures by retention that were not carried out: the conversation has got something newer.",
                &["job"],
            )?,
            stalls: counter(
                "hansard_stalls_total",
                "Memberships thrown away because nothing more was handed over although records were there.",
                &["job"],
            )?,
        })
    }

    /// The metrics of one job.
    #[must_use]
    pub fn job(&self, job: &'static str) -> Metrics {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = standings.entry(job).or_default().clone();
        Metrics { job, families: self.clone(), standing }
    }

    /// How each job of this process stands.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<&'static str, Standing> {
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        standings.iter().map(|(job, standing)| (*job, standing.get())).collect()
    }

    /// So many dead letters of a stage rest.
    pub(crate) fn dead_letters(&self, stage: Stage, depth: u64) {
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        self.gauges.dead_letters.with_label_values(&[stage.as_str()]).set(depth);
    }

    /// The lag by job and topic; what was told before and is not here is forgotten.
    pub(crate) fn lag(&self, lags: &BTreeMap<(&'static str, String), i64>) {
        self.gauges.lag.reset();
        for ((job, topic), records) in lags {
            self.gauges.lag.with_label_values(&[*job, topic.as_str()]).set(*records);
        }
    }

    /// The registry that they are in.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Gauges {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge_by = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels).and_then(|g| {
                registry.register(Box::new(g.clone()))?;
                Ok(g)
            })
        };
        let gauge = |name: &str, help: &str| gauge_by(name, help, &["job"]);
        Ok(Self {
            oldest: gauge(
                "hansard_oldest_undone_seconds",
                "Age of the oldest new record that was fetched and is not done.",
            )?,
            oldest_unstarted: gauge(
                "hansard_oldest_unstarted_seconds",
                "Age of the oldest new record that was fetched and is not begun.",
            )?,
            oldest_window: gauge(
                "hansard_oldest_open_window_seconds",
                "Time since the window was opened that has waited longest for its next revision or its delivery.",
            )?,
            lag: gauge_by(
                "hansard_lag_records",
                "Offsets from the first record that is not done to the end of the log, of the partitions held.",
                &["job", "topic"],
            )?,
            dead_letters: gauge_by(
                "hansard_dead_letters",
                "Dead letters that rest, of the whole deployment.",
                &["stage"],
            )?,
            in_flight: gauge("hansard_in_flight", "Records under way.")?,
            paused: gauge("hansard_paused_partitions", "Partitions that wait for a dependency.")?,
        })
    }
}

impl Metrics {
    /// The loop has come so far in the partitions that the group gave, and waits for this, if for anything. It is told
    /// at every turn, so nothing that was waited for before has to be taken back.
    pub(crate) fn reached(
        &self,
        positions: impl Iterator<Item = (TopicPartition, Offset)>,
        waits_for: Option<&str>,
    ) {
        self.standing.set(|standing| {
            let held = standing.positions.get_or_insert_default();
            held.clear();
            held.extend(positions);
            if standing.waits_for.as_deref() != waits_for {
                standing.waits_for = waits_for.map(str::to_owned);
            }
        });
    }

    /// The group has taken the partitions back, or the job ended for a while.
    pub fn unassigned(&self, cause: Option<String>) {
        self.standing.set(|standing| *standing = Standing { positions: None, waits_for: cause });
    }

    pub(crate) fn fetched(&self, fetched: &Fetched) {
        if !fetched.records.is_empty() {
            let topic = fetched.from.topic.to_string();
            let counter = self.families.records.with_label_values(&[self.job, &topic]);
            counter.inc_by(fetched.records.len() as u64);
        }
    }

    /// A call begins; `repeated` where an earlier one never told its end.
    pub(crate) fn call_begun(&self, repeated: bool) {
        self.families.repeated.with_label_values(&[self.job]).inc_by(repeated.into());
    }

    pub(crate) fn call_ended(&self, failed: Option<&Failed>) {
        let result = failed.map_or("done", |failed| failed.class.as_str());
        self.families.calls.with_label_values(&[self.job, result]).inc();
    }

    /// The window that has waited longest was opened at this time.
    pub fn oldest_window(&self, opened: Option<Timestamp>, now: Timestamp) {
        self.families.gauges.oldest_window.with_label_values(&[self.job]).set(age(opened, now));
    }

    pub(crate) fn answered(&self, answer: &Result<Answer, Failed>, begun: Timestamp, ended: Timestamp) {
        let (what, code) = in_words(answer);
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
        self.families.gauges.oldest.with_label_values(&[self.job]).set(age(appended, now));
    }

    /// The oldest record that is not begun was taken in at this time.
    pub(crate) fn oldest_unstarted(&self, appended: Option<Timestamp>, now: Timestamp) {
        self.families.gauges.oldest_unstarted.with_label_values(&[self.job]).set(age(appended, now));
    }

    pub(crate) fn in_flight(&self, in_flight: usize, paused: usize) {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.families.gauges.in_flight.with_label_values(&[self.job]).set(gauge(in_flight));
        self.families.gauges.paused.with_label_values(&[self.job]).set(gauge(paused));
    }

    pub(crate) fn unavailable(&self, cause: &str) {
        tracing::debug!(job = self.job, cause, "waits in place");
        self.families.unavailable.with_label_values(&[self.job]).inc();
    }

    /// One revision turned out to have two contents.
    pub fn revision_conflict(&self) {
        self.families.conflicts.with_label_values(&[self.job]).inc();
    }

    /// A conversation was not erased by retention, since it has got something newer.
    pub fn erasure_spared(&self) {
        self.families.spared.with_label_values(&[self.job]).inc();
    }

    /// A membership was thrown away that made no progress.
    pub fn stalled(&self) {
        self.families.stalls.with_label_values(&[self.job]).inc();
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

/// An answer: done, parked, or a failure's class; and the failure's code.
pub(crate) fn in_words(answer: &Result<Answer, Failed>) -> (&'static str, &'static str) {
    match answer {
        Ok(Answer::Done(_)) => ("done", ""),
        Ok(Answer::Parked(_)) => ("parked", ""),
        Err(failed) => (failed.class.as_str(), failed.code),
    }
}

/// In whole seconds; nothing has no age.
fn age(since: Option<Timestamp>, now: Timestamp) -> i64 {
    since.map_or(0, |at| (now - at).0.max(0) / 1000)
}

#[expect(clippy::cast_precision_loss, reason = "a histogram's buckets are coarser than a double")]
fn seconds(length: Millis) -> f64 {
    length.0 as f64 / 1000.0
}
