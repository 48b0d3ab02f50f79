//! What Kafka alone can do to us: transactions of others, fenced producers and generations, deleted records, and ends
//! that the broker leaves in doubt.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use hansard_core::id::{Offset, Partition};
use hansard_runtime::ports::log::{
    Assignment, Committed, Event, Group, Log, LogError, Member, Outgoing, TopicPartition, TransactError,
    Transaction,
};
use hansard_schemas::Topic;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::Producer;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset as KafkaOffset, TopicPartitionList};

use super::{Deployment, PATIENCE};
use crate::{KafkaConfig, KafkaLog};

const UPLOADS: TopicPartition = TopicPartition { topic: Topic::Uploads, partition: Partition(0) };
const FINALIZES: TopicPartition = TopicPartition { topic: Topic::Finalizes, partition: Partition(0) };

fn group(instance: &str) -> Group {
    Group { name: "aggregate".into(), instance: instance.into(), topics: vec![Topic::Uploads] }
}

async fn join(log: &KafkaLog, instance: &str) -> (Box<dyn Member>, Assignment) {
    let mut member = log.join(group(instance)).await.expect("joined");
    let assignment = assigned(&mut *member).await;
    (member, assignment)
}

async fn next(member: &mut dyn Member) -> Result<Event, LogError> {
    tokio::time::timeout(PATIENCE, member.next()).await.expect("an event in time")
}

async fn assigned(member: &mut dyn Member) -> Assignment {
    loop {
        match next(member).await.expect("an event") {
            Event::Assigned(assignment) => return assignment,
            Event::Revoking => member.release(),
            Event::Lost | Event::Fetched(_) => (),
        }
    }
}

fn transaction(assignment: &Assignment, offset: i64) -> Transaction {
    let outgoing =
        Outgoing { to: FINALIZES, key: Some("k".into()), value: Some("v".into()), headers: Vec::new() };
    let committed = Committed { from: UPLOADS, offset: Offset(offset), metadata: String::new() };
    Transaction { epoch: assignment.epoch, records: vec![outgoing], offsets: vec![committed] }
}

async fn append(log: &KafkaLog, count: usize) {
    let outgoing =
        Outgoing { to: UPLOADS, key: Some("k".into()), value: Some("v".into()), headers: Vec::new() };
    log.append(vec![outgoing; count]).await.expect("appended");
}

/// An open transaction of somebody else: the high watermark counts it, positions do not pass it until it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_holds_up_positions_but_not_ends() {
    let deployment = Deployment::new(1).await;
    append(&deployment.log, 2).await;
    let stranger = deployment.stranger("stranger");
    deployment.open_record(&stranger, UPLOADS);
    append(&deployment.log, 1).await;
    assert_eq!(deployment.log.ends(&[UPLOADS]).await.expect("ends"), [Offset(0)..Offset(4)]);
    let (mut member, _) = join(&deployment.log, "a").await;
    let Event::Fetched(fetched) = next(&mut *member).await.expect("an event") else { panic!("no records") };
    assert_eq!((fetched.records.len(), fetched.position), (2, Offset(2)));
    stranger.abort_transaction(PATIENCE).expect("aborted");
    let mut position = fetched.position;
    while position < Offset(5) {
        let Event::Fetched(fetched) = next(&mut *member).await.expect("an event") else {
            panic!("no records")
        };
        position = fetched.position;
    }
    member.leave().await;
}

/// Offsets that an open transaction may still change are waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assignment_waits_for_stable_offsets() {
    let deployment = Deployment::new(1).await;
    append(&deployment.log, 5).await;
    let stranger = deployment.stranger("stranger");
    let outside: BaseConsumer = deployment.config.member("aggregate", None).create().expect("a consumer");
    let mut offsets = TopicPartitionList::new();
    let topic = format!("{}uploads", deployment.config.prefix);
    offsets.add_partition_offset(&topic, 0, KafkaOffset::Offset(3)).expect("an offset");
    let nobody = outside.group_metadata().expect("metadata");
    stranger.send_offsets_to_transaction(&offsets, &nobody, PATIENCE).expect("pending");
    let mut member = deployment.log.join(group("a")).await.expect("joined");
    let early = tokio::time::timeout(Duration::from_secs(2), member.next()).await;
    assert!(early.is_err(), "assigned with offsets that may change: {early:?}");
    stranger.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(assigned(&mut *member).await.partitions[0].offset, Offset(3));
    member.leave().await;
}

