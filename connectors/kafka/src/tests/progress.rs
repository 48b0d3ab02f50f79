//! A consumer that makes no progress: what counts as that, and what becomes of it on a real broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hansard_core::id::{Offset, Partition};
use hansard_runtime::ports::log::{Epoch, Event, LogError, Member, Outgoing, Standstill, TopicPartition};
use hansard_schemas::Topic;
use rdkafka::consumer::Consumer;
use rdkafka::producer::Producer;

use super::{Deployment, PATIENCE};
use crate::member::{self, KafkaMember};
use crate::progress::Progress;

const WITHIN: Duration = Duration::from_secs(2);

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: Topic::Uploads, partition: Partition(partition) }
}

/// The decision, fed with positions and ends at seconds of its own.
struct Looks {
    progress: Progress,
    began: Instant,
}

impl Looks {
    fn new() -> Self {
        Self { progress: Progress::new(WITHIN), began: Instant::now() }
    }

    /// Partitions as (number, position, end), the end as far as it is known; gives the numbers that stand still.
    fn look(&mut self, second: u64, epoch: u64, seen: &[(i32, i64, Option<i64>)]) -> Vec<i32> {
        let positions = seen.iter().map(|(number, position, _)| (at(*number), Offset(*position)));
        let unmoved: BTreeMap<_, _> =
            self.progress.unmoved(Epoch(epoch), positions.collect()).into_iter().collect();
        let ends = seen.iter().filter_map(|(number, _, end)| Some((at(*number), Offset((*end)?))));
        let ends = ends.filter(|(from, _)| unmoved.contains_key(from)).collect();
        let stalled = self.progress.stalled(&ends, self.began + Duration::from_secs(second));
        stalled.into_iter().map(|place| place.from.partition.0).collect()
    }
}

#[test]
fn only_what_stands_before_records_for_long_enough_is_stalled() {
    let mut looks = Looks::new();
    // 0 stands before records, 1 is idle, 2 moves.
    assert_eq!(looks.look(0, 1, &[(0, 5, Some(9)), (1, 4, Some(4)), (2, 1, Some(9))]), [0; 0]);
    assert_eq!(looks.look(1, 1, &[(0, 5, Some(9)), (1, 4, Some(4)), (2, 2, Some(9))]), [0; 0]);
    assert_eq!(looks.look(2, 1, &[(0, 5, Some(9)), (1, 4, Some(4)), (2, 3, Some(9))]), [0; 0]);
    // Records behind it are known of since the second look.
    assert_eq!(looks.look(3, 1, &[(0, 5, Some(12)), (1, 4, Some(5)), (2, 4, Some(9))]), [0]);
    assert_eq!(looks.look(4, 1, &[(0, 6, Some(12)), (1, 4, Some(5)), (2, 4, Some(9))]), [0; 0]);
    assert_eq!(looks.look(5, 1, &[(0, 7, Some(12)), (1, 4, Some(5)), (2, 4, Some(9))]), [1]);
}

#[test]
fn what_rests_or_cannot_be_asked_for_or_is_assigned_anew_begins_anew() {
    let stands = [(0, 5, Some(9))];
    for between in [&[][..], &[(0, 5, None)], &[(0, 4, Some(9))]] {
        let mut looks = Looks::new();
        assert_eq!([0, 1, 2].map(|second| looks.look(second, 1, &stands).len()), [0, 0, 0]);
        assert_eq!(looks.look(3, 1, between), [0; 0]);
        assert_eq!([4, 5].map(|second| looks.look(second, 1, &stands).len()), [0, 0], "{between:?}");
        assert_eq!(
            [6, 7, 8].map(|second| looks.look(second, 1, &stands).len()).last(),
            Some(&1),
            "{between:?}"
        );
    }
    let mut looks = Looks::new();
    assert_eq!([0, 1, 2].map(|second| looks.look(second, 1, &stands).len()), [0, 0, 0]);
    assert_eq!([3, 4, 5].map(|second| looks.look(second, 2, &stands).len()), [0, 0, 0]);
    assert_eq!(looks.look(6, 2, &stands), [0]);
}

