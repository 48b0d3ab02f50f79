//! The lanes at the edges of their bounds: fairness, blocking, tiers that are not due, full metadata.

use std::sync::Arc;

use bytes::Bytes;
use hansard_core::id::{Offset, Partition, Timestamp};
use hansard_schemas::{Stage, Topic};

use super::*;

const SEGMENTS: TopicPartition = TopicPartition { topic: Topic::Segments, partition: Partition(0) };
const TIER: TopicPartition =
    TopicPartition { topic: Topic::Retry(Stage::Transcribe, 1), partition: Partition(0) };
const NOW: Timestamp = Timestamp(1_000);

fn record(offset: i64, conversation: &str) -> LogRecord {
    LogRecord {
        offset: Offset(offset),
        time: NOW,
        key: Some(Bytes::copy_from_slice(conversation.as_bytes())),
        value: Some(Bytes::from_static(b"value")),
        headers: Vec::new(),
    }
}

fn lanes(assigned: &[TopicPartition]) -> Lanes {
    let mut lanes = Lanes::default();
    lanes.assign(assigned.iter().map(|from| (*from, Completed::from_prefix(Offset(0)))));
    lanes
}

fn fetch(lanes: &mut Lanes, from: TopicPartition, due: Option<Timestamp>, records: Vec<LogRecord>) {
    let position = Offset(records.last().map_or(0, |record| record.offset.0) + 1);
    lanes.fetched(from, records.into_iter().map(|record| (due, record)), position);
}

fn start(lanes: &mut Lanes, now: Timestamp, bounds: &Bounds) -> Vec<i64> {
    std::iter::from_fn(|| lanes.start(now, bounds)).map(|start| start.record.offset.0).collect()
}

#[test]
fn one_conversation_cannot_take_all_slots() {
    let mut lanes = lanes(&[SEGMENTS]);
    let bounds = Bounds { in_flight_max: 4, in_flight_per_conversation_max: 2, ..Bounds::default() };
    let mut records: Vec<LogRecord> = (0..100).map(|offset| record(offset, "greedy")).collect();
    records.push(record(100, "modest"));
    fetch(&mut lanes, SEGMENTS, None, records);
    assert_eq!(
        start(&mut lanes, NOW, &bounds),
        [0, 100, 1],
        "the modest one is second, the greedy one has two"
    );
    lanes.ended(&Arc::from(b"greedy".to_vec()));
    assert_eq!(start(&mut lanes, NOW, &bounds), [2], "a slot of its own is free again");
}

#[test]
fn a_backlog_of_one_lane_keeps_no_other_waiting() {
    let callbacks = TopicPartition { topic: Topic::Callbacks, partition: Partition(0) };
    let second = TopicPartition { topic: Topic::Segments, partition: Partition(1) };
    let mut lanes = lanes(&[SEGMENTS, second, callbacks]);
    for from in [SEGMENTS, second, callbacks] {
        let records = (0..100).map(|offset| record(offset, &format!("{from:?} {offset}")));
        fetch(&mut lanes, from, None, records.collect());
    }
    let bounds = Bounds { in_flight_max: 6, ..Bounds::default() };
    let mut started: Vec<_> = std::iter::from_fn(|| lanes.start(NOW, &bounds))
        .map(|start| (start.lane, start.record.offset.0))
        .collect();
    assert_eq!(started.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1]);
    started.sort();
    started.dedup_by_key(|(lane, _)| *lane);
    assert_eq!(started.len(), 3, "each has two");
}

#[test]
fn fetching_stops_when_full_and_resumes_at_half() {
    let mut lanes = lanes(&[SEGMENTS]);
    let bounds = Bounds { waiting_max: 4, in_flight_per_conversation_max: 64, ..Bounds::default() };
    fetch(&mut lanes, SEGMENTS, None, (0..3).map(|offset| record(offset, "c")).collect());
    assert_eq!(lanes.fetching(&bounds), (vec![], vec![]), "one below the bound");
    fetch(&mut lanes, SEGMENTS, None, vec![record(3, "c")]);
    assert_eq!(lanes.fetching(&bounds), (vec![SEGMENTS], vec![]));
    lanes.start(NOW, &bounds).expect("one starts");
    assert_eq!(lanes.fetching(&bounds), (vec![], vec![]), "three wait");
    lanes.start(NOW, &bounds).expect("one starts");
    assert_eq!(lanes.fetching(&bounds), (vec![], vec![SEGMENTS]), "two wait");
}

#[test]
fn a_tier_waits_until_its_time_and_says_when() {
    let mut lanes = lanes(&[TIER]);
    let bounds = Bounds::default();
    let due = Timestamp(6_000);
    fetch(&mut lanes, TIER, Some(due), vec![record(0, "c")]);
    assert_eq!(start(&mut lanes, Timestamp(5_999), &bounds), Vec::<i64>::new());
    assert_eq!(lanes.wake_at(Timestamp(5_999)), Some(due));
    assert_eq!(start(&mut lanes, due, &bounds), [0]);
    assert_eq!(lanes.wake_at(due), None);
}