/// Another process with our transactional id: ours is refused, and goes on from the stable offsets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_producer_is_made_anew() {
    let deployment = Deployment::new(1).await;
    append(&deployment.log, 2).await;
    let (mut member, first) = join(&deployment.log, "a").await;
    member.transact(transaction(&first, 1)).await.expect("committed");
    drop(deployment.stranger("aggregate.a"));
    assert_eq!(member.transact(transaction(&first, 2)).await, Err(TransactError::Fenced));
    let second = assigned(&mut *member).await;
    assert_eq!(second.partitions[0].offset, Offset(1));
    member.transact(transaction(&second, 2)).await.expect("committed");
    let read = deployment.log.read(FINALIZES, Offset(0), 1 << 20, PATIENCE).await.expect("read");
    assert_eq!(read.records.len(), 2, "the fenced one is not among them");
    member.leave().await;
}

/// The generation is the assignment's: the broker refuses an old one whoever carries it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_refuses_an_old_generation() {
    let deployment = Deployment::new(1).await;
    append(&deployment.log, 2).await;
    let consumer = deployment.config.member("aggregate", None);
    let old: BaseConsumer = consumer.create().expect("a consumer");
    old.subscribe(&[&format!("{}uploads", deployment.config.prefix)]).expect("subscribed");
    while old.assignment().expect("an assignment").count() == 0 {
        drop(old.poll(Duration::from_millis(50)));
    }
    let generation = crate::generation::membership(&old).expect("a generation");
    let mut member = deployment.log.join(group("a")).await.expect("joined");
    // It leaves, as a zombie does for all that the group knows.
    drop(old);
    let present = assigned(&mut *member).await;
    let stranger = deployment.stranger("zombie");
    let mut offsets = TopicPartitionList::new();
    let topic = format!("{}uploads", deployment.config.prefix);
    offsets.add_partition_offset(&topic, 0, KafkaOffset::Offset(2)).expect("an offset");
    let refused =
        stranger.send_offsets_to_transaction(&offsets, &generation, PATIENCE).expect_err("an old generation");
    assert_eq!(crate::transact::classify(&refused, &[]), TransactError::Fenced, "{refused}");
    drop(stranger);
    member.transact(transaction(&present, 1)).await.expect("the present generation commits");
    member.leave().await;
}

/// Records that were deleted unread stop whoever would have read them; a new group begins where the log does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_records_are_out_of_range() {
    let deployment = Deployment::new(1).await;
    append(&deployment.log, 10).await;
    let (mut member, assignment) = join(&deployment.log, "a").await;
    member.transact(transaction(&assignment, 2)).await.expect("committed");
    member.leave().await;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &deployment.config.brokers)
        .create()
        .expect("an admin client");
    let mut before = TopicPartitionList::new();
    let topic = format!("{}uploads", deployment.config.prefix);
    before.add_partition_offset(&topic, 0, KafkaOffset::Offset(5)).expect("an offset");
    admin.delete_records(&before, &AdminOptions::new()).await.expect("deleted");

    let out_of_range =
        |position| LogError::OutOfRange { from: UPLOADS, position: Offset(position), begins: Offset(5) };
    let mut member = deployment.log.join(group("a")).await.expect("joined");
    assert_eq!(next(&mut *member).await, Err(out_of_range(2)));
    member.leave().await;
    let read = deployment.log.read(UPLOADS, Offset(1), 1000, PATIENCE).await;
    assert_eq!(read, Err(out_of_range(1)));
    assert_eq!(deployment.log.ends(&[UPLOADS]).await.expect("ends"), [Offset(5)..Offset(10)]);
    let fresh = Group { name: "split".into(), ..group("a") };
    let mut member = deployment.log.join(fresh).await.expect("joined");
    assert_eq!(assigned(&mut *member).await.partitions[0].offset, Offset(5));
    member.leave().await;
}

/// Follows a member to an assignment of one partition.
async fn share(member: &mut dyn Member) -> Assignment {
    loop {
        match next(member).await.expect("an event") {
            Event::Assigned(assignment) if assignment.partitions.len() == 1 => return assignment,
            Event::Revoking => member.release(),
            _ => {}
        }
    }
}

