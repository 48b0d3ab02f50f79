//! The contract of the facts port: rows that are never overwritten, texts beside them, and erasures that last.

use std::collections::BTreeSet;
use std::sync::Arc;

use hansard_core::id::{Offset, Timestamp};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::facts::{Erasure, Facts, Row, RowKey, TextKey};
use hansard_schemas::{
    Erase, Failure, Finalize, Finish, Merge, Open, Record, Redaction, Rerun, Segment, Split, Summary,
    Transcript, Upload, Word, text_sha256,
};

use crate::store::{Harness, conversation, digest};

fn row(offset: i64, record: impl Into<Record>) -> Row {
    Row {
        offset: Offset(offset),
        time: Timestamp(1_700_000_000_000 + offset),
        record: Box::new(record.into()),
    }
}

fn transcript(conversation: &str, chunk: &str, segment: i32, text: &str) -> Transcript {
    let mut transcript = Transcript {
        conversation_id: conversation.to_owned(),
        chunk_id: chunk.to_owned(),
        upload_digest: digest(1).to_string(),
        split_digest: digest(2).to_string(),
        provider: "test".to_owned(),
        text: text.to_owned(),
        words: [Word { text: text.to_owned(), end_ms: 900, ..Default::default() }].into_iter().collect(),
        redactions: vec![Redaction { kind: "email".to_owned(), start: 0, end: 1 }],
        segment,
        ..Default::default()
    };
    transcript.text_sha256 = text_sha256(&transcript);
    transcript
}

fn text_key(transcript: &Transcript) -> TextKey {
    let sha256 = transcript.text_sha256.parse().expect("a digest");
    TextKey { chunk: transcript.chunk_id.clone(), segment: transcript.segment, sha256 }
}

fn upload(conversation: &str, chunk: &str) -> Upload {
    Upload { conversation_id: conversation.to_owned(), chunk_id: chunk.to_owned(), ..Default::default() }
}

/// One row of each kind of fact.
fn every_kind(conversation: &str) -> Vec<Row> {
    let id = || conversation.to_owned();
    let (chunk_id, chunk) = (|| "chunk-1".to_owned(), || Some("chunk-1".to_owned()));
    let upload_digest = || digest(1).to_string();
    vec![
        row(1, Open { conversation_id: id(), title: Some("Jour fixe".to_owned()), ..Default::default() }),
        row(2, upload(conversation, "chunk-1")),
        row(3, Finish { conversation_id: id(), expected_chunks: Some(1), ..Default::default() }),
        row(4, Rerun { conversation_id: id(), stage: "transcribe".to_owned(), ..Default::default() }),
        row(5, Erase { conversation_id: id(), reason: Some("asked".to_owned()), ..Default::default() }),
        row(6, Split { conversation_id: id(), chunk_id: chunk_id(), ..Default::default() }),
        row(7, transcript(conversation, "chunk-1", 0, "Guten Morgen")),
        row(8, Failure { conversation_id: id(), chunk_id: chunk(), segment: Some(1), ..Default::default() }),
        row(8, Failure { conversation_id: id(), upload_digest: Some(upload_digest()), ..Default::default() }),
        row(9, Finalize { conversation_id: id(), revision: 1, ..Default::default() }),
        row(10, Merge { conversation_id: id(), revision: 1, ..Default::default() }),
        row(11, Summary { conversation_id: id(), revision: 1, ..Default::default() }),
    ]
}

/// What `read` gives for a row: the same, but a transcript without its text.
fn as_read(row: &Row) -> Row {
    let mut row = row.clone();
    if let Record::Transcript(transcript) = &mut *row.record {
        transcript.text.clear();
        transcript.words.clear();
        transcript.redactions.clear();
    }
    row
}

async fn assert_rows(facts: &dyn Facts, conversation: &str, expected: &[Row]) {
    let mut expected: Vec<Row> = expected.iter().map(as_read).collect();
    let mut read = facts.read(conversation).await.expect("rows");
    expected.sort_by_cached_key(RowKey::of);
    read.sort_by_cached_key(RowKey::of);
    assert_eq!(read.len(), expected.len(), "rows of {conversation}");
    for (read, expected) in read.iter().zip(&expected) {
        assert_eq!(read, expected);
    }
}

fn marker(reason: &str) -> Erasure {
    Erasure { time: Timestamp(1_700_000_123_456), reason: reason.to_owned() }
}

/// Each kind of fact comes back as it was written, with offset and time.
pub async fn every_kind_reads_back(h: &impl Harness) {
    let (facts, id) = (h.facts(), conversation("kinds"));
    assert_rows(&*facts, &id, &[]).await;
    let rows = every_kind(&id);
    facts.write(&rows).await.expect("written");
    assert_rows(&*facts, &id, &rows).await;
    facts.write(&[]).await.expect("nothing to write");
}

