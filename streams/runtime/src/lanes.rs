//! What waits and what runs, per partition and per conversation: bounded, and fair between conversations.
//!
//! A lane is one assigned partition of one topic. The next record to start is taken from the lanes in turn, so that no
//! backlog of one keeps a callback or another partition waiting; and within a lane from its conversations in turn, so that one
//! with thousands of records delays no other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use hansard_core::id::{Offset, Timestamp};
use hansard_schemas::Topic;

use crate::offsets::Completed;
use crate::ports::log::{LogRecord, TopicPartition};

/// Bounds on what a loop holds, each per instance unless stated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Records under way at once (default 64).
    pub in_flight_max: usize,
    /// Records of one conversation under way at once (default 8).
    pub in_flight_per_conversation_max: usize,
    /// Records that wait in one lane before its partition is paused (default 8,192).
    pub waiting_max: usize,
    /// Bytes that wait in one lane before its partition is paused (default 16 MiB).
    pub waiting_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            in_flight_max: 64,
            in_flight_per_conversation_max: 8,
            waiting_max: 8192,
            waiting_bytes_max: 16 << 20,
        }
    }
}

/// A record that may start.
#[derive(Debug)]
pub(crate) struct Startable {
    pub(crate) lane: TopicPartition,
    pub(crate) conversation: Arc<[u8]>,
    pub(crate) record: LogRecord,
}

#[derive(Debug)]
struct Lane {
    completed: Completed,
    /// The next offset to be read.
    position: Offset,
    /// Offsets that were delivered and are not done, with their log times.
    outstanding: BTreeMap<i64, Timestamp>,
    /// Of these, the ones that are not begun.
    unstarted: BTreeMap<i64, Timestamp>,
    /// Waiting records by conversation, each in offset order.
    waiting: HashMap<Arc<[u8]>, VecDeque<LogRecord>>,
    /// Conversations with waiting records, in turn.
    turn: VecDeque<Arc<[u8]>>,
    /// Records of a retry tier that are not due yet, in order; the first one's time comes first.
    not_due: VecDeque<(Timestamp, LogRecord)>,
    waiting_records: usize,
    waiting_bytes: usize,
    fetching: bool,
    /// A dependency is down: nothing starts before this.
    blocked_until: Option<Timestamp>,
    /// After a block: one record tries before all do.
    probing: bool,
    /// The commit metadata is full: nothing starts until the prefix has moved.
    full: bool,
}

/// All lanes of an assignment.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<TopicPartition, Lane>,
    /// The lanes in turn; the last is the one that started last.
    turn: VecDeque<TopicPartition>,
    running: HashMap<Arc<[u8]>, usize>,
    in_flight: usize,
}

fn bytes_of(record: &LogRecord) -> usize {
    record.value.as_ref().map_or(0, bytes::Bytes::len) + record.key.as_ref().map_or(0, bytes::Bytes::len) + 64
}

impl Lane {
    fn queue(&mut self, record: LogRecord) {
        let conversation: Arc<[u8]> = record.key.as_deref().unwrap_or_default().into();
        let queue = self.waiting.entry(Arc::clone(&conversation)).or_default();
        if queue.is_empty() {
            self.turn.push_back(conversation);
        }
        queue.push_back(record);
    }

    fn is_full(&self, bounds: &Bounds) -> bool {
        self.waiting_records >= bounds.waiting_max || self.waiting_bytes >= bounds.waiting_bytes_max
    }

    fn has_room(&self, bounds: &Bounds) -> bool {
        self.waiting_records * 2 <= bounds.waiting_max && self.waiting_bytes * 2 <= bounds.waiting_bytes_max
    }

    fn may_start(&self, now: Timestamp) -> bool {
        !self.full && !self.probing && self.blocked_until.is_none_or(|until| now >= until)
    }

