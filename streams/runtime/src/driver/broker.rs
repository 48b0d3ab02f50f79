//! The brokers' state: partitions with control records, transactions, their markers and transactional producers.
//!
//! As in Kafka: a marker takes an offset; a reader sees committed records up to the last stable offset, the first of any
//! open transaction; the high watermark counts open transactions; a transaction's outcome reaches each of its partitions
//! on its own; a producer with an older epoch than the last under its `transactional.id` is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use hansard_core::id::{Millis, Offset, Timestamp};

use super::group::Group;
use super::process::ProcessId;
use super::world::{State, World};
use crate::ports::log::{Committed, Fetched, LogRecord, Outgoing, TopicPartition};

/// `transaction.timeout.ms`.
const TRANSACTION_TIMEOUT: Millis = Millis(10_000);

/// A committed record with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it stands.
    pub from: TopicPartition,
    /// The record.
    pub record: LogRecord,
}

#[derive(Debug)]
enum Entry {
    Record(LogRecord, Option<u64>),
    Marker,
}

/// One partition of one topic.
#[derive(Debug, Default)]
struct Line {
    entries: Vec<Entry>,
    /// Open transactions with their first offset here.
    open: BTreeMap<u64, usize>,
    aborted: BTreeSet<u64>,
    readers: Vec<Waker>,
}

/// One transaction.
#[derive(Debug)]
struct Txn {
    id: String,
    lines: BTreeSet<TopicPartition>,
    group: Option<String>,
    offsets: Vec<Committed>,
    ended: bool,
}

/// All brokers as one.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) partitions: u32,
    pub(super) groups: BTreeMap<String, Group>,
    lines: BTreeMap<TopicPartition, Line>,
    txns: BTreeMap<u64, Txn>,
    /// The present epoch of each `transactional.id`.
    producers: BTreeMap<String, u64>,
}

fn offset(place: usize) -> Offset {
    Offset(i64::try_from(place).unwrap_or(i64::MAX))
}

impl Line {
    fn stable_end(&self) -> usize {
        self.open.values().copied().min().unwrap_or(self.entries.len())
    }

    fn wake(&mut self) {
        self.readers.drain(..).for_each(Waker::wake);
    }

    fn push(&mut self, now: Timestamp, out: &Outgoing, txn: Option<u64>) -> Offset {
        let place = self.entries.len();
        let record = LogRecord {
            offset: offset(place),
            time: now,
            key: out.key.clone(),
            value: out.value.clone(),
            headers: out.headers.clone(),
        };
        self.entries.push(Entry::Record(record, txn));
        if let Some(txn) = txn {
            self.open.entry(txn).or_insert(place);
        }
        self.wake();
        offset(place)
    }

    fn mark(&mut self, txn: u64, commit: bool) {
        self.entries.push(Entry::Marker);
        self.open.remove(&txn);
        if !commit {
            self.aborted.insert(txn);
        }
        self.wake();
    }

    fn committed(&self, place: usize) -> Option<&LogRecord> {
        match &self.entries[place] {
            Entry::Record(_, Some(txn)) if self.aborted.contains(txn) => None,
            Entry::Record(record, _) => Some(record),
            Entry::Marker => None,
        }
    }
}

impl Broker {
    pub(super) fn new(partitions: u32) -> Self {
        Self {
            partitions,
            groups: BTreeMap::new(),
            lines: BTreeMap::new(),
            txns: BTreeMap::new(),
            producers: BTreeMap::new(),
        }
    }

    /// Appends outside of any transaction.
    pub(super) fn append(&mut self, now: Timestamp, out: &Outgoing) -> Offset {
        self.lines.entry(out.to).or_default().push(now, out, None)
    }

    /// The high watermark.
    pub(super) fn end(&self, of: TopicPartition) -> Offset {
        offset(self.lines.get(&of).map_or(0, |line| line.entries.len()))
    }

