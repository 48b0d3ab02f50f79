//! The loop of the aggregator: facts in order, in batches, what follows from each with its offsets in one transaction; and
//! the clock's rules, applied only once the log is read.
//!
//! One task owns everything. The next batch is worked on while the last transaction commits; the member is polled all
//! the while.

mod commits;

use std::sync::Arc;

use async_trait::async_trait;
use hansard_core::id::{Millis, Partition, Timestamp};
use hansard_schemas::{Record, Topic};
use tokio::sync::watch;

use crate::commit::{Batch, Oversized, Source, TransactionBounds};
use crate::held::{Driven, Held, drive};
use crate::intake::{self, Intake};
use crate::metrics::Metrics;
use crate::outcome::Ending;
use crate::ports::Ports;
use crate::ports::log::{Fetched, LogError, Member, TopicPartition};
use crate::ports::windows::OpenWindow;
use crate::redeliver::Redeliver;
use crate::stage::{Failed, Input};
use crate::trace::TraceParent;

/// What facts, or a look by the clock, lead to.
#[derive(Debug, Default)]
pub struct Applied {
    /// What is emitted, each into its conversation's partition number.
    pub emissions: Vec<(Partition, Record)>,
    /// Entries of the index that are removed once the emissions are committed.
    pub settled: Vec<OpenWindow>,
}

/// A job that joins facts in order. Every call may be dropped at any await; `assigned` then comes first.
#[async_trait]
pub trait Fold: Send {
    /// What a record means to the job.
    type Fact: Send + Sync;

    /// The meaning of a record; a failure sends it to the dead letters.
    fn fact(&self, input: Input) -> Result<Self::Fact, Failed>;

    /// The topics of facts that have to be read before the clock may judge.
    fn facts(&self) -> &'static [Topic];

    /// The topic of the job's own emissions, which have to be read before it may decide at all.
    fn own(&self) -> Topic;

    /// A new assignment: everything held in memory is forgotten, and nothing is decided before `taken_over`.
    fn assigned(&mut self);

    /// The own emissions are read up to their end, so decisions are right from now on. The open windows of the
    /// partitions are listed, to be looked at. Where the log's clock is not known (not `clocked`), the first fact or look
    /// that leads to a decision has to emit something: its commit tells the time, and no deadline passes before.
    async fn taken_over(&mut self, partitions: &[Partition], clocked: bool) -> Result<(), Failed>;

    /// Takes facts in: rows are written, windows joined, decisions taken. Called again with the same facts after an
    /// error, which is always a dependency's.
    async fn apply(&mut self, facts: Vec<Self::Fact>) -> Result<Applied, Failed>;

    /// Where the newest fact of a conversation stands in a trace, as far as that is known: what is emitted follows from it.
    fn trace(&self, partition: Partition, conversation: &str) -> Option<TraceParent>;

    /// When the clock is next to look at a window of the partition.
    fn look_at(&self, partition: Partition) -> Option<Timestamp>;

    /// Looks at the windows of the partition whose time has come by `judged`; all facts that were in the log then have
    /// been applied. Afterwards `look_at` is later than `judged`, unless there is more to do at once.
    async fn look(&mut self, partition: Partition, judged: Timestamp) -> Result<Applied, Failed>;
}

/// How the ordered loop behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedConfig {
    /// Facts of one batch, about (default 8,000): what was fetched together is not split.
    pub batch_max: usize,
    /// Facts that wait before no more are taken (default 32,000).
    pub waiting_max: usize,
    /// Facts of one partition of a topic that wait for another topic, further behind, before it is not fetched from any
    /// more (default 2,000).
    pub ahead_max: usize,
    /// How long offsets of facts from which nothing followed may wait for a transaction (default 100 ms): after a crash
    /// those facts are read again. What has to be emitted is not put off.
    pub commit_within: Millis,
    /// How long commits may go on after a revocation or a shutdown began (default 5 s).
    pub drain: Millis,
    /// The longest wait in place while a dependency is down (default 5 s); it doubles from 100 ms.
    pub backoff_max: Millis,
}