async fn deployment(partitions: u32) -> Deployment {
    let mut config = Deployment::new(partitions).await.config;
    (config.progress_within, config.fetched_bytes_max) = (WITHIN, 64 << 10);
    config.prefix = format!("{}progress.", config.prefix);
    Deployment::with(config).await
}

async fn append(deployment: &Deployment, count: usize, bytes: usize) {
    use hansard_runtime::ports::log::Log as _;
    let outgoing = Outgoing {
        to: at(0),
        key: Some("k".into()),
        value: Some("v".repeat(bytes).into()),
        headers: Vec::new(),
    };
    deployment.log.append(vec![outgoing; count]).await.expect("appended");
}

async fn join(deployment: &Deployment) -> KafkaMember {
    let group = hansard_runtime::ports::log::Group {
        name: "aggregate".into(),
        instance: "a".into(),
        topics: vec![Topic::Uploads],
    };
    let (config, watermarks) = (deployment.config.clone(), deployment.log.watermarks.clone());
    tokio::task::spawn_blocking(move || member::join(&config, &watermarks, &group))
        .await
        .expect("no panic")
        .expect("joined")
}

/// Takes events until the position of the first partition.
async fn read_to(member: &mut KafkaMember, position: i64) {
    loop {
        let event = tokio::time::timeout(PATIENCE, member.next()).await.expect("an event in time");
        match event.expect("no error") {
            Event::Fetched(fetched) if fetched.from == at(0) && fetched.position == Offset(position) => {
                return;
            }
            Event::Revoking => member.release(),
            _ => {}
        }
    }
}

/// That nothing happens for longer than a standstill takes to be seen.
async fn stays_quiet(member: &mut KafkaMember) {
    let event = tokio::time::timeout(WITHIN * 2, member.next()).await;
    assert!(event.is_err(), "{event:?}");
}

/// librdkafka is made to hand over nothing of one partition, without anybody knowing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_stands_still_is_thrown_away() {
    let deployment = deployment(2).await;
    append(&deployment, 3, 1).await;
    let mut member = join(&deployment).await;
    read_to(&mut member, 3).await;
    let consumer = member.consumer.upgrade().expect("a consumer");
    let mut places = rdkafka::TopicPartitionList::new();
    places.add_partition(&format!("{}uploads", deployment.config.prefix), 0);
    consumer.pause(&places).expect("paused");
    drop(consumer);
    // Idle is not stalled.
    stays_quiet(&mut member).await;
    append(&deployment, 2, 1).await;
    let began = Instant::now();
    let event = tokio::time::timeout(PATIENCE, member.next()).await.expect("an event in time");
    let place = Standstill { from: at(0), position: Offset(3), end: Offset(5) };
    let Err(error @ LogError::Stalled { .. }) = event else { panic!("{event:?}") };
    assert_eq!(error, LogError::Stalled { places: vec![place], within: WITHIN });
    assert!(error.to_string().contains("uploads[0] from 3 to 5"), "{error}");
    assert!((WITHIN..WITHIN * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    drop(member);
    let mut again = join(&deployment).await;
    read_to(&mut again, 5).await;
    Box::new(again).leave().await;
}

/// An open transaction of somebody else, a loop that lets a partition rest, and one that takes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_a_consumer_up_for_good_reason_is_no_standstill() {
    let deployment = deployment(1).await;
    append(&deployment, 3, 1).await;
    let mut member = join(&deployment).await;
    read_to(&mut member, 3).await;
    let stranger = deployment.stranger("stranger");
    deployment.open_record(&stranger, at(0));
    append(&deployment, 1, 1).await;
    stays_quiet(&mut member).await;
    stranger.abort_transaction(PATIENCE).expect("aborted");
    read_to(&mut member, 6).await;
    member.set_paused(&[at(0)], true);
    append(&deployment, 1, 1).await;
    stays_quiet(&mut member).await;
    member.set_paused(&[at(0)], false);
    read_to(&mut member, 7).await;
    append(&deployment, 400, 1_000).await;
    // The loop takes nothing; an error would void what lies there, and be the next event.
    tokio::time::timeout(WITHIN * 2, member.next_change()).await.expect_err("nothing changes");
    read_to(&mut member, 407).await;
    Box::new(member).leave().await;
}
