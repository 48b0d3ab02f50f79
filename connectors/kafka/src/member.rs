//! A membership as its loop sees it: events out, commands in. The work is done by threads, one that polls, one that runs
//! transactions, and one that watches the first, since the clients block.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use hansard_runtime::ports::log::{
    Epoch, Event, Group, LogError, METADATA_BYTES_MAX, Member, TopicPartition, TransactError, Transacted,
    Transaction,
};
use rdkafka::Offset as KafkaOffset;
use rdkafka::consumer::Consumer;
use tokio::sync::oneshot;

use crate::config::KafkaConfig;
use crate::convert::{Names, unavailable};
use crate::ends::Watermarks;
use crate::poll::{MemberConsumer, Polling, Rebalances};
use crate::progress::Watching;
use crate::seat::Seat;
use crate::transact::{Job, Transactions};

pub(crate) struct KafkaMember {
    seat: Arc<Seat>,
    pub(crate) consumer: Weak<MemberConsumer>,
    names: Names,
    jobs: Sender<Job>,
    /// The assignment that the loop was told of last.
    told: Option<Epoch>,
    /// Ends when the consumer has left the group.
    left: oneshot::Receiver<()>,
    leave_within: Duration,
}

/// Joins a group. Blocks for the requests that check its topics.
pub(crate) fn join(
    config: &KafkaConfig,
    watermarks: &Arc<Watermarks>,
    group: &Group,
) -> Result<KafkaMember, LogError> {
    for topic in &group.topics {
        watermarks.check_topic(*topic)?;
    }
    let names = Names::new(&config.prefix, &group.topics);
    let seat = Arc::new(Seat::new(config.fetched_bytes_max));
    let (jobs, received) = channel();
    let (seat_of, names_of) = (|| seat.clone(), || names.clone());
    let context = Rebalances {
        seat: seat_of(),
        names: names_of(),
        jobs: jobs.clone(),
        release_within: config.release_within,
    };
    let consumer: MemberConsumer = config
        .member(&group.name, Some(&group.instance))
        .create_with_context(context)
        .map_err(|error| unavailable(&error))?;
    consumer.subscribe(&names.full_names()).map_err(|error| unavailable(&error))?;
    let consumer = Arc::new(consumer);
    let weak = Arc::downgrade(&consumer);
    let transactions = Transactions {
        jobs: received,
        seat: seat_of(),
        consumer: weak.clone(),
        watermarks: watermarks.clone(),
        names: names_of(),
        settings: config.transactional(&format!("{}.{}", group.name, group.instance)),
        timeout: config.transaction_timeout,
        producer: None,
    };
    let watching = Watching {
        consumer: weak.clone(),
        seat: seat_of(),
        names: names_of(),
        watermarks: watermarks.clone(),
        within: config.progress_within,
    };
    let polling = Polling { consumer, seat: seat_of(), names: names_of(), watermarks: watermarks.clone() };
    let (ended, left) = oneshot::channel();
    spawn("kafka transactions", move || transactions.run())?;
    spawn("kafka progress", move || watching.run())?;
    spawn("kafka poll", move || {
        polling.run();
        // Nobody waits for it when the member was dropped.
        ended.send(()).unwrap_or_default();
    })?;
    Ok(KafkaMember {
        seat,
        consumer: weak,
        names,
        jobs,
        told: None,
        left,
        leave_within: config.request_timeout,
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), LogError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| LogError::Unavailable { cause: format!("no thread: {error}") })
}

impl KafkaMember {
    fn learn(&mut self, event: Result<Event, LogError>) -> Result<Event, LogError> {
        match &event {
            Ok(Event::Assigned(assignment)) => self.told = Some(assignment.epoch),
            Ok(Event::Lost) => self.told = None,
            _ => (),
        }
        event
    }
}

#[async_trait]
impl Member for KafkaMember {
    async fn next(&mut self) -> Result<Event, LogError> {
        let event = self.seat.outbox.next(true).await;
        self.learn(event)
    }

    async fn next_change(&mut self) -> Result<Event, LogError> {
        let event = self.seat.outbox.next(false).await;
        self.learn(event)
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        let (Some(epoch), Some(consumer)) = (self.told, self.consumer.upgrade()) else { return };
        let changed = self.seat.pause(epoch, partitions, paused);
        if changed.is_empty() {
            return;
        }
        let list = self.names.list(changed.iter().map(|at| (*at, KafkaOffset::Beginning)));
        let done = if paused { consumer.pause(&list) } else { consumer.resume(&list) };
        if let Err(error) = done {
            // A rebalance has taken them meanwhile, and begins with all partitions fetching.
            tracing::debug!(%error, paused, "pause or resume");
        }
    }

    fn release(&mut self) {
        self.seat.release();
    }

    fn transact(&mut self, transaction: Transaction) -> BoxFuture<'static, Transacted> {
        let longest = transaction.offsets.iter().map(|committed| committed.metadata.len()).max();
        assert!(longest <= Some(METADATA_BYTES_MAX), "commit metadata of {longest:?} bytes");
        let (reply, result) = oneshot::channel();
        let sent = self.jobs.send(Job::Transact(transaction, reply));
        async move {
            match sent {
                // The thread answers each job; it ends without an answer only with the process.
                Ok(()) => result.await.unwrap_or(Err(TransactError::Indefinite)),
                Err(_) => Err(TransactError::Fenced),
            }
        }
        .boxed()
    }

    async fn leave(mut self: Box<Self>) {
        self.seat.close();
        if tokio::time::timeout(self.leave_within, &mut self.left).await.is_err() {
            tracing::warn!("the group was not left in time; it notices by itself");
        }
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        self.seat.close();
    }
}
