//! The member port: what one instance knows of its place in a group, its fetching, and its transactional producer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use futures::future::{BoxFuture, poll_fn};
use hansard_core::id::{Millis, Offset, Timestamp};

use super::faults::Action;
use super::group;
use super::log::RECORD_BYTES_MAX;
use super::process::{Process, ProcessId};
use super::world::{State, World};
#[cfg(feature = "mutants")]
use crate::mutants::{Mutant, is_in};
use crate::ports::log::{
    Assignment, Committed, Epoch, Event, Fetched, LogError, Member, Outgoing, TopicPartition, TransactError,
    Transacted, Transaction,
};

/// How long a producer waits before it asks again for the end of a transaction.
const BACKOFF: Millis = Millis(5);
/// Records that one fetch brings, at most, where nothing goes wrong.
const FETCH_MAX: usize = 500;
/// The same where things go wrong, so that runs interleave.
const FETCH_MAX_FAULTY: u64 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It holds nothing.
    Waiting,
    Holding,
    /// It is asked to release.
    Revoking,
    /// What it did is void, and its producer is being made anew.
    Void,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Revoking,
    Lost,
}

/// One member as it sees itself.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) process: ProcessId,
    pub(super) instance: String,
    /// It was dropped, or has left.
    pub(super) dead: bool,
    /// Another has joined under its instance name.
    pub(super) replaced: bool,
    transactional: String,
    producer: u64,
    signals: VecDeque<Signal>,
    /// An assignment that it has not been told of.
    pending: Option<(u64, Range<i32>)>,
    phase: Phase,
    epoch: Epoch,
    generation: u64,
    numbers: Range<i32>,
    positions: BTreeMap<TopicPartition, Offset>,
    paused: BTreeSet<TopicPartition>,
    /// Partitions whose records come late.
    lags: BTreeMap<TopicPartition, Timestamp>,
    waker: Option<Waker>,
}

