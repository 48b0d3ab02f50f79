//! A member of a group: told of its assignment in order, fed from memory where it keeps up and from disk where it
//! does not, with at most one read from disk under way ahead of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use hansard_core::id::{Offset, Partition};
use hansard_runtime::ports::log::{
    Assignment, Committed, Event, Fetched, Group, LogError, METADATA_BYTES_MAX, Member, TopicPartition,
    TransactError, Transacted, Transaction,
};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::group::{MemberId, Signal};
use crate::log::{Handle, Read, Sorted, check_size, joined, out_of_range, read_disk, unpack};
use crate::partitions::{Found, Slot};
use crate::writer::{Commit, Work};

/// One held partition.
#[derive(Debug)]
struct Held {
    of: TopicPartition,
    slot: Slot,
    position: i64,
    paused: bool,
}

/// A read from disk under way.
struct Ahead {
    /// The partition, as an index into what is held.
    at: usize,
    read: JoinHandle<Result<Read, StoreError>>,
}

/// A member.
pub(crate) struct LocalMember {
    handle: Handle,
    name: Arc<str>,
    group: Group,
    id: MemberId,
    wake: Arc<Notify>,
    changes: watch::Receiver<()>,
    held: Vec<Held>,
    /// Where each partition stands in `held`.
    index: BTreeMap<TopicPartition, usize>,
    /// Whether records are handed over: not while an assignment is being revoked.
    fetching: bool,
    /// The partition to be looked at first, so that each gets its turn.
    turn: usize,
    ahead: Option<Ahead>,
    replaced: bool,
}

impl LocalMember {
    pub(crate) fn new(handle: Handle, group: Group, id: MemberId, wake: Arc<Notify>) -> Self {
        let changes = handle.shared.partitions.watch();
        let name = Arc::from(group.name.as_str());
        let (held, index) = (Vec::new(), BTreeMap::new());
        Self {
            handle,
            name,
            group,
            id,
            wake,
            changes,
            held,
            index,
            fetching: false,
            turn: 0,
            ahead: None,
            replaced: false,
        }
    }

    /// The next thing to be told, if there is one.
    fn told(&mut self) -> Option<Event> {
        let signal = {
            let mut groups = self.handle.shared.groups();
            groups.proceed(&self.name, Instant::now());
            groups.signal(&self.name, self.id)?
        };
        match signal {
            Signal::Assigned => Some(Event::Assigned(self.assigned()?)),
            Signal::Revoking => {
                self.fetching = false;
                Some(Event::Revoking)
            }
            Signal::Lost => {
                self.forget();
                Some(Event::Lost)
            }
            Signal::Replaced => {
                self.forget();
                self.replaced = true;
                Some(Event::Lost)
            }
        }
    }

    fn forget(&mut self) {
        self.fetching = false;
        self.held.clear();
        self.index.clear();
        self.ahead = None;
    }

    /// Takes up what it was assigned, from where the group stands now.
    fn assigned(&mut self) -> Option<Assignment> {
        self.forget();
        let shared = &self.handle.shared;
        let mut groups = shared.groups();
        let holding = groups.holding(&self.name, self.id)?;
        let mut partitions = Vec::new();
        for number in holding.numbers {
            for topic in &self.group.topics {
                let of = TopicPartition { topic: *topic, partition: Partition(number.cast_signed()) };
                let Some(slot) = shared.topics.slot(of) else { continue };
                let (offset, metadata) = groups.position(&self.name, slot).cloned().unwrap_or_default();
                self.index.insert(of, self.held.len());
                self.held.push(Held { of, slot, position: offset.0, paused: false });
                partitions.push(Committed { from: of, offset, metadata });
            }
        }
        self.fetching = true;
        self.turn = 0;
        Some(Assignment { epoch: holding.epoch, partitions })
    }

    /// Records that are in memory, starting a read from disk where they are not.
    fn fetch(&mut self) -> Result<Option<Fetched>, LogError> {
        if !self.fetching {
            return Ok(None);
        }
        let (count, bytes_max) = (self.held.len(), self.handle.shared.config.fetch_bytes);
        for step in 0..count {
            let at = (self.turn + step) % count;
            let held = &self.held[at];
            if held.paused || self.ahead.as_ref().is_some_and(|ahead| ahead.at == at) {
                continue;
            }
            match self.handle.shared.partitions.look(held.slot, held.position, bytes_max) {
                Found::Nothing => {}
                Found::Deleted { begin } => return Err(out_of_range(held.of, held.position, begin)),
                Found::Disk { next } if self.ahead.is_none() => self.read_ahead(at, next),
                Found::Disk { .. } => {}
                Found::Tail(batches) => {
                    let read = unpack(&batches, held.position, bytes_max)?;
                    return Ok(Some(self.hand_over(at, read)));
                }
            }
        }
        Ok(None)
    }

    fn read_ahead(&mut self, at: usize, next: i64) {
        let Held { slot, position, .. } = self.held[at];
        let shared = Arc::clone(&self.handle.shared);
        let bytes_max = shared.config.fetch_bytes;
        let read = tokio::task::spawn_blocking(move || read_disk(&shared, slot, position, next, bytes_max));
        self.ahead = Some(Ahead { at, read });
    }