/// A row written again, alone or with others, in one call or later, is one row.
pub async fn repeated_rows_change_nothing(h: &impl Harness) {
    let (facts, id) = (h.facts(), conversation("repeated"));
    let rows = every_kind(&id);
    facts.write(&[rows.clone(), rows.clone()].concat()).await.expect("written");
    for row in &rows {
        facts.write(std::slice::from_ref(row)).await.expect("written again");
    }
    assert_rows(&*facts, &id, &rows).await;
}

/// In whatever order rows are written, the same rows are there.
pub async fn the_order_of_rows_is_no_matter(h: &impl Harness) {
    let facts = h.facts();
    for turn in 0..3 {
        let id = conversation("order");
        let mut rows = every_kind(&id);
        rows.rotate_left(turn * 4);
        if turn == 2 {
            rows.reverse();
        }
        for some in rows.chunks(5) {
            facts.write(some).await.expect("written");
        }
        assert_rows(&*facts, &id, &rows).await;
    }
}

/// Whoever writes reads it in the next moment.
pub async fn a_write_is_read_at_once(h: &impl Harness) {
    let (facts, id) = (h.facts(), conversation("at-once"));
    let mut rows = Vec::new();
    for offset in 0..50 {
        rows.push(row(offset, upload(&id, &format!("chunk-{offset}"))));
        facts.write(&rows[rows.len() - 1..]).await.expect("written");
        assert_rows(&*facts, &id, &rows).await;
    }
}

/// An id that is the beginning of another's has rows of its own, as have chunks whose names and numbers run together.
pub async fn conversations_stay_apart(h: &impl Harness) {
    let facts = h.facts();
    let id = conversation("apart");
    let ids = [id.clone(), format!("{id}."), format!("{id}0"), format!("{id}-a"), format!("{id}a")];
    let rows = |id: &str| {
        let chunks = ["a", "ab", "a b", "ä", &"x".repeat(64)];
        let at = chunks.into_iter().zip(0..).flat_map(|(chunk, offset)| {
            [row(offset, upload(id, chunk)), row(offset + 256, upload(id, chunk))]
        });
        at.collect::<Vec<_>>()
    };
    let all: Vec<Row> = ids.iter().flat_map(|id| rows(id)).collect();
    facts.write(&all).await.expect("written");
    for id in &ids {
        assert_rows(&*facts, id, &rows(id)).await;
    }
}

/// Texts are found by their keys and come in the keys' order, however often a key is asked for.
pub async fn texts_come_in_the_order_of_their_keys(h: &impl Harness) {
    let (facts, id) = (h.facts(), conversation("texts"));
    let long = "Wort ".repeat(40_000);
    let texts: Vec<Transcript> = [(0, "eins"), (1, "zwei"), (1, "zwo"), (2, ""), (3, &*long)]
        .map(|(segment, text)| transcript(&id, "chunk-1", segment, text))
        .into_iter()
        .chain([transcript(&id, "chunk-10", 1, "zwei")])
        .collect();
    let rows: Vec<Row> = texts.iter().zip(0..).map(|(text, offset)| row(offset, text.clone())).collect();
    facts.write(&rows).await.expect("written");
    assert_rows(&*facts, &id, &rows).await;
    let order = [5, 0, 3, 4, 1, 2, 1];
    let keys: Vec<TextKey> = order.iter().map(|at| text_key(&texts[*at])).collect();
    let read = facts.texts(&id, &keys).await.expect("texts");
    let expected: Vec<_> = order.iter().map(|at| Some(texts[*at].clone())).collect();
    assert_eq!(read, expected);
    assert_eq!(facts.texts(&id, &[]).await.expect("no texts"), []);
}

/// A text that is not there is `None`, between others that are.
pub async fn a_missing_text_is_none(h: &impl Harness) {
    let (facts, id) = (h.facts(), conversation("missing"));
    let text = transcript(&id, "chunk-1", 0, "da");
    facts.write(&[row(1, text.clone())]).await.expect("written");
    let there = text_key(&text);
    let keys = [
        TextKey { segment: 1, ..there.clone() },
        there.clone(),
        TextKey { chunk: "chunk-2".to_owned(), ..there.clone() },
        TextKey { sha256: digest(9), ..there.clone() },
    ];
    let read = facts.texts(&id, &keys).await.expect("texts");
    assert_eq!(read, [None, Some(text), None, None]);
    let elsewhere = facts.texts(&conversation("nowhere"), &[there]).await.expect("texts");
    assert_eq!(elsewhere, [None]);
}

