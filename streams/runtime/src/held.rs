//! What the ordered loop holds beside its fold: the membership, what was fetched, and how far it is applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use hansard_core::id::{Millis, Offset, Partition, Timestamp};
use hansard_schemas::Topic;
use tokio::sync::watch;

use crate::commit::{Batch, Commit, Oversized};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::ports::clock::Clock;
use crate::ports::log::{Assignment, Event, Fetched, LogError, Member, TopicPartition, Transacted};
use crate::ports::windows::OpenWindow;

pub(crate) type Ends = BTreeMap<TopicPartition, Offset>;

/// The state of one membership, kept apart from the fold so that both can be worked on at once.
pub(crate) struct Held {
    pub(crate) member: Box<dyn Member>,
    pub(crate) assignment: Option<Assignment>,
    /// The partition numbers of the assignment, in order.
    pub(crate) partitions: Vec<Partition>,
    /// The next offset of each lane that is not applied yet.
    applied: Ends,
    inbox: Inbox,
    waiting_max: usize,
    /// Where the own emissions ended when the assignment began.
    pub(crate) own_ends: Option<Ends>,
    pub(crate) taken_over: bool,
    /// Per partition number: the ends of its fact topics, and the time at which they were asked for.
    ends: BTreeMap<Partition, (Timestamp, Ends)>,
    pub(crate) committing: Option<Committing>,
    pub(crate) pending: Option<Pending>,
    /// Outlives the assignment: what the log has refused it would refuse again.
    pub(crate) oversized: Oversized,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// How far the own clock is ahead of the log's, at most; nothing before the log has said when it took something in.
    pub(crate) lead: Option<Millis>,
    /// Entries of the index that are to be removed, their deliveries being committed.
    pub(crate) settled: Vec<OpenWindow>,
    /// The group wants the partitions back.
    pub(crate) revoking: bool,
    /// The process is shutting down.
    pub(crate) leaving: bool,
}

/// A commit under way, and what is removed from the index when it has ended well.
pub(crate) struct Committing {
    pub(crate) commit: Commit,
    pub(crate) settled: Vec<OpenWindow>,
    /// When the log took in the facts of it.
    pub(crate) times: Vec<Timestamp>,
}

/// What is to be committed. Offsets of facts from which nothing followed wait, to go with the next transaction or to get
/// one of their own in time: at a low rate most batches have no others, and what has to be emitted seldom finds one of
/// theirs under way.
pub(crate) struct Pending {
    pub(crate) batch: Batch,
    /// Entries of the index that are removed then.
    pub(crate) settled: Vec<OpenWindow>,
    /// When the log took in the facts.
    pub(crate) times: Vec<Timestamp>,
    /// When it is committed, at the latest.
    pub(crate) until: Timestamp,
}

impl Pending {
    /// Takes over one that came before, without records.
    pub(crate) fn absorb(&mut self, earlier: Self) {
        self.batch.absorb(earlier.batch);
        self.settled.extend(earlier.settled);
        self.times.extend(earlier.times);
    }
}

/// How a piece of work ended.
pub(crate) enum Driven<T> {
    /// By itself.
    Done(T),
    /// It was dropped: the assignment is void, or about to be.
    Dropped,
}

/// Works on `work` while the group's events are taken in and the last commit goes on.
pub(crate) async fn drive<T>(
    held: &mut Held,
    shutdown: &mut watch::Receiver<bool>,
    work: impl Future<Output = T>,
) -> Result<Driven<T>, LogError> {
    tokio::pin!(work);
    loop {
        let room = held.has_room();
        tokio::select! {
            biased;
            result = committed(&mut held.committing) => if !held.end_commit(result) { return Ok(Driven::Dropped) },
            () = asked_to_leave(shutdown), if !held.leaving => {
                held.leaving = true;
                return Ok(Driven::Dropped);
            }
            done = &mut work => return Ok(Driven::Done(done)),
            event = next(held.member.as_mut(), room) => if !held.take(event?) { return Ok(Driven::Dropped) },
        }
    }
}

