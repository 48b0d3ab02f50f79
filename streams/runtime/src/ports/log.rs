//! The log port: partitioned, ordered, durable topics with consumer groups and transactions, shaped after Kafka.
//!
//! Two traits: [`Log`] is the log itself, shared by everyone; a [`Member`] is one instance's place in a consumer
//! group together with its transactional producer, owned by one loop.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use hansard_core::id::{Offset, Partition, Timestamp};
use hansard_schemas::Topic;

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic, by its name in the catalogue; connectors put the deployment's prefix before it.
    pub topic: Topic,
    /// The partition's number, from 0.
    pub partition: Partition,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition.0)
    }
}

/// Headers in their order; values are text in everything that Hansard writes.
pub type Headers = Vec<(String, Bytes)>;

/// A record as read from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Its place in the partition; offsets rise but need not be contiguous.
    pub offset: Offset,
    /// When the log took it in (`LogAppendTime`).
    pub time: Timestamp,
    /// The key; `None` is a bad record.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

/// A record to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: TopicPartition,
    /// The key: the conversation id as raw UTF-8; `None` only for the dead letter of a record without a key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

/// Committed records of one partition, in offset order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Whose records.
    pub from: TopicPartition,
    /// The records; may be empty when only the position moved.
    pub records: Vec<LogRecord>,
    /// The position after them: the next offset to be read, which counts control records and aborted ones, so that it
    /// reaches the high watermark when everything below it is resolved and read.
    pub position: Offset,
}

/// A group that an instance wants to be a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group's name, which is the job's.
    pub name: String,
    /// The instance's name, unique in the group; `transactional.id` is `name` and `instance`.
    pub instance: String,
    /// What it subscribes to. All have one partition count, and partition n of all of them goes to one member.
    pub topics: Vec<Topic>,
}

/// Names one assignment of one member; a transaction is refused unless it carries the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Where a group stands in one partition, as committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub from: TopicPartition,
    /// The next offset to be read: the committed one, or the beginning of the log where none is committed.
    pub offset: Offset,
    /// The metadata committed with it, at most [`METADATA_BYTES_MAX`]; empty where there is none.
    pub metadata: String,
}

/// An offset's commit metadata is text of at most this many bytes (Kafka's `offset.metadata.max.bytes`).
pub const METADATA_BYTES_MAX: usize = 4096;

/// The partitions that a member now holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Its name.
    pub epoch: Epoch,
    /// Every held partition with its stable committed offset: no transaction that could still change one is open.
    /// Partition n of every subscribed topic is either here or not as a whole. May be empty.
    pub partitions: Vec<Committed>,
}

/// What a member's loop is told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Everything delivered before is void; reading starts at the given offsets. Sent after every rebalance, and after
    /// every transaction that did not certainly commit (the member has by then re-made its producer).
    Assigned(Assignment),
    /// The assignment is about to end. Work under way may still be committed until the loop calls
    /// [`Member::release`]; the group waits for that call, but not longer than its bound.
    Revoking,
    /// The assignment has ended; nothing of it can be committed any more. An `Assigned` follows.
    Lost,
    /// Records, or a moved position.
    Fetched(Fetched),
}

/// One atomic step: all of it becomes visible, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The assignment under which the work was done.
    pub epoch: Epoch,
    /// What is appended, in order per partition.
    pub records: Vec<Outgoing>,
    /// What is committed: next offsets and metadata. Never empty, and with an entry for each partition number that
    /// `records` go to: a transaction without a valid offset would not be fenced.
    pub offsets: Vec<Committed>,
}

/// Why a transaction did not certainly commit. In each case an [`Event::Assigned`] or [`Event::Lost`] follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransactError {
    /// Another member has the partitions, or another process the transactional id: certainly not committed.
    #[error("fenced by a newer member")]
    Fenced,
    /// Certainly not committed, for a passing reason.
    #[error("aborted")]
    Aborted,
    /// Not known: it may yet turn out either way until the next `Assigned`, by which time it is resolved.
    #[error("result unknown")]
    Indefinite,
    /// Certainly not committed, and never will be: the log does not take this record of it.
    #[error("its record {record} is larger than the log takes")]
    TooLarge {
        /// The place in `records`; where several are too large, one of them.
        record: usize,
    },
}

/// How a transaction ended; where it committed: when, by its own clock, the log took in the last of its records, if it
/// held any and the log has a clock of its own.
pub type Transacted = Result<Option<Timestamp>, TransactError>;

