//! Opening, retention, compaction, and what is refused.

use std::time::Duration;

use bytes::Bytes;
use hansard_core::id::{Offset, Partition, Timestamp};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::facts::Erasure;
use hansard_runtime::ports::log::{
    Committed, Event, Group, Log, LogError, LogRecord, Member, Outgoing, TopicPartition, TransactError,
    Transaction,
};
use hansard_schemas::Topic;
use tempfile::TempDir;

use super::{Hands, open, small};
use crate::{Config, Engine, Maintained, OpenError};

const DAY: i64 = 86_400_000;

fn at(topic: Topic) -> TopicPartition {
    TopicPartition { topic, partition: Partition(1) }
}

fn outgoing(to: TopicPartition, key: &str, value: Option<&str>) -> Outgoing {
    let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    Outgoing { to, key: Some(Bytes::copy_from_slice(key.as_bytes())), value, headers: Vec::new() }
}

async fn append(log: &dyn Log, to: TopicPartition, count: usize) {
    let value = "x".repeat(500);
    for _ in 0..count {
        log.append(vec![outgoing(to, "key", Some(&value)); 10]).await.expect("appended");
    }
}

async fn read(log: &dyn Log, from: TopicPartition, mut position: Offset) -> Vec<LogRecord> {
    let end = log.ends(&[from]).await.expect("the end")[0].end;
    let mut records = Vec::new();
    while position < end {
        let fetched = log.read(from, position, 10_000, Duration::ZERO).await.expect("a read");
        assert!(fetched.position > position, "{:?} after {position:?}", fetched.position);
        (position, _) = (fetched.position, records.extend(fetched.records));
    }
    records
}

async fn ends(log: &dyn Log, of: TopicPartition) -> (i64, i64) {
    let range = log.ends(&[of]).await.expect("ends").remove(0);
    (range.start.0, range.end.0)
}

/// A member that is alone in its group, with its first assignment's epoch taken.
async fn member(log: &dyn Log, topic: Topic) -> (Box<dyn Member>, hansard_runtime::ports::log::Epoch) {
    let group = Group { name: "reader".to_owned(), instance: "one".to_owned(), topics: vec![topic] };
    let mut member = log.join(group).await.expect("joined");
    let Event::Assigned(assignment) = member.next().await.expect("an event") else { panic!("no assignment") };
    (member, assignment.epoch)
}

async fn commit(log: &dyn Log, from: TopicPartition, offset: i64) {
    let (mut member, epoch) = member(log, from.topic).await;
    let offsets = vec![Committed { from, offset: Offset(offset), metadata: String::new() }];
    member.transact(Transaction { epoch, records: Vec::new(), offsets }).await.expect("committed");
    member.leave().await;
}

#[test]
fn a_directory_is_for_one_process_and_one_partition_count() {
    let dir = TempDir::new().expect("a directory");
    let engine = open(dir.path(), &small());
    let refused = Engine::open(dir.path(), small()).expect_err("it is in use").to_string();
    let expected = format!("{} is in use by process {};", dir.path().display(), std::process::id());
    assert!(refused.starts_with(&expected), "{refused}");
    drop(engine);
    let refused = Engine::open(dir.path(), Config { partitions: 8, ..small() }).expect_err("another count");
    assert!(matches!(refused, OpenError::Partitions { recorded: 4, asked: 8, .. }), "{refused}");
    assert_eq!(open(dir.path(), &small()).log().partitions(), 4);
}

/// What a loss of power leaves of a large value that was being written: the beginning and the end, and a hole.
#[tokio::test]
async fn a_torn_end_of_the_journal_is_cut_off() {
    let dir = TempDir::new().expect("a directory");
    let to = at(Topic::Uploads);
    let value = "x".repeat(30_000);
    {
        let engine = open(dir.path(), &small());
        for _ in 0..20 {
            engine.log().append(vec![outgoing(to, "key", Some(&value))]).await.expect("appended");
        }
    }
    let journal = dir.path().join("store/0.jnl");
    let mut bytes = std::fs::read(&journal).expect("a journal");
    let end = bytes.iter().rposition(|byte| *byte == b'x').expect("the last value");
    bytes[end - 20_000..end - 15_904].fill(0);
    std::fs::write(&journal, bytes).expect("written");
    let engine = open(dir.path(), &small());
    let log = engine.log();
    assert_eq!(read(&*log, to, Offset(0)).await.len(), 19);
    assert_eq!(log.append(vec![outgoing(to, "key", Some(&value))]).await.expect("appended"), [Offset(19)]);
    drop((engine, log));
    assert_eq!(ends(&*open(dir.path(), &small()).log(), to).await, (0, 20));
}

