//! The thread that owns a member's transactional producer. Its calls block, and after any result that is not a certain
//! commit it makes the producer anew under the same id, which resolves whatever is still open, and has the offsets
//! asked for again.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hansard_core::id::{Offset, Timestamp};
use hansard_runtime::ports::log::{
    Assignment, Committed, Epoch, LogError, Outgoing, TopicPartition, TransactError, Transacted, Transaction,
};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset as KafkaOffset};
use tokio::sync::oneshot;

use crate::client::log_line;
use crate::convert::{Names, record, size, unavailable};
use crate::ends::Watermarks;
use crate::poll::MemberConsumer;
use crate::seat::{Held, Seat};

/// What the thread is asked to do, in order.
pub(crate) enum Job {
    /// Make the producer anew and find where the assignment of this name begins.
    Settle(Epoch),
    /// Commit, and say how it went.
    Transact(Transaction, oneshot::Sender<Transacted>),
}

/// How long to rest between two looks for delivery reports. A poll with a time limit of its own spins through the last
/// millisecond of it, and lasts to its end whatever it brings.
const REST: Duration = Duration::from_micros(250);
/// How long one look is: a poll takes one event at a time, and there are several.
const LOOK: Duration = Duration::from_micros(50);
/// The first wait after a failed try to settle; it doubles up to a hundred times this.
const BACKOFF: Duration = Duration::from_millis(50);

/// How long the first of a settlement's producers is given to begin; the next one twice that, and so on.
const INIT_PATIENCE: Duration = Duration::from_millis(150);

pub(crate) struct Transactions {
    pub(crate) jobs: Receiver<Job>,
    pub(crate) seat: Arc<Seat>,
    /// Not owned: the last owner closes the consumer, which is for the polling thread to do.
    pub(crate) consumer: Weak<MemberConsumer>,
    pub(crate) watermarks: Arc<Watermarks>,
    pub(crate) names: Names,
    pub(crate) settings: ClientConfig,
    pub(crate) timeout: Duration,
    pub(crate) producer: Option<BaseProducer<Reports>>,
}

