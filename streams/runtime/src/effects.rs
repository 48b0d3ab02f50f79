//! The loop of an effect stage: many records in flight per partition, in any order, each answered in one transaction.
//!
//! One task owns everything; there are no locks. It waits for whichever comes first (a commit's result, a record that
//! has ended, an event of the group, a time) and nothing in it sleeps or blocks.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use hansard_core::id::{Millis, Offset, Timestamp};
use hansard_core::redelivery::Class;
use hansard_schemas::{Record, Topic};
use tokio::sync::watch;

use crate::calls::{RecentCalls, Verdict};
use crate::commit::{Batch, Commit, Oversized, Source, commit};
use crate::intake::{self, Intake};
use crate::lanes::{Bounds, Lanes, Startable};
use crate::metrics::{Metrics, in_words};
use crate::offsets::Completed;
use crate::outcome::{Ending, Outcome};
use crate::ports::Ports;
use crate::ports::log::{Assignment, Event, LogError, Member, TopicPartition, Transacted};
use crate::ports::traces::Description;
use crate::redeliver::Redeliver;
use crate::stage::{Answer, Failed, Input, Stage};
use crate::trace::Work;

/// How a stage's loop behaves; every bound is configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectsConfig {
    /// What is held and how much runs.
    pub bounds: Bounds,
    /// How long work under way may go on after a revocation or a shutdown began (default 5 s).
    pub drain: Millis,
    /// Records and bytes of one transaction, at most (defaults 10,000 and 8 MiB).
    pub transaction: crate::commit::TransactionBounds,
}

impl Default for EffectsConfig {
    fn default() -> Self {
        Self { bounds: Bounds::default(), drain: Millis(5000), transaction: Default::default() }
    }
}

/// A record that has ended.
struct Ended {
    start: Startable,
    outcome: Outcome,
}

/// A record whose ending waits for the next transaction.
struct Done {
    lane: TopicPartition,
    offset: Offset,
    /// When the log took it in.
    time: Timestamp,
    ending: Ending,
}

/// An effect stage on its loop.
pub struct Effects {
    stage: Arc<dyn Stage>,
    ports: Ports,
    redeliver: Redeliver,
    config: EffectsConfig,
    metrics: Metrics,
}

/// What a turn of the loop woke up for.
enum Woke {
    Committed(Transacted),
    Ended(Ended),
    Event(Result<Event, LogError>),
    Time,
    Shutdown,
}

/// The state of one membership.
struct Running {
    lanes: Lanes,
    assignment: Option<Assignment>,
    in_flight: FuturesUnordered<BoxFuture<'static, Ended>>,
    done: Vec<Done>,
    committing: Option<Commit>,
    /// When the log took in what is being committed.
    times: Vec<Timestamp>,
    /// Outlives the assignment: what the log has refused it would refuse again.
    oversized: Oversized,
    calls: RecentCalls,
    /// What the last record that was put back waits for, until no lane is blocked.
    waits_for: Option<String>,
    /// Set while a revocation or a shutdown drains: nothing new starts, and the end of waiting.
    drain_until: Option<Timestamp>,
}

impl Effects {
    /// A stage with its ports.
    pub fn new(
        stage: Arc<dyn Stage>,
        ports: Ports,
        redeliver: Redeliver,
        config: EffectsConfig,
        metrics: Metrics,
    ) -> Self {
        Self { stage, ports, redeliver, config, metrics }
    }