impl Default for OrderedConfig {
    fn default() -> Self {
        Self {
            batch_max: 8000,
            waiting_max: 32_000,
            ahead_max: 2_000,
            commit_within: Millis(100),
            drain: Millis(5000),
            backoff_max: Millis(5000),
        }
    }
}

/// The aggregator on its loop.
pub struct Ordered<F> {
    fold: F,
    ports: Ports,
    redeliver: Redeliver,
    config: OrderedConfig,
    metrics: Metrics,
    shutdown: watch::Receiver<bool>,
    failures: u32,
    /// When the step under way began.
    begun: Timestamp,
    /// What the last step failed for, until one goes through.
    waits_for: Option<String>,
}

impl<F: Fold> Ordered<F> {
    /// A fold with its ports; it ends once `shutdown` turns true.
    pub fn new(
        fold: F,
        ports: Ports,
        redeliver: Redeliver,
        config: OrderedConfig,
        metrics: Metrics,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self {
            fold,
            ports,
            redeliver,
            config,
            metrics,
            shutdown,
            failures: 0,
            begun: Timestamp::MIN,
            waits_for: None,
        }
    }

    /// Runs until shutdown, then lets a commit under way end, bounded, and leaves the group.
    ///
    /// # Errors
    /// When the log fails for good; the caller decides whether to join again.
    pub async fn run(mut self, member: Box<dyn Member>) -> Result<(), LogError> {
        let mut held = Held::new(
            member,
            Arc::clone(&self.ports.clock),
            self.metrics.clone(),
            self.fold.own(),
            self.config.waiting_max,
        );
        loop {
            if held.revoking || held.leaving {
                self.drain(&mut held).await?;
                if held.leaving {
                    held.member.leave().await;
                    return Ok(());
                }
                held.member.release();
                held.forget();
            }
            held.balance(self.config.ahead_max);
            held.tell(self.waits_for.as_deref());
            self.begun = self.ports.clock.now();
            let progressed = self.commit_pending(&mut held).await?
                || self.settle(&mut held).await?
                || self.take_over(&mut held).await?
                || self.apply(&mut held).await?
                || self.look(&mut held).await?;
            if !progressed {
                self.idle(&mut held).await?;
            }
        }
    }

    /// Removes entries of the index whose deliveries are committed. One too many is harmless: where the removal fails,
    /// the next take-over looks at it again.
    async fn settle(&mut self, held: &mut Held) -> Result<bool, LogError> {
        if held.settled.is_empty() {
            return Ok(false);
        }
        let settled = std::mem::take(&mut held.settled);
        let removal = self.ports.windows.remove(&settled);
        if let Driven::Done(Err(error)) = drive(held, &mut self.shutdown, removal).await? {
            tracing::warn!(%error, entries = settled.len(), "open windows were not removed");
        }
        Ok(true)
    }

    /// After an assignment: only the own emissions are read, up to their end; then everything else.
    async fn take_over(&mut self, held: &mut Held) -> Result<bool, LogError> {
        if held.assignment.is_none() || held.taken_over {
            return Ok(false);
        }
        let own = self.fold.own();
        let Some(ends) = &held.own_ends else {
            #[cfg(feature = "mutants")]
            let keeps = crate::mutants::is_in(crate::mutants::Mutant::AbortForgotten);
            #[cfg(not(feature = "mutants"))]
            let keeps = false;
            if !keeps {
                self.fold.assigned();
            }
            let (own, others): (Vec<TopicPartition>, Vec<_>) =
                held.lanes().partition(|from| from.topic == own);
            held.member.set_paused(&others, true);
            if let Driven::Done(ends) = drive(held, &mut self.shutdown, self.ports.log.ends(&own)).await? {
                held.own_ends = Some(own.into_iter().zip(ends?.into_iter().map(|range| range.end)).collect());
            }
            return Ok(true);
        };
        #[cfg(feature = "mutants")]
        let ends = if crate::mutants::is_in(crate::mutants::Mutant::DecideBeforeOwn) {
            &Default::default()
        } else {
            ends
        };
        if !held.has_applied(ends) {
            return Ok(false);
        }
        let (partitions, clocked) = (held.partitions.clone(), held.lead.is_some());
        match drive(held, &mut self.shutdown, self.fold.taken_over(&partitions, clocked)).await? {
            Driven::Done(Ok(())) => {
                self.succeeded();
                held.taken_over = true;
                held.resume();
            }
            Driven::Done(Err(failed)) => self.back_off(held, &failed).await?,
            Driven::Dropped => {}
        }
        Ok(true)
    }