/// Waits until no commit is under way; false when the assignment turned void.
pub(crate) async fn wait_for_commit(held: &mut Held) -> Result<bool, LogError> {
    while held.committing.is_some() {
        let room = held.has_room();
        let valid = tokio::select! {
            biased;
            result = committed(&mut held.committing) => held.end_commit(result),
            event = next(held.member.as_mut(), room) => held.take(event?) || held.revoking,
        };
        if !valid {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The member's next event: records too, while there is room for them.
async fn next(member: &mut dyn Member, room: bool) -> Result<Event, LogError> {
    if room { member.next().await } else { member.next_change().await }
}

async fn committed(committing: &mut Option<Committing>) -> Transacted {
    match committing {
        Some(committing) => (&mut committing.commit.result).await,
        None => std::future::pending().await,
    }
}

/// Ends when the process is asked to stop; a dropped sender asks for nothing.
pub(crate) async fn asked_to_leave(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Held {
    /// `own` is the topic of the fold's own emissions; `waiting_max` records wait before no more are taken.
    pub(crate) fn new(
        member: Box<dyn Member>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        own: Topic,
        waiting_max: usize,
    ) -> Self {
        Self {
            member,
            assignment: None,
            partitions: Vec::new(),
            applied: BTreeMap::new(),
            inbox: Inbox::new(own),
            waiting_max,
            own_ends: None,
            taken_over: false,
            ends: BTreeMap::new(),
            committing: None,
            pending: None,
            oversized: Oversized::default(),
            clock,
            metrics,
            lead: None,
            settled: Vec::new(),
            revoking: false,
            leaving: false,
        }
    }

    /// Takes an event in; false when work under way is to be dropped.
    pub(crate) fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Fetched(fetched) => {
                if self.applied.contains_key(&fetched.from) {
                    self.metrics.fetched(&fetched);
                    self.inbox.push(fetched);
                }
                return true;
            }
            Event::Assigned(assignment) => {
                self.forget();
                self.applied = assignment.partitions.iter().map(|p| (p.from, p.offset)).collect();
                self.partitions = self.applied.keys().map(|from| from.partition).collect();
                self.partitions.sort_unstable();
                self.partitions.dedup();
                self.assignment = Some(assignment);
            }
            Event::Revoking => self.revoking = true,
            Event::Lost => {
                self.forget();
                self.metrics.unassigned(None);
            }
        }
        false
    }

    /// Takes the result of the commit in; false when the assignment has turned void with it.
    fn end_commit(&mut self, result: Transacted) -> bool {
        let Some(Committing { commit, settled, times }) = self.committing.take() else { return true };
        self.oversized.learn(result, &commit.sources);
        match result {
            Ok(appended) => {
                self.settled.extend(settled);
                self.metrics.committed(&times, self.clock.now());
                if !commit.sources.is_empty() {
                    // A log without a clock of its own goes by this one.
                    let lead = appended.map_or(Millis::ZERO, |appended| self.clock.now() - appended);
                    self.lead = Some(lead.max(Millis::ZERO));
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "transaction did not commit");
                self.metrics.aborted(error);
                self.forget();
                false
            }
        }
    }

    /// Forgets the assignment and everything that rests on it.
    pub(crate) fn forget(&mut self) {
        self.assignment = None;
        self.partitions.clear();
        self.applied.clear();
        self.inbox.clear();
        self.own_ends = None;
        self.taken_over = false;
        self.ends.clear();
        self.committing = None;
        self.pending = None;
        self.revoking = false;
    }

    /// All partitions held.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.applied.keys().copied()
    }

    /// Whether more records may be taken from the member. A take-over needs whatever comes of the own emissions, and
    /// has the rest paused. What is not taken stays where it was fetched; a pause would throw that away.
    fn has_room(&self) -> bool {
        !self.taken_over || self.inbox.waiting() < self.waiting_max
    }

    /// Lets partitions rest that are far ahead of others. Not during a take-over, which has its own.
    pub(crate) fn balance(&mut self, ahead_max: usize) {
        if self.taken_over {
            let (stop, resume) = self.inbox.balance(ahead_max);
            if !stop.is_empty() {
                self.member.set_paused(&stop, true);
            }
            if !resume.is_empty() {
                self.member.set_paused(&resume, false);
            }
        }
    }

    /// Fetches from everywhere: the take-over is done.
    pub(crate) fn resume(&mut self) {
        let all: Vec<TopicPartition> = self.lanes().collect();
        self.member.set_paused(&all, false);
        self.inbox.wake();
    }

    /// The next runs, about `batch_max` records; during a take-over those of the own emissions alone, since the facts of
    /// others may only be committed once their windows are in the index.
    pub(crate) fn next_batch(&mut self, batch_max: usize) -> Vec<Fetched> {
        self.inbox.take(batch_max, !self.taken_over)
    }

    /// What was handed over is applied.
    pub(crate) fn mark_applied(&mut self, runs: &[Fetched]) {
        for run in runs {
            self.applied.insert(run.from, run.position);
        }
    }

    /// Tells how far the loop has come, and what it waits for.
    pub(crate) fn tell(&self, waits_for: Option<&str>) {
        if self.assignment.is_some() {
            self.metrics.reached(self.applied.iter().map(|(from, offset)| (*from, *offset)), waits_for);
        }
    }

    /// Whether everything below the given ends is applied.
    pub(crate) fn has_applied(&self, ends: &Ends) -> bool {
        ends.iter().all(|(from, end)| self.applied.get(from).is_some_and(|position| position >= end))
    }

    /// Ends that were asked for at `asked`.
    pub(crate) fn expect_end(&mut self, asked: Timestamp, from: TopicPartition, end: Offset) {
        let (at, ends) = self.ends.entry(from.partition).or_default();
        if *at != asked {
            *at = asked;
            ends.clear();
        }
        ends.insert(from, end);
    }

    /// When the ends of a partition's fact topics were last asked for, and whether all below them is applied.
    pub(crate) fn judged(&self, partition: Partition) -> Option<(Timestamp, bool)> {
        self.ends.get(&partition).map(|(asked, ends)| (*asked, self.has_applied(ends)))
    }

    /// The time that the clock's rules go by: the own clock's, less its lead over the log's. Before that is known nothing
    /// is over; the first decision of all has a status emitted, and so makes it known.
    pub(crate) fn now(&self) -> Timestamp {
        self.lead.map_or(Timestamp::MIN, |lead| Timestamp(self.clock.now().0 - lead.0))
    }

    /// A lane of the partition number, and the offset to be committed for it.
    pub(crate) fn any_applied(&self, partition: Partition) -> Option<(TopicPartition, Offset)> {
        self.applied
            .iter()
            .find(|(from, _)| from.partition == partition)
            .map(|(from, offset)| (*from, *offset))
    }

    /// Waits for whatever comes first; `look` is a time as [`now`](Self::now) tells it.
    pub(crate) async fn wait(
        &mut self,
        shutdown: &mut watch::Receiver<bool>,
        look: Option<Timestamp>,
    ) -> Result<(), LogError> {
        let look = look.zip(self.lead).map(|(at, lead)| at + lead);
        let due = self.pending.as_ref().filter(|_| self.committing.is_none()).map(|pending| pending.until);
        let (clock, wake) = (Arc::clone(&self.clock), look.into_iter().chain(due).min());
        let time = async {
            match wake {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let room = self.has_room();
        tokio::select! {
            biased;
            result = committed(&mut self.committing) => {
                self.end_commit(result);
            }
            () = asked_to_leave(shutdown), if !self.leaving => self.leaving = true,
            event = next(self.member.as_mut(), room) => {
                self.take(event?);
            }
            () = time => {}
        }
        Ok(())
    }
}
