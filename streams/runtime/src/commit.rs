//! The only place that begins and commits a transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::BoxFuture;
use hansard_core::id::Offset;
use hansard_schemas::Topic;

use crate::outcome::Ending;
use crate::ports::log::{
    Committed, Epoch, Member, Outgoing, TopicPartition, TransactError, Transacted, Transaction,
};

/// How much goes into one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionBounds {
    /// Emitted records, at most (default 10,000). A single input's outputs are never split.
    pub records_max: usize,
    /// Their bytes, at most (default 8 MiB), likewise.
    pub bytes_max: usize,
}

impl Default for TransactionBounds {
    fn default() -> Self {
        Self { records_max: 10_000, bytes_max: 8 << 20 }
    }
}

/// Whose output a record is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// One input's.
    Input(TopicPartition, Offset),
    /// A window's: what it has to say in one topic.
    Window(Topic, Option<Bytes>),
}

/// Whose outputs the log does not take, and how often it said so: they end otherwise at the next try, since a
/// transaction that holds them would abort for ever.
#[derive(Debug, Clone, Default)]
pub(crate) struct Oversized(BTreeMap<Source, u32>);

impl Oversized {
    /// Learns from how a transaction ended.
    pub(crate) fn learn(&mut self, ended: Transacted, sources: &[Source]) {
        match ended {
            Ok(_) if self.0.is_empty() => {}
            Ok(_) => self.0.retain(|source, _| !sources.contains(source)),
            Err(TransactError::TooLarge { record }) => {
                if let Some(source) = sources.get(record) {
                    *self.0.entry(source.clone()).or_default() += 1;
                }
            }
            Err(_) => {}
        }
    }

    /// How often the log has refused an output of this source.
    pub(crate) fn times(&self, source: &Source) -> u32 {
        self.0.get(source).copied().unwrap_or(0)
    }
}

/// A commit under way.
pub(crate) struct Commit {
    pub(crate) result: BoxFuture<'static, Transacted>,
    /// Whose each of its records is.
    pub(crate) sources: Vec<Source>,
}

/// A transaction in the making.
#[derive(Debug)]
pub(crate) struct Batch {
    epoch: Epoch,
    bounds: TransactionBounds,
    records: Vec<Outgoing>,
    sources: Vec<Source>,
    bytes: usize,
    offsets: BTreeMap<TopicPartition, Option<(Offset, String)>>,
}

impl Batch {
    pub(crate) fn new(epoch: Epoch, bounds: TransactionBounds) -> Self {
        Self { epoch, bounds, records: Vec::new(), sources: Vec::new(), bytes: 0, offsets: BTreeMap::new() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.records.len() >= self.bounds.records_max || self.bytes >= self.bounds.bytes_max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Adds what the input of `lane` at `offset` ended with.
    pub(crate) fn push(&mut self, lane: TopicPartition, offset: Offset, ending: Ending) {
        for record in ending.records {
            self.add(Source::Input(lane, offset), record);
        }
        self.offsets.entry(lane).or_insert(None);
    }

    /// Adds the unchanged copy of a misrouted input: it goes to a partition number that may be another member's, under
    /// the input's own offset.
    pub(crate) fn forward(&mut self, lane: TopicPartition, offset: Offset, copy: Outgoing) {
        self.push(lane, offset, Ending { records: vec![copy], transient: None });
    }

    /// Adds what the clock or a batch of facts led to, in a partition number whose offset is, or will be, in it.
    pub(crate) fn emit(&mut self, record: Outgoing) {
        self.add(Source::Window(record.to.topic, record.key.clone()), record);
    }

    fn add(&mut self, source: Source, record: Outgoing) {
        self.bytes += record.value.as_ref().map_or(0, Bytes::len);
        self.records.push(record);
        self.sources.push(source);
    }

    /// Whether anything is emitted with it.
    pub(crate) fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// How many records are in it.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The partitions whose inputs are in it.
    pub(crate) fn lanes(&self) -> Vec<TopicPartition> {
        self.offsets.keys().copied().collect()
    }

    /// Takes over the offsets of an earlier batch, which has no records, where it has none of its own.
    pub(crate) fn absorb(&mut self, earlier: Self) {
        assert!(earlier.records.is_empty() && earlier.epoch == self.epoch, "{earlier:?} cannot be put off");
        for (lane, offset) in earlier.offsets {
            self.offsets.entry(lane).or_insert(offset);
        }
    }

    /// Sets what is committed for a partition.
    pub(crate) fn offset(&mut self, lane: TopicPartition, offset: Offset, metadata: String) {
        self.offsets.insert(lane, Some((offset, metadata)));
    }
}

/// Commits a batch. A partition whose offset was not set, or a record without an offset in its partition number, is a
/// broken invariant: such a transaction would not be fenced.
pub(crate) fn commit(member: &mut dyn Member, batch: Batch) -> Commit {
    let offsets: Vec<Committed> = batch
        .offsets
        .into_iter()
        .filter_map(|(from, set)| set.map(|(offset, metadata)| Committed { from, offset, metadata }))
        .collect();
    assert!(
        batch.records.is_empty() || !offsets.is_empty(),
        "a transaction without an offset would not be fenced"
    );
    let result = member.transact(Transaction { epoch: batch.epoch, records: batch.records, offsets });
    Commit { result, sources: batch.sources }
}
