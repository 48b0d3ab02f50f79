//! Groups: who holds what, when it changes hands, and how records reach whoever holds them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::FutureExt;
use hansard_core::id::Offset;
use hansard_runtime::ports::log::{Committed, Event, LogRecord, Outgoing, TopicPartition, Transaction};
use hansard_schemas::Topic::{Finalizes, Splits, Uploads};
use tokio::sync::watch;

use super::{Harness, Seat, all, at, numbered, text, texts, within};

/// Partition n of all topics is in one hand; every partition is in exactly one; a range has neighbours.
pub async fn members_share_partition_numbers(h: &dyn Harness) {
    let mut seats = vec![Seat::join(h, "a").await];
    assert_eq!(seats[0].numbers(), [0, 1, 2, 3]);
    for (instance, expected) in [("b", vec![2, 2]), ("c", vec![1, 1, 2])] {
        seats.push(Seat::join_only(h, instance).await);
        settle(&mut seats, &expected).await;
    }
    // The one that leaves gives its partitions to the others.
    seats.remove(1).leave().await;
    settle(&mut seats, &[2, 2]).await;
}

/// Drives all members until the counts of their partitions are as expected and their sum is everything.
async fn settle(seats: &mut [Seat<'_>], expected: &[usize]) {
    loop {
        let mut counts: Vec<usize> = seats.iter().map(|seat| seat.numbers().len()).collect();
        let held: BTreeSet<i32> = seats.iter().flat_map(Seat::numbers).collect();
        counts.sort_unstable();
        if counts == expected && held == BTreeSet::from([0, 1, 2, 3]) {
            break;
        }
        let h = seats[0].h;
        let next = futures::future::select_all(seats.iter_mut().map(|seat| seat.assigned().boxed()));
        within(h, "a rebalance", next).await;
    }
    for seat in seats {
        let numbers = seat.numbers();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?} is no range");
    }
}

/// A member without a partition is a member: it is told so, and takes over when the other leaves.
pub async fn one_partition_for_two(h: &dyn Harness) {
    let mut first = Seat::join(h, "a").await;
    let mut second = Seat::join_only(h, "b").await;
    let ((), ()) = tokio::join!(first.assigned(), second.assigned());
    let (busy, mut idle) = if first.numbers().is_empty() { (second, first) } else { (first, second) };
    assert_eq!((busy.numbers(), idle.numbers()), (vec![0], vec![]));
    busy.leave().await;
    idle.holds(1).await;
    let transaction = idle.transaction(numbered(at(Finalizes, 0), 0..1), &[(at(Uploads, 0), 0, "")]);
    idle.transact(transaction).await.expect("committed");
}

/// How far a group has come is seen from outside it: the beginning before its first commit, then what it committed.
pub async fn anyone_sees_what_a_group_committed(h: &dyn Harness) {
    let (log, of) = (h.log(), [at(Uploads, 1), at(Splits, 0), at(Uploads, 0)]);
    log.append([numbered(of[0], 0..5), numbered(of[2], 0..3)].concat()).await.expect("appended");
    assert_eq!(log.committed("aggregate", &of).await.expect("nothing yet"), [Offset(0); 3]);
    let mut seat = Seat::join(h, "a").await;
    let transaction = seat.transaction(Vec::new(), &[(of[0], 4, "text"), (of[2], 3, "")]);
    seat.transact(transaction).await.expect("committed");
    let expected = [Offset(4), Offset(0), Offset(3)];
    assert_eq!(log.committed("aggregate", &of).await.expect("offsets"), expected);
    seat.leave().await;
    assert_eq!(log.committed("aggregate", &of).await.expect("offsets"), expected);
    assert_eq!(log.committed("split", &of).await.expect("another group's"), [Offset(0); 3]);
    assert_eq!(log.committed("aggregate", &[]).await.expect("of nothing"), []);
}

/// Who leaves is replaced at once, not when the group misses it.
pub async fn leaving_hands_over(h: &dyn Harness) {
    let mut first = Seat::join(h, "a").await;
    let mut second = Seat::join_only(h, "b").await;
    tokio::join!(first.holds(1), second.holds(1));
    let start = Instant::now();
    first.leave().await;
    second.holds(2).await;
    let taken = start.elapsed();
    assert!(taken < Duration::from_secs(4), "taken over after {taken:?}");
}