    /// Runs until `shutdown` turns true, then drains, bounded, and leaves the group.
    ///
    /// # Errors
    /// When the log fails for good; the caller decides whether to join again.
    pub async fn run(
        &self,
        mut member: Box<dyn Member>,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), LogError> {
        let mut running = Running {
            lanes: Lanes::default(),
            assignment: None,
            in_flight: FuturesUnordered::new(),
            done: Vec::new(),
            committing: None,
            times: Vec::new(),
            oversized: Oversized::default(),
            calls: RecentCalls::default(),
            waits_for: None,
            drain_until: None,
        };
        let mut leaving = false;
        loop {
            let now = self.ports.clock.now();
            self.advance(&mut running, member.as_mut(), now).await;
            if let Some(until) = running.drain_until
                && (running.is_drained() || now >= until)
            {
                running.abandon();
                if leaving {
                    member.leave().await;
                    return Ok(());
                }
                member.release();
                running.drain_until = None;
            }
            let woke = self.wait(&mut running, member.as_mut(), &mut shutdown, leaving, now).await;
            let now = self.ports.clock.now();
            match woke {
                Woke::Committed(ended) => self.committed(&mut running, ended),
                Woke::Ended(ended) => self.ended(&mut running, ended, now),
                Woke::Event(event) => self.event(&mut running, event?, now),
                Woke::Time => {}
                Woke::Shutdown => {
                    leaving = true;
                    running.drain_until = Some(now + self.config.drain);
                }
            }
            if leaving {
                // A new assignment on the way out is not begun.
                running.drain_until.get_or_insert(now);
            }
        }
    }