    /// Committed records from `from` on, at most `records_max` and about `bytes_max`; nothing where the position would not
    /// move.
    pub(super) fn fetch(
        &self,
        of: TopicPartition,
        from: Offset,
        records_max: usize,
        bytes_max: usize,
    ) -> Option<Fetched> {
        let line = self.lines.get(&of)?;
        let (begin, end) = (usize::try_from(from.0).unwrap_or(0), line.stable_end());
        let (mut records, mut bytes, mut place) = (Vec::new(), 0, begin);
        while place < end {
            if let Some(record) = line.committed(place) {
                let size = record.value.as_ref().map_or(0, bytes::Bytes::len);
                if records.len() >= records_max || (!records.is_empty() && bytes + size > bytes_max) {
                    break;
                }
                bytes += size;
                records.push(record.clone());
            }
            place += 1;
        }
        (place > begin).then(|| Fetched { from: of, records, position: offset(place) })
    }

    /// Whether a reader at `from` would get on.
    pub(super) fn has(&self, of: TopicPartition, from: Offset) -> bool {
        self.lines.get(&of).is_some_and(|line| offset(line.stable_end()) > from)
    }

    /// Has `waker` woken when the partition changes.
    pub(super) fn watch(&mut self, of: TopicPartition, waker: &Waker) {
        let readers = &mut self.lines.entry(of).or_default().readers;
        if !readers.iter().any(|held| held.will_wake(waker)) {
            readers.push(waker.clone());
        }
    }

    /// Every committed record, by partition and offset.
    fn all(&self) -> Vec<Stored> {
        let mut all = Vec::new();
        for (from, line) in &self.lines {
            let places = 0..line.stable_end();
            all.extend(
                places
                    .filter_map(|place| line.committed(place))
                    .map(|record| Stored { from: *from, record: record.clone() }),
            );
        }
        all
    }

    /// Whether the producer is the newest under its id.
    pub(super) fn is_current(&self, id: &str, epoch: u64) -> bool {
        self.producers.get(id) == Some(&epoch)
    }

    /// The group's own marker.
    fn mark_offsets(&mut self, txn: u64, commit: bool) {
        let Some(open) = self.txns.get_mut(&txn) else { return };
        let offsets = std::mem::take(&mut open.offsets);
        if let Some(group) = open.group.take().and_then(|name| self.groups.get_mut(&name)) {
            group.take_offsets(offsets, commit);
        }
    }

    /// Whether an open transaction may still change what the group has committed for these partition numbers.
    pub(super) fn is_unstable(&self, group: &str, numbers: &std::ops::Range<i32>) -> bool {
        let of = |txn: &Txn| {
            txn.group.as_deref() == Some(group)
                && txn.offsets.iter().any(|line| numbers.contains(&line.from.partition.0))
        };
        self.txns.values().any(of)
    }
}

impl State {
    /// Adds a record to a transaction; false where the transaction is over.
    pub(super) fn add(&mut self, txn: u64, out: &Outgoing) -> bool {
        let Some(open) = self.broker.txns.get_mut(&txn).filter(|txn| !txn.ended) else { return false };
        open.lines.insert(out.to);
        self.broker.lines.entry(out.to).or_default().push(self.now, out, Some(txn));
        true
    }

    /// Adds offsets to a transaction; false where the transaction is over.
    pub(super) fn add_offsets(&mut self, txn: u64, group: &str, offsets: &[Committed]) -> bool {
        let Some(open) = self.broker.txns.get_mut(&txn).filter(|txn| !txn.ended) else { return false };
        open.group = Some(group.to_owned());
        open.offsets = offsets.to_vec();
        true
    }
}

impl World {
    /// Everything that has been committed to the log, by partition and offset.
    #[must_use]
    pub fn log(&self) -> Vec<Stored> {
        self.state().broker.all()
    }

    /// What a group has committed for a partition: the offset, and the metadata with it.
    #[must_use]
    pub fn progress(&self, group: &str, of: TopicPartition) -> (Offset, String) {
        let state = self.state();
        let committed = state.broker.groups.get(group).and_then(|group| group.offsets.get(&of));
        committed.cloned().unwrap_or((Offset(0), String::new()))
    }

