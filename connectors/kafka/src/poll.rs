//! The thread that polls a member's consumer and never stops polling: it turns librdkafka's rebalance callback into
//! events, moves the consumer to the offsets of a settled assignment, and hands records over within a bound.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use hansard_core::id::Partition;
use hansard_runtime::ports::log::{Assignment, Epoch, LogError, TopicPartition};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::client::log_line;
use crate::convert::{Batch, Names, positions, unavailable};
use crate::ends::Watermarks;
use crate::generation;
use crate::seat::{Held, Seat};
use crate::transact::Job;

/// A member's consumer.
pub(crate) type MemberConsumer = BaseConsumer<Rebalances>;

/// How long one poll waits for a record: the longest until a position that moved past control records is told.
const IDLE: Duration = Duration::from_millis(50);
/// The same while an assignment is being settled, whose end wakes nobody.
const SETTLING: Duration = Duration::from_millis(5);
/// The same where nothing is assigned.
const JOINING: Duration = Duration::from_millis(10);
/// A loop that takes nothing for so long gets its partitions paused, which costs what was fetched ahead.
const PATIENCE: Duration = Duration::from_millis(500);
/// A partition's records are handed over when there are so many bytes or records of all, or none is left to poll.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_RECORDS: usize = 2_000;

/// The consumer's context: what happens at a rebalance, on the polling thread, within a poll.
pub(crate) struct Rebalances {
    pub(crate) seat: Arc<Seat>,
    pub(crate) names: Names,
    pub(crate) jobs: Sender<Job>,
    pub(crate) release_within: Duration,
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka consumer");
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &MemberConsumer, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assigned(consumer, list)
        } else {
            self.seat.revoke(consumer.assignment_lost(), self.release_within);
            consumer.unassign()
        };
        if let Err(error) = done {
            tracing::error!(%error, "rebalance");
        }
    }
}

impl Rebalances {
    fn assigned(&self, consumer: &MemberConsumer, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let Some(metadata) = generation::membership(consumer) else {
            tracing::warn!("the membership ended before its assignment was seen; another follows");
            return consumer.assign(&TopicPartitionList::new());
        };
        let held = Held { partitions: self.whole(list), metadata: Arc::new(metadata) };
        // librdkafka is given the partitions once it is known where to read from; until then the group's next
        // rebalance waits for us, at most for a transaction's time where the cluster is well.
        let epoch = self.seat.hold(held);
        // The receiver is gone only when the member is.
        drop(self.jobs.send(Job::Settle(epoch)));
        Ok(())
    }

    /// Partition numbers that are here in all topics. Others appear when members subscribe to different topics, as
    /// between two versions of a job; nobody may work on them until the assignor can keep them together again.
    fn whole(&self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        let mut by_number: BTreeMap<Partition, Vec<TopicPartition>> = BTreeMap::new();
        for at in list.elements().iter().filter_map(|line| self.names.place(line)) {
            by_number.entry(at.partition).or_default().push(at);
        }
        let topics = self.names.topics().count();
        by_number.retain(|partition, places| {
            if places.len() != topics {
                tracing::error!(partition = partition.0, "assigned without all of its topics; not read");
            }
            places.len() == topics
        });
        by_number.into_values().flatten().collect()
    }
}

/// What the polling thread works with.
pub(crate) struct Polling {
    pub(crate) consumer: Arc<MemberConsumer>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) names: Names,
    pub(crate) watermarks: Arc<Watermarks>,
}

/// What the present assignment's records are gathered in.
struct Gathering {
    epoch: Epoch,
    batches: BTreeMap<TopicPartition, Batch>,
    bytes: usize,
    records: usize,
    /// Positions as last handed over.
    told: BTreeMap<TopicPartition, i64>,
    /// The least offset that each partition's next record can have.
    next: BTreeMap<TopicPartition, i64>,
    /// Whether fetching rests because the loop takes nothing.
    resting: bool,
}

impl Gathering {
    fn new(assignment: &Assignment) -> Self {
        let told: BTreeMap<_, _> =
            assignment.partitions.iter().map(|line| (line.from, line.offset.0)).collect();
        Self {
            epoch: assignment.epoch,
            batches: BTreeMap::new(),
            bytes: 0,
            records: 0,
            next: told.clone(),
            told,
            resting: false,
        }
    }
}

impl Polling {
    /// Polls until the member leaves or is dropped; then closes the consumer, which leaves the group.
    pub(crate) fn run(self) {
        let mut gathering = None;
        while !self.seat.is_closing() {
            self.move_on(&mut gathering);
            let wait = match &gathering {
                _ if self.seat.is_settling() => SETTLING,
                Some(Gathering { records: 1.., .. }) => Duration::ZERO,
                Some(_) => IDLE,
                None => JOINING,
            };
            match self.consumer.poll(wait) {
                Some(Ok(message)) => self.gather(&mut gathering, &message),
                Some(Err(error)) => {
                    if self.judge(&gathering, &error) {
                        break;
                    }
                }
                None if gathering.is_none() => self.hasten(),
                None => self.hand_over(&mut gathering, true),
            }
            self.keep_bound(&mut gathering);
        }
        self.seat.close();
        // The group's leaving waits for an answer to its last assignment.
        if self.seat.is_settling()
            && let Err(error) = self.consumer.assign(&TopicPartitionList::new())
        {
            tracing::warn!(%error, "leaving");
        }
    }