impl Client {
    pub(super) fn new(process: ProcessId, instance: &str, transactional: String, producer: u64) -> Self {
        Self {
            process,
            instance: instance.to_owned(),
            dead: false,
            replaced: false,
            transactional,
            producer,
            signals: VecDeque::new(),
            pending: None,
            phase: Phase::Waiting,
            epoch: Epoch(0),
            generation: 0,
            numbers: 0..0,
            positions: BTreeMap::new(),
            paused: BTreeSet::new(),
            lags: BTreeMap::new(),
            waker: None,
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Asks it to release; false when there is nothing to wait for.
    pub(super) fn revoke(&mut self) -> bool {
        self.pending = None;
        match self.phase {
            Phase::Holding => {
                self.phase = Phase::Revoking;
                self.signals.push_back(Signal::Revoking);
                true
            }
            Phase::Revoking => true,
            Phase::Void | Phase::Waiting => {
                self.phase = Phase::Waiting;
                false
            }
        }
    }

    /// Assigns partition numbers; `late` when it did not release in time.
    pub(super) fn assign(&mut self, generation: u64, numbers: Range<i32>, late: bool) {
        if late {
            self.signals.push_back(Signal::Lost);
        }
        self.phase = Phase::Waiting;
        self.pending = Some((generation, numbers));
    }

    /// It was taken out of the group without being asked.
    pub(super) fn lose(&mut self) {
        self.signals.clear();
        self.signals.push_back(Signal::Lost);
        self.phase = Phase::Waiting;
        self.pending = None;
    }

    fn take(
        &mut self,
        generation: u64,
        numbers: Range<i32>,
        epoch: Epoch,
        committed: Vec<Committed>,
    ) -> Event {
        self.phase = Phase::Holding;
        (self.generation, self.numbers, self.epoch) = (generation, numbers, epoch);
        self.positions = committed.iter().map(|line| (line.from, line.offset)).collect();
        self.paused.clear();
        self.lags.clear();
        Event::Assigned(Assignment { epoch, partitions: committed })
    }
}

/// One member.
pub(super) struct SimMember {
    pub(super) process: Process,
    pub(super) group: String,
    pub(super) id: u64,
    pub(super) left: bool,
}

impl State {
    fn client(&mut self, group: &str, member: u64) -> Option<&mut Client> {
        self.broker.groups.get_mut(group)?.clients.get_mut(&member)
    }

    /// The next event of a member.
    fn next_event(
        &mut self,
        (name, member): (&str, u64),
        records: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Event, LogError>> {
        let taken = self.broker.groups.get_mut(name).and_then(|group| group.clients.remove(&member));
        let Some(mut client) = taken else { return Poll::Ready(Err(LogError::Closed)) };
        let event = self.event_for(name, &mut client, records);
        if event.is_none() {
            client.waker = Some(cx.waker().clone());
            for from in client.positions.keys().filter(|from| !client.paused.contains(*from)) {
                self.broker.watch(*from, cx.waker());
            }
            if let Some(until) = client.lags.values().filter(|until| **until > self.now).min() {
                self.wake_at(*until, cx.waker().clone());
            }
        }
        if let Some(group) = self.broker.groups.get_mut(name) {
            group.clients.insert(member, client);
        }
        event.map_or(Poll::Pending, Poll::Ready)
    }

    fn event_for(
        &mut self,
        name: &str,
        client: &mut Client,
        records: bool,
    ) -> Option<Result<Event, LogError>> {
        if client.replaced {
            return Some(Err(LogError::Closed));
        }
        let reached = self.lives.get(&client.process).is_none_or(|life| life.cut_off_until <= self.now);
        if reached {
            match client.signals.pop_front() {
                Some(Signal::Revoking) => return Some(Ok(Event::Revoking)),
                Some(Signal::Lost) => return Some(Ok(Event::Lost)),
                None => {}
            }
            if let Some((generation, numbers)) = client.pending.clone()
                && !self.broker.is_unstable(name, &numbers)
            {
                client.pending = None;
                let epoch = Epoch(self.fresh());
                let group = self.broker.groups.get(name)?;
                let committed = self.committed(group, &numbers);
                self.note(|| format!("{name}-{} has {numbers:?} under {epoch:?}", client.instance));
                return Some(Ok(client.take(generation, numbers, epoch, committed)));
            }
        }
        let fetches = match client.phase {
            Phase::Holding => true,
            // A zombie does not know that it was asked.
            Phase::Revoking | Phase::Waiting | Phase::Void => !reached && client.phase == Phase::Revoking,
        };
        if fetches && records { self.fetch(client).map(|fetched| Ok(Event::Fetched(fetched))) } else { None }
    }

    /// Records of some partition that has any, by the seed.
    fn fetch(&mut self, client: &mut Client) -> Option<Fetched> {
        let now = self.now;
        client.lags.retain(|_, until| *until > now);
        let open = client
            .positions
            .iter()
            .filter(|(from, _)| !client.paused.contains(*from) && !client.lags.contains_key(*from));
        let mut ready: Vec<(TopicPartition, Offset)> = open
            .filter(|(from, position)| self.broker.has(**from, **position))
            .map(|(from, position)| (*from, *position))
            .collect();
        while !ready.is_empty() {
            let (from, position) = ready.swap_remove(self.rng.index(ready.len()));
            if let Some(until) = self.late(self.faults.fetch_lag) {
                client.lags.insert(from, until);
                continue;
            }
            let records_max = match self.faults.fetch_lag {
                0 => FETCH_MAX,
                _ => 1 + usize::try_from(self.rng.below(FETCH_MAX_FAULTY)).unwrap_or(0),
            };
            let fetched = self.broker.fetch(from, position, records_max, 1 << 20)?;
            client.positions.insert(from, fetched.position);
            return Some(fetched);
        }
        None
    }
}

#[async_trait]
impl Member for SimMember {
    async fn next(&mut self) -> Result<Event, LogError> {
        poll_fn(|cx| self.process.world.state().next_event((&self.group, self.id), true, cx)).await
    }

    async fn next_change(&mut self) -> Result<Event, LogError> {
        poll_fn(|cx| self.process.world.state().next_event((&self.group, self.id), false, cx)).await
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        let mut state = self.process.world.state();
        let Some(client) = state.client(&self.group, self.id) else { return };
        for from in partitions {
            if paused {
                client.paused.insert(*from);
            } else {
                client.paused.remove(from);
            }
        }
        client.wake();
    }

    fn release(&mut self) {
        let mut state = self.process.world.state();
        let Some(client) = state.client(&self.group, self.id) else { return };
        if matches!(client.phase, Phase::Revoking | Phase::Void) {
            client.phase = Phase::Waiting;
            state.released(&self.group, self.id);
        }
    }

    fn transact(&mut self, transaction: Transaction) -> BoxFuture<'static, Transacted> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let producer = Producer { process: self.process.clone(), group: self.group.clone(), member: self.id };
        let id = self.process.id;
        // The client library goes on, whether anyone waits for it or not.
        let work = async move {
            let result = producer.transact(transaction).await;
            // Nobody waits where the assignment has turned void meanwhile.
            let _ = sender.send(result);
        };
        self.process.world.spawn(id, Box::pin(work));
        Box::pin(async move { receiver.await.unwrap_or(Err(TransactError::Indefinite)) })
    }

    async fn leave(mut self: Box<Self>) {
        self.left = true;
        let world = &self.process.world;
        if let Some(client) = world.state().client(&self.group, self.id) {
            client.dead = true;
        }
        group::leave(world, &self.group, self.id);
    }
}

impl Drop for SimMember {
    fn drop(&mut self) {
        if !self.left {
            let world = &self.process.world;
            if let Some(client) = world.state().client(&self.group, self.id) {
                client.dead = true;
            }
            group::lose(world, &self.group, self.id);
        }
    }
}

/// The transactional producer of one member.
struct Producer {
    process: Process,
    group: String,
    member: u64,
}

/// What a transaction begins with.
struct Begun {
    transactional: String,
    epoch: u64,
    generation: u64,
}

impl Producer {
    fn world(&self) -> &World {
        &self.process.world
    }

    async fn transact(&self, transaction: Transaction) -> Transacted {
        let begun = {
            let mut state = self.world().state();
            let client = state.client(&self.group, self.member).ok_or(TransactError::Fenced)?;
            let holds = matches!(client.phase, Phase::Holding | Phase::Revoking);
            // Of an assignment that has gone: the present one is not touched by it.
            if !holds || client.epoch != transaction.epoch {
                return Err(TransactError::Fenced);
            }
            Begun {
                transactional: client.transactional.clone(),
                epoch: client.producer,
                generation: client.generation,
            }
        };
        let result = self.attempt(&begun, transaction).await;
        if result.is_err() {
            self.recover(&begun.transactional).await;
        }
        result
    }

    async fn attempt(&self, begun: &Begun, transaction: Transaction) -> Transacted {
        let world = self.world();
        while world.is_ending(&begun.transactional) {
            world.until(world.now() + BACKOFF).await;
        }
        let current = || world.state().broker.is_current(&begun.transactional, begun.epoch);
        if !current() {
            return Err(TransactError::Fenced);
        }
        let begin = self.process.gate("log.txn.begin", |_| world.begin_txn(&begun.transactional));
        let txn = begin.await.map_err(|_| TransactError::Aborted)?;
        let size = |out: &Outgoing| out.value.as_ref().map_or(0, bytes::Bytes::len);
        if let Some(record) = transaction.records.iter().position(|out| size(out) > RECORD_BYTES_MAX) {
            return self.abort(txn, TransactError::TooLarge { record });
        }
        let (mut rest, mut appended) = (&transaction.records[..], None);
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|out| out.to == first.to).count();
            let (batch, after) = rest.split_at(run);
            rest = after;
            let append = |state: &mut State| {
                state.broker.is_current(&begun.transactional, begun.epoch)
                    && batch.iter().all(|out| state.add(txn, out))
            };
            match self.process.on("log.txn.append", append).await {
                Ok(true) => appended = Some(world.now()),
                Ok(false) => return Err(TransactError::Fenced),
                Err(_) => return self.abort(txn, TransactError::Aborted),
            }
        }
        let offsets = |state: &mut State| {
            let group = state.broker.groups.get(&self.group);
            let member = group.is_some_and(|group| {
                #[cfg(feature = "mutants")]
                let generation = match () {
                    () if is_in(Mutant::GenerationAskedLate) => group.generation,
                    () => begun.generation,
                };
                #[cfg(not(feature = "mutants"))]
                let generation = begun.generation;
                group.accepts(self.member, generation)
            });
            member && state.add_offsets(txn, &self.group, &transaction.offsets)
        };
        match self.process.on("log.txn.offsets", offsets).await {
            Ok(true) => {}
            Ok(false) => return self.abort(txn, TransactError::Fenced),
            Err(_) => return self.abort(txn, TransactError::Aborted),
        }
        let end = |action| match action {
            Some(Action::Tear) => world.tear_txn(txn),
            _ => current() && world.end_txn(txn, true),
        };
        let ended = self.process.gate("log.txn.end", end).await.map_err(|_| TransactError::Indefinite)?;
        if ended { Ok(appended) } else { Err(TransactError::Fenced) }
    }

