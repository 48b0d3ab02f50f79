//! What the three sides of a membership share: the loop that owns the member, the thread that polls the consumer, and
//! the thread that runs transactions. It says which assignment holds, and when it may be let go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hansard_core::id::Offset;
use hansard_runtime::ports::log::{Assignment, Epoch, Event, LogError, TopicPartition};
use rdkafka::consumer::ConsumerGroupMetadata;

use crate::outbox::Outbox;

pub(crate) struct Seat {
    pub(crate) outbox: Outbox,
    state: Mutex<State>,
    changed: Condvar,
    /// The epoch whose records are wanted, or 0; read for every record, therefore outside the lock.
    live: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The last name given to an assignment.
    named: u64,
    held: Option<Held>,
    stage: Stage,
    revoking: bool,
    released: bool,
    closing: bool,
    paused: BTreeSet<TopicPartition>,
    /// Where the assignment that the loop was told of begins.
    begins: BTreeMap<TopicPartition, Offset>,
}

/// What the group gave at the last rebalance.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) metadata: Arc<ConsumerGroupMetadata>,
}

/// How far an assignment has come.
#[derive(Default)]
enum Stage {
    /// Nothing is held.
    #[default]
    Void,
    /// The producer is being made anew and the committed offsets are being asked for.
    Settling,
    /// The offsets are known; the polling thread has yet to read from them.
    Settled(Result<Assignment, LogError>),
    /// The loop was told.
    Told,
}

impl Seat {
    pub(crate) fn new(fetched_bytes_max: usize) -> Self {
        let (state, changed) = Default::default();
        Self { outbox: Outbox::new(fetched_bytes_max), state, changed, live: AtomicU64::new(0) }
    }

    /// The group gave partitions: names the coming assignment.
    pub(crate) fn hold(&self, held: Held) -> Epoch {
        let mut state = self.lock();
        state.held = Some(held);
        self.unsettle(&mut state)
    }

    /// A transaction under `epoch` did not certainly commit: what is held has to be settled under a new name. `None`
    /// when something newer has already taken the place.
    pub(crate) fn failed(&self, epoch: Epoch) -> Option<Epoch> {
        let mut state = self.lock();
        let present = self.is_live(epoch) && state.held.is_some() && !state.released;
        let next = present.then(|| self.unsettle(&mut state));
        self.changed.notify_all();
        next
    }

    fn unsettle(&self, state: &mut State) -> Epoch {
        state.named += 1;
        state.stage = Stage::Settling;
        state.released = false;
        self.live.store(0, Ordering::Release);
        Epoch(state.named)
    }

    /// What has to be settled under this name, unless a rebalance, or the end, has overtaken it.
    pub(crate) fn wanted(&self, epoch: Epoch) -> Option<Held> {
        let state = self.lock();
        let wanted = state.named == epoch.0 && matches!(state.stage, Stage::Settling) && !state.closing;
        wanted.then(|| state.held.clone()).flatten()
    }

