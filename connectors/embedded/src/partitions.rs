//! What is known in memory of every partition: where it begins and ends, and its newest batches.
//!
//! Only what is durable gets in here, and readers look only here for the end: nothing is visible before it is durable.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hansard_core::id::Timestamp;
use tokio::sync::watch;

use crate::batch::Batch;

/// One partition of one topic: the topic's stored id times the partition count, plus the partition's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u32);

/// Where a partition begins and ends, and its newest time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first offset that is still held.
    pub(crate) begin: i64,
    /// The next offset to be given.
    pub(crate) next: i64,
    /// The time of the newest record there ever was: times do not fall.
    pub(crate) time: Timestamp,
}

impl Extent {
    pub(crate) const EMPTY: Self = Self { begin: 0, next: 0, time: Timestamp::MIN };
}

/// What a look at a partition gave.
#[derive(Debug)]
pub(crate) enum Found {
    /// The offset is below what is held.
    Deleted { begin: i64 },
    /// There is nothing at the offset yet.
    Nothing,
    /// These batches, of which the first may begin below the offset.
    Tail(Vec<Batch>),
    /// It must be read from disk, up to but without `next`.
    Disk { next: i64 },
}

struct State {
    extents: Vec<Extent>,
    tails: Vec<VecDeque<Batch>>,
    /// The order in which batches came, for dropping the oldest first.
    order: VecDeque<Slot>,
    bytes: usize,
    closed: bool,
}

/// All partitions.
pub(crate) struct Partitions {
    state: Mutex<State>,
    bytes_max: usize,
    changed: watch::Sender<()>,
}

impl Partitions {
    pub(crate) fn new(extents: Vec<Extent>, bytes_max: usize) -> Self {
        let tails = extents.iter().map(|_| VecDeque::new()).collect();
        let state = State { extents, tails, order: VecDeque::new(), bytes: 0, closed: false };
        Self { state: Mutex::new(state), bytes_max, changed: watch::Sender::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the state whole, so a panic elsewhere under the lock does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is told of every change: of ends, and of closing.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn extent(&self, slot: Slot) -> Extent {
        self.state().extents[slot.0 as usize]
    }

    pub(crate) fn ends(&self, slots: impl Iterator<Item = Slot>) -> Vec<Range<i64>> {
        let state = self.state();
        slots.map(|slot| state.extents[slot.0 as usize]).map(|extent| extent.begin..extent.next).collect()
    }

    /// Takes in durable batches, and wakes the readers.
    pub(crate) fn publish(&self, batches: Vec<(Slot, Batch, Timestamp)>) {
        let mut state = self.state();
        for (slot, batch, time) in batches {
            let extent = &mut state.extents[slot.0 as usize];
            extent.next = batch.last + 1;
            extent.time = time;
            state.bytes += batch.bytes.len();
            state.order.push_back(slot);
            state.tails[slot.0 as usize].push_back(batch);
        }
        while state.bytes > self.bytes_max {
            let Some(slot) = state.order.pop_front() else { break };
            if let Some(batch) = state.tails[slot.0 as usize].pop_front() {
                state.bytes -= batch.bytes.len();
            }
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Everything below `begin` is gone.
    pub(crate) fn cut(&self, slot: Slot, begin: i64) {
        let mut state = self.state();
        state.extents[slot.0 as usize].begin = begin;
        // The tail may still hold some of it until it is dropped in its turn; looks at it are refused by the extent.
        drop(state);
        self.changed.send_replace(());
    }

    /// Starts anew after the store was reopened.
    pub(crate) fn reset(&self, extents: Vec<Extent>) {
        let mut state = self.state();
        state.tails = extents.iter().map(|_| VecDeque::new()).collect();
        state.extents = extents;
        state.order.clear();
        state.bytes = 0;
        drop(state);
        self.changed.send_replace(());
    }

    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.send_replace(());
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Looks for records from `offset` on, for about `bytes_max` bytes.
    pub(crate) fn look(&self, slot: Slot, offset: i64, bytes_max: usize) -> Found {
        let state = self.state();
        let extent = state.extents[slot.0 as usize];
        if offset < extent.begin {
            return Found::Deleted { begin: extent.begin };
        }
        if offset >= extent.next {
            return Found::Nothing;
        }
        let tail = &state.tails[slot.0 as usize];
        if tail.front().is_none_or(|batch| batch.first > offset) {
            return Found::Disk { next: extent.next };
        }
        let start = tail.partition_point(|batch| batch.last < offset);
        let mut bytes = 0;
        let wanted = tail.range(start..).take_while(|batch| {
            let before = bytes;
            bytes += batch.bytes.len();
            before == 0 || before < bytes_max
        });
        Found::Tail(wanted.cloned().collect())
    }
}
