//! What follows from a window beside its Finalize: the status, the failure of a conflicting upload, a rerun's segments.

use std::collections::{BTreeMap, BTreeSet};

use hansard_core::fact::Fact;
use hansard_core::id::{ChunkId, Digest, Stage, Timestamp};
use hansard_core::{Decision, Status, Window};
use hansard_runtime::ports::Ports;
use hansard_runtime::ports::facts::Row;
use hansard_runtime::ports::traces::Description;
use hansard_runtime::trace::TraceParent;
use hansard_schemas::{
    Conversation, Failure, Object, Options, Record, RecordName, Segment, Split, event_id, upload_digest,
};

use crate::convert::{overlaid, wire_counts};

/// Of the standing Open.
#[derive(Debug)]
struct Opened {
    offset: i64,
    time: i64,
    labels: BTreeMap<String, String>,
    webhooks: bool,
}

/// What the window does not know of its conversation and its status record shows.
#[derive(Debug, Default)]
pub(super) struct Extras {
    open: Option<Opened>,
    /// Earliest and latest log time.
    since: Option<i64>,
    newest: Option<i64>,
    /// Finalize digest, generation and key of the newest done merge; likewise of the transcript document.
    merge: Option<(String, i64, String)>,
    transcript: Option<(String, i64, String)>,
}

/// A status as it was emitted; the next one is emitted when any of it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    status: Status,
    revision: i32,
    merge: Option<&'static str>,
    summary: Option<&'static str>,
}

impl Told {
    pub(super) fn of(window: &Window, status: Status) -> Self {
        let outcome = |failed: bool| if failed { "failed" } else { "done" };
        Self {
            status,
            revision: window.revision().0,
            merge: window.merge().map(|ended| outcome(ended.failed.is_some())),
            summary: window.summary().map(|ended| outcome(ended.failed.is_some())),
        }
    }

    /// Nothing is awaited but what is made of the last revision.
    pub(super) fn is_finalized(&self) -> bool {
        self.is_at_rest() || self.status == Status::Finalized
    }

    /// The last revision is delivered, or there will be none.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.status, Status::Delivered | Status::Erased)
    }
}

impl Extras {
    /// Takes in what a row says beside its fact.
    pub(super) fn learn(&mut self, row: &Row) {
        self.since = Some(self.since.map_or(row.time.0, |since| since.min(row.time.0)));
        self.newest = self.newest.max(Some(row.time.0));
        let newer = |held: &Option<(String, i64, String)>, generation| {
            held.as_ref().is_none_or(|(_, held, _)| *held <= generation)
        };
        match &*row.record {
            Record::Open(open) if self.open.as_ref().is_none_or(|held| row.offset.0 < held.offset) => {
                self.open = Some(Opened {
                    offset: row.offset.0,
                    time: row.time.0,
                    labels: open.labels.clone(),
                    webhooks: !open.webhook_urls.is_empty(),
                });
            }
            Record::Merge(merge) if newer(&self.merge, merge.generation) => {
                let key = merge.key.clone();
                self.merge = key.map(|key| (merge.finalize_digest.clone(), merge.generation, key));
            }
            Record::Summary(summary) if newer(&self.transcript, summary.generation) => {
                let key = summary.transcript_key.clone();
                self.transcript = key.map(|key| (summary.finalize_digest.clone(), summary.generation, key));
            }
            _ => {}
        }
    }