#[tokio::test]
async fn times_do_not_fall_though_the_clock_does() {
    let (dir, hands) = (TempDir::new().expect("a directory"), Hands::default());
    let config = Config { clock: hands.clock(), ..small() };
    let to = at(Topic::Uploads);
    for (clock, expected) in [(5_000, 5_000), (3_000, 5_000), (6_000, 6_000), (1_000, 6_000)] {
        // Also over a restart.
        let engine = open(dir.path(), &config);
        hands.set(clock);
        let offsets = engine.log().append(vec![outgoing(to, "key", None)]).await.expect("appended");
        let records = read(&*engine.log(), to, offsets[0]).await;
        assert_eq!(records[0].time, Timestamp(expected), "at {clock}");
    }
}

#[tokio::test]
async fn what_has_left_memory_is_read_from_disk() {
    let dir = TempDir::new().expect("a directory");
    let engine = open(dir.path(), &small());
    let (log, to) = (engine.log(), at(Topic::Uploads));
    append(&*log, to, 100).await;
    for start in [0, 1, 499, 995, 999] {
        let records = read(&*log, to, Offset(start)).await;
        assert!(records.iter().map(|record| record.offset.0).eq(start..1_000), "from {start}");
    }
}

#[tokio::test]
async fn retention_waits_for_every_group() {
    let (dir, hands) = (TempDir::new().expect("a directory"), Hands::default());
    let config = Config { clock: hands.clock(), ..small() };
    let (engine, to) = (open(dir.path(), &config), at(Topic::Splits));
    let log = engine.log();
    append(&*log, to, 10).await;
    commit(&*log, to, 45).await;
    hands.set(DAY);
    append(&*log, to, 10).await;
    let days = 7 * DAY;
    assert_eq!(
        engine.maintain(Timestamp(days)).await.expect("maintained"),
        Maintained::default(),
        "to the ms"
    );
    // Only whole batches below the position go; the rest of the old ones is unread.
    let done = engine.maintain(Timestamp(days + 1)).await.expect("maintained");
    assert_eq!((done.expired, ends(&*log, to).await), (40, (40, 200)));
    let gone = log.read(to, Offset(39), 1, Duration::ZERO).await.expect_err("it is gone");
    assert_eq!(gone, LogError::OutOfRange { from: to, position: Offset(39), begins: Offset(40) });
    commit(&*log, to, 200).await;
    let done = engine.maintain(Timestamp(days + 1)).await.expect("maintained");
    assert_eq!((done.expired, ends(&*log, to).await), (60, (100, 200)));
    assert_eq!(read(&*log, to, Offset(100)).await.len(), 100);
}

#[tokio::test]
async fn offsets_go_on_where_everything_was_deleted() {
    let (dir, hands) = (TempDir::new().expect("a directory"), Hands::default());
    let config = Config { clock: hands.clock(), ..small() };
    let to = at(Topic::Splits);
    hands.set(777);
    {
        let engine = open(dir.path(), &config);
        append(&*engine.log(), to, 3).await;
        engine.maintain(Timestamp(30 * DAY)).await.expect("maintained");
    }
    let engine = open(dir.path(), &config);
    assert_eq!(ends(&*engine.log(), to).await, (30, 30));
    hands.set(5);
    append(&*engine.log(), to, 1).await;
    let records = read(&*engine.log(), to, Offset(30)).await;
    assert_eq!((records[0].offset, records[0].time), (Offset(30), Timestamp(777)));
}

