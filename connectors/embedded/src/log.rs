//! The log port: appending, reading outside groups, ends, and joining a group.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use async_trait::async_trait;
use hansard_core::id::Offset;
use hansard_runtime::ports::log::{
    Fetched, Group, Log, LogError, LogRecord, Member, Outgoing, TopicPartition,
};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinError;
use tokio::time::Instant;

use crate::batch::{Batch, Draft};
use crate::error::StoreError;
use crate::keys;
use crate::load;
use crate::member::LocalMember;
use crate::partitions::{Found, Slot};
use crate::store::Space;
use crate::topics::Topics;
use crate::writer::{Op, Shared, Urgency, Work};

/// The largest record that is taken, in bytes of key, value and headers: Kafka's default, so that nothing works here
/// that would fail there.
pub const RECORD_BYTES_MAX: usize = 1_000_000;

/// The engine as its ports see it: what is shared, and the way to the writer.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    writer: Sender<Work>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, writer: Sender<Work>) -> Self {
        Self { shared, writer }
    }

    /// Hands work to the writer; what cannot be handed over is dropped with its answer's sender.
    pub(crate) fn send(&self, work: Work) {
        // A writer that has ended drops the work, and with it the sender of the answer, which the asker sees.
        self.writer.send(work).ok();
    }

    pub(crate) async fn write(&self, ops: Vec<Op>, urgency: Urgency) -> Result<(), StoreError> {
        if ops.is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.send(Work::Write { ops, urgency, answer });
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Reads from the store on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        joined(tokio::task::spawn_blocking(move || work(&shared)).await)
    }
}

/// The result of work on a thread that may block. Its panic goes on here.
pub(crate) fn joined<T>(done: Result<Result<T, StoreError>, JoinError>) -> Result<T, StoreError> {
    done.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The runtime is being shut down.
        Err(_) => Err(StoreError::Closed),
    })
}

/// Sorts records into drafts, one or more a partition, and tells for each record its draft and its place there.
pub(crate) struct Sorted {
    pub(crate) drafts: Vec<(Slot, Draft)>,
    pub(crate) places: Vec<(usize, u32)>,
}

impl Sorted {
    pub(crate) fn new(topics: &Topics, records: &[Outgoing]) -> Result<Self, LogError> {
        const NONE: u32 = u32::MAX;
        let mut open = vec![NONE; topics.slots() as usize];
        let mut sorted = Self { drafts: Vec::new(), places: Vec::with_capacity(records.len()) };
        for record in records {
            check_size(record)?;
            let slot = slot(topics, record.to)?;
            let at = &mut open[slot.0 as usize];
            if *at == NONE || sorted.drafts[*at as usize].1.is_full() {
                *at = u32::try_from(sorted.drafts.len()).unwrap_or(NONE);
                sorted.drafts.push((slot, Draft::new()));
            }
            let draft = &mut sorted.drafts[*at as usize].1;
            sorted.places.push((*at as usize, draft.len()));
            draft.push(record);
        }
        Ok(sorted)
    }
}

pub(crate) fn check_size(record: &Outgoing) -> Result<(), LogError> {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let size = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
    let bytes = size(&record.key) + size(&record.value) + headers;
    if bytes > RECORD_BYTES_MAX {
        return Err(LogError::TooLarge { to: record.to, bytes, limit: RECORD_BYTES_MAX });
    }
    Ok(())
}

fn slot(topics: &Topics, of: TopicPartition) -> Result<Slot, LogError> {
    topics.slot(of).ok_or_else(|| LogError::Topic {
        topic: of.topic.to_string(),
        problem: format!("has no partition {}, but {} partitions", of.partition.0, topics.partitions()),
    })
}

/// Records and the offset to go on from.
pub(crate) type Read = (Vec<LogRecord>, i64);

/// Takes records out of batches.
pub(crate) fn unpack(batches: &[Batch], offset: i64, mut bytes_max: usize) -> Result<Read, StoreError> {
    let (mut records, mut position) = (Vec::new(), offset);
    for batch in batches {
        position = batch.records(position, &mut bytes_max, &mut records)?;
        if bytes_max == 0 && !records.is_empty() {
            break;
        }
    }
    Ok((records, position))
}

/// Reads records from disk, from `offset` up to but without `next`.
pub(crate) fn read_disk(
    shared: &Shared,
    slot: Slot,
    offset: i64,
    next: i64,
    bytes_max: usize,
) -> Result<Read, StoreError> {
    let batches = shared.disk.with(|store| {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        let range = keys::batch(slot, offset)..keys::batch(slot, next);
        for guard in store.space(Space::Log).range(range) {
            let (key, value) = guard.into_inner()?;
            let last =
                keys::last_offset(&key).ok_or_else(|| StoreError::corrupt("batch key", "it ends early"))?;
            bytes += value.len();
            batches.push(Batch::read(last, value.into())?);
            if bytes >= bytes_max {
                return Ok((batches, None));
            }
        }
        // Nothing more below `next`: compaction may have left nothing at its end.
        Ok((batches, Some(next)))
    });
    let (batches, end) = batches?;
    let (records, position) = unpack(&batches, offset, bytes_max)?;
    let whole = batches.last().is_none_or(|batch| position > batch.last);
    Ok((records, end.filter(|_| whole).unwrap_or(position)))
}