    /// Waits before the next try to settle; ends at once when it is no longer wanted.
    pub(crate) fn wait_while_wanted(&self, epoch: Epoch, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        while state.named == epoch.0 && matches!(state.stage, Stage::Settling) && !state.closing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Offsets are known, or cannot be read from.
    pub(crate) fn settled(&self, epoch: Epoch, result: Result<Assignment, LogError>) {
        let mut state = self.lock();
        if state.named == epoch.0 && matches!(state.stage, Stage::Settling) {
            state.stage = Stage::Settled(result);
        }
    }

    /// Tells the loop of a settled assignment, after `read` has moved the consumer there; or why it cannot be read,
    /// after `read` was given none. In one step with respect to a failing transaction; a rebalance runs on the calling
    /// thread.
    pub(crate) fn tell(&self, read: impl FnOnce(Option<&Assignment>) -> Result<(), LogError>) {
        let mut state = self.lock();
        if !matches!(state.stage, Stage::Settled(_)) {
            return;
        }
        let Stage::Settled(result) = std::mem::take(&mut state.stage) else { return };
        state.paused.clear();
        match read(result.as_ref().ok()).and(result) {
            Ok(assignment) => {
                state.stage = Stage::Told;
                state.begins = assignment.partitions.iter().map(|line| (line.from, line.offset)).collect();
                self.live.store(assignment.epoch.0, Ordering::Release);
                self.outbox.control(Ok(Event::Assigned(assignment)));
            }
            Err(error) => self.outbox.control(Err(error)),
        }
    }

    /// Whether the polling thread has offsets to move to, or is about to have.
    pub(crate) fn is_settling(&self) -> bool {
        matches!(self.lock().stage, Stage::Settling | Stage::Settled(_))
    }

    /// Whether this is the assignment that the loop was told of last and still has.
    pub(crate) fn is_live(&self, epoch: Epoch) -> bool {
        self.live.load(Ordering::Acquire) == epoch.0
    }

    /// The membership under which `epoch` may commit, while it may.
    pub(crate) fn membership(&self, epoch: Epoch) -> Option<Arc<ConsumerGroupMetadata>> {
        let state = self.lock();
        let may = self.is_live(epoch) && !state.released;
        may.then(|| state.held.as_ref().map(|held| held.metadata.clone())).flatten()
    }

    /// The group takes the partitions back: gives the loop time to let go, unless they are gone already.
    pub(crate) fn revoke(&self, lost: bool, within: Duration) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Told) {
            if !lost && !state.closing {
                self.outbox.control(Ok(Event::Revoking));
                state.revoking = true;
                let until = Instant::now() + within;
                while !state.released && !state.closing && matches!(state.stage, Stage::Told) {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        tracing::warn!(?within, "the loop did not let its partitions go in time");
                        break;
                    }
                    state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
            if !state.released {
                self.outbox.control(Ok(Event::Lost));
            }
        }
        state.held = None;
        state.stage = Stage::Void;
        (state.revoking, state.released) = (false, false);
        self.live.store(0, Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }

    /// The loop lets go of what is being revoked.
    pub(crate) fn release(&self) {
        let mut state = self.lock();
        state.released = state.revoking;
        drop(state);
        self.changed.notify_all();
    }

    /// Notes which partitions the loop wants to rest; gives those of them that it holds under `epoch`.
    pub(crate) fn pause(
        &self,
        epoch: Epoch,
        partitions: &[TopicPartition],
        paused: bool,
    ) -> Vec<TopicPartition> {
        let mut state = self.lock();
        if !self.is_live(epoch) {
            return Vec::new();
        }
        let mut changed = partitions.to_vec();
        changed.retain(|at| if paused { state.paused.insert(*at) } else { state.paused.remove(at) });
        changed
    }

    /// The partitions that the loop wants records of.
    pub(crate) fn fetching(&self) -> Vec<TopicPartition> {
        let state = self.lock();
        let held = state.held.iter().flat_map(|held| &held.partitions);
        held.filter(|at| !state.paused.contains(at)).copied().collect()
    }

    /// The same with where each of them began, and the assignment that it is of.
    pub(crate) fn reading(&self) -> Option<(Epoch, BTreeMap<TopicPartition, Offset>)> {
        let state = self.lock();
        let epoch = Epoch(self.live.load(Ordering::Acquire));
        let told = matches!(state.stage, Stage::Told) && !state.revoking && epoch != Epoch(0);
        let mut reading = told.then(|| state.begins.clone())?;
        reading.retain(|at, _| !state.paused.contains(at));
        Some((epoch, reading))
    }

    /// Waits; says whether the member is still there.
    pub(crate) fn stays_open(&self, wait: Duration) -> bool {
        let open = |state: &mut State| !state.closing;
        let waited = self.changed.wait_timeout_while(self.lock(), wait, open);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    /// The member is leaving, or was dropped.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.live.store(0, Ordering::Release);
        self.changed.notify_all();
        self.outbox.close();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
