//! Retention: records that are old and read by every group are deleted; of a compacted topic the newest of each key
//! stays. A position that a group has not read past is never passed.

use std::collections::HashMap;
use std::sync::Arc;

use hansard_core::id::Timestamp;
use hansard_runtime::ports::PortError;
use hansard_schemas::Keep;
use tokio::sync::Mutex;

use crate::batch::Batch;
use crate::error::StoreError;
use crate::keys;
use crate::load;
use crate::log::Handle;
use crate::partitions::{Extent, Slot};
use crate::store::{Space, Store};
use crate::writer::{Op, Shared, Urgency};

const DAY_MS: i64 = 86_400_000;
/// A tombstone stays this long, so that whoever reads along sees it.
const TOMBSTONES_MS: i64 = DAY_MS;
/// So many batches are looked at in one step.
const STEP: usize = 256;
/// A compacted partition is left alone until at least so many records have come since.
const WORTH: i64 = 1_000;

/// What a round of maintenance did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Offsets by which partitions now begin later.
    pub expired: u64,
    /// Records that compaction left out.
    pub superseded: u64,
}

/// Where compaction stood when it last ran, by partition: the end, and how many records it kept. One round at a time.
pub(crate) type Rounds = Arc<Mutex<HashMap<Slot, (i64, i64)>>>;

/// The end of what may go: no group has yet to read anything below it.
fn limit(shared: &Shared, slot: Slot, extent: Extent) -> i64 {
    shared.groups().least(slot).map_or(extent.next, |least| least.0.min(extent.next))
}

/// Does what is due at `now` in every partition.
pub(crate) async fn maintain(
    handle: &Handle,
    rounds: &Rounds,
    now: Timestamp,
) -> Result<Maintained, PortError> {
    let mut rounds = rounds.lock().await;
    let mut done = Maintained::default();
    let all: Vec<_> = handle.shared.topics.all().collect();
    for (of, slot) in all {
        match of.topic.keep() {
            Keep::Days(days) => {
                let oldest = Timestamp(now.0.saturating_sub(i64::from(days) * DAY_MS));
                while let expired @ 1.. = expire(handle, slot, oldest).await? {
                    done.expired += expired;
                }
            }
            Keep::Latest => done.superseded += compact(handle, &mut rounds, slot, now).await?,
        }
    }
    Ok(done)
}

/// Deletes a step's worth of batches older than `oldest`.
async fn expire(handle: &Handle, slot: Slot, oldest: Timestamp) -> Result<u64, StoreError> {
    let (extent, ops) = handle
        .read(move |shared| {
            let mut extent = shared.partitions.extent(slot);
            let limit = limit(shared, slot, extent);
            let mut ops = Vec::new();
            shared.disk.with(|store| {
                for batch in batches(store, slot, extent.begin, limit).take(STEP) {
                    let batch = batch?;
                    if batch.time()? >= oldest {
                        break;
                    }
                    extent.begin = batch.last + 1;
                    ops.push(Op::remove(Space::Log, keys::batch(slot, batch.last)));
                }
                Ok(())
            })?;
            Ok((extent, ops))
        })
        .await?;
    if ops.is_empty() {
        return Ok(0);
    }
    let before = handle.shared.partitions.extent(slot).begin;
    let ops = ops.into_iter().chain([load::extent_op(slot, extent)]).collect();
    handle.write(ops, Urgency::Freeing).await?;
    handle.shared.partitions.cut(slot, extent.begin);
    Ok(extent.begin.abs_diff(before))
}

/// Stored batches that lie wholly in `from..to`.
fn batches(store: &Store, slot: Slot, from: i64, to: i64) -> impl Iterator<Item = Result<Batch, StoreError>> {
    let range = keys::batch(slot, from)..keys::batch(slot, to.max(from));
    store.space(Space::Log).range(range).map(|guard| {
        let (key, value) = guard.into_inner()?;
        let last =
            keys::last_offset(&key).ok_or_else(|| StoreError::corrupt("batch key", "it ends early"))?;
        Batch::read(last, value.into())
    })
}

/// Leaves out what is superseded, once as much has come as was kept the last time. It holds the keys of one partition
/// in memory.
async fn compact(
    handle: &Handle,
    rounds: &mut HashMap<Slot, (i64, i64)>,
    slot: Slot,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let extent = handle.shared.partitions.extent(slot);
    let (before, kept) = rounds.get(&slot).copied().unwrap_or((extent.begin, 0));
    if extent.next - before < kept.max(WORTH) {
        return Ok(0);
    }
    let limit = limit(&handle.shared, slot, extent);
    let newest = handle.read(move |shared| shared.disk.with(|store| newest(store, slot, extent))).await?;
    let newest = Arc::new(newest);
    let (mut from, mut superseded) = (extent.begin, 0);
    while from < limit {
        let known = Arc::clone(&newest);
        let step = handle.read(move |shared| {
            shared.disk.with(|store| compact_step(store, slot, from..limit, &known, now))
        });
        let (ops, next, left_out) = step.await?;
        handle.write(ops, Urgency::Freeing).await?;
        superseded += left_out;
        from = next;
    }
    rounds.insert(slot, (extent.next, i64::try_from(newest.len()).unwrap_or(i64::MAX)));
    Ok(superseded)
}

/// The newest offset of each key.
fn newest(store: &Store, slot: Slot, extent: Extent) -> Result<HashMap<Box<[u8]>, i64>, StoreError> {
    let mut newest = HashMap::new();
    for batch in batches(store, slot, extent.begin, extent.next) {
        for record in batch?.all()? {
            newest.insert(record.key.as_deref().unwrap_or_default().into(), record.offset.0);
        }
    }
    Ok(newest)
}

/// What to write for a step's worth of batches, where to go on, and how many records are left out.
fn compact_step(
    store: &Store,
    slot: Slot,
    range: std::ops::Range<i64>,
    newest: &HashMap<Box<[u8]>, i64>,
    now: Timestamp,
) -> Result<(Vec<Op>, i64, u64), StoreError> {
    let (mut ops, mut next, mut left_out, mut seen) = (Vec::new(), range.end, 0, 0);
    for batch in batches(store, slot, range.start, range.end) {
        if seen == STEP {
            return Ok((ops, next, left_out));
        }
        let batch = batch?;
        (seen, next) = (seen + 1, batch.last + 1);
        let forgotten = batch.time()?.0 < now.0.saturating_sub(TOMBSTONES_MS);
        let filtered = batch.filtered(|record| {
            let latest = newest.get(record.key.as_deref().unwrap_or_default()) == Some(&record.offset.0);
            latest && (record.value.is_some() || !forgotten)
        })?;
        let key = keys::batch(slot, batch.last);
        let kept = filtered.as_ref().map_or(Ok(0), Batch::count)?;
        left_out += u64::from(batch.count()? - kept);
        match filtered {
            Some(filtered) if kept < batch.count()? => {
                ops.push(Op::put(Space::Log, key, filtered.bytes));
            }
            Some(_) => {}
            None => ops.push(Op::remove(Space::Log, key)),
        }
    }
    Ok((ops, range.end, left_out))
}