    /// Takes in the next batch of what was fetched.
    async fn apply(&mut self, held: &mut Held) -> Result<bool, LogError> {
        let Some(epoch) = held.assignment.as_ref().map(|assignment| assignment.epoch) else {
            return Ok(false);
        };
        let fetched = held.next_batch(self.config.batch_max);
        if fetched.is_empty() {
            return Ok(false);
        }
        let oversized = held.oversized.clone();
        loop {
            let mut batch = Batch::new(epoch, TransactionBounds::default());
            let mut any = false;
            let (fold, redeliver, ports) = (&mut self.fold, &self.redeliver, &self.ports);
            let work = async {
                let mut facts = Vec::with_capacity(fetched.iter().map(|run| run.records.len()).sum());
                for run in &fetched {
                    take_in(fold, run, (ports, redeliver, &oversized), &mut batch, &mut facts).await?;
                }
                any = !facts.is_empty();
                fold.apply(facts).await
            };
            match drive(held, &mut self.shutdown, work).await? {
                Driven::Done(Ok(applied)) => {
                    self.succeeded();
                    held.mark_applied(&fetched);
                    if any || !batch.is_empty() {
                        for run in &fetched {
                            batch.offset(run.from, run.position, String::new());
                        }
                        let records = fetched.iter().flat_map(|run| &run.records);
                        let times = records.map(|record| record.time).collect();
                        self.commit(held, batch, applied, times).await?;
                    }
                    return Ok(true);
                }
                Driven::Done(Err(failed)) => self.back_off(held, &failed).await?,
                Driven::Dropped => return Ok(true),
            }
            if held.assignment.as_ref().is_none_or(|now| now.epoch != epoch) || held.revoking || held.leaving
            {
                return Ok(true);
            }
        }
    }

    /// Lets the clock look where a time has come and the log is read. A commit under way may be about to tell the time.
    async fn look(&mut self, held: &mut Held) -> Result<bool, LogError> {
        let Some(epoch) = held.assignment.as_ref().map(|a| a.epoch).filter(|_| held.taken_over) else {
            return Ok(false);
        };
        if held.lead.is_none() && held.committing.is_some() {
            return Ok(false);
        }
        let now = held.now();
        #[cfg(feature = "mutants")]
        let now = match now {
            _ if crate::mutants::is_in(crate::mutants::Mutant::IdleUnread) => self.ports.clock.now(),
            now => now,
        };
        let mut unread = Vec::new();
        for partition in held.partitions.clone() {
            let Some(due) = self.fold.look_at(partition).filter(|due| *due <= now) else { continue };
            let judged = held.judged(partition);
            #[cfg(feature = "mutants")]
            let judged = match judged {
                _ if crate::mutants::is_in(crate::mutants::Mutant::IdleUnread) => Some((now, true)),
                judged => judged,
            };
            match judged {
                Some((asked, true)) if asked >= due => {
                    let mut batch = Batch::new(epoch, TransactionBounds::default());
                    // Without an offset of its partition number the transaction would not be fenced.
                    if let Some((from, offset)) = held.any_applied(partition) {
                        batch.offset(from, offset, String::new());
                    }
                    match drive(held, &mut self.shutdown, self.fold.look(partition, asked)).await? {
                        Driven::Done(Ok(applied)) => self.commit_if_any(held, batch, applied).await?,
                        Driven::Done(Err(failed)) => self.back_off(held, &failed).await?,
                        Driven::Dropped => {}
                    }
                    return Ok(true);
                }
                Some((asked, false)) if asked >= due => {}
                _ => unread.push(partition),
            }
        }
        if unread.is_empty() {
            return Ok(false);
        }
        self.ask_ends(held, &unread).await?;
        Ok(true)
    }