pub(crate) fn out_of_range(from: TopicPartition, position: i64, begins: i64) -> LogError {
    LogError::OutOfRange { from, position: Offset(position), begins: Offset(begins) }
}

/// The log of the engine.
pub(crate) struct LocalLog(pub(crate) Handle);

impl LocalLog {
    /// What can be had now from `offset` on, or `None`.
    async fn try_read(
        &self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Option<Read>, LogError> {
        let shared = &self.0.shared;
        let slot = slot(&shared.topics, from)?;
        match shared.partitions.look(slot, offset, bytes_max) {
            Found::Deleted { begin } => Err(out_of_range(from, offset, begin)),
            Found::Nothing => Ok(None),
            Found::Tail(batches) => Ok(Some(unpack(&batches, offset, bytes_max)?)),
            Found::Disk { next } => {
                let read = self.0.read(move |shared| read_disk(shared, slot, offset, next, bytes_max));
                Ok(Some(read.await?))
            }
        }
    }
}

#[async_trait]
impl Log for LocalLog {
    fn partitions(&self) -> u32 {
        self.0.shared.topics.partitions()
    }

    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Offset>, LogError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let Sorted { drafts, places } = Sorted::new(&self.0.shared.topics, &records)?;
        let (answer, answered) = oneshot::channel();
        self.0.send(Work::Append { drafts, answer });
        let firsts = answered.await.unwrap_or(Err(StoreError::Closed))?;
        Ok(places.into_iter().map(|(draft, place)| Offset(firsts[draft] + i64::from(place))).collect())
    }

    async fn read(
        &self,
        from: TopicPartition,
        offset: Offset,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Fetched, LogError> {
        let until = Instant::now() + wait;
        let mut changes = self.0.shared.partitions.watch();
        loop {
            changes.mark_unchanged();
            if self.0.shared.partitions.is_closed() {
                return Err(LogError::Closed);
            }
            if let Some((records, position)) = self.try_read(from, offset.0, bytes_max).await? {
                return Ok(Fetched { from, records, position: Offset(position) });
            }
            if !matches!(tokio::time::timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
                return Ok(Fetched { from, records: Vec::new(), position: offset });
            }
        }
    }

    async fn ends(&self, of: &[TopicPartition]) -> Result<Vec<Range<Offset>>, LogError> {
        let slots: Result<Vec<_>, _> = of.iter().map(|of| slot(&self.0.shared.topics, *of)).collect();
        let ends = self.0.shared.partitions.ends(slots?.into_iter());
        Ok(ends.into_iter().map(|range| Offset(range.start)..Offset(range.end)).collect())
    }

    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Offset>, LogError> {
        let shared = &self.0.shared;
        let slots: Vec<Slot> = of.iter().map(|of| slot(&shared.topics, *of)).collect::<Result<_, _>>()?;
        let groups = shared.groups();
        let begin = |slot| Offset(shared.partitions.extent(slot).begin);
        let committed =
            |slot| groups.position(group, slot).map_or_else(|| begin(slot), |(offset, _)| *offset);
        Ok(slots.into_iter().map(committed).collect())
    }

    async fn join(&self, group: Group) -> Result<Box<dyn Member>, LogError> {
        let shared = &self.0.shared;
        if shared.partitions.is_closed() {
            return Err(LogError::Closed);
        }
        let slots: Vec<_> = shared
            .topics
            .all()
            .filter(|(of, _)| group.topics.contains(&of.topic))
            .map(|(_, slot)| slot)
            .collect();
        // From its first joining on a group has a position everywhere, so that retention waits for it.
        let new: Vec<_> = {
            let groups = shared.groups();
            slots.into_iter().filter(|slot| groups.position(&group.name, *slot).is_none()).collect()
        };
        let begins: Vec<_> =
            new.iter().map(|slot| (*slot, Offset(shared.partitions.extent(*slot).begin))).collect();
        let op = |(slot, offset): &(Slot, Offset)| {
            load::position_op(&group.name, *slot, &(*offset, String::new()))
        };
        self.0.write(begins.iter().map(op).collect(), Urgency::Synced).await?;
        let wake = Arc::new(Notify::new());
        let mut groups = shared.groups();
        for (slot, offset) in begins {
            groups.note(&group.name, slot, offset);
        }
        let id = groups.join(&group.name, group.instance.clone(), Arc::clone(&wake), Instant::now());
        drop(groups);
        Ok(Box::new(LocalMember::new(self.0.clone(), group, id, wake)))
    }
}
