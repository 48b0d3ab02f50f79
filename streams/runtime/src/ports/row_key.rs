//! The key of a fact's row, per kind of fact: what orders competing facts, and a digest of what tells them apart.
//!
//! The same fact, however often and wherever it was written, has one key; two facts that mean different things for a
//! window have two. Times, and where and by whom a record was written, are no part of it, except where the offset
//! itself decides which of two facts stands.

use hansard_core::id::Digest;
use hansard_schemas::{Encode, Failure, Finalize, Merge, Record, Summary, Transcript, encode, upload_digest};
use sha2::{Digest as _, Sha256};

use super::facts::{Row, RowKey};

/// Digests parts so that no two lists of parts have one digest: each goes behind its length.
#[derive(Default)]
struct Parts(Sha256);

impl Parts {
    fn bytes(mut self, part: &[u8]) -> Self {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    fn text(self, part: &str) -> Self {
        self.bytes(part.as_bytes())
    }

    /// What is not there differs from what is empty.
    fn maybe(self, part: Option<&str>) -> Self {
        match part {
            Some(part) => self.bytes(&[1]).text(part),
            None => self.bytes(&[]),
        }
    }

    fn number(self, part: i64) -> Self {
        self.bytes(&part.to_be_bytes())
    }

    fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl RowKey {
    /// The key of a row. Records that are no facts have one too, by their offset and bytes; stores refuse them.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        let offset = row.offset.0;
        match &*row.record {
            Record::Open(open) => whole("open", offset, open),
            Record::Upload(upload) => {
                // The digest is hex of our own making; a text of another form would still be digested as a whole.
                let text = upload_digest(upload);
                let content = text.parse().unwrap_or_else(|_| Parts::default().text(&text).digest());
                Self { kind: "upload", chunk: upload.chunk_id.clone(), segment: -1, rank: offset, content }
            }
            Record::Finish(finish) => whole("finish", offset, finish),
            Record::Rerun(rerun) => whole("rerun", offset, rerun),
            Record::Erase(erase) => whole("erase", offset, erase),
            Record::Split(split) => {
                let content = Parts::default().text(&split.upload_digest).text(&split.digest).digest();
                Self { kind: "split", chunk: split.chunk_id.clone(), segment: -1, rank: offset, content }
            }
            Record::Transcript(transcript) => self::transcript(transcript),
            Record::Failure(failure) => self::failure(failure),
            Record::Finalize(finalize) => self::finalize(finalize),
            Record::Merge(merge) => self::merge(merge),
            Record::Summary(summary) => self::summary(summary),
            Record::Segment(segment) => whole("segment", offset, segment),
            Record::Callback(callback) => whole("callback", offset, callback),
            Record::Conversation(conversation) => whole("conversation", offset, conversation),
            Record::Delivery(delivery) => whole("delivery", offset, delivery),
        }
    }
}

/// A fact about the whole conversation of which the offset decides: told apart by all its bytes.
fn whole(kind: &'static str, offset: i64, record: &impl Encode) -> RowKey {
    let content = Parts::default().bytes(&encode(record)).digest();
    RowKey { kind, chunk: String::new(), segment: -1, rank: offset, content }
}

fn transcript(transcript: &Transcript) -> RowKey {
    let content = Parts::default()
        .text(&transcript.upload_digest)
        .text(&transcript.split_digest)
        .text(&transcript.text_sha256)
        .digest();
    RowKey {
        kind: "transcript",
        chunk: transcript.chunk_id.clone(),
        segment: transcript.segment,
        rank: transcript.generation,
        content,
    }
}

/// The text of the failure and its times are left out: repeating an attempt's report makes no second row.
fn failure(failure: &Failure) -> RowKey {
    let content = Parts::default()
        .text(&failure.stage)
        .text(&failure.class)
        .text(&failure.code)
        .maybe(failure.upload_digest.as_deref())
        .maybe(failure.split_digest.as_deref())
        .maybe(failure.finalize_digest.as_deref())
        .number(failure.revision.unwrap_or(-1).into())
        .number(failure.attempt.into())
        .number(failure.terminal.into())
        .digest();
    RowKey {
        kind: "failure",
        chunk: failure.chunk_id.clone().unwrap_or_default(),
        segment: failure.segment.unwrap_or(-1),
        rank: failure.generation,
        content,
    }
}

/// Everything that it says counts, since two contents of one revision must both be seen; not when and by whom it was
/// written.
fn finalize(finalize: &Finalize) -> RowKey {
    let bare = Finalize {
        event_id: String::new(),
        occurred_at: 0,
        source: String::new(),
        attributes: std::collections::BTreeMap::new(),
        ..finalize.clone()
    };
    let content = Parts::default().bytes(&encode(&bare)).digest();
    RowKey { kind: "finalize", chunk: String::new(), segment: -1, rank: finalize.revision.into(), content }
}

fn merge(merge: &Merge) -> RowKey {
    let content = Parts::default()
        .number(merge.generation)
        .text(&merge.finalize_digest)
        .text(&merge.outcome)
        .maybe(merge.code.as_deref())
        .maybe(merge.key.as_deref())
        .maybe(merge.sha256.as_deref())
        .digest();
    RowKey { kind: "merge", chunk: String::new(), segment: -1, rank: merge.revision.into(), content }
}

fn summary(summary: &Summary) -> RowKey {
    let content = Parts::default()
        .number(summary.generation)
        .text(&summary.finalize_digest)
        .text(&summary.transcript_digest)
        .text(&summary.outcome)
        .maybe(summary.code.as_deref())
        .maybe(summary.transcript_key.as_deref())
        .maybe(summary.text.as_deref())
        .digest();
    RowKey { kind: "summary", chunk: String::new(), segment: -1, rank: summary.revision.into(), content }
}

#[cfg(test)]
mod tests {
    use hansard_core::id::{Offset, Timestamp};
    use hansard_schemas::Upload;