    /// The latest log time of a fact.
    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// The status record.
    pub(super) fn conversation(
        &self,
        id: &str,
        window: &Window,
        told: &Told,
        now: Timestamp,
    ) -> Conversation {
        let last = window.last_finalize();
        let digest = last.map(|last| last.digest.to_string());
        let key = |of: &Option<(String, i64, String)>| {
            of.as_ref().filter(|(of, ..)| Some(of) == digest.as_ref()).map(|(.., key)| key.clone())
        };
        let status = told.status.as_str();
        // Of an erased conversation nothing is told that somebody wrote.
        let open = self.open.as_ref().filter(|_| told.status != Status::Erased);
        let parts: [&[u8]; 5] = [
            id.as_bytes(),
            status.as_bytes(),
            &told.revision.to_be_bytes(),
            told.merge.unwrap_or_default().as_bytes(),
            told.summary.unwrap_or_default().as_bytes(),
        ];
        Conversation {
            conversation_id: id.to_owned(),
            event_id: event_id(RecordName::Conversation, &parts),
            status: status.to_owned(),
            revision: told.revision,
            outcome: last.map(|last| last.outcome.as_str().to_owned()),
            merge_key: key(&self.merge),
            transcript_key: key(&self.transcript),
            summary_status: told.summary.map(str::to_owned),
            merge_status: told.merge.map(str::to_owned),
            counts: Some(wire_counts(&window.counts())),
            opened_at: open.map(|open| open.time).or(self.since).unwrap_or(now.0),
            updated_at: now.0,
            delivered_at: (told.status == Status::Delivered).then_some(now.0),
            labels: open.map(|open| open.labels.clone()).unwrap_or_default(),
            erased: told.status == Status::Erased,
            webhooks: open.is_some_and(|open| open.webhooks),
            ..Default::default()
        }
    }
}

/// Tells of a whole conversation as a span, once its first revision is delivered.
pub(super) fn tell_whole(ports: &Ports, trace: Option<TraceParent>, record: &Conversation) {
    let Some(delivered_at) = record.delivered_at.filter(|_| record.revision == 1) else { return };
    let times = (Timestamp(record.opened_at), Timestamp(delivered_at));
    ports.tell_conversation(trace, &record.conversation_id, times, || Description {
        job: Stage::Aggregate.as_str(),
        name: "conversation".to_owned(),
        attributes: vec![
            ("hansard.conversation", record.conversation_id.clone()),
            ("hansard.outcome", record.outcome.clone().unwrap_or_default()),
        ],
        failed: None,
    });
}

/// The revision that is awaited, if one is: its entry must be in the index before anything commits.
pub(super) fn awaited_revision(told: &Told, decision: &Decision) -> Option<i32> {
    match decision {
        Decision::Finalize(manifest) => Some(manifest.revision.0),
        Decision::Wait { look_at: Some(_) } => Some(told.revision.saturating_add(1)),
        Decision::Wait { look_at: None } => (!told.is_at_rest()).then_some(told.revision),
    }
}

/// The Upload that stands for the chunk before a fact about it is applied.
pub(super) fn standing(window: &Window, fact: &Fact) -> Option<Digest> {
    match fact {
        Fact::Upload(upload) => window.standing_upload(&upload.chunk).map(|standing| standing.digest),
        _ => None,
    }
}

/// The failure, visible and not terminal, of an Upload that does not stand: the one just applied, or the one that it
/// replaced.
pub(super) fn conflict(window: &Window, stood: Option<Digest>, fact: &Fact, row: &Row) -> Option<Record> {
    let (Fact::Upload(upload), Record::Upload(record)) = (fact, &*row.record) else { return None };
    let loser = if window.conflicts(upload) {
        upload.digest
    } else {
        stood.filter(|stood| *stood != upload.digest)?
    };
    let parts: [&[u8]; 3] = [record.conversation_id.as_bytes(), record.chunk_id.as_bytes(), &loser.0];
    Some(Record::Failure(Failure {
        conversation_id: record.conversation_id.clone(),
        event_id: event_id(RecordName::Failure, &parts),
        stage: Stage::Aggregate.as_str().to_owned(),
        class: "permanent".to_owned(),
        code: "conflicting_upload".to_owned(),
        message: format!(
            "chunk {:?} was confirmed before with another content, which stands",
            record.chunk_id
        ),
        chunk_id: Some(record.chunk_id.clone()),
        upload_digest: Some(loser.to_string()),
        attempt: 1,
        terminal: false,
        first_failed_at: row.time.0,
        ..Default::default()
    }))
}

/// The chunks whose segments a rerun asks for again; `None` stands for all.
pub(super) type Rework = BTreeSet<Option<ChunkId>>;

