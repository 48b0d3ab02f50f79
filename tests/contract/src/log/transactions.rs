//! Transactions: whole or nothing, with the offsets they rest on, and only from whoever holds the partitions.

use std::time::Duration;

use futures::FutureExt;
use hansard_core::id::Offset;
use hansard_runtime::ports::log::{Event, METADATA_BYTES_MAX, TransactError};
use hansard_schemas::Topic::{Finalizes, Splits, Uploads};

use super::{Harness, Seat, all, at, numbered, outgoing, texts, within};

/// What a transaction appends is seen only with its commit, in order; what was not committed never.
pub async fn transactions_become_visible_whole(h: &dyn Harness) {
    let mut seat = Seat::join(h, "a").await;
    for round in 0..20 {
        let numbers = round * 10..round * 10 + 10;
        let records =
            [numbered(at(Finalizes, 0), numbers.clone()), numbered(at(Finalizes, 1), numbers)].concat();
        let transaction = seat.transaction(records, &[(at(Uploads, 0), 0, ""), (at(Splits, 1), 0, "")]);
        seat.transact(transaction).await.expect("committed");
    }
    for partition in [0, 1] {
        let expected: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        assert_eq!(texts(h, at(Finalizes, partition)).await, expected);
    }
    assert!(all(h, at(Finalizes, 0)).await.is_sorted_by_key(|record| record.time), "times fall");
}

/// Offsets and 4,096 bytes of metadata are committed with the transaction, and given to whoever comes next.
pub async fn offsets_come_back_with_metadata(h: &dyn Harness) {
    h.log().append(numbered(at(Uploads, 0), 0..10)).await.expect("appended");
    let mut seat = Seat::join(h, "a").await;
    assert_eq!(seat.committed[&at(Uploads, 0)].offset, Offset(0));
    assert_eq!(seat.committed[&at(Uploads, 0)].metadata, "");
    let longest = "µ".repeat(METADATA_BYTES_MAX / 2);
    let offsets = [(at(Uploads, 0), 4, longest.as_str()), (at(Splits, 0), 0, "0")];
    let transaction = seat.transaction(numbered(at(Finalizes, 0), 0..1), &offsets);
    seat.transact(transaction).await.expect("committed");
    // Without records, and over the same offsets: the last commit stands.
    let transaction = seat.transaction(Vec::new(), &[(at(Splits, 0), 0, "again")]);
    seat.transact(transaction).await.expect("committed");
    seat.leave().await;

    let mut seat = Seat::join(h, "b").await;
    let line = &seat.committed[&at(Uploads, 0)];
    assert_eq!((line.offset, line.metadata.as_str()), (Offset(4), longest.as_str()));
    assert_eq!(seat.committed[&at(Splits, 0)].metadata, "again");
    assert_eq!(seat.committed[&at(Uploads, 1)].offset, Offset(0));
    let records = seat.read_to(&[(at(Uploads, 0), Offset(10))]).await;
    assert_eq!(
        records[&at(Uploads, 0)].iter().map(super::text).collect::<Vec<_>>(),
        ["4", "5", "6", "7", "8", "9"]
    );
}

/// The position reaches the high watermark also where the last thing in a partition is no record, and aborted records
/// are not seen.
pub async fn positions_reach_the_end(h: &dyn Harness) {
    let mut seat = Seat::join(h, "a").await;
    // The inputs end with a commit, an abort, an abort alone, and nothing.
    for to in [at(Uploads, 0), at(Uploads, 1)] {
        let transaction = seat.transaction(numbered(to, 0..3), &[(to, 0, "")]);
        seat.transact(transaction).await.expect("committed");
    }
    h.abort(at(Uploads, 1)).await;
    h.abort(at(Splits, 0)).await;
    let of = [at(Uploads, 0), at(Uploads, 1), at(Splits, 0), at(Splits, 1)];
    let ends = h.log().ends(&of).await.expect("ends");
    let ends: Vec<_> = of.iter().copied().zip(ends.iter().map(|range| range.end)).collect();
    let records = seat.read_to(&ends).await;
    let counts = of.map(|from| records.get(&from).map_or(0, Vec::len));
    assert_eq!(counts, [3, 3, 0, 0]);
    // The same for reads outside the group.
    for (from, count) in of.into_iter().zip(counts) {
        assert_eq!(all(h, from).await.len(), count);
    }
}

/// A transaction under another epoch than the present one is refused, and leaves nothing.
pub async fn stale_epochs_are_fenced(h: &dyn Harness) {
    let mut first = Seat::join(h, "a").await;
    let offsets = [(at(Uploads, 0), 1, "old"), (at(Uploads, 1), 1, "old")];
    let old = first
        .transaction([numbered(at(Finalizes, 0), 0..1), numbered(at(Finalizes, 1), 0..1)].concat(), &offsets);
    let mut second = Seat::join_only(h, "b").await;
    tokio::join!(first.holds(1), second.holds(1));
    assert_eq!(first.transact(old).await, Err(TransactError::Fenced));
    for seat in [&mut first, &mut second] {
        let own = seat.numbers()[0];
        let transaction =
            seat.transaction(numbered(at(Finalizes, own), 1..2), &[(at(Uploads, own), 0, "new")]);
        seat.transact(transaction).await.expect("the present epoch commits");
        assert_eq!(texts(h, at(Finalizes, own)).await, ["1"]);
    }
}