/// After an erasure nothing is left but the marker, and what is written late stays dead.
pub async fn erasure_deletes_for_good(h: &impl Harness) {
    let facts = h.facts();
    let (id, other) = (conversation("erased"), conversation("kept"));
    let (rows, kept) = (every_kind(&id), every_kind(&other));
    facts.write(&[rows.clone(), kept.clone()].concat()).await.expect("written");
    assert_eq!(facts.erasure(&id).await.expect("no marker"), None);
    facts.erase(&id, marker("request")).await.expect("erased");
    let key = text_key(&transcript(&id, "chunk-1", 0, "Guten Morgen"));
    for late in [false, true] {
        if late {
            facts.write(&rows).await.expect("a late write is no failure");
            let new = row(99, transcript(&id, "chunk-1", 7, "spät"));
            facts.write(&[new]).await.expect("a late write is no failure");
        }
        assert_rows(&*facts, &id, &[]).await;
        let texts = facts.texts(&id, std::slice::from_ref(&key)).await.expect("texts");
        assert_eq!(texts, [None], "late: {late}");
        assert_eq!(facts.erasure(&id).await.expect("a marker"), Some(marker("request")));
    }
    facts.erase(&id, marker("request")).await.expect("erased again");
    h.reopen().await;
    let facts = h.facts();
    facts.write(&rows).await.expect("a late write is no failure");
    assert_rows(&*facts, &id, &[]).await;
    assert_eq!(facts.erasure(&id).await.expect("a marker"), Some(marker("request")));
    assert_rows(&*facts, &other, &kept).await;
    assert_eq!(facts.erasure(&other).await.expect("no marker"), None);
}

/// A conversation can be erased before its first row is written.
pub async fn erasure_before_the_first_row(h: &impl Harness) {
    let (facts, id) = (h.facts(), conversation("early"));
    facts.erase(&id, marker("retention")).await.expect("erased");
    facts.write(&every_kind(&id)).await.expect("a late write is no failure");
    assert_rows(&*facts, &id, &[]).await;
    assert_eq!(facts.erasure(&id).await.expect("a marker"), Some(marker("retention")));
}

/// The marker of the first erasure stays, whichever is carried out last, and however often.
pub async fn the_first_erasure_stays(h: &impl Harness) {
    let (facts, id) = (h.facts(), conversation("erased-twice"));
    let of = |time, reason: &str| Erasure { time: Timestamp(time), reason: reason.to_owned() };
    let first = of(1_700_000_000_000, "a request");
    let later = of(1_700_000_900_000, "retention");
    for (marker, stands) in [(&later, &later), (&first, &first), (&later, &first), (&first, &first)] {
        facts.erase(&id, marker.clone()).await.expect("erased");
        assert_eq!(facts.erasure(&id).await.expect("a marker").as_ref(), Some(stands));
    }
    facts.write(&every_kind(&id)).await.expect("a late write is no failure");
    assert_rows(&*facts, &id, &[]).await;
}

/// Of a transcript that came twice, one row stands: that of the first record, whichever was written last.
pub async fn the_first_of_repeated_records_stays(h: &impl Harness) {
    let facts = h.facts();
    for [one, other] in [[3, 900], [900, 3]] {
        let id = conversation("repeated");
        let said = |offset| {
            let transcript = transcript(&id, "chunk-1", 0, "Guten Morgen");
            row(offset, Transcript { source: format!("by {offset}"), ..transcript })
        };
        facts.write(&[said(one)]).await.expect("written");
        facts.write(&[said(other)]).await.expect("written");
        facts.write(&[said(one), said(other)]).await.expect("written");
        assert_rows(&*facts, &id, &[said(3)]).await;
        facts.erase(&id, marker("request")).await.expect("erased");
        assert_rows(&*facts, &id, &[]).await;
    }
}

/// A conversation of 10,000 segments is read whole, rows and texts, and is erased whole.
pub async fn large_conversations_are_exact(h: &impl Harness) {
    let (facts, id) = (h.facts(), conversation("large"));
    let texts: Vec<Transcript> =
        (0..10_000).map(|segment| transcript(&id, "chunk-1", segment, &format!("Satz {segment}"))).collect();
    let rows: Vec<Row> = texts.iter().zip(0..).map(|(text, offset)| row(offset, text.clone())).collect();
    for some in rows.chunks(1_000) {
        facts.write(some).await.expect("written");
    }
    assert_rows(&*facts, &id, &rows).await;
    let keys: Vec<TextKey> = texts.iter().map(text_key).collect();
    let read = facts.texts(&id, &keys).await.expect("texts");
    assert!(read.iter().flatten().eq(&texts), "all texts are as written");
    facts.erase(&id, marker("request")).await.expect("erased");
    assert_rows(&*facts, &id, &[]).await;
    assert!(facts.texts(&id, &keys).await.expect("texts").iter().all(Option::is_none));
}