/// A static member that crashed and comes back has its partition again, and the other one notices nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_comes_back_unnoticed() {
    let mut config = Deployment::new(2).await.config;
    config.static_members = true;
    let deployment = Deployment { log: Arc::new(KafkaLog::new(config.clone()).expect("a log")), config };
    append(&deployment.log, 1).await;
    let (mut first, _) = join(&deployment.log, "a").await;
    let mut second = deployment.log.join(group("b")).await.expect("joined");
    let (before, _) = tokio::join!(share(&mut *first), share(&mut *second));
    drop(first);
    let mut again = deployment.log.join(group("a")).await.expect("joined");
    let after = assigned(&mut *again).await;
    assert_eq!(after.partitions, before.partitions);
    let offsets = after.partitions.clone();
    again.transact(Transaction { offsets, ..transaction(&after, 0) }).await.expect("committed");
    while let Some(event) = second.next().now_or_never() {
        assert!(matches!(event, Ok(Event::Fetched(_))), "{event:?}");
    }
    again.leave().await;
    second.leave().await;
}

/// A loop that takes nothing holds up neither the group nor memory, and loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_takes_nothing_holds_up_nobody() {
    let mut config = Deployment::new(2).await.config;
    config.fetched_bytes_max = 64 << 10;
    config.prefix = format!("{}slow.", config.prefix);
    let deployment = Deployment::with(config).await;
    let mut expected = Vec::new();
    for number in 0..4000_u32 {
        let value = format!("{number:01000}");
        expected.extend([0, 1].map(|partition| Outgoing {
            to: TopicPartition { partition: Partition(partition), ..UPLOADS },
            key: Some("k".into()),
            value: Some(value.clone().into()),
            headers: Vec::new(),
        }));
    }
    deployment.log.append(expected).await.expect("appended");
    let (mut slow, _) = join(&deployment.log, "slow").await;
    let (other, _) = join(&deployment.log, "other").await;
    let mut assignment = assigned(&mut *slow).await;
    while assignment.partitions.len() != 1 {
        assignment = assigned(&mut *slow).await;
    }
    let mut numbers = Vec::new();
    while numbers.len() < 4000 {
        let Event::Fetched(fetched) = next(&mut *slow).await.expect("an event") else { panic!("reassigned") };
        numbers.extend(fetched.records.into_iter().map(|record| {
            String::from_utf8(record.value.expect("a value").to_vec())
                .expect("text")
                .parse::<u32>()
                .expect("a number")
        }));
    }
    assert!(numbers.into_iter().eq(0..4000), "records are missing, twice, or out of order");
    slow.leave().await;
    other.leave().await;
}

/// A topic that is missing, has another partition count, or stamps records with a producer's time is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_do_not_fit_are_named() {
    let deployment = Deployment::new(2).await;
    let problem = |result: Result<Box<dyn Member>, LogError>| match result.map(drop) {
        Err(LogError::Topic { topic, problem }) => format!("{topic} {problem}"),
        other => panic!("{other:?}"),
    };
    let missing = Group { topics: vec![Topic::Merges], ..group("a") };
    assert_eq!(problem(deployment.log.join(missing).await), "merges does not exist");
    let other = KafkaConfig { partitions: 3, ..deployment.config.clone() };
    let other = KafkaLog::new(other).expect("a log").join(group("a")).await;
    assert_eq!(problem(other), "uploads has 2 partitions where the deployment has 3");
    let nowhere = Outgoing {
        to: TopicPartition { partition: Partition(7), ..UPLOADS },
        key: Some("k".into()),
        value: None,
        headers: Vec::new(),
    };
    let appended = deployment.log.append(vec![nowhere]).await;
    assert!(matches!(appended, Err(LogError::Topic { .. })), "{appended:?}");
}

/// What the broker answers at which step decides whether a transaction is known not to be committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_as_certain_as_the_broker_was() {
    use RDKafkaApiKey::{AddOffsetsToTxn, EndTxn};
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED as FORBIDDEN,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH as EPOCH, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE as STATE,
    };
    let cluster = MockCluster::new(1).expect("a cluster");
    let mut config = KafkaConfig::new(cluster.bootstrap_servers(), "mock.", 1);
    config.transaction_timeout = Duration::from_secs(5);
    for topic in ["mock.uploads", "mock.finalizes"] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    let log = KafkaLog::new(config).expect("a log");
    let (mut member, mut assignment) = join(&log, "a").await;
    for (api, code, expected) in [
        (AddOffsetsToTxn, FORBIDDEN, TransactError::Aborted),
        (AddOffsetsToTxn, EPOCH, TransactError::Fenced),
        (EndTxn, STATE, TransactError::Indefinite),
        (EndTxn, EPOCH, TransactError::Indefinite),
    ] {
        cluster.request_errors(api, &[code]);
        assert_eq!(member.transact(transaction(&assignment, 0)).await, Err(expected), "{code:?}");
        assignment = assigned(&mut *member).await;
        member.transact(transaction(&assignment, 0)).await.expect("committed after it");
    }
    member.leave().await;
}
