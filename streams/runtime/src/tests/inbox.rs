//! What waits is taken in the order of the log's time, partitions in turn, and what is far ahead rests.

use hansard_core::id::Offset;

use super::*;
use crate::ports::log::LogRecord;

fn at(topic: Topic, partition: i32) -> TopicPartition {
    TopicPartition { topic, partition: Partition(partition) }
}

/// A run with a record for each time.
fn run(from: TopicPartition, times: impl IntoIterator<Item = i64>) -> Fetched {
    let record = |time| LogRecord {
        offset: Offset(time),
        time: Timestamp(time),
        key: None,
        value: None,
        headers: Vec::new(),
    };
    Fetched { from, records: times.into_iter().map(record).collect(), position: Offset(0) }
}

fn origins(runs: &[Fetched]) -> Vec<(Topic, i32)> {
    runs.iter().map(|run| (run.from.topic, run.from.partition.0)).collect()
}

#[test]
fn the_oldest_of_a_partition_is_taken_first() {
    let mut inbox = Inbox::new(Topic::Finalizes);
    inbox.push(run(at(Topic::Uploads, 0), [1, 2]));
    inbox.push(run(at(Topic::Uploads, 0), [7, 8]));
    inbox.push(run(at(Topic::Transcripts, 0), [3, 9]));
    inbox.push(run(at(Topic::Transcripts, 0), [10]));
    assert_eq!(inbox.waiting(), 7);
    use Topic::{Transcripts, Uploads};
    assert_eq!(origins(&inbox.take(4, false)), [(Uploads, 0), (Transcripts, 0)]);
    assert_eq!(inbox.waiting(), 3);
    assert_eq!(origins(&inbox.take(9, false)), [(Uploads, 0), (Transcripts, 0)]);
    assert_eq!((inbox.waiting(), inbox.take(1, false)), (0, Vec::new()));
}

#[test]
fn partitions_take_turns_however_far_one_is_behind() {
    let mut inbox = Inbox::new(Topic::Finalizes);
    for time in 1..4 {
        inbox.push(run(at(Topic::Uploads, 0), [time]));
        inbox.push(run(at(Topic::Uploads, 2), [time + 1000]));
    }
    let order: Vec<i32> =
        origins(&inbox.take(6, false)).into_iter().map(|(_, partition)| partition).collect();
    assert_eq!(order, [2, 0, 2, 0, 2, 0]);
}

#[test]
fn a_position_that_moved_by_itself_waits_for_nothing() {
    let mut inbox = Inbox::new(Topic::Finalizes);
    inbox.push(run(at(Topic::Uploads, 0), [1]));
    inbox.push(run(at(Topic::Splits, 0), []));
    assert_eq!(origins(&inbox.take(1, false)), [(Topic::Splits, 0), (Topic::Uploads, 0)]);
}

#[test]
fn who_is_far_ahead_rests_until_half_is_gone() {
    let (ahead, behind) = (at(Topic::Uploads, 0), at(Topic::Transcripts, 0));
    let mut inbox = Inbox::new(Topic::Finalizes);
    inbox.push(run(ahead, 100..104));
    assert_eq!(inbox.balance(3), (vec![], vec![]), "nobody is behind it");
    inbox.push(run(behind, [1, 100]));
    inbox.push(run(at(Topic::Transcripts, 1), [1]));
    assert_eq!(inbox.balance(3), (vec![], vec![]), "they overlap");
    inbox.push(run(at(Topic::Splits, 0), [0, 99]));
    assert_eq!(inbox.balance(4), (vec![], vec![]), "so many may wait");
    assert_eq!(inbox.balance(3), (vec![ahead], vec![]));
    assert_eq!(inbox.balance(3), (vec![], vec![]), "it rests already");
    inbox.take(9, false);
    inbox.push(run(ahead, 104..105));
    assert_eq!(inbox.balance(3), (vec![], vec![ahead]));
    assert_eq!(inbox.balance(3), (vec![], vec![]));
}

#[test]
fn own_emissions_come_first_and_never_rest() {
    let (own, other) = (at(Topic::Finalizes, 0), at(Topic::Uploads, 0));
    let mut inbox = Inbox::new(Topic::Finalizes);
    inbox.push(run(other, [1, 2]));
    assert_eq!(inbox.take(9, true), vec![]);
    inbox.push(run(own, 50..60));
    assert_eq!(inbox.balance(3), (vec![], vec![]));
    assert_eq!(origins(&inbox.take(1, false)), [(Topic::Finalizes, 0)]);
    inbox.push(run(own, [60]));
    assert_eq!(origins(&inbox.take(9, true)), [(Topic::Finalizes, 0)]);
    assert_eq!(inbox.waiting(), 2);
}