    use super::*;

    fn row(offset: i64, record: impl Into<Record>) -> Row {
        Row { offset: Offset(offset), time: Timestamp(offset * 10), record: Box::new(record.into()) }
    }

    #[test]
    fn one_fact_has_one_key_wherever_it_was_read() {
        let transcript = Transcript { chunk_id: "a".into(), segment: 3, generation: 2, ..Default::default() };
        let again = Transcript { event_id: "other".into(), occurred_at: 9, ..transcript.clone() };
        assert_eq!(RowKey::of(&row(1, transcript)), RowKey::of(&row(7, again)));
        let finalize = Finalize { revision: 2, cause: "idle".into(), ..Default::default() };
        let again = Finalize { source: "aggregate-1".into(), ..finalize.clone() };
        assert_eq!(RowKey::of(&row(1, finalize)), RowKey::of(&row(7, again)));
        let failure = Failure { stage: "split".into(), message: "31 s".into(), ..Default::default() };
        let again = Failure { message: "32 s".into(), first_failed_at: 8, ..failure.clone() };
        assert_eq!(RowKey::of(&row(1, failure)), RowKey::of(&row(7, again)));
    }

    #[test]
    fn facts_that_compete_have_keys_of_their_own() {
        let upload = Upload { chunk_id: "a".into(), ..Default::default() };
        assert!(RowKey::of(&row(1, upload.clone())) < RowKey::of(&row(2, upload.clone())));
        let other = Upload { sequence: Some(1), ..upload.clone() };
        assert_ne!(RowKey::of(&row(1, upload)), RowKey::of(&row(1, other)));
        let finalize = Finalize { revision: 2, cause: "idle".into(), ..Default::default() };
        let other = Finalize { cause: "finish".into(), ..finalize.clone() };
        assert_ne!(RowKey::of(&row(1, finalize)), RowKey::of(&row(1, other)));
        let transcript = Transcript { chunk_id: "a".into(), ..Default::default() };
        let other = Transcript { text_sha256: "00".into(), ..transcript.clone() };
        assert_ne!(RowKey::of(&row(1, transcript)), RowKey::of(&row(1, other)));
        let failure = Failure { stage: "transcribe".into(), ..Default::default() };
        let other = Failure { terminal: true, ..failure.clone() };
        assert_ne!(RowKey::of(&row(1, failure)), RowKey::of(&row(1, other)));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let split = |upload_digest: &str, digest: &str| {
            let (upload_digest, digest) = (upload_digest.to_owned(), digest.to_owned());
            RowKey::of(&row(1, hansard_schemas::Split { upload_digest, digest, ..Default::default() }))
        };
        assert_ne!(split("ab", "c"), split("a", "bc"));
        let missing = Merge { key: None, ..Default::default() };
        let empty = Merge { key: Some(String::new()), ..Default::default() };
        assert_ne!(RowKey::of(&row(1, missing)), RowKey::of(&row(1, empty)));
    }
}