    /// The next record, of the first conversation in turn that may run one more.
    fn start(
        &mut self,
        now: Timestamp,
        bounds: &Bounds,
        running: &HashMap<Arc<[u8]>, usize>,
    ) -> Option<(Arc<[u8]>, LogRecord)> {
        while self.not_due.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, record)) = self.not_due.pop_front() {
                self.queue(record);
            }
        }
        if !self.may_start(now) {
            return None;
        }
        for _ in 0..self.turn.len() {
            let conversation = self.turn.pop_front()?;
            if running.get(&conversation).is_some_and(|n| *n >= bounds.in_flight_per_conversation_max) {
                self.turn.push_back(conversation);
                continue;
            }
            let Some(queue) = self.waiting.get_mut(&conversation) else { continue };
            let Some(record) = queue.pop_front() else { continue };
            if queue.is_empty() {
                self.waiting.remove(&conversation);
            } else {
                self.turn.push_back(Arc::clone(&conversation));
            }
            self.waiting_records -= 1;
            self.waiting_bytes -= bytes_of(&record);
            self.unstarted.remove(&record.offset.0);
            self.probing = self.blocked_until.take().is_some();
            return Some((conversation, record));
        }
        None
    }
}

impl Lanes {
    /// Begins an assignment.
    pub(crate) fn assign(&mut self, partitions: impl Iterator<Item = (TopicPartition, Completed)>) {
        *self = Self::default();
        for (from, completed) in partitions {
            let lane = Lane {
                position: completed.prefix(),
                completed,
                outstanding: BTreeMap::new(),
                unstarted: BTreeMap::new(),
                waiting: HashMap::new(),
                turn: VecDeque::new(),
                not_due: VecDeque::new(),
                waiting_records: 0,
                waiting_bytes: 0,
                fetching: true,
                blocked_until: None,
                probing: false,
                full: false,
            };
            self.lanes.insert(from, lane);
            self.turn.push_back(from);
        }
    }

    pub(crate) fn contains(&self, from: TopicPartition) -> bool {
        self.lanes.contains_key(&from)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes records in, each with the time before which it is not due. Records that were done before are dropped.
    pub(crate) fn fetched(
        &mut self,
        from: TopicPartition,
        records: impl Iterator<Item = (Option<Timestamp>, LogRecord)>,
        position: Offset,
    ) {
        let Some(lane) = self.lanes.get_mut(&from) else { return };
        for (due, record) in records {
            if record.offset < lane.position || lane.completed.contains(record.offset) {
                continue;
            }
            lane.outstanding.insert(record.offset.0, record.time);
            lane.unstarted.insert(record.offset.0, record.time);
            lane.waiting_records += 1;
            lane.waiting_bytes += bytes_of(&record);
            match due {
                Some(due) => lane.not_due.push_back((due, record)),
                None => lane.queue(record),
            }
        }
        lane.position = lane.position.max(position);
    }

    /// Partitions whose fetching is to be stopped, and to be resumed.
    pub(crate) fn fetching(&mut self, bounds: &Bounds) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let (mut stop, mut resume) = (Vec::new(), Vec::new());
        for (from, lane) in &mut self.lanes {
            if lane.fetching && lane.is_full(bounds) {
                lane.fetching = false;
                stop.push(*from);
            } else if !lane.fetching && lane.has_room(bounds) {
                lane.fetching = true;
                resume.push(*from);
            }
        }
        (stop, resume)
    }

    /// The next record to start, if a slot is free and one may start now.
    pub(crate) fn start(&mut self, now: Timestamp, bounds: &Bounds) -> Option<Startable> {
        if self.in_flight >= bounds.in_flight_max {
            return None;
        }
        for _ in 0..self.turn.len() {
            self.turn.rotate_left(1);
            let from = *self.turn.back()?;
            let Some(lane) = self.lanes.get_mut(&from) else { continue };
            if let Some((conversation, record)) = lane.start(now, bounds, &self.running) {
                *self.running.entry(Arc::clone(&conversation)).or_default() += 1;
                self.in_flight += 1;
                return Some(Startable { lane: from, conversation, record });
            }
        }
        None
    }

    /// A started record has ended, whichever way; frees its slot.
    pub(crate) fn ended(&mut self, conversation: &Arc<[u8]>) {
        self.in_flight -= 1;
        if let Some(n) = self.running.get_mut(conversation) {
            *n -= 1;
            if *n == 0 {
                self.running.remove(conversation);
            }
        }
    }

