//! The one thread that writes: it takes everything that waits, makes one atomic batch of it, syncs once, then makes
//! it visible and answers (group commit). Being alone, it is also what puts offsets, times and erasures in an order.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use fjall::{OwnedWriteBatch, PersistMode};
use hansard_core::id::Timestamp;
use hansard_runtime::ports::log::{Epoch, TransactError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::batch::{Batch, Draft};
use crate::config::Config;
use crate::error::StoreError;
use crate::group::{Groups, MemberId, Position};
use crate::keys;
use crate::load;
use crate::partitions::{Partitions, Slot};
use crate::store::{Disk, Space, Store};
use crate::topics::Topics;

/// About so many bytes are written in one batch at most, which bounds what waits in memory and how long readers wait.
const GROUP_BYTES: usize = 32 << 20;

/// Which marker forbids a write to an erased conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fence {
    /// None: the write is not about a conversation, or outlives it.
    Open,
    /// The marker of erased facts and texts.
    Facts,
    /// The marker of erased effects.
    Journal,
}

/// One key to be written, or removed where there is no value.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) space: Space,
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
    pub(crate) fence: Fence,
}

impl Op {
    pub(crate) fn put(space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { space, key: key.into(), value: Some(value.into()), fence: Fence::Open }
    }

    pub(crate) fn remove(space: Space, key: impl Into<Bytes>) -> Self {
        Self { space, key: key.into(), value: None, fence: Fence::Open }
    }

    pub(crate) fn behind(mut self, fence: Fence) -> Self {
        self.fence = fence;
        self
    }

    fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// How much a write needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Visible when answered, durable no later than the next synced write.
    Soon,
    /// Durable when answered.
    Synced,
    /// Like `Synced`, and allowed on a full disk, since it makes room.
    Freeing,
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;
type Committed = oneshot::Sender<Result<(), TransactError>>;

/// A transaction of a member.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) group: Arc<str>,
    pub(crate) member: MemberId,
    pub(crate) epoch: Epoch,
    pub(crate) drafts: Vec<(Slot, Draft)>,
    pub(crate) offsets: Vec<(Slot, Position)>,
}

/// What the writer is asked for.
#[derive(Debug)]
pub(crate) enum Work {
    /// Appends; answers with the first offset of each draft.
    Append { drafts: Vec<(Slot, Draft)>, answer: Answer<Vec<i64>> },
    /// Appends and commits offsets, all or nothing.
    Commit { commit: Commit, answer: Committed },
    /// Writes keys.
    Write { ops: Vec<Op>, urgency: Urgency, answer: Answer<()> },
    /// Finishes what came before, and ends.
    Close,
}

impl Work {
    fn size(&self) -> usize {
        let drafts = |drafts: &[(Slot, Draft)]| drafts.iter().map(|(_, draft)| draft.size()).sum();
        match self {
            Self::Append { drafts: all, .. } => drafts(all),
            Self::Commit { commit, .. } => drafts(&commit.drafts),
            Self::Write { ops, .. } => ops.iter().map(Op::size).sum(),
            Self::Close => 0,
        }
    }
}

/// What the writer shares with the ports.
pub(crate) struct Shared {
    pub(crate) disk: Disk,
    pub(crate) config: Config,
    pub(crate) topics: Topics,
    pub(crate) partitions: Partitions,
    groups: Mutex<Groups>,
    /// Hashes of erased conversations with their fence: 16 bytes each, so that the common case costs no read. A hit
    /// is checked against the marker itself.
    pub(crate) erased: RwLock<HashSet<u64>>,
}

impl Shared {
    pub(crate) fn new(disk: Disk, config: Config, topics: Topics, loaded: load::Loaded) -> Self {
        let groups = Groups::new(topics.partitions(), config.release_within, loaded.offsets);
        let partitions = Partitions::new(loaded.extents, config.tail_bytes);
        let erased = RwLock::new(loaded.erased);
        Self { disk, config, topics, partitions, groups: Mutex::new(groups), erased }
    }

    pub(crate) fn groups(&self) -> MutexGuard<'_, Groups> {
        // Its changes are small steps, each of which leaves it whole.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no conversation was ever erased.
    pub(crate) fn none_erased(&self) -> bool {
        self.erased.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether the marker of an erased conversation stands.
    pub(crate) fn is_erased(
        &self,
        store: &Store,
        fence: Fence,
        conversation: &[u8],
    ) -> Result<bool, StoreError> {
        let erased = self.erased.read().unwrap_or_else(PoisonError::into_inner);
        if erased.is_empty() {
            return Ok(false);
        }
        let key = load::marker(fence, conversation);
        if !erased.contains(&load::marker_hash(&key)) {
            return Ok(false);
        }
        drop(erased);
        Ok(store.space(Space::Erased).contains_key(key)?)
    }
}

/// The thread's state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    work: Receiver<Work>,
}