    /// Appends a record as a producer outside would, at once and without fail.
    pub fn produce(&self, out: &Outgoing) -> Offset {
        let mut state = self.state();
        let now = state.now;
        state.broker.append(now, out)
    }

    /// Begins a producer under a transactional id: what its predecessor left open is aborted, and its epoch is over.
    pub(super) fn begin_producer(&self, id: &str) -> u64 {
        let (epoch, open) = {
            let mut state = self.state();
            let epoch = state.fresh();
            state.broker.producers.insert(id.to_owned(), epoch);
            let open = state.broker.txns.iter().filter(|(_, txn)| txn.id == id && !txn.ended);
            (epoch, open.map(|(txn, _)| *txn).collect::<Vec<u64>>())
        };
        for txn in open {
            self.end_txn(txn, false);
        }
        epoch
    }

    /// Whether a transaction under the id has not reached all its partitions.
    pub(super) fn is_ending(&self, id: &str) -> bool {
        self.state().broker.txns.values().any(|txn| txn.id == id)
    }

    /// Begins a transaction, which is aborted when it is not ended in time.
    pub(super) fn begin_txn(&self, id: &str) -> u64 {
        let (txn, until) = {
            let mut state = self.state();
            let txn = state.fresh();
            let open = Txn {
                id: id.to_owned(),
                lines: BTreeSet::new(),
                group: None,
                offsets: Vec::new(),
                ended: false,
            };
            state.broker.txns.insert(txn, open);
            (txn, state.now + TRANSACTION_TIMEOUT)
        };
        let world = self.clone();
        let timeout = async move {
            world.until(until).await;
            world.end_txn(txn, false);
        };
        self.spawn(ProcessId::BROKERS, Box::pin(timeout));
        txn
    }

    /// Ends a transaction, if it is not ended: the outcome is decided at once and reaches each partition, and the group,
    /// now or a little later. False where it had ended before.
    pub(super) fn end_txn(&self, txn: u64, commit: bool) -> bool {
        let mut late: BTreeMap<Timestamp, Vec<Option<TopicPartition>>> = BTreeMap::new();
        {
            let mut state = self.state();
            let Some(open) = state.broker.txns.get_mut(&txn).filter(|txn| !txn.ended) else { return false };
            open.ended = true;
            let lines: Vec<TopicPartition> = open.lines.iter().copied().collect();
            let id = open.id.clone();
            state.note(|| format!("{id} {} {txn}", if commit { "commits" } else { "aborts" }));
            let lag = state.faults.marker_lag;
            // The group's offsets are a partition like any other.
            for line in lines.into_iter().map(Some).chain([None]) {
                let at = state.late(lag).unwrap_or(state.now);
                late.entry(at).or_default().push(line);
            }
        }
        if late.len() == 1
            && let Some(lines) = late.remove(&self.now())
        {
            self.mark(txn, &lines, commit, true);
            return true;
        }
        let world = self.clone();
        let markers = async move {
            while let Some((at, lines)) = late.pop_first() {
                world.until(at).await;
                world.mark(txn, &lines, commit, late.is_empty());
            }
        };
        self.spawn(ProcessId::BROKERS, Box::pin(markers));
        true
    }

    /// Writes markers; the transaction is gone with the last of them.
    fn mark(&self, txn: u64, lines: &[Option<TopicPartition>], commit: bool, last: bool) {
        let mut state = self.state();
        for line in lines {
            match line {
                Some(line) => state.broker.lines.entry(*line).or_default().mark(txn, commit),
                None => state.broker.mark_offsets(txn, commit),
            }
        }
        if last {
            state.broker.txns.remove(&txn);
        }
        // Whoever waits for stable offsets looks again.
        state.wake_members();
    }

    /// Lets a part of a transaction become visible, as brokers without KIP-890 may: the records that were appended, but
    /// not the offsets.
    pub(super) fn tear_txn(&self, txn: u64) -> bool {
        if let Some(open) = self.state().broker.txns.get_mut(&txn) {
            open.offsets.clear();
            open.group = None;
        }
        self.end_txn(txn, true)
    }
}
