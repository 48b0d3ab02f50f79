//! The log's contract: what every implementation of `Log` and `Member` must give, checked on the real thing. Each
//! check stands alone on fresh topics and a fresh group, so that one broker can serve all of them at once.

mod groups;
mod records;
mod transactions;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Offset, Partition};
use hansard_runtime::ports::log::{
    Assignment, Committed, Epoch, Event, Group, Log, LogRecord, Member, Outgoing, TopicPartition, Transacted,
    Transaction,
};
use hansard_schemas::Topic;

pub use groups::*;
pub use records::*;
pub use transactions::*;

/// The topics that a harness makes: two that a group reads together, and one to write to.
pub const TOPICS: [Topic; 3] = [Topic::Uploads, Topic::Splits, Topic::Finalizes];

/// An engine under test: one deployment with empty topics of its own.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The log.
    fn log(&self) -> Arc<dyn Log>;
    /// Leaves in a partition what an aborted transaction of one record leaves there, if the engine leaves anything.
    async fn abort(&self, to: TopicPartition);
    /// How long anything may take before it counts as not happening. Longer than the bound on an unreleased
    /// assignment, and than it takes to notice a crashed member.
    fn patience(&self) -> Duration;
}

/// Makes a test of each check; `$harness` is an async function from a partition count to a [`Harness`], `$test` the
/// attribute of each test where it is not the usual one.
#[macro_export]
macro_rules! log_contract {
    ($harness:path) => {
        $crate::log_contract!($harness, tokio::test(flavor = "multi_thread", worker_threads = 2));
    };
    ($harness:path, $test:meta) => {
        $crate::log_contract!($harness, $test:
            1: too_large_a_record_is_refused;
            2: append_reads_back, reading_is_bounded, reading_waits_for_the_next, ends_are_counted,
               transactions_become_visible_whole, offsets_come_back_with_metadata, positions_reach_the_end,
               stale_epochs_are_fenced, a_failed_transaction_is_followed_by_an_assignment,
               a_transaction_dropped_midway_is_whole_or_nothing, commits_pass_until_release,
               who_does_not_release_loses, pausing_keeps_the_rest_going, changes_pass_by_records, next_is_cancel_safe,
               leaving_hands_over, a_crashed_member_is_replaced, a_new_group_begins_at_the_beginning, anyone_sees_what_a_group_committed;
            1: one_partition_for_two;
            4: members_share_partition_numbers, copying_is_exact_while_members_come_and_go;
        );
    };
    ($harness:path, $test:meta: $($partitions:literal: $($check:ident),+;)+) => {
        $crate::log_contract!(@ $harness, ($test), $($($partitions $check)+)+);
    };
    (@ $harness:path, $test:tt, $($partitions:literal $check:ident)+) => {
        $($crate::log_contract!(@@ $harness, $test, $partitions $check);)+
    };
    (@@ $harness:path, ($test:meta), $partitions:literal $check:ident) => {
        #[$test]
        async fn $check() {
            $crate::log::$check(&$harness($partitions).await).await;
        }
    };
}

/// Fails with `what` when it takes longer than the harness has patience.
async fn within<T>(h: &dyn Harness, what: &str, future: impl Future<Output = T>) -> T {
    let patience = h.patience();
    let done = tokio::time::timeout(patience, future).await;
    done.unwrap_or_else(|_| panic!("{what}: nothing within {patience:?}"))
}

fn at(topic: Topic, partition: i32) -> TopicPartition {
    TopicPartition { topic, partition: Partition(partition) }
}

fn outgoing(to: TopicPartition, key: &str, value: &str) -> Outgoing {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    Outgoing { to, key: Some(Bytes::copy_from_slice(key.as_bytes())), value, headers: Vec::new() }
}

fn numbered(to: TopicPartition, numbers: std::ops::Range<usize>) -> Vec<Outgoing> {
    numbers.map(|number| outgoing(to, "conversation", &number.to_string())).collect()
}

fn text(record: &LogRecord) -> String {
    String::from_utf8(record.value.clone().expect("a value").to_vec()).expect("text")
}

/// All committed records of a partition up to its end.
async fn all(h: &dyn Harness, from: TopicPartition) -> Vec<LogRecord> {
    let log = h.log();
    let end = log.ends(&[from]).await.expect("the end")[0].end;
    let (mut position, mut records) = (Offset(0), Vec::new());
    within(h, "reading to the end", async {
        while position < end {
            let wait = Duration::from_millis(200);
            let fetched = log.read(from, position, 1 << 20, wait).await.expect("a read");
            assert!(
                fetched.position >= position,
                "the position fell from {position:?} to {:?}",
                fetched.position
            );
            position = fetched.position;
            records.extend(fetched.records);
        }
    })
    .await;
    records
}