/// Why the log did not answer as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Cannot be reached or timed out: waiting may help. An append may or may not have happened.
    #[error("the log is unavailable: {cause}")]
    Unavailable {
        /// What was seen.
        cause: String,
    },
    /// A topic is missing or has another number of partitions than the deployment's.
    #[error("topic {topic} {problem}; run `hansard topics apply`")]
    Topic {
        /// The topic's catalogue name.
        topic: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The position is below what the log still holds: records were deleted unread.
    #[error("{from} begins at {begins:?}, after the position {position:?}: records were deleted unread")]
    OutOfRange {
        /// The partition.
        from: TopicPartition,
        /// Where reading should go on.
        position: Offset,
        /// Where the log begins.
        begins: Offset,
    },
    /// Nothing more is handed over although records are there and nothing holds them up: the membership is of no use any
    /// more, and joining anew helps.
    #[error("nothing was handed over for {within:?} of {}; the group is joined anew", shown(.places))]
    Stalled {
        /// The partitions that stand still.
        places: Vec<Standstill>,
        /// For how long, at least.
        within: Duration,
    },
    /// A record is larger than the log takes.
    #[error("a record of {bytes} bytes for {to} is larger than the log takes ({limit})")]
    TooLarge {
        /// Where it was to go.
        to: TopicPartition,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The log is closed: this process is shutting down.
    #[error("the log is closed")]
    Closed,
}

/// A partition of which nothing more is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standstill {
    /// The partition.
    pub from: TopicPartition,
    /// The next offset to be handed over.
    pub position: Offset,
    /// Where what can be handed over ends: all transactions before it have ended.
    pub end: Offset,
}

fn shown(places: &[Standstill]) -> String {
    let place =
        |Standstill { from, position, end }: &Standstill| format!("{from} from {} to {}", position.0, end.0);
    places.iter().map(place).collect::<Vec<_>>().join(", ")
}

/// The log, shared.
///
/// An implementation must give: acknowledged records survive the crash of this process and are read in one order by
/// everyone; readers see committed records only, and a transaction as a whole or not at all; the times of a partition's
/// records do not fall. It need not give: deduplication of an append whose result was lost.
#[async_trait]
pub trait Log: Send + Sync {
    /// The deployment's partition count, the same for all topics of the catalogue.
    fn partitions(&self) -> u32;

    /// Appends outside any transaction; ends when all of `records` are durable. Gives their offsets, in order.
    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Offset>, LogError>;

    /// Reads committed records from `offset` on, outside any group, at most about `bytes_max` but at least one record
    /// where there is one. Where there is none, waits up to `wait` for the next.
    async fn read(
        &self,
        from: TopicPartition,
        offset: Offset,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Fetched, LogError>;

    /// For each partition the first offset that the log still holds and its high watermark, fetched after this call
    /// began. The high watermark counts open transactions, so a position that has reached it has seen every record
    /// that was appended before the call, and whatever became of it.
    async fn ends(&self, of: &[TopicPartition]) -> Result<Vec<Range<Offset>>, LogError>;

    /// How far a group has come in each partition: the next offset that it has to read, as committed, or the beginning of
    /// the log where it has committed nothing. All below it was done for certain; a transaction that is ending may be
    /// left out, and control records before the end may be too.
    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Offset>, LogError>;

    /// Joins a group. The first event is `Assigned`.
    async fn join(&self, group: Group) -> Result<Box<dyn Member>, LogError>;
}

/// One instance's membership and its transactional producer.
///
/// An implementation must give: at any time at most one member of a group can commit for a partition; a member that was
/// replaced (a zombie) cannot; `next` and `next_change` are cancel-safe and keep the membership alive while it or anything else is
/// awaited; what is fetched but not taken is bounded.
#[async_trait]
pub trait Member: Send {
    /// Waits for the next event.
    async fn next(&mut self) -> Result<Event, LogError>;

    /// Waits for the next event other than records, which stay where they are: for a loop that has enough of them.
    async fn next_change(&mut self) -> Result<Event, LogError>;

    /// Stops or resumes fetching from the given partitions. A new assignment starts with all of them fetching. Records
    /// that were fetched before may still arrive.
    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool);

    /// Lets a revoked assignment go, after [`Event::Revoking`].
    fn release(&mut self);

    /// Commits one transaction. At most one is under way at a time. The future does not borrow the member, so that
    /// events can be awaited meanwhile. Only the runtime's commit module calls this.
    fn transact(&mut self, transaction: Transaction) -> BoxFuture<'static, Transacted>;

    /// Leaves the group so that others take over at once. Dropping a member without this is a crash.
    async fn leave(self: Box<Self>);
}