    /// Asks for the ends of all fact topics of some partitions, in one request.
    async fn ask_ends(&mut self, held: &mut Held, partitions: &[Partition]) -> Result<(), LogError> {
        let asked = held.now();
        let of: Vec<TopicPartition> = partitions
            .iter()
            .flat_map(|p| {
                self.fold.facts().iter().map(|topic| TopicPartition { topic: *topic, partition: *p })
            })
            .collect();
        match drive(held, &mut self.shutdown, self.ports.log.ends(&of)).await? {
            Driven::Done(Ok(ends)) => {
                for (from, range) in of.into_iter().zip(ends) {
                    held.expect_end(asked, from, range.end);
                }
            }
            Driven::Done(Err(LogError::Unavailable { cause })) => {
                let failed =
                    Failed::new(hansard_core::redelivery::Class::Unavailable, "log_unavailable", cause);
                self.back_off(held, &failed).await?;
            }
            Driven::Done(Err(error)) => return Err(error),
            Driven::Dropped => {}
        }
        Ok(())
    }

    /// A step went through: whatever was waited for answers.
    fn succeeded(&mut self) {
        self.failures = 0;
        self.waits_for = None;
    }

    /// Waits in place: the log is not to be shovelled anywhere while a dependency is down.
    async fn back_off(&mut self, held: &mut Held, failed: &Failed) -> Result<(), LogError> {
        let wait = Millis((100_i64 << self.failures.min(10)).min(self.config.backoff_max.0));
        self.failures = self.failures.saturating_add(1);
        tracing::warn!(%failed, wait_ms = wait.0, "the aggregator waits in place");
        let cause = failed.to_string();
        self.metrics.unavailable(&cause);
        held.tell(Some(&cause));
        self.waits_for = Some(cause);
        self.commit_all(held).await?;
        let until = self.ports.clock.now() + wait;
        drive(held, &mut self.shutdown, self.ports.clock.sleep_until(until)).await?;
        Ok(())
    }

    /// Waits for an event, the end of a commit, a time, or the end.
    async fn idle(&mut self, held: &mut Held) -> Result<(), LogError> {
        let now = held.now();
        let looks = held.partitions.iter().filter_map(|p| self.fold.look_at(*p));
        let wake = if held.taken_over { looks.filter(|at| *at > now).min() } else { None };
        held.wait(&mut self.shutdown, wake).await
    }
}

/// Turns a fetched run into facts; what is no fact ends in the batch: forwarded, or as a dead letter.
async fn take_in<F: Fold>(
    fold: &F,
    run: &Fetched,
    (ports, redeliver, oversized): (&Ports, &Redeliver, &Oversized),
    batch: &mut Batch,
    facts: &mut Vec<F::Fact>,
) -> Result<(), Failed> {
    for record in &run.records {
        let now = ports.clock.now();
        if matches!(run.from.topic, Topic::DeadLetter(_)) {
            redeliver.keep(ports, run.from, record).await?;
            batch.push(run.from, record.offset, Ending::default());
            continue;
        }
        let refused = oversized.times(&Source::Input(run.from, record.offset));
        if refused > 0 {
            batch.push(run.from, record.offset, redeliver.too_large(run.from, record, refused, now));
            continue;
        }
        let failed = match intake::read(ports, run.from, record).await? {
            Intake::Fact(input) => match fold.fact(*input) {
                Ok(fact) => {
                    facts.push(fact);
                    continue;
                }
                Err(failed) => failed,
            },
            Intake::Misrouted { to } if run.from.topic == Topic::Uploads => {
                batch.forward(run.from, record.offset, intake::forward(run.from, to, record));
                continue;
            }
            Intake::Misrouted { to } => intake::misrouted(run.from, to),
            Intake::Refused(failed) => failed,
        };
        batch.push(run.from, record.offset, redeliver.refuse(run.from, record, &failed, now));
    }
    Ok(())
}