    fn hand_over(&mut self, at: usize, (records, position): Read) -> Fetched {
        let held = &mut self.held[at];
        held.position = position;
        self.turn = at + 1;
        Fetched { from: held.of, records, position: Offset(position) }
    }

    /// Takes a finished read from disk, and starts the next.
    fn take_ahead(&mut self, read: Result<Read, StoreError>) -> Result<Option<Fetched>, LogError> {
        let Some(Ahead { at, .. }) = self.ahead.take() else { return Ok(None) };
        if !self.fetching {
            return Ok(None);
        }
        let fetched = self.hand_over(at, read?);
        self.start_next();
        Ok(Some(fetched))
    }

    fn start_next(&mut self) {
        let (count, bytes_max) = (self.held.len(), self.handle.shared.config.fetch_bytes);
        for step in 0..count {
            let at = (self.turn + step) % count;
            let held = &self.held[at];
            if held.paused {
                continue;
            }
            if let Found::Disk { next } =
                self.handle.shared.partitions.look(held.slot, held.position, bytes_max)
            {
                self.read_ahead(at, next);
                return;
            }
        }
    }

    /// Waits until something may have changed; where records are wanted, gives the result of a read from disk that has
    /// ended.
    async fn changed(&mut self, records: bool) -> Option<Result<Read, StoreError>> {
        let deadline = self.handle.shared.groups().deadline(&self.name);
        let due = async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let ahead = &mut self.ahead;
        let read = async move {
            match ahead {
                Some(ahead) if records => (&mut ahead.read).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            read = read => Some(joined(read)),
            () = self.wake.notified() => None,
            _ = self.changes.changed() => None,
            () = due => None,
        }
    }

    async fn event(&mut self, records: bool) -> Result<Event, LogError> {
        loop {
            if self.replaced || self.handle.shared.partitions.is_closed() {
                return Err(LogError::Closed);
            }
            // Marked before looking, so that a change after the look is waited for and not missed.
            self.changes.mark_unchanged();
            if let Some(event) = self.told() {
                return Ok(event);
            }
            if records && let Some(fetched) = self.records()? {
                return Ok(Event::Fetched(fetched));
            }
            if let Some(read) = self.changed(records).await
                && let Some(fetched) = self.take_ahead(read)?
            {
                return Ok(Event::Fetched(fetched));
            }
        }
    }

    /// Records that are here already, first those of a read from disk that has ended.
    fn records(&mut self) -> Result<Option<Fetched>, LogError> {
        if let Some(ahead) = &mut self.ahead
            && let Some(read) = (&mut ahead.read).now_or_never()
            && let Some(fetched) = self.take_ahead(joined(read))?
        {
            return Ok(Some(fetched));
        }
        self.fetch()
    }

    /// What is handed to the writer, unless a record or metadata is too large or a partition none of the deployment's.
    fn commit(&self, transaction: Transaction) -> Option<Commit> {
        let Transaction { epoch, records, offsets } = transaction;
        let topics = &self.handle.shared.topics;
        let position = |line: Committed| {
            let slot = topics.slot(line.from).filter(|_| line.metadata.len() <= METADATA_BYTES_MAX)?;
            Some((slot, (line.offset, line.metadata)))
        };
        let offsets = offsets.into_iter().map(position).collect::<Option<Vec<_>>>()?;
        let Sorted { drafts, .. } = Sorted::new(topics, &records).ok()?;
        Some(Commit { group: Arc::clone(&self.name), member: self.id, epoch, drafts, offsets })
    }
}

#[async_trait]
impl Member for LocalMember {
    async fn next(&mut self) -> Result<Event, LogError> {
        self.event(true).await
    }

    async fn next_change(&mut self) -> Result<Event, LogError> {
        self.event(false).await
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for of in partitions {
            if let Some(at) = self.index.get(of) {
                self.held[*at].paused = paused;
            }
        }
    }

    fn release(&mut self) {
        self.forget();
        self.handle.shared.groups().release(&self.name, self.id, Instant::now());
    }

    fn transact(&mut self, transaction: Transaction) -> BoxFuture<'static, Transacted> {
        let epoch = transaction.epoch;
        let large = transaction.records.iter().position(|record| check_size(record).is_err());
        let Some(commit) = self.commit(transaction) else {
            self.handle.shared.groups().renew(&self.name, self.id, epoch);
            let error = large.map_or(TransactError::Aborted, |record| TransactError::TooLarge { record });
            return std::future::ready(Err(error)).boxed();
        };
        let (answer, answered) = oneshot::channel();
        self.handle.send(Work::Commit { commit, answer });
        // The log's clock is this process' own.
        async move { answered.await.unwrap_or(Err(TransactError::Indefinite)).map(|()| None) }.boxed()
    }

    async fn leave(self: Box<Self>) {
        // Dropping says the same: within one process a crash is seen as soon as a farewell.
    }
}

impl Drop for LocalMember {
    fn drop(&mut self) {
        self.handle.shared.groups().leave(&self.name, self.id, Instant::now());
    }
}