impl Transactions {
    /// Works until the member and its consumer are gone.
    pub(crate) fn run(mut self) {
        loop {
            match self.jobs.recv_timeout(Duration::from_secs(1)) {
                Ok(Job::Settle(epoch)) => self.settle(epoch),
                Ok(Job::Transact(transaction, reply)) => self.transact(&transaction, reply),
                Err(RecvTimeoutError::Timeout) => {
                    // Serves the client's own events.
                    if let Some(producer) = &self.producer {
                        producer.poll(Duration::ZERO);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn transact(&mut self, transaction: &Transaction, reply: oneshot::Sender<Transacted>) {
        let epoch = transaction.epoch;
        let result = match (self.seat.membership(epoch), &self.producer) {
            (Some(membership), Some(producer)) => {
                let deadline = Instant::now() + self.timeout;
                Attempt { producer, names: &self.names, deadline }.run(transaction, &membership)
            }
            _ => Err(TransactError::Fenced),
        };
        // A loop that went away has no use for the answer.
        let again = result.err().and_then(|_| self.seat.failed(epoch));
        reply.send(result).unwrap_or_else(|_| tracing::debug!("nobody waits for a transaction's result"));
        if let Some(epoch) = again {
            self.settle(epoch);
        }
    }

    /// Tries until it succeeds or a rebalance overtakes it.
    fn settle(&mut self, epoch: Epoch) {
        let mut backoff = BACKOFF;
        while let Some(held) = self.seat.wanted(epoch) {
            match self.try_settle(epoch, &held) {
                Ok(assignment) => self.seat.settled(epoch, Ok(assignment)),
                Err(error @ (LogError::OutOfRange { .. } | LogError::Topic { .. })) => {
                    self.seat.settled(epoch, Err(error));
                }
                Err(error) => {
                    tracing::warn!(%error, "an assignment cannot be settled yet");
                    self.seat.wait_while_wanted(epoch, backoff);
                    backoff = (backoff * 2).min(BACKOFF * 100);
                }
            }
        }
    }

    fn try_settle(&mut self, epoch: Epoch, held: &Held) -> Result<Assignment, LogError> {
        // Before the offsets are asked for: this ends a transaction of ours that could still change them, and shuts
        // out a late end of it.
        self.producer = None;
        self.producer = Some(self.begin()?);
        let Some(consumer) = self.consumer.upgrade() else { return Err(LogError::Closed) };
        if held.partitions.is_empty() {
            return Ok(Assignment { epoch, partitions: Vec::new() });
        }
        let asked = self.names.list(held.partitions.iter().map(|at| (*at, KafkaOffset::Beginning)));
        // Under read_committed the group's offsets are given only once no open transaction can change them.
        let answer = consumer.committed_offsets(asked, self.timeout).map_err(|error| unavailable(&error))?;
        let begins = self.watermarks.beginnings(&held.partitions)?;
        let mut partitions = Vec::with_capacity(held.partitions.len());
        for (from, begins) in held.partitions.iter().copied().zip(begins) {
            let line = answer.find_partition(&self.names.full(from.topic), from.partition.0);
            let line = line.ok_or_else(|| LogError::Unavailable { cause: format!("no offset of {from}") })?;
            line.error().map_err(|error| unavailable(&error))?;
            partitions.push(starting_point(from, line.offset(), line.metadata(), begins)?);
        }
        Ok(Assignment { epoch, partitions })
    }

    /// A producer that alone may use its id. While the broker still ends what one before it has begun, librdkafka asks
    /// again after half a second; a new producer asks at once.
    fn begin(&self) -> Result<BaseProducer<Reports>, LogError> {
        let end = Instant::now() + self.timeout;
        let mut patience = INIT_PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let producer: BaseProducer<Reports> =
                self.settings.create_with_context(Reports::default()).map_err(|error| unavailable(&error))?;
            match producer.init_transactions(patience.min(left)) {
                Ok(()) => return Ok(producer),
                Err(error) if patience >= left => return Err(unavailable(&error)),
                Err(error) => tracing::debug!(%error, "a producer is made anew"),
            }
            patience *= 2;
        }
    }
}

/// Where reading starts: at the committed offset, at the beginning where there is none, and nowhere when records that
/// the group has not read were deleted.
fn starting_point(
    from: TopicPartition,
    committed: KafkaOffset,
    metadata: &str,
    begins: Offset,
) -> Result<Committed, LogError> {
    match committed {
        KafkaOffset::Offset(offset) if offset < begins.0 => {
            Err(LogError::OutOfRange { from, position: Offset(offset), begins })
        }
        KafkaOffset::Offset(offset) => {
            Ok(Committed { from, offset: Offset(offset), metadata: metadata.to_owned() })
        }
        _ => {
            if begins.0 > 0 {
                tracing::warn!(%from, begins = begins.0, "no committed offset, and the log no longer begins at 0");
            }
            Ok(Committed { from, offset: begins, metadata: String::new() })
        }
    }
}

/// One try to commit one transaction.
struct Attempt<'a> {
    producer: &'a BaseProducer<Reports>,
    names: &'a Names,
    deadline: Instant,
}

impl Attempt<'_> {
    /// Nothing is aborted here: making the producer anew does that, and waits for it.
    fn run(&self, transaction: &Transaction, membership: &ConsumerGroupMetadata) -> Transacted {
        assert!(!transaction.offsets.is_empty(), "a transaction without offsets would not be fenced");
        let prepared = self.prepare(transaction, membership);
        prepared.map_err(|error| {
            tracing::warn!(%error, "transaction not committed");
            classify(&error, &transaction.records)
        })?;
        // From here on the broker may have committed, whatever is heard of it.
        self.producer.commit_transaction(self.left()).map_err(|error| {
            tracing::warn!(%error, "transaction's end unknown");
            TransactError::Indefinite
        })?;
        Ok(self.producer.context().appended())
    }

    fn prepare(
        &self,
        transaction: &Transaction,
        membership: &ConsumerGroupMetadata,
    ) -> Result<(), KafkaError> {
        let reports = self.producer.context();
        reports.clear();
        self.producer.begin_transaction()?;
        // Records first: a late end of the transaction before commits what this one has by then, and that may only be
        // outputs, which come again, never offsets whose outputs a crash then takes away.
        for outgoing in &transaction.records {
            let topic = self.names.full(outgoing.to.topic);
            let mut next = record(&topic, outgoing);
            loop {
                match self.producer.send(next) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        next = back;
                        self.serve();
                    }
                    Err((error, _)) => return Err(error),
                }
            }
            reports.awaited.fetch_add(1, Ordering::Relaxed);
        }
        let offsets = self.names.commits(&transaction.offsets);
        self.producer.send_offsets_to_transaction(&offsets, membership, self.left())?;
        while reports.awaited.load(Ordering::Relaxed) > 0 {
            if self.left().is_zero() {
                return Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
            }
            self.serve();
        }
        reports.failure().map_or(Ok(()), Err)
    }

    /// Takes the delivery reports that are there, and rests a moment.
    fn serve(&self) {
        self.producer.poll(LOOK);
        if self.producer.context().awaited.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(REST);
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Before the end was asked for, no error leaves a doubt: it is not committed.
pub(crate) fn classify(error: &KafkaError, records: &[Outgoing]) -> TransactError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedInstanceId,
        ) => TransactError::Fenced,
        // Whoever refused one, the client or the broker, would have refused the largest.
        Some(Code::MessageSizeTooLarge) => {
            let largest = records.iter().enumerate().max_by_key(|(_, record)| size(record));
            largest.map_or(TransactError::Aborted, |(record, _)| TransactError::TooLarge { record })
        }
        _ => TransactError::Aborted,
    }
}

/// Counts delivery reports. They are served by the polls of the thread that transacts.
#[derive(Default)]
pub(crate) struct Reports {
    awaited: AtomicUsize,
    /// The latest log time that a report told; 0 before any.
    appended: AtomicI64,
    failed: Mutex<Option<KafkaError>>,
}

impl Reports {
    fn clear(&self) {
        self.awaited.store(0, Ordering::Relaxed);
        self.appended.store(0, Ordering::Relaxed);
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn appended(&self) -> Option<Timestamp> {
        Some(self.appended.load(Ordering::Relaxed)).filter(|at| *at > 0).map(Timestamp)
    }

    fn failure(&self) -> Option<KafkaError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka producer");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(delivered) => {
                // By the topic's clock; a topic with the producers' times tells nothing.
                if let rdkafka::Timestamp::LogAppendTime(at) = delivered.timestamp() {
                    self.appended.fetch_max(at, Ordering::Relaxed);
                }
            }
            Err((error, _)) => {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            }
        }
        self.awaited.fetch_sub(1, Ordering::Relaxed);
    }
}