#[test]
fn a_blocked_lane_sends_one_probe_before_the_rest() {
    let mut lanes = lanes(&[SEGMENTS]);
    let bounds = Bounds::default();
    fetch(&mut lanes, SEGMENTS, None, vec![record(0, "a"), record(1, "b"), record(2, "c")]);
    let first = lanes.start(NOW, &bounds).expect("one starts");
    let until = Timestamp(2_000);
    lanes.ended(&first.conversation);
    lanes.put_back(SEGMENTS, first.record, until);
    assert_eq!(start(&mut lanes, Timestamp(1_999), &bounds), Vec::<i64>::new());
    assert_eq!((lanes.blocked(), lanes.wake_at(Timestamp(1_999))), (1, Some(until)));
    assert_eq!(start(&mut lanes, until, &bounds), [0], "one probe, in its old place");
    lanes.answered(SEGMENTS);
    assert_eq!(start(&mut lanes, until, &bounds), [1, 2]);
    assert_eq!(lanes.blocked(), 0);
}

#[test]
fn offsets_pass_no_hole_and_skip_what_was_never_delivered() {
    let mut lanes = lanes(&[SEGMENTS]);
    // Offsets 1 and 4 are control records: they are never delivered.
    lanes.fetched(SEGMENTS, [0, 2, 3].into_iter().map(|offset| (None, record(offset, "c"))), Offset(5));
    assert!(lanes.complete(SEGMENTS, Offset(2)));
    assert_eq!(lanes.commitment(SEGMENTS), Some((Offset(0), "2".to_owned())));
    assert!(lanes.complete(SEGMENTS, Offset(0)));
    assert_eq!(lanes.commitment(SEGMENTS), Some((Offset(3), String::new())));
    assert!(lanes.complete(SEGMENTS, Offset(3)));
    assert_eq!(lanes.commitment(SEGMENTS), Some((Offset(5), String::new())));
}

#[test]
fn a_replay_skips_what_was_done_above_the_prefix() {
    let mut lanes = Lanes::default();
    let completed = Completed::parse(Offset(10), "1-2").expect("our own metadata");
    lanes.assign([(SEGMENTS, completed)].into_iter());
    fetch(&mut lanes, SEGMENTS, None, (10..14).map(|offset| record(offset, "c")).collect());
    assert_eq!(start(&mut lanes, NOW, &Bounds::default()), [10, 13]);
}

#[test]
fn when_the_metadata_is_full_the_lane_waits_for_its_prefix() {
    let mut lanes = lanes(&[SEGMENTS]);
    let bounds =
        Bounds { in_flight_max: 10_000, in_flight_per_conversation_max: 10_000, ..Bounds::default() };
    fetch(&mut lanes, SEGMENTS, None, (0..6_000).map(|offset| record(offset, "c")).collect());
    while lanes.in_flight() < 5_000 {
        lanes.start(NOW, &bounds).expect("one starts");
    }
    let refused = (1..2_500).map(|n| 2 * n).find(|offset| !lanes.complete(SEGMENTS, Offset(*offset)));
    let refused = refused.expect("every second offset fills the metadata");
    assert!(lanes.start(NOW, &bounds).is_none(), "the lane waits");
    assert!(lanes.complete(SEGMENTS, Offset(0)), "the prefix may always move");
    assert!(lanes.complete(SEGMENTS, Offset(1)) && lanes.complete(SEGMENTS, Offset(3)));
    assert!(lanes.complete(SEGMENTS, Offset(refused)), "there is room again");
    assert!(lanes.start(NOW, &bounds).is_some());
}

#[test]
fn what_is_told_goes_by_the_first_that_is_not_done() {
    let mut lanes = lanes(&[SEGMENTS, TIER]);
    let bounds = Bounds { in_flight_max: 2, ..Bounds::default() };
    let at = |offset: i64| LogRecord { time: Timestamp(offset * 10), ..record(offset, &offset.to_string()) };
    let told = |lanes: &Lanes| (lanes.oldest(), lanes.oldest_unstarted());
    let position = |lanes: &Lanes| lanes.positions().find(|(from, _)| *from == SEGMENTS).map(|(_, at)| at.0);
    assert_eq!((told(&lanes), position(&lanes)), ((None, None), Some(0)));
    fetch(&mut lanes, SEGMENTS, None, (1..4).map(at).collect());
    fetch(&mut lanes, TIER, Some(NOW), vec![at(0)]);
    assert_eq!(told(&lanes), (Some(Timestamp(10)), Some(Timestamp(10))), "a retry waits on purpose");
    let first = lanes.start(Timestamp(0), &bounds).expect("one starts");
    let second = lanes.start(Timestamp(0), &bounds).expect("another");
    assert_eq!((told(&lanes).1, position(&lanes)), (Some(Timestamp(30)), Some(1)));
    lanes.put_back(SEGMENTS, first.record, Timestamp(5));
    assert_eq!(told(&lanes).1, Some(Timestamp(10)), "it is to be begun again");
    assert!(lanes.complete(SEGMENTS, second.record.offset));
    assert_eq!((told(&lanes).0, position(&lanes)), (Some(Timestamp(10)), Some(1)));
    for offset in [1, 3] {
        assert!(lanes.complete(SEGMENTS, Offset(offset)));
    }
    assert_eq!((told(&lanes).0, position(&lanes)), (None, Some(4)));
}