#[tokio::test]
async fn compaction_keeps_the_newest_of_each_key() {
    let (dir, hands) = (TempDir::new().expect("a directory"), Hands::default());
    let engine = open(dir.path(), &Config { clock: hands.clock(), ..small() });
    let (log, to) = (engine.log(), at(Topic::Conversations));
    for round in 0..60 {
        let key = |key: i32| outgoing(to, &format!("key-{key}"), (key != 7).then_some("value"));
        log.append((0..=round % 20).map(key).collect()).await.expect("appended");
    }
    commit(&*log, to, 600).await;
    let unread = 630;
    let before = read(&*log, to, Offset(0)).await;
    assert_eq!(before.len(), unread);
    assert_eq!(engine.maintain(Timestamp(1)).await.expect("maintained").superseded, 0, "not yet worth it");
    append(&*log, to, 100).await;
    let done = engine.maintain(Timestamp(1)).await.expect("maintained");
    let after = read(&*log, to, Offset(0)).await;
    assert_eq!(before.len() + 1_000 - after.len(), usize::try_from(done.superseded).expect("few"));
    // What the group has not read is all there.
    let unread_after = after.iter().filter(|record| record.offset.0 >= 600).count();
    assert_eq!(unread_after, 1_030);
    // Of whole batches that it has read, which end before 591, the newest of each key.
    for key in 0..20 {
        let of_key = |record: &&LogRecord| record.key.as_deref() == Some(format!("key-{key}").as_bytes());
        let newest = before.iter().filter(of_key).map(|record| record.offset).max();
        let kept: Vec<_> = after.iter().filter(of_key).map(|record| record.offset).collect();
        assert!(kept.contains(&newest.expect("one")), "key {key}: {kept:?}");
        assert!(
            kept.iter().filter(|offset| offset.0 < 591).all(|offset| Some(*offset) == newest),
            "key {key}"
        );
    }
}

#[tokio::test]
async fn tombstones_go_after_a_day() {
    let (dir, hands) = (TempDir::new().expect("a directory"), Hands::default());
    let engine = open(dir.path(), &Config { clock: hands.clock(), ..small() });
    let (log, to) = (engine.log(), at(Topic::Conversations));
    log.append(vec![outgoing(to, "gone", Some("value")), outgoing(to, "gone", None)])
        .await
        .expect("appended");
    let gone = |records: &[LogRecord]| -> Vec<i64> {
        records
            .iter()
            .filter(|record| record.key.as_deref() == Some(b"gone"))
            .map(|record| record.offset.0)
            .collect()
    };
    append(&*log, to, 100).await;
    engine.maintain(Timestamp(DAY)).await.expect("maintained");
    assert_eq!(gone(&read(&*log, to, Offset(0)).await), vec![1], "the tombstone stays");
    append(&*log, to, 100).await;
    engine.maintain(Timestamp(DAY + 1)).await.expect("maintained");
    assert_eq!(gone(&read(&*log, to, Offset(0)).await), Vec::<i64>::new());
}

#[tokio::test]
async fn without_room_nothing_is_taken_but_erasures() {
    let dir = TempDir::new().expect("a directory");
    drop(open(dir.path(), &small()));
    let engine = open(dir.path(), &small());
    let (early, _) = member(&*engine.log(), Topic::Uploads).await;
    early.leave().await;
    drop(engine);
    let engine = open(dir.path(), &Config { reserve_bytes: u64::MAX, ..small() });
    let (log, to) = (engine.log(), at(Topic::Uploads));
    let refused = log.append(vec![outgoing(to, "key", None)]).await.expect_err("no room");
    assert!(matches!(&refused, LogError::Unavailable { cause } if cause.contains("in reserve")), "{refused}");
    let (mut member, epoch) = member(&*log, Topic::Uploads).await;
    let offsets = vec![Committed { from: to, offset: Offset(0), metadata: String::new() }];
    let transaction = Transaction { epoch, records: vec![outgoing(to, "key", None)], offsets };
    assert_eq!(member.transact(transaction).await, Err(TransactError::Aborted));
    let event = member.next().await.expect("an event");
    assert!(matches!(&event, Event::Assigned(new) if new.epoch > epoch), "{event:?}");
    let marker = Erasure { time: Timestamp(1), reason: "request".to_owned() };
    engine.facts().erase("conversation", marker.clone()).await.expect("erased");
    assert_eq!(engine.facts().erasure("conversation").await, Ok(Some(marker)));
    assert_eq!(ends(&*log, to).await, (0, 0));
}

#[tokio::test]
async fn a_closed_engine_says_so() {
    let dir = TempDir::new().expect("a directory");
    let engine = open(dir.path(), &small());
    let (log, facts) = (engine.log(), engine.facts());
    let (mut member, _) = member(&*log, Topic::Uploads).await;
    let waiting = tokio::spawn(async move { member.next().await });
    drop(engine);
    assert_eq!(waiting.await.expect("no panic"), Err(LogError::Closed));
    assert_eq!(log.append(vec![outgoing(at(Topic::Uploads), "key", None)]).await, Err(LogError::Closed));
    let read = facts.read("conversation").await;
    assert!(
        matches!(&read, Err(PortError::Unavailable { cause, .. }) if cause == "it is closed"),
        "{read:?}"
    );
}
