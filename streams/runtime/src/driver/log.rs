//! The log port over the brokers of the world.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::poll_fn;
use hansard_core::id::{Millis, Offset};

use super::faults::Refused;
use super::group;
use super::member::{Client, SimMember};
use super::process::Process;
use crate::ports::log::{Fetched, Group, Log, LogError, Member, Outgoing, TopicPartition};

/// Bytes of a record, at most, as a broker takes it.
pub(super) const RECORD_BYTES_MAX: usize = 1_000_000;

/// The log as one process has it.
pub(super) struct SimLog(pub(super) Process);

impl From<Refused> for LogError {
    fn from(refused: Refused) -> Self {
        Self::Unavailable { cause: refused.0 }
    }
}

#[async_trait]
impl Log for SimLog {
    fn partitions(&self) -> u32 {
        self.0.world.state().broker.partitions
    }

    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Offset>, LogError> {
        let size = |record: &Outgoing| record.value.as_ref().map_or(0, bytes::Bytes::len);
        if let Some(large) = records.iter().find(|record| size(record) > RECORD_BYTES_MAX) {
            let (to, bytes) = (large.to, size(large));
            return Err(LogError::TooLarge { to, bytes, limit: RECORD_BYTES_MAX });
        }
        let append = self.0.on("log.append", |state| {
            let now = state.now;
            records.iter().map(|record| state.broker.append(now, record)).collect()
        });
        Ok(append.await?)
    }

    async fn read(
        &self,
        from: TopicPartition,
        offset: Offset,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Fetched, LogError> {
        self.0.on("log.read", |_| ()).await?;
        let world = &self.0.world;
        let bound = world.until(world.now() + Millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
        let next = poll_fn(|cx| {
            let mut state = world.state();
            if let Some(fetched) = state.broker.fetch(from, offset, usize::MAX, bytes_max) {
                return std::task::Poll::Ready(fetched);
            }
            state.broker.watch(from, cx.waker());
            std::task::Poll::Pending
        });
        tokio::select! {
            biased;
            fetched = next => Ok(fetched),
            () = bound => Ok(Fetched { from, records: Vec::new(), position: offset }),
        }
    }

    async fn ends(&self, of: &[TopicPartition]) -> Result<Vec<Range<Offset>>, LogError> {
        let ends = self.0.on("log.ends", |state| {
            of.iter().map(|of| Offset(0)..state.broker.end(*of)).collect::<Vec<Range<Offset>>>()
        });
        Ok(ends.await?)
    }

    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Offset>, LogError> {
        let committed = self.0.on("log.committed", |state| {
            let offsets = state.broker.groups.get(group).map(|group| &group.offsets);
            let offset = |of| offsets.and_then(|offsets| offsets.get(of)).map_or(Offset(0), |(at, _)| *at);
            of.iter().map(offset).collect::<Vec<Offset>>()
        });
        Ok(committed.await?)
    }

    async fn join(&self, group: Group) -> Result<Box<dyn Member>, LogError> {
        let process = &self.0;
        process.on("log.join", |_| ()).await?;
        let world = &process.world;
        let transactional = format!("{}-{}", group.name, group.instance);
        let producer = world.begin_producer(&transactional);
        let id = world.state().fresh();
        let client = Client::new(process.id, &group.instance, transactional, producer);
        group::join(world, &group.name, &group.instance, id, client, &group.topics);
        Ok(Box::new(SimMember { process: process.clone(), group: group.name, id, left: false }))
    }
}