    /// Aborts; or, where brokers tear transactions, does what a late EndTxn of an earlier one would do.
    fn abort(&self, txn: u64, error: TransactError) -> Transacted {
        let tear = self.world().state().faults.tear;
        if self.world().state().rng.chance(tear) {
            self.world().note("a transaction tears");
            self.world().tear_txn(txn);
        } else {
            self.world().end_txn(txn, false);
        }
        Err(error)
    }

    /// Makes the producer anew, which resolves what is open; then the member is assigned what it holds once more.
    async fn recover(&self, transactional: &str) {
        let world = self.world();
        let set = |phase: Phase, from: Phase| {
            let mut state = world.state();
            let client = state.client(&self.group, self.member);
            if let Some(client) = client.filter(|client| client.phase == from) {
                client.phase = phase;
            }
        };
        set(Phase::Void, Phase::Holding);
        let gone = || world.state().client(&self.group, self.member).is_none_or(|c| c.replaced || c.dead);
        let producer = loop {
            if gone() {
                return;
            }
            match self.process.gate("log.init", |_| world.begin_producer(transactional)).await {
                Ok(producer) => break producer,
                Err(_) => world.until(world.now() + Millis(100)).await,
            }
        };
        while world.is_ending(transactional) {
            world.until(world.now() + BACKOFF).await;
        }
        let mut state = world.state();
        let Some(client) = state.client(&self.group, self.member) else { return };
        client.producer = producer;
        if client.phase == Phase::Void {
            client.phase = Phase::Waiting;
            client.pending = Some((client.generation, client.numbers.clone()));
        }
        client.wake();
    }
}