/// Who disappears is replaced, too, and what it had not committed is read again.
pub async fn a_crashed_member_is_replaced(h: &dyn Harness) {
    h.log().append(numbered(at(Splits, 1), 0..3)).await.expect("appended");
    let mut first = Seat::join(h, "a").await;
    first.read_to(&[(at(Splits, 1), Offset(3))]).await;
    drop(first);
    let mut second = Seat::join(h, "b").await;
    second.holds(2).await;
    assert_eq!(second.read_to(&[(at(Splits, 1), Offset(3))]).await[&at(Splits, 1)].len(), 3);
}

/// A group that has committed nothing reads everything.
pub async fn a_new_group_begins_at_the_beginning(h: &dyn Harness) {
    let ends: Vec<_> = [Uploads, Splits].iter().flat_map(|topic| [at(*topic, 0), at(*topic, 1)]).collect();
    for to in &ends {
        h.log().append(numbered(*to, 0..1000)).await.expect("appended");
    }
    let mut seat = Seat::join(h, "a").await;
    assert!(seat.committed.values().all(|line| line.offset == Offset(0) && line.metadata.is_empty()));
    let records = seat.read_to(&ends.iter().map(|to| (*to, Offset(1000))).collect::<Vec<_>>()).await;
    for to in ends {
        assert!(records[&to].iter().map(text).eq((0..1000).map(|number| number.to_string())));
    }
}

/// A paused partition rests while the others go on; resumed, it continues where it was.
pub async fn pausing_keeps_the_rest_going(h: &dyn Harness) {
    let (paused, other) = (at(Uploads, 0), at(Splits, 0));
    let mut seat = Seat::join(h, "a").await;
    seat.member.set_paused(&[paused], true);
    h.log().append(numbered(paused, 0..100)).await.expect("appended");
    for round in 0..5_usize {
        h.log().append(numbered(other, round * 100..round * 100 + 100)).await.expect("appended");
        let end = Offset(i64::try_from(round).expect("small") * 100 + 100);
        let records = seat.read_to(&[(other, end)]).await;
        assert!(!records.contains_key(&paused), "a paused partition was read");
        // Later rounds read on from here.
        seat.committed.get_mut(&other).expect("assigned").offset = end;
    }
    let transaction = seat.transaction(Vec::new(), &[(other, 500, "")]);
    seat.transact(transaction).await.expect("a paused member commits");
    seat.member.set_paused(&[paused], false);
    let records = seat.read_to(&[(paused, Offset(100))]).await;
    assert!(records[&paused].iter().map(text).eq((0..100).map(|number| number.to_string())));

    // A new assignment begins with all partitions fetching.
    seat.member.set_paused(&[paused, other], true);
    let mut second = Seat::join_only(h, "b").await;
    tokio::join!(seat.holds(1), second.holds(1));
    let holder = if seat.numbers() == [0] { &mut seat } else { &mut second };
    holder.read_to(&[(paused, Offset(100))]).await;
}

/// Who has enough records is told of changes alone, and the records are there afterwards.
pub async fn changes_pass_by_records(h: &dyn Harness) {
    let from = at(Uploads, 0);
    h.log().append(numbered(from, 0..100)).await.expect("appended");
    let mut seat = Seat::join(h, "a").await;
    let mut second = Seat::join_only(h, "b").await;
    let (_, told) = tokio::join!(second.holds(1), async {
        let event = within(h, "a change", seat.member.next_change()).await.expect("an event");
        assert_eq!(event, Event::Revoking);
        seat.member.release();
        loop {
            let event = within(h, "a change", seat.member.next_change()).await.expect("an event");
            if let Event::Assigned(assignment) = event {
                return assignment;
            }
        }
    });
    seat.take(told);
    let holder = if seat.numbers() == [0] { &mut seat } else { &mut second };
    let records = holder.read_to(&[(from, Offset(100))]).await;
    assert!(records[&from].iter().map(text).eq((0..100).map(|number| number.to_string())));
}