    async fn wait(
        &self,
        running: &mut Running,
        member: &mut dyn Member,
        shutdown: &mut watch::Receiver<bool>,
        leaving: bool,
        now: Timestamp,
    ) -> Woke {
        let wake = running.lanes.wake_at(now).into_iter().chain(running.drain_until).min();
        let clock = &self.ports.clock;
        let time = async {
            match wake {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let committed = async {
            match running.committing.as_mut() {
                Some(commit) => (&mut commit.result).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = committed => Woke::Committed(result),
            Some(ended) = running.in_flight.next() => Woke::Ended(ended),
            () = crate::held::asked_to_leave(shutdown), if !leaving => Woke::Shutdown,
            event = member.next() => Woke::Event(event),
            () = time => Woke::Time,
        }
    }

    /// Starts what may start, commits what has ended, pauses and resumes.
    async fn advance(&self, running: &mut Running, member: &mut dyn Member, now: Timestamp) {
        if running.drain_until.is_none() {
            while let Some(start) = running.lanes.start(now, &self.config.bounds) {
                #[cfg(feature = "mutants")]
                if crate::mutants::is_in(crate::mutants::Mutant::CommitBeforeEffect) {
                    let (lane, offset, time) = (start.lane, start.record.offset, start.record.time);
                    running.done.push(Done { lane, offset, time, ending: Ending::default() });
                }
                let oversized = running.oversized.times(&Source::Input(start.lane, start.record.offset));
                running.in_flight.push(self.start(start, oversized));
            }
            let (stop, resume) = running.lanes.fetching(&self.config.bounds);
            if !stop.is_empty() {
                member.set_paused(&stop, true);
            }
            if !resume.is_empty() {
                member.set_paused(&resume, false);
            }
        }
        if running.committing.is_none() && !running.done.is_empty() {
            self.begin_commit(running, member).await;
        }
        self.metrics.in_flight(running.lanes.in_flight(), running.lanes.blocked());
        self.metrics.oldest(running.lanes.oldest(), now);
        self.metrics.oldest_unstarted(running.lanes.oldest_unstarted(), now);
        if running.lanes.blocked() == 0 {
            running.waits_for = None;
        }
        if running.assignment.is_some() {
            self.metrics.reached(running.lanes.positions(), running.waits_for.as_deref());
        }
    }

    async fn begin_commit(&self, running: &mut Running, member: &mut dyn Member) {
        let Some(assignment) = &running.assignment else { return };
        let mut batch = Batch::new(assignment.epoch, self.config.transaction);
        // Earlier offsets first: when the commit metadata is full, only they make room.
        running.done.sort_by_key(|done| (done.lane, done.offset));
        let (mut waiting, mut times) = (Vec::new(), Vec::new());
        for done in running.done.drain(..) {
            if batch.is_full() || !running.lanes.complete(done.lane, done.offset) {
                waiting.push(done);
            } else {
                times.push(done.time);
                batch.push(done.lane, done.offset, done.ending);
            }
        }
        running.done = waiting;
        for lane in batch.lanes() {
            if let Some((offset, metadata)) = running.lanes.commitment(lane) {
                batch.offset(lane, offset, metadata);
            }
        }
        if !batch.is_empty() {
            self.metrics.transaction(batch.len());
            running.committing = Some(commit(member, batch));
            running.times = times;
        }
    }

    fn start(&self, start: Startable, oversized: u32) -> BoxFuture<'static, Ended> {
        let (stage, ports, redeliver) = (Arc::clone(&self.stage), self.ports.clone(), self.redeliver.clone());
        let metrics = self.metrics.clone();
        async move {
            let outcome = answer(stage.as_ref(), &ports, &redeliver, &metrics, (&start, oversized)).await;
            // Only the row of a dead letter can fail here: its store is a dependency like any other.
            let outcome = outcome
                .unwrap_or_else(|failed| Outcome::Wait { cause: failed.to_string(), retry_after: None });
            Ended { start, outcome }
        }
        .boxed()
    }

    fn committed(&self, running: &mut Running, ended: Transacted) {
        let commit = running.committing.take();
        running.oversized.learn(ended, commit.as_ref().map_or(&[], |commit| &commit.sources));
        if let Err(error) = ended {
            tracing::warn!(stage = self.stage.stage().as_str(), %error, "transaction did not commit");
            self.metrics.aborted(error);
            running.abandon();
        } else {
            self.metrics.committed(&running.times, self.ports.clock.now());
        }
    }

    fn ended(&self, running: &mut Running, ended: Ended, now: Timestamp) {
        let Ended { start, outcome } = ended;
        running.lanes.ended(&start.conversation);
        let alike = |code: &str| self.stage.shares_a_dependency(code);
        match running.calls.judge(&start.conversation, outcome, &self.redeliver.policy, now, alike) {
            Verdict::Wait(delay, cause) => {
                tracing::warn!(
                    stage = self.stage.stage().as_str(),
                    partition = %start.lane,
                    offset = start.record.offset.0,
                    wait_ms = delay.0,
                    %cause,
                    "a dependency is unavailable; the partition waits"
                );
                self.metrics.unavailable(&cause);
                running.waits_for = Some(cause);
                running.lanes.put_back(start.lane, start.record, now + delay);
            }
            Verdict::Commit(ending) => {
                running.lanes.answered(start.lane);
                let (offset, time) = (start.record.offset, start.record.time);
                running.done.push(Done { lane: start.lane, offset, time, ending });
            }
        }
    }

    fn event(&self, running: &mut Running, event: Event, now: Timestamp) {
        match event {
            Event::Assigned(assignment) => {
                running.abandon();
                running.drain_until = None;
                let partitions = assignment.partitions.iter().map(|p| (p.from, resume(p)));
                running.lanes.assign(partitions);
                let numbers: BTreeSet<_> = assignment.partitions.iter().map(|p| p.from.partition).collect();
                self.stage.assigned(numbers.len(), self.ports.log.partitions() as usize);
                running.assignment = Some(assignment);
            }
            Event::Revoking => running.drain_until = Some(now + self.config.drain),
            Event::Lost => {
                running.abandon();
                running.drain_until = None;
                self.metrics.unassigned(None);
            }
            Event::Fetched(fetched) if running.lanes.contains(fetched.from) => {
                self.metrics.fetched(&fetched);
                let topic = fetched.from.topic;
                let records = fetched.records.into_iter().map(|r| (self.redeliver.due(topic, r.time), r));
                running.lanes.fetched(fetched.from, records, fetched.position);
            }
            Event::Fetched(_) => {}
        }
    }
}

impl Running {
    fn is_drained(&self) -> bool {
        self.in_flight.is_empty() && self.done.is_empty() && self.committing.is_none()
    }

    /// Forgets everything of the assignment; work under way is dropped.
    fn abandon(&mut self) {
        self.lanes = Lanes::default();
        self.assignment = None;
        self.in_flight = FuturesUnordered::new();
        self.done = Vec::new();
        self.committing = None;
    }
}

fn resume(committed: &crate::ports::log::Committed) -> Completed {
    Completed::parse(committed.offset, &committed.metadata).unwrap_or_else(|error| {
        tracing::error!(partition = %committed.from, %error, "reading again from the committed offset");
        Completed::from_prefix(committed.offset)
    })
}

/// Reads a record, lets the stage answer it, and says what that leads to.
async fn answer(
    stage: &dyn Stage,
    ports: &Ports,
    redeliver: &Redeliver,
    metrics: &Metrics,
    (start, oversized): (&Startable, u32),
) -> Result<Outcome, Failed> {
    let (from, record, clock) = (start.lane, &start.record, &ports.clock);
    if matches!(from.topic, Topic::DeadLetter(_)) {
        redeliver.keep(ports, from, record).await?;
        return Ok(Outcome::pass_over());
    }
    if oversized > 0 {
        return Ok(Outcome::Emit(redeliver.too_large(from, record, oversized, clock.now())));
    }
    let refuse = |failed| Ok(Outcome::Emit(redeliver.refuse(from, record, &failed, clock.now())));
    let mut input = match intake::read(ports, from, record).await? {
        Intake::Fact(input) => input,
        // The aggregator forwards it; its copy comes by the right partition.
        Intake::Misrouted { .. } if from.topic == Topic::Uploads => return Ok(Outcome::pass_over()),
        Intake::Misrouted { to } => return refuse(intake::misrouted(from, to)),
        Intake::Refused(failed) => return refuse(failed),
    };
    if !stage.wants(&input.record) {
        return Ok(Outcome::pass_over());
    }
    let begun = clock.now();
    if let Some(again) = redeliver.round_again(from, record, &input, begun) {
        return Ok(again);
    }
    let work = Work::begin(ports, ports.place(input.trace, input.conversation()), begun);
    input.trace = Some(work.place());
    let answer = AssertUnwindSafe(attempt(stage, ports, &input)).catch_unwind().await;
    let answer = answer.unwrap_or_else(|panic| Err(defect(panic.as_ref())));
    let ended = clock.now();
    metrics.answered(&answer, begun, ended);
    work.end(ended, || describe(stage.stage(), &input, &answer));
    Ok(redeliver.outcome(from, record, &input, answer, clock.now()))
}

/// What is told of an attempt.
fn describe(stage: hansard_schemas::Stage, input: &Input, answer: &Result<Answer, Failed>) -> Description {
    let attempt = input.history.as_ref().map_or(0, |history| history.attempt).saturating_add(1);
    Description {
        job: stage.as_str(),
        name: format!("{stage} {}", input.record.name().as_str()),
        attributes: vec![
            ("hansard.conversation", input.conversation().to_owned()),
            ("hansard.topic", input.from.topic.to_string()),
            ("hansard.partition", input.from.partition.0.to_string()),
            ("hansard.offset", input.offset.0.to_string()),
            ("hansard.attempt", attempt.to_string()),
            ("hansard.answer", in_words(answer).0.to_owned()),
        ],
        failed: answer.as_ref().err().map(|failed| failed.code),
    }
}

/// One attempt, between two looks at the erasure marker.
async fn attempt(stage: &dyn Stage, ports: &Ports, input: &Input) -> Result<Answer, Failed> {
    if ports.facts.erasure(input.conversation()).await?.is_some() {
        return Ok(Answer::Done(Vec::new()));
    }
    let answer = stage.process(input).await?;
    let emitted: &[Record] = match &answer {
        Answer::Done(records) => records,
        Answer::Parked(_) => &[],
    };
    if ports.facts.erasure(input.conversation()).await?.is_some() {
        stage.undo(input, emitted).await?;
        return Ok(Answer::Done(Vec::new()));
    }
    Ok(answer)
}

fn defect(panic: &(dyn std::any::Any + Send)) -> Failed {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Failed::new(Class::Defect, "panicked", text.unwrap_or_else(|| "a panic without a text".to_owned()))
}