async fn texts(h: &dyn Harness, from: TopicPartition) -> Vec<String> {
    all(h, from).await.iter().map(text).collect()
}

/// A member with what it was told.
struct Seat<'h> {
    h: &'h dyn Harness,
    member: Box<dyn Member>,
    epoch: Epoch,
    committed: BTreeMap<TopicPartition, Committed>,
}

impl<'h> Seat<'h> {
    /// Joins the one group that the tests of a deployment use, and waits for an assignment.
    async fn join(h: &'h dyn Harness, instance: &str) -> Self {
        let mut seat = Self::join_only(h, instance).await;
        seat.assigned().await;
        seat
    }

    async fn join_only(h: &'h dyn Harness, instance: &str) -> Self {
        let topics = vec![Topic::Uploads, Topic::Splits];
        let group = Group { name: "aggregate".into(), instance: instance.into(), topics };
        let member = h.log().join(group).await.expect("joined");
        Self { h, member, epoch: Epoch(0), committed: BTreeMap::new() }
    }

    async fn next(&mut self) -> Event {
        within(self.h, "an event", self.member.next()).await.expect("an event")
    }

    /// Waits for the next assignment, letting go of the present one when asked to.
    async fn assigned(&mut self) {
        loop {
            match self.next().await {
                Event::Assigned(assignment) => return self.take(assignment),
                Event::Revoking => self.member.release(),
                Event::Lost | Event::Fetched(_) => (),
            }
        }
    }

    /// Waits until it holds so many partition numbers; which ones is the engine's choice.
    async fn holds(&mut self, count: usize) -> i32 {
        while self.numbers().len() != count {
            self.assigned().await;
        }
        self.numbers().first().copied().unwrap_or(-1)
    }

    fn take(&mut self, assignment: Assignment) {
        assert!(assignment.epoch > self.epoch, "{:?} comes after {:?}", assignment.epoch, self.epoch);
        self.epoch = assignment.epoch;
        self.committed = assignment.partitions.into_iter().map(|line| (line.from, line)).collect();
    }

    /// The partition numbers held; each of them in both topics.
    fn numbers(&self) -> Vec<i32> {
        let of = |topic| self.committed.keys().filter(move |at| at.topic == topic).map(|at| at.partition.0);
        let numbers: Vec<i32> = of(Topic::Uploads).collect();
        assert_eq!(numbers, of(Topic::Splits).collect::<Vec<i32>>(), "a partition number is in one hand");
        numbers
    }

    /// Reads until the positions of `ends` are reached; gives the records by partition.
    async fn read_to(
        &mut self,
        ends: &[(TopicPartition, Offset)],
    ) -> BTreeMap<TopicPartition, Vec<LogRecord>> {
        let mut records: BTreeMap<TopicPartition, Vec<LogRecord>> = BTreeMap::new();
        let mut positions: BTreeMap<TopicPartition, Offset> =
            self.committed.iter().map(|(at, line)| (*at, line.offset)).collect();
        while ends.iter().any(|(at, end)| positions[at] < *end) {
            let Event::Fetched(fetched) = self.next().await else { panic!("the assignment changed") };
            let position = positions.insert(fetched.from, fetched.position).expect("an assigned partition");
            let offsets = || fetched.records.iter().map(|record| record.offset);
            assert!(offsets().all(|offset| offset >= position && offset < fetched.position), "{fetched:?}");
            assert!(offsets().is_sorted_by(|a, b| a < b), "{fetched:?}");
            records.entry(fetched.from).or_default().extend(fetched.records);
        }
        records
    }

    fn transaction(&self, records: Vec<Outgoing>, offsets: &[(TopicPartition, i64, &str)]) -> Transaction {
        let committed = |&(from, offset, metadata): &(TopicPartition, i64, &str)| Committed {
            from,
            offset: Offset(offset),
            metadata: metadata.into(),
        };
        Transaction { epoch: self.epoch, records, offsets: offsets.iter().map(committed).collect() }
    }

    async fn transact(&mut self, transaction: Transaction) -> Transacted {
        let (h, future) = (self.h, self.member.transact(transaction));
        within(h, "a transaction", future).await
    }

    async fn leave(self) {
        within(self.h, "leaving", self.member.leave()).await;
    }
}