/// Whether a fact asks for segments again: a Rerun, or a Split that one covers. The Upload counts too, since it may be
/// read after its Split, and may bring another Split to stand.
pub(super) fn rework(window: &Window, fact: &Fact) -> Option<Option<ChunkId>> {
    let covered = |chunk: &ChunkId| window.rerun_work(Some(chunk)).next().map(|_| Some(chunk.clone()));
    match fact {
        Fact::Rerun(rerun) if rerun.stage == Stage::Transcribe => Some(None),
        Fact::Split(split) => covered(&split.chunk),
        Fact::Upload(upload) => covered(&upload.chunk),
        _ => None,
    }
}

/// The segments that wait for a rerun's answer, made from the rows of their Splits and Uploads.
pub(super) fn segments<'a>(
    window: &'a Window,
    chunks: &'a Rework,
    rows: &'a [Row],
) -> impl Iterator<Item = Segment> + 'a {
    let mut splits: BTreeMap<&str, &Split> = BTreeMap::new();
    let mut options: BTreeMap<String, &Options> = BTreeMap::new();
    for row in rows {
        match &*row.record {
            Record::Split(split) => {
                splits.insert(&split.digest, split);
            }
            Record::Upload(upload) => {
                options.extend(upload.options.as_ref().map(|own| (upload_digest(upload), own)));
            }
            _ => {}
        }
    }
    let all = chunks.contains(&None);
    let only = chunks.iter().filter(move |chunk| !all || chunk.is_none());
    only.flat_map(|chunk| window.rerun_work(chunk.as_ref())).filter_map(move |work| {
        let split = splits.get(work.split_digest.to_string().as_str())?;
        let piece = split.segments.get(usize::try_from(work.segment).ok()?)?;
        let own = options.get(&split.upload_digest).map(|own| (*own).clone()).unwrap_or_default();
        let options = work.options.as_deref().map_or_else(|| own.clone(), |over| overlaid(&own, over));
        Some(segment(split, piece.index, work.generation.0, options))
    })
}

/// One segment of a split as a work item.
///
/// # Panics
/// Never: an index outside of the split gives an empty object, which transcribe refuses.
#[must_use]
pub fn segment(split: &Split, index: i32, generation: i64, options: Options) -> Segment {
    let piece =
        usize::try_from(index).ok().and_then(|index| split.segments.get(index)).cloned().unwrap_or_default();
    let sha256 = hex(&piece.sha256);
    let parts: [&[u8]; 4] = [
        split.conversation_id.as_bytes(),
        split.digest.as_bytes(),
        &index.to_be_bytes(),
        &generation.to_be_bytes(),
    ];
    Segment {
        conversation_id: split.conversation_id.clone(),
        event_id: event_id(RecordName::Segment, &parts),
        chunk_id: split.chunk_id.clone(),
        upload_digest: split.upload_digest.clone(),
        split_digest: split.digest.clone(),
        segment: index,
        of: i32::try_from(split.segments.len()).unwrap_or(i32::MAX),
        generation,
        object: Object {
            bucket: split.bucket.clone(),
            key: format!("{}{sha256}", split.key_prefix),
            bytes: piece.bytes,
            sha256: Some(sha256),
            ..Default::default()
        },
        start_ms: piece.start_ms,
        end_ms: piece.end_ms,
        options,
        ..Default::default()
    }
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use hansard_core::id::Offset;
    use hansard_schemas::Open;

    use super::*;

    #[test]
    fn an_erased_conversation_tells_no_labels() {
        let labels = BTreeMap::from([("with".to_owned(), "somebody".to_owned())]);
        let open = Open { conversation_id: "c".to_owned(), labels: labels.clone(), ..Default::default() };
        let mut extras = Extras::default();
        extras.learn(&Row { offset: Offset(0), time: Timestamp(7), record: Box::new(open.into()) });
        let told = |status| {
            let window = Window::new();
            extras.conversation("c", &window, &Told::of(&window, status), Timestamp(9))
        };
        assert_eq!((told(Status::Open).labels, told(Status::Open).opened_at), (labels, 7));
        assert!(told(Status::Erased).labels.is_empty() && told(Status::Erased).erased);
    }
}