/// A `next` that is given up loses nothing.
pub async fn next_is_cancel_safe(h: &dyn Harness) {
    let from = at(Uploads, 1);
    let mut seat = Seat::join(h, "a").await;
    let (mut position, mut seen) = (Offset(0), Vec::new());
    for round in 0..20_usize {
        h.log().append(numbered(from, round * 50..round * 50 + 50)).await.expect("appended");
        let end = Offset(i64::try_from(round).expect("small") * 50 + 50);
        within(h, "records", async {
            while position < end {
                // Polled once and dropped, many times, before one is awaited.
                let given_up = (0..5).find_map(|_| seat.member.next().now_or_never());
                let event = match given_up {
                    Some(event) => event,
                    None => seat.member.next().await,
                };
                if let Event::Fetched(fetched) = event.expect("an event")
                    && fetched.from == from
                {
                    position = fetched.position;
                    seen.extend(fetched.records.iter().map(text));
                }
            }
        })
        .await;
    }
    assert!(seen.into_iter().eq((0..1000).map(|number| number.to_string())));
}

/// Records are copied by transactions while members come, leave and crash: the copy is the original.
pub async fn copying_is_exact_while_members_come_and_go(h: &dyn Harness) {
    const EACH: usize = 300;
    let (stop, stopped) = watch::channel(false);
    let copiers = async {
        let first = async {
            let mut seat = Seat::join_only(h, "a").await;
            copying(&mut seat, stopped.clone(), usize::MAX).await;
            seat.leave().await;
        };
        let second = async {
            for round in 0..3 {
                // Alternately crashes and leaves, after a few commits.
                copy_some(h, "b", 5, round % 2 == 0).await;
            }
        };
        tokio::join!(first, second);
    };
    let driver = async {
        for round in 0..10 {
            for partition in 0..4 {
                let numbers = round * EACH / 10..(round + 1) * EACH / 10;
                h.log().append(numbered(at(Uploads, partition), numbers)).await.expect("appended");
            }
        }
        for partition in 0..4 {
            let from = at(Finalizes, partition);
            loop {
                let copied = all(h, from).await;
                if copied.len() >= EACH {
                    break;
                }
                let next = copied.last().map_or(Offset(0), |last| Offset(last.offset.0 + 1));
                h.log().read(from, next, 1, Duration::from_millis(100)).await.expect("a read");
            }
        }
        stop.send(true).expect("copiers");
    };
    // Several rebalances and a crash happen meanwhile, each with a patience of its own.
    let all = async { tokio::join!(copiers, driver) };
    tokio::time::timeout(h.patience() * 4, all).await.expect("everything is copied");
    let expected: Vec<String> = (0..EACH).map(|number| number.to_string()).collect();
    for partition in 0..4 {
        assert_eq!(texts(h, at(Finalizes, partition)).await, expected);
    }
}

async fn copy_some(h: &dyn Harness, instance: &str, commits: usize, crash: bool) {
    let (_stop, never) = watch::channel(false);
    let mut seat = Seat::join_only(h, instance).await;
    // With nothing left to copy there is nothing to commit, either.
    let copying = copying(&mut seat, never, commits);
    drop(tokio::time::timeout(Duration::from_secs(3), copying).await);
    if crash {
        drop(seat);
    } else {
        seat.leave().await;
    }
}

/// The smallest right loop: what was fetched is committed with its position, and nothing is held after a failure.
async fn copying(seat: &mut Seat<'_>, mut stopped: watch::Receiver<bool>, mut commits: usize) {
    let mut epoch = None;
    while commits > 0 {
        let event = tokio::select! {
            event = seat.member.next() => event.expect("an event"),
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        match event {
            Event::Assigned(assignment) => epoch = Some(assignment.epoch),
            Event::Lost => epoch = None,
            Event::Revoking => {
                epoch = None;
                seat.member.release();
            }
            Event::Fetched(fetched) => {
                let (Some(present), false) = (epoch, fetched.records.is_empty()) else { continue };
                let to = TopicPartition { topic: Finalizes, partition: fetched.from.partition };
                let copy = |record: &LogRecord| Outgoing {
                    to,
                    key: record.key.clone(),
                    value: record.value.clone(),
                    headers: record.headers.clone(),
                };
                let records = fetched.records.iter().map(copy).collect();
                let offsets =
                    vec![Committed { from: fetched.from, offset: fetched.position, metadata: String::new() }];
                match seat.member.transact(Transaction { epoch: present, records, offsets }).await {
                    Ok(_) => commits -= 1,
                    Err(_) => epoch = None,
                }
            }
        }
    }
}