/// A transaction whose outcome is open.
struct Begun {
    answer: Committed,
    group: Arc<str>,
    member: MemberId,
    epoch: Epoch,
    offsets: Vec<(Slot, Position)>,
}

/// What a batch will change once it is durable.
#[derive(Default)]
struct Pending {
    next: HashMap<Slot, (i64, Timestamp)>,
    batches: Vec<(Slot, Batch, Timestamp)>,
    erased: Vec<u64>,
    appends: Vec<(Answer<Vec<i64>>, Vec<i64>)>,
    commits: Vec<Begun>,
    writes: Vec<Answer<()>>,
}

/// Closes everything when the writer ends, also by a panic: nobody may wait for a writer that is gone.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.partitions.close();
        self.0.groups().close();
        self.0.disk.close();
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, work: Receiver<Work>) -> Self {
        Self { shared, work }
    }

    /// Runs until it is told to close, or nobody is left who could ask for anything.
    pub(crate) fn run(self) {
        let _closing = Closing(&self.shared);
        while let Ok(first) = self.work.recv() {
            let mut size = first.size();
            let mut group = vec![first];
            while size < GROUP_BYTES
                && let Ok(work) = self.work.try_recv()
            {
                size += work.size();
                group.push(work);
            }
            let closing = group.iter().any(|work| matches!(work, Work::Close));
            self.group(group);
            if closing {
                break;
            }
        }
    }

    fn group(&self, group: Vec<Work>) {
        let ready = self.recover().and_then(|()| self.shared.disk.room());
        let (mut soon, mut synced) = (Vec::new(), Vec::new());
        for work in group {
            match (&ready, work) {
                (_, Work::Close) => {}
                (Err(error), work) if !allowed(&work, error) => self.refuse(work, error),
                (_, Work::Write { ops, urgency: Urgency::Soon, answer }) => soon.push((ops, answer)),
                (_, work) => synced.push(work),
            }
        }
        // Rows first and without a sync of their own: the next one, which follows in the journal, covers them.
        if !soon.is_empty() {
            self.write_soon(soon);
        }
        if !synced.is_empty() {
            self.write_synced(synced);
        }
    }

    /// Reopens a store that failed, and lets everybody start anew from what was recovered.
    fn recover(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        if !shared.disk.is_broken() {
            return Ok(());
        }
        shared.disk.room()?;
        tracing::warn!(dir = %shared.disk.dir().display(), "the store failed to write and is reopened");
        shared.disk.reopen()?;
        let loaded = shared.disk.with(|store| load::load(store, &shared.topics))?;
        *shared.erased.write().unwrap_or_else(PoisonError::into_inner) = loaded.erased;
        // First the ends, then the members, who will look at them.
        shared.partitions.reset(loaded.extents);
        shared.groups().reset(loaded.offsets);
        shared.disk.mended();
        Ok(())
    }

    fn refuse(&self, work: Work, error: &StoreError) {
        match work {
            Work::Append { answer, .. } => {
                answer.send(Err(error.clone())).ok();
            }
            Work::Write { answer, .. } => {
                answer.send(Err(error.clone())).ok();
            }
            Work::Commit { commit, answer } => {
                self.shared.groups().renew(&commit.group, commit.member, commit.epoch);
                answer.send(Err(TransactError::Aborted)).ok();
            }
            Work::Close => {}
        }
    }

    fn write_soon(&self, writes: Vec<(Vec<Op>, Answer<()>)>) {
        let count = writes.iter().map(|(ops, _)| ops.len()).sum();
        let mut answers = Vec::new();
        let result = self.shared.disk.with(|store| {
            let mut batch = store.batch(count);
            for (ops, answer) in writes {
                self.put_all(store, &mut batch, ops, answer, &mut answers);
            }
            self.shared.disk.settle(store)?;
            self.shared.disk.commit(batch)
        });
        for answer in answers {
            // Whoever asked may have gone; the write stands all the same.
            answer.send(result.clone()).ok();
        }
    }

    /// Adds those of the operations that no marker forbids, or answers that the markers cannot be read.
    fn put_all(
        &self,
        store: &Store,
        batch: &mut OwnedWriteBatch,
        mut ops: Vec<Op>,
        answer: Answer<()>,
        answers: &mut Vec<Answer<()>>,
    ) {
        let mut unreadable = None;
        let unfenced = self.shared.none_erased();
        ops.retain(|op| {
            unfenced
                || op.fence == Fence::Open
                || match self.shared.is_erased(store, op.fence, keys::conversation_of(&op.key)) {
                    Ok(erased) => !erased,
                    Err(error) => {
                        unreadable = Some(error);
                        false
                    }
                }
        });
        match unreadable {
            Some(error) => {
                answer.send(Err(error)).ok();
            }
            None => {
                ops.into_iter().for_each(|op| put(store, batch, op));
                answers.push(answer);
            }
        }
    }

    fn write_synced(&self, group: Vec<Work>) {
        let mut pending = Pending::default();
        let result = self.shared.disk.with(|store| {
            let mut batch = store.batch(64).durability(Some(PersistMode::SyncData));
            for work in group {
                self.stage(store, &mut batch, work, &mut pending);
            }
            self.shared.disk.settle(store)?;
            self.shared.disk.commit(batch)
        });
        match result {
            Ok(()) => self.publish(pending),
            Err(error) => self.fail(pending, &error),
        }
    }

    fn stage(&self, store: &Store, batch: &mut OwnedWriteBatch, work: Work, pending: &mut Pending) {
        match work {
            Work::Append { drafts, answer } => {
                let firsts =
                    drafts.into_iter().map(|(slot, draft)| self.append(store, batch, slot, draft, pending));
                let firsts = firsts.collect();
                pending.appends.push((answer, firsts));
            }
            Work::Commit { commit, answer } => {
                let Commit { group, member, epoch, drafts, offsets } = commit;
                let count = self.shared.topics.partitions();
                let mut groups = self.shared.groups();
                if !groups.begin(&group, member, epoch, offsets.iter().map(|(slot, _)| slot.0 % count)) {
                    groups.renew(&group, member, epoch);
                    answer.send(Err(TransactError::Fenced)).ok();
                    return;
                }
                drop(groups);
                for (slot, draft) in drafts {
                    self.append(store, batch, slot, draft, pending);
                }
                for (slot, position) in &offsets {
                    put(store, batch, load::position_op(&group, *slot, position));
                }
                pending.commits.push(Begun { answer, group, member, epoch, offsets });
            }
            Work::Write { ops, answer, .. } => {
                let markers = ops.iter().filter(|op| op.space == Space::Erased);
                pending.erased.extend(markers.map(|op| load::marker_hash(&op.key)));
                self.put_all(store, batch, ops, answer, &mut pending.writes);
            }
            Work::Close => {}
        }
    }

    fn append(
        &self,
        store: &Store,
        batch: &mut OwnedWriteBatch,
        slot: Slot,
        draft: Draft,
        pending: &mut Pending,
    ) -> i64 {
        let (next, newest) = pending.next.entry(slot).or_insert_with(|| {
            let extent = self.shared.partitions.extent(slot);
            (extent.next, extent.time)
        });
        *newest = (self.shared.config.clock)().max(*newest);
        let first = *next;
        let placed = draft.place(first, *newest);
        *next = placed.last + 1;
        batch.insert(store.space(Space::Log), keys::batch(slot, placed.last), placed.bytes.clone());
        pending.batches.push((slot, placed, *newest));
        first
    }

    fn publish(&self, pending: Pending) {
        let shared = &self.shared;
        if !pending.erased.is_empty() {
            shared.erased.write().unwrap_or_else(PoisonError::into_inner).extend(pending.erased);
        }
        if !pending.batches.is_empty() {
            shared.partitions.publish(pending.batches);
        }
        for (answer, firsts) in pending.appends {
            answer.send(Ok(firsts)).ok();
        }
        for Begun { answer, group, offsets, .. } in pending.commits {
            shared.groups().committed(&group, offsets, Instant::now());
            answer.send(Ok(())).ok();
        }
        for answer in pending.writes {
            answer.send(Ok(())).ok();
        }
    }

    /// The batch may or may not be found after recovery.
    fn fail(&self, pending: Pending, error: &StoreError) {
        tracing::error!(%error, "a batch could not be written");
        for (answer, _) in pending.appends {
            answer.send(Err(error.clone())).ok();
        }
        for Begun { answer, group, member, epoch, .. } in pending.commits {
            self.shared.groups().aborted(&group, member, epoch, Instant::now());
            answer.send(Err(TransactError::Indefinite)).ok();
        }
        for answer in pending.writes {
            answer.send(Err(error.clone())).ok();
        }
    }
}

/// Whether something may be tried although the store is not ready: what makes room, on a full disk.
fn allowed(work: &Work, error: &StoreError) -> bool {
    let freeing = matches!(work, Work::Write { urgency: Urgency::Freeing, .. });
    freeing && matches!(error, StoreError::Full { .. })
}

fn put(store: &Store, batch: &mut OwnedWriteBatch, op: Op) {
    match op.value {
        Some(value) => batch.insert(store.space(op.space), op.key, value),
        None => batch.remove(store.space(op.space), op.key),
    }
}