/// Going from page to page meets every conversation that has rows once, and no erased one.
pub async fn paging_meets_every_conversation_once(h: &impl Harness) {
    let facts = h.facts();
    let mine: BTreeSet<String> = (0..25).map(|_| conversation("page")).collect();
    for id in &mine {
        let rows: Vec<Row> =
            (0..4).map(|offset| row(offset, upload(id, &format!("chunk-{offset}")))).collect();
        facts.write(&rows).await.expect("written");
    }
    let erased = mine.first().expect("one");
    facts.erase(erased, marker("request")).await.expect("erased");
    for limit in [1, 7, 1_000] {
        let (mut met, mut cursor) = (Vec::new(), None);
        loop {
            let (ids, next) = facts.conversations(cursor, limit).await.expect("a page");
            assert!(ids.len() <= limit, "{} ids for a limit of {limit}", ids.len());
            met.extend(ids.into_iter().filter(|id| mine.contains(id)));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let once: BTreeSet<_> = met.iter().cloned().collect();
        assert_eq!(met.len(), once.len(), "each once, with a limit of {limit}");
        let expected: BTreeSet<_> = mine.iter().filter(|id| *id != erased).cloned().collect();
        assert_eq!(once, expected, "with a limit of {limit}");
    }
}

/// Going from page to page meets the marker of every erased conversation once, with its time and reason, whether or not
/// it ever had a row; and no other conversation.
pub async fn every_marker_is_met_once(h: &impl Harness) {
    let (facts, markers) = (h.facts(), h.erasures());
    let mine: BTreeSet<String> = (0..25).map(|_| conversation("marked")).collect();
    for (id, number) in mine.iter().zip(0..) {
        if number % 2 == 0 {
            facts.write(&[row(1, upload(id, "chunk-1"))]).await.expect("written");
        }
        facts.erase(id, marker(&format!("reason {number}"))).await.expect("erased");
    }
    facts.write(&[row(1, upload(&conversation("unmarked"), "chunk-1"))]).await.expect("written");
    for limit in [1, 7, 1_000] {
        let (mut met, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = markers.erasures(cursor, limit).await.expect("a page");
            assert!(page.len() <= limit, "{} markers for a limit of {limit}", page.len());
            assert!(page.iter().all(|(id, _)| !id.starts_with("unmarked")), "{page:?}");
            met.extend(page.into_iter().filter(|(id, _)| mine.contains(id)));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        met.sort_by(|(a, _), (b, _)| a.cmp(b));
        let expected =
            mine.iter().zip(0..).map(|(id, number)| (id.clone(), marker(&format!("reason {number}"))));
        assert_eq!(met, expected.collect::<Vec<_>>(), "with a limit of {limit}");
    }
}

/// Writers that write the same and other rows at the same time lose nothing.
pub async fn writers_at_once(h: &impl Harness) {
    let id = Arc::new(conversation("together"));
    let rows = |of: i64, id: &str| {
        // Two neighbours share half of their rows.
        let rows =
            (of * 50..of * 50 + 100).map(|offset| row(offset, upload(id, &format!("chunk-{}", offset % 7))));
        rows.collect::<Vec<_>>()
    };
    let tasks: Vec<_> = (0..8)
        .map(|of| {
            let (facts, id) = (h.facts(), Arc::clone(&id));
            tokio::spawn(async move {
                for some in rows(of, &id).chunks(9) {
                    facts.write(some).await.expect("written");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer without panic");
    }
    let mut all: Vec<Row> = (0..8).flat_map(|of| rows(of, &id)).collect();
    all.sort_by_key(|row| row.offset);
    all.dedup();
    assert_eq!(all.len(), 450);
    assert_rows(&*h.facts(), &id, &all).await;
}

/// Rows, texts and conversations are there after closing and opening again.
pub async fn rows_outlast_the_process(h: &impl Harness) {
    let id = conversation("lasting");
    let rows = every_kind(&id);
    h.facts().write(&rows).await.expect("written");
    h.reopen().await;
    let facts = h.facts();
    assert_rows(&*facts, &id, &rows).await;
    let text = transcript(&id, "chunk-1", 0, "Guten Morgen");
    assert_eq!(facts.texts(&id, &[text_key(&text)]).await.expect("texts"), [Some(text)]);
}

/// A record that is no fact is refused, for good.
pub async fn no_fact_is_refused(h: &impl Harness) {
    let id = conversation("no-fact");
    let segment = Segment { conversation_id: id.clone(), ..Default::default() };
    let refused = h.facts().write(&[row(1, segment)]).await;
    assert!(matches!(refused, Err(PortError::Refused { .. })), "{refused:?}");
    assert_rows(&*h.facts(), &id, &[]).await;
}