/// After a transaction that did not commit, a new assignment comes with the offsets as they were, reading begins there
/// again, and its epoch commits.
pub async fn a_failed_transaction_is_followed_by_an_assignment(h: &dyn Harness) {
    h.log().append(numbered(at(Uploads, 0), 0..5)).await.expect("appended");
    let mut seat = Seat::join(h, "a").await;
    seat.read_to(&[(at(Uploads, 0), Offset(5))]).await;
    let transaction = seat.transaction(numbered(at(Finalizes, 0), 0..1), &[(at(Uploads, 0), 2, "kept")]);
    seat.transact(transaction).await.expect("committed");
    for _ in 0..3 {
        // The log takes no such record, which it finds out within the transaction.
        let records = vec![
            outgoing(at(Finalizes, 0), "k", "lost"),
            outgoing(at(Finalizes, 1), "k", &"x".repeat(3_000_000)),
        ];
        let transaction = seat.transaction(records, &[(at(Uploads, 0), 5, "lost")]);
        let (old, result) = (seat.epoch, seat.transact(transaction).await);
        assert_eq!(result, Err(TransactError::TooLarge { record: 1 }));
        seat.assigned().await;
        assert!(seat.epoch > old);
        let line = &seat.committed[&at(Uploads, 0)];
        assert_eq!((line.offset, line.metadata.as_str()), (Offset(2), "kept"));
        let again = seat.read_to(&[(at(Uploads, 0), Offset(5))]).await;
        assert_eq!(again[&at(Uploads, 0)].len(), 3);
    }
    let transaction = seat.transaction(numbered(at(Finalizes, 0), 1..2), &[(at(Uploads, 0), 5, "")]);
    seat.transact(transaction).await.expect("committed");
    assert_eq!(texts(h, at(Finalizes, 0)).await, ["0", "1"]);
    assert_eq!(texts(h, at(Finalizes, 1)).await, Vec::<String>::new());
}

/// A member that disappears while it commits leaves a transaction that is whole or not there, and stays so.
pub async fn a_transaction_dropped_midway_is_whole_or_nothing(h: &dyn Harness) {
    for round in 1..=5_u32 {
        let mut seat = Seat::join(h, "a").await;
        let from = at(Uploads, 0);
        let committed = usize::try_from(seat.committed[&from].offset.0).expect("an offset");
        let next = i64::try_from(committed + 1).expect("an offset");
        let numbers = committed..committed + 1;
        let records =
            [numbered(at(Finalizes, 0), numbers.clone()), numbered(at(Finalizes, 1), numbers)].concat();
        let transaction = seat.transaction(records, &[(from, next, "")]);
        let mut future = seat.member.transact(transaction);
        // From not yet begun to almost done.
        let begun = (&mut future).now_or_never();
        assert!(begun.is_none() || begun.is_some_and(|ended| ended.is_ok()), "{begun:?}");
        drop(tokio::time::timeout(Duration::from_millis(u64::from(round) * 2), &mut future).await);
        drop((future, seat));

        let seat = Seat::join(h, "b").await;
        let now = usize::try_from(seat.committed[&from].offset.0).expect("an offset");
        let expected: Vec<String> = (0..now).map(|number| number.to_string()).collect();
        assert_eq!(texts(h, at(Finalizes, 0)).await, expected);
        assert_eq!(texts(h, at(Finalizes, 1)).await, expected);
        seat.leave().await;
    }
}

/// Between `Revoking` and `release`, work under way is still committed, and the next owner starts after it.
pub async fn commits_pass_until_release(h: &dyn Harness) {
    let mut first = Seat::join(h, "a").await;
    let mut second = Seat::join_only(h, "b").await;
    let revoked = async {
        while first.next().await != Event::Revoking {}
        let records = [numbered(at(Finalizes, 0), 0..1), numbered(at(Finalizes, 1), 0..1)].concat();
        let transaction =
            first.transaction(records, &[(at(Uploads, 0), 7, "late"), (at(Uploads, 1), 7, "late")]);
        first.transact(transaction).await.expect("committed before the release");
        first.member.release();
        let late = first.transaction(numbered(at(Finalizes, 0), 1..2), &[(at(Uploads, 0), 9, "")]);
        assert_eq!(first.transact(late).await, Err(TransactError::Fenced));
        first.holds(1).await
    };
    let (own, other) = tokio::join!(revoked, second.holds(1));
    assert_eq!(first.committed[&at(Uploads, own)].offset, Offset(7));
    assert_eq!(second.committed[&at(Uploads, other)].offset, Offset(7));
    assert_eq!(texts(h, at(Finalizes, 0)).await, ["0"]);
}

/// A loop that does not release is not waited for; it is told, and can commit nothing more.
pub async fn who_does_not_release_loses(h: &dyn Harness) {
    let mut first = Seat::join(h, "a").await;
    let mut second = Seat::join_only(h, "b").await;
    let zombie = async {
        while first.next().await != Event::Revoking {}
        while first.next().await != Event::Lost {}
        let offsets = [(at(Uploads, 0), 9, ""), (at(Uploads, 1), 9, "")];
        let late = first.transaction(numbered(at(Finalizes, 1), 0..1), &offsets);
        assert_eq!(first.transact(late).await, Err(TransactError::Fenced));
        first.holds(1).await;
    };
    let ((), own) = tokio::join!(zombie, second.holds(1));
    assert_eq!(second.committed[&at(Uploads, own)].offset, Offset(0));
    let transaction = second.transaction(numbered(at(Finalizes, own), 1..2), &[(at(Uploads, own), 1, "")]);
    within(h, "a commit", second.transact(transaction)).await.expect("committed");
    assert_eq!(texts(h, at(Finalizes, own)).await, ["1"]);
}