    /// librdkafka looks for the group's coordinator when its main thread wakes, which a new connection does not do: a
    /// joining would lose up to half a second. Any question wakes it.
    fn hasten(&self) {
        if let Err(error) = self.consumer.subscription() {
            tracing::debug!(%error, "subscription");
        }
    }

    /// Reads from where a settled assignment begins.
    fn move_on(&self, gathering: &mut Option<Gathering>) {
        self.seat.tell(|assignment| {
            let lines = assignment.iter().flat_map(|assignment| &assignment.partitions);
            let list = self.names.list(lines.map(|line| (line.from, KafkaOffset::Offset(line.offset.0))));
            self.consumer.assign(&list).map_err(|error| unavailable(&error))?;
            // A pause outlives librdkafka's assignment.
            self.consumer.resume(&list).map_err(|error| unavailable(&error))?;
            *gathering = assignment.map(Gathering::new);
            Ok(())
        });
    }

    fn gather(&self, slot: &mut Option<Gathering>, message: &BorrowedMessage<'_>) {
        let Some(gathering) = slot.as_mut().filter(|gathering| self.seat.is_live(gathering.epoch)) else {
            return;
        };
        let Some(topic) = self.names.topic(message.topic()) else { return };
        let from = TopicPartition { topic, partition: Partition(message.partition()) };
        // A pause that comes while a record is handed over can make librdkafka fetch it once more.
        let Some(next) = gathering.next.get_mut(&from).filter(|next| message.offset() >= **next) else {
            return;
        };
        *next = message.offset() + 1;
        let batch = gathering.batches.entry(from).or_insert_with(|| Batch::new(from));
        let before = batch.bytes();
        if let Err(error) = batch.push(message, topic) {
            return self.seat.outbox.control(Err(error));
        }
        gathering.bytes += batch.bytes() - before;
        gathering.records += 1;
        if gathering.bytes >= BATCH_BYTES || gathering.records >= BATCH_RECORDS {
            self.hand_over(slot, false);
        }
    }

    /// Hands over what was gathered; when there is nothing more to poll, also positions that moved by themselves.
    fn hand_over(&self, slot: &mut Option<Gathering>, dry: bool) {
        let Some(gathering) = slot.as_mut().filter(|gathering| self.seat.is_live(gathering.epoch)) else {
            return *slot = None;
        };
        let positions = match dry.then(|| self.consumer.position()) {
            Some(Ok(list)) => positions(&self.names, &list),
            _ => BTreeMap::new(),
        };
        for (from, told) in &mut gathering.told {
            let position = positions.get(from).copied().unwrap_or(*told).max(*told);
            let batch = gathering.batches.remove(from);
            if batch.is_some() || position > *told {
                let batch = batch.unwrap_or_else(|| Batch::new(*from));
                let bytes = batch.bytes();
                let fetched = batch.finish(position);
                *told = fetched.position.0;
                self.seat.outbox.fetched(bytes, fetched);
            }
        }
        gathering.batches.clear();
        (gathering.bytes, gathering.records) = (0, 0);
    }

    /// Waits a little for a loop that takes nothing; then stops fetching, and polls on for the group's sake.
    fn keep_bound(&self, slot: &mut Option<Gathering>) {
        let Some(gathering) = slot else { return };
        if gathering.resting {
            if self.seat.outbox.wait_for_room(Duration::ZERO) {
                gathering.resting = false;
                self.set_fetching(&self.seat.fetching(), true);
            }
        } else if !self.seat.outbox.has_room() && !self.seat.outbox.wait_for_room(PATIENCE) {
            gathering.resting = true;
            self.set_fetching(&self.seat.fetching(), false);
        }
    }

    fn set_fetching(&self, partitions: &[TopicPartition], fetching: bool) {
        let list = self.names.list(partitions.iter().map(|at| (*at, KafkaOffset::Beginning)));
        let done = if fetching { self.consumer.resume(&list) } else { self.consumer.pause(&list) };
        if let Err(error) = done {
            // A rebalance has taken them meanwhile.
            tracing::debug!(%error, fetching, "pause or resume");
        }
    }

    /// Says whether the consumer is of no use any more. Passing errors are librdkafka's to get over.
    fn judge(&self, gathering: &Option<Gathering>, error: &KafkaError) -> bool {
        if let KafkaError::MessageConsumptionFatal(_) = error {
            tracing::error!(%error, "the consumer cannot go on");
            self.seat.outbox.control(Err(unavailable(error)));
            return true;
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            self.seat.outbox.control(Err(self.out_of_range(gathering)));
        } else {
            tracing::warn!(%error, "consuming");
        }
        false
    }

    /// librdkafka does not say which partition it is: the one whose beginning has overtaken its position.
    fn out_of_range(&self, gathering: &Option<Gathering>) -> LogError {
        let told = gathering.as_ref().map(|gathering| gathering.told.clone()).unwrap_or_default();
        let places: Vec<TopicPartition> = told.keys().copied().collect();
        let begins = match self.watermarks.beginnings(&places) {
            Ok(begins) => begins,
            Err(error) => return error,
        };
        let overtaken = told.into_iter().zip(begins).find(|((_, position), begins)| *position < begins.0);
        match overtaken {
            Some(((from, position), begins)) => {
                LogError::OutOfRange { from, position: hansard_core::id::Offset(position), begins }
            }
            None => LogError::Unavailable { cause: "a position is not in the log".to_owned() },
        }
    }
}
