//! Records as they go in and come out, outside any group.

use std::time::Duration;

use bytes::Bytes;
use hansard_core::id::Offset;
use hansard_runtime::ports::log::{LogError, Outgoing};
use hansard_schemas::Topic;

use super::{Harness, all, at, numbered, outgoing, text, texts, within};

/// What is appended is read back as it was, in order, with times that do not fall.
pub async fn append_reads_back(h: &dyn Harness) {
    let (log, to, other) = (h.log(), at(Topic::Uploads, 0), at(Topic::Uploads, 1));
    assert_eq!(log.partitions(), 2);
    let full = Outgoing {
        to,
        key: Some(Bytes::from_static("gespräch".as_bytes())),
        value: Some(Bytes::from_static(&[0, 255, 10])),
        headers: vec![("a".into(), Bytes::from_static(b"1")), ("a".into(), Bytes::new())],
    };
    let tombstone = Outgoing { value: None, headers: Vec::new(), ..full.clone() };
    let nameless = Outgoing { key: None, ..full.clone() };
    let batch = vec![full.clone(), outgoing(other, "k", "elsewhere"), tombstone.clone(), nameless.clone()];
    let offsets = log.append(batch).await.expect("appended");
    assert_eq!(offsets, [Offset(0), Offset(0), Offset(1), Offset(2)]);
    let more = log.append(numbered(to, 0..500)).await.expect("appended");
    assert_eq!(more, (3..503).map(Offset).collect::<Vec<_>>());

    let records = all(h, to).await;
    assert_eq!(records.len(), 503);
    for (sent, record) in [full, tombstone, nameless].iter().zip(&records) {
        assert_eq!((&sent.key, &sent.value, &sent.headers), (&record.key, &record.value, &record.headers));
    }
    assert!(records.iter().skip(3).map(text).eq((0..500).map(|number| number.to_string())));
    assert!(records.iter().map(|record| record.offset).eq((0..503).map(Offset)));
    assert!(records.is_sorted_by_key(|record| record.time), "times fall");
    // Any time of this century tells milliseconds from other units.
    assert!((946_684_800_000..4_102_444_800_000).contains(&records[0].time.0), "{:?}", records[0].time);
    assert_eq!(texts(h, other).await, ["elsewhere"]);
}

/// One read gives about as much as was asked for, and at least one record.
pub async fn reading_is_bounded(h: &dyn Harness) {
    let (log, to) = (h.log(), at(Topic::Uploads, 0));
    let value = "x".repeat(50_000);
    log.append((0..20).map(|_| outgoing(to, "k", &value)).collect()).await.expect("appended");
    for (bytes_max, most) in [(1, 2), (120_000, 6)] {
        let mut position = Offset(0);
        while position < Offset(20) {
            let fetched = log.read(to, position, bytes_max, h.patience()).await.expect("read");
            let count = fetched.records.len();
            assert!((1..=most).contains(&count), "{count} records of 50 kB for {bytes_max} bytes");
            assert_eq!(fetched.records[0].offset, position);
            position = fetched.position;
        }
        assert_eq!(position, Offset(20));
    }
}

/// At the end of a partition a read waits for the next record, and not longer than it was told to.
pub async fn reading_waits_for_the_next(h: &dyn Harness) {
    let (log, to) = (h.log(), at(Topic::Uploads, 0));
    let nothing = log.read(to, Offset(0), 1000, Duration::from_millis(50)).await.expect("read");
    assert_eq!((nothing.records.len(), nothing.position), (0, Offset(0)));
    let reading = log.read(to, Offset(0), 1000, h.patience());
    let appending = async {
        tokio::task::yield_now().await;
        log.append(numbered(to, 7..8)).await.expect("appended");
    };
    let (fetched, ()) = within(h, "a record", async { tokio::join!(reading, appending) }).await;
    assert_eq!(fetched.expect("read").records.iter().map(text).collect::<Vec<_>>(), ["7"]);
}

/// `ends` gives first offset and high watermark of each partition asked for, in the order asked.
pub async fn ends_are_counted(h: &dyn Harness) {
    let log = h.log();
    let of = [at(Topic::Splits, 1), at(Topic::Uploads, 0), at(Topic::Uploads, 1)];
    assert_eq!(log.ends(&of).await.expect("ends"), [0, 0, 0].map(|end| Offset(0)..Offset(end)));
    log.append([numbered(of[0], 0..3), numbered(of[2], 0..2)].concat()).await.expect("appended");
    assert_eq!(log.ends(&of).await.expect("ends"), [3, 0, 2].map(|end| Offset(0)..Offset(end)));
    assert_eq!(log.ends(&[]).await.expect("ends"), []);
}

/// A record of the catalogue's limit passes; one beyond the log's is refused by name, and harms nobody.
pub async fn too_large_a_record_is_refused(h: &dyn Harness) {
    let (log, to) = (h.log(), at(Topic::Uploads, 0));
    log.append(vec![outgoing(to, "k", &"x".repeat(900_000))]).await.expect("the catalogue's limit");
    match log.append(vec![outgoing(to, "k", &"x".repeat(3_000_000))]).await {
        Err(LogError::TooLarge { to: named, bytes, limit }) => {
            assert_eq!(named, to);
            assert!(bytes >= 3_000_000 && (900_000..3_000_000).contains(&limit), "{bytes} of {limit}");
        }
        other => panic!("{other:?}"),
    }
    log.append(numbered(to, 1..2)).await.expect("appended");
    assert_eq!(all(h, to).await.len(), 2);
}