    /// A dependency is down: the record goes back to the front, and its lane waits.
    pub(crate) fn put_back(&mut self, from: TopicPartition, record: LogRecord, until: Timestamp) {
        let Some(lane) = self.lanes.get_mut(&from) else { return };
        lane.waiting_records += 1;
        lane.waiting_bytes += bytes_of(&record);
        lane.unstarted.insert(record.offset.0, record.time);
        let conversation: Arc<[u8]> = record.key.as_deref().unwrap_or_default().into();
        let queue = lane.waiting.entry(Arc::clone(&conversation)).or_default();
        if queue.is_empty() {
            lane.turn.push_front(conversation);
        }
        let place = queue.partition_point(|waiting| waiting.offset < record.offset);
        queue.insert(place, record);
        lane.blocked_until = lane.blocked_until.max(Some(until));
        lane.probing = false;
    }

    /// The dependency answered: the lane runs freely again.
    pub(crate) fn answered(&mut self, from: TopicPartition) {
        if let Some(lane) = self.lanes.get_mut(&from) {
            lane.probing = false;
        }
    }

    /// Marks a record done, so that the next [`Lanes::commitment`] says so. False when the commit metadata is full: the
    /// record's output has to wait until an earlier one is done.
    pub(crate) fn complete(&mut self, from: TopicPartition, offset: Offset) -> bool {
        let Some(lane) = self.lanes.get_mut(&from) else { return false };
        let mut completed = lane.completed.clone();
        completed.insert(offset, Offset(offset.0 + 1));
        // What lies between delivered records was never delivered: control records, or compacted ones.
        let next =
            lane.outstanding.keys().find(|first| **first != offset.0).map_or(lane.position, |o| Offset(*o));
        completed.insert(completed.prefix(), next.min(lane.position));
        lane.full = !completed.fits();
        if !lane.full {
            lane.completed = completed;
            lane.outstanding.remove(&offset.0);
        }
        !lane.full
    }

    /// What to commit for a partition.
    pub(crate) fn commitment(&self, from: TopicPartition) -> Option<(Offset, String)> {
        let lane = self.lanes.get(&from)?;
        #[cfg(feature = "mutants")]
        if crate::mutants::is_in(crate::mutants::Mutant::OffsetPastHole) {
            return Some((lane.position, String::new()));
        }
        Some((lane.completed.prefix(), lane.completed.metadata()))
    }

    /// The log time of the oldest new record that is not done; those of retry tiers wait on purpose.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.first_deliveries().filter_map(|lane| lane.outstanding.values().next().copied()).min()
    }

    /// The log time of the oldest new record that is not begun.
    pub(crate) fn oldest_unstarted(&self) -> Option<Timestamp> {
        self.first_deliveries().filter_map(|lane| lane.unstarted.values().next().copied()).min()
    }

    fn first_deliveries(&self) -> impl Iterator<Item = &Lane> {
        let new = self.lanes.iter().filter(|(from, _)| !matches!(from.topic, Topic::Retry(..)));
        new.map(|(_, lane)| lane)
    }

    /// The first offset of each partition that is not done.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (TopicPartition, Offset)> {
        let first = |lane: &Lane| lane.outstanding.keys().next().map_or(lane.position, |o| Offset(*o));
        self.lanes.iter().map(move |(from, lane)| (*from, first(lane)))
    }

    /// Partitions that wait for a dependency.
    pub(crate) fn blocked(&self) -> usize {
        self.lanes.values().filter(|lane| lane.blocked_until.is_some() || lane.probing).count()
    }

    /// When, after `now`, the lanes are to be looked at again without any event.
    pub(crate) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let due = self.lanes.values().filter_map(|lane| lane.not_due.front().map(|(due, _)| *due));
        let blocked = self.lanes.values().filter_map(|lane| lane.blocked_until);
        due.chain(blocked).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
#[path = "tests/lanes.rs"]
mod tests;
