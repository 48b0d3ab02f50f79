//! A conversation as callers see it: core's window joined from the rows, and per piece what became of it.
//!
//! The window decides what stands; this file only finds the standing rows again, for the words that the window drops.

use std::collections::{BTreeMap, HashMap};

use hansard_core::id::{Digest, Timestamp};
use hansard_core::{ChunkId, Rules, Status, Window, status};
use hansard_runtime::convert;
use hansard_runtime::ports::facts::Row;
use hansard_schemas::{
    Failure, Finalize, Merge, Open, Record, Split, Summary, Transcript, Upload, upload_digest,
};

use crate::shape::{Answer, Cause, Chunk, Conversation, Failed, Links, Listed, Progress, Segment};

/// At most so many failures are listed.
const FAILURES_LISTED: usize = 500;

/// The failures of each piece (chunk, and segment where it is one), the newest last.
type ByPiece<'a> = HashMap<(&'a str, Option<i32>), Vec<(&'a Row, &'a Failure)>>;

/// A conversation's rows, joined.
pub(crate) struct View<'a> {
    pub(crate) window: Window,
    pub(crate) rules: Rules,
    pub(crate) now: Timestamp,
    open: Option<&'a Open>,
    finalize: Option<&'a Finalize>,
    pub(crate) merges: Vec<&'a Merge>,
    pub(crate) summaries: Vec<&'a Summary>,
    failures: Vec<(&'a Row, &'a Failure)>,
    chunks: BTreeMap<&'a str, ChunkRows<'a>>,
}

#[derive(Default)]
struct ChunkRows<'a> {
    uploads: Vec<(&'a Row, &'a Upload)>,
    splits: Vec<&'a Split>,
    transcripts: Vec<&'a Transcript>,
}

impl<'a> View<'a> {
    /// Joins the rows. A row that says what no job of ours writes is told and left out.
    pub(crate) fn of(rows: &'a [Row], rules: Rules, now: Timestamp) -> Self {
        let mut view = Self {
            window: Window::new(),
            rules,
            now,
            open: None,
            finalize: None,
            merges: Vec::new(),
            summaries: Vec::new(),
            failures: Vec::new(),
            chunks: BTreeMap::new(),
        };
        let mut opened_at = None;
        for row in rows {
            match convert::fact(row) {
                Ok(fact) => {
                    view.window.apply(&fact);
                }
                Err(error) => {
                    tracing::error!(%error, conversation = row.record.conversation_id(), "a row is no fact");
                    continue;
                }
            }
            match &*row.record {
                Record::Open(open) if opened_at.is_none_or(|offset| row.offset < offset) => {
                    opened_at = Some(row.offset);
                    view.open = Some(open);
                }
                Record::Upload(upload) => {
                    view.chunks.entry(&upload.chunk_id).or_default().uploads.push((row, upload));
                }
                Record::Split(split) => view.chunks.entry(&split.chunk_id).or_default().splits.push(split),
                Record::Transcript(transcript) => {
                    view.chunks.entry(&transcript.chunk_id).or_default().transcripts.push(transcript);
                }
                Record::Failure(failure) => view.failures.push((row, failure)),
                Record::Finalize(finalize)
                    if view.finalize.is_none_or(|last| last.revision <= finalize.revision) =>
                {
                    view.finalize = Some(finalize);
                }
                Record::Merge(merge) => view.merges.push(merge),
                Record::Summary(summary) => view.summaries.push(summary),
                _ => {}
            }
        }
        view.merges.sort_by_key(|merge| (merge.revision, merge.generation));
        view.summaries.sort_by_key(|summary| (summary.revision, summary.generation));
        view
    }

    /// How the conversation stands now.
    pub(crate) fn status(&self) -> Status {
        status(&self.window, &self.rules, self.now)
    }

    fn failures_by_piece(&self) -> ByPiece<'a> {
        let mut by_piece = ByPiece::new();
        for (row, failure) in &self.failures {
            if let Some(chunk) = failure.chunk_id.as_deref() {
                by_piece.entry((chunk, failure.segment)).or_default().push((*row, *failure));
            }
        }
        for failures in by_piece.values_mut() {
            failures.sort_by_key(|(row, failure)| (failure.generation, row.time, failure.attempt));
        }
        by_piece
    }

    /// The newest failure of a piece, for explain: attempts, code, when it is tried again.
    pub(crate) fn last_failure(&self, chunk: &str, segment: Option<u32>) -> Option<&'a Failure> {
        let segment = segment.and_then(|segment| i32::try_from(segment).ok());
        let of_piece = self
            .failures
            .iter()
            .filter(|(_, failure)| failure.chunk_id.as_deref() == Some(chunk) && failure.segment == segment);
        of_piece
            .max_by_key(|(row, failure)| (failure.generation, row.time, failure.attempt))
            .map(|(_, failure)| *failure)
    }

    /// The failure that ended a stage's work on a revision.
    pub(crate) fn terminal(&self, stage: &str, revision: i32) -> Option<&'a Failure> {
        let ended = self.failures.iter().filter(|(_, failure)| {
            failure.terminal && failure.stage == stage && failure.revision == Some(revision)
        });
        ended.max_by_key(|(row, failure)| (failure.generation, row.time)).map(|(_, failure)| *failure)
    }

    /// The latest Merge and Summary that answer the latest finalize.
    fn answers(&self) -> (Option<&'a Merge>, Option<&'a Summary>) {
        let Some(last) = self.finalize else { return (None, None) };
        let merge = self.merges.iter().rev().find(|merge| merge.finalize_digest == last.digest);
        let summary = self.summaries.iter().rev().find(|summary| summary.finalize_digest == last.digest);
        (merge.copied(), summary.copied())
    }

    /// Everything about the conversation.
    pub(crate) fn conversation(&self, id: &str, with_segments: bool) -> Conversation<'a> {
        let by_piece = self.failures_by_piece();
        let chunks: Vec<Chunk<'a>> = self
            .chunks
            .iter()
            .filter_map(|(chunk_id, rows)| self.chunk(chunk_id, rows, &by_piece, with_segments))
            .collect();
        let mut failures: Vec<Failed<'a>> = self
            .failures
            .iter()
            .filter(|(_, failure)| self.matters(failure))
            .map(|(row, failure)| Failed::of(row, failure))
            .collect();
        failures.sort_by_key(|failed| failed.at);
        let failures_total = failures.len();
        failures.drain(..failures_total.saturating_sub(FAILURES_LISTED));
        Conversation {
            summary: self.listed(id),
            failures_total,
            failures,
            chunks,
            links: Links::of(id, self.finalize.is_some()),
        }
    }

    /// What a list shows of the conversation.
    pub(crate) fn listed(&self, id: &str) -> Listed<'a> {
        let counts = self.window.counts();
        let (merge, summary) = self.answers();
        let split = self.chunks.keys().filter(|chunk| self.standing_split(chunk).is_some()).count();
        let contents = self.window.contents_of_revision();
        Listed {
            id: id.to_owned(),
            title: self.open.and_then(|open| open.title.as_deref()),
            external_ref: self.open.and_then(|open| open.external_ref.as_deref()),
            labels: self.open.map(|open| &open.labels),
            status: self.status().as_str(),
            revision: self.window.revision().0,
            outcome: self.finalize.map(|finalize| finalize.outcome.as_str()),
            cause: self.finalize.map(|finalize| finalize.cause.as_str()),
            conflicting_revision: contents > 1,
            finish_received: self.window.finish_fact().is_some(),
            progress: Progress {
                chunks: counts.chunks,
                split,
                segments: counts.segments,
                transcribed: counts.transcribed,
                failed: counts.failed,
                missing: counts.missing,
            },
            merge: merge.map(|merge| Answer { outcome: &merge.outcome, code: merge.code.as_deref() }),
            summary: summary
                .map(|summary| Answer { outcome: &summary.outcome, code: summary.code.as_deref() }),
        }
    }

    fn standing_split(&self, chunk: &str) -> Option<Digest> {
        let chunk = ChunkId::new(chunk).ok()?;
        self.window.standing_split(&chunk).map(|cut| cut.digest)
    }

    fn standing_upload(&self, chunk: &str) -> Option<Digest> {
        let chunk = ChunkId::new(chunk).ok()?;
        self.window.standing_upload(&chunk).map(|upload| upload.digest)
    }

    fn chunk(
        &self,
        chunk_id: &'a str,
        rows: &ChunkRows<'a>,
        by_piece: &ByPiece<'a>,
        with_segments: bool,
    ) -> Option<Chunk<'a>> {
        let standing = self.standing_upload(chunk_id)?.to_string();
        let (row, upload) = rows.uploads.iter().find(|(_, upload)| upload_digest(upload) == standing)?;
        let cut = self.standing_split(chunk_id).map(|digest| digest.to_string());
        let split = cut.and_then(|digest| rows.splits.iter().find(|split| split.digest == digest));
        let about = |segment: Option<i32>| {
            let failures = by_piece.get(&(chunk_id, segment))?;
            let ours = |failure: &Failure| failure.upload_digest.as_ref() == Some(&standing);
            failures.iter().rev().find(|(_, failure)| ours(failure)).map(|(_, failure)| *failure)
        };
        let (status, segments) = match split {
            None => {
                let failed = about(None).is_some_and(|failure| failure.terminal);
                (if failed { "failed" } else { "pending" }, Vec::new())
            }
            Some(split) => segments_of(split, &standing, &rows.transcripts, about),
        };
        let count = |status: &str| segments.iter().filter(|segment| segment.status == status).count();
        Some(Chunk {
            chunk_id,
            track: &upload.track,
            sequence: upload.sequence,
            status,
            recorded_at: upload.recorded_at,
            received_at: row.time.0,
            offset: row.offset.0,
            content_type: upload.content_type.as_deref(),
            bytes: upload.object.bytes,
            key: &upload.object.key,
            upload_digest: standing.clone(),
            duration_ms: split.map(|split| split.duration_ms),
            truncated: split.is_some_and(|split| split.truncated),
            segments_total: segments.len(),
            transcribed: count("transcribed"),
            failed: count("failed"),
            failure: about(None).filter(|_| split.is_none()).map(Cause::of),
            segments: with_segments.then_some(segments),
        })
    }

    /// Whether a failure still says something: what succeeded since supersedes it.
    fn matters(&self, failure: &Failure) -> bool {
        if failure.code == "conflicting_upload" {
            return true;
        }
        let Some(chunk) = failure.chunk_id.as_deref() else {
            let last = self.finalize.map(|finalize| &finalize.digest);
            let (merge, summary) = self.answers();
            let done = match failure.stage.as_str() {
                "merge" => merge.is_some_and(|merge| merge.outcome == "done"),
                "summarize" => summary.is_some_and(|summary| summary.outcome == "done"),
                _ => false,
            };
            return !done && failure.finalize_digest.as_ref() == last;
        };
        if failure.upload_digest != self.standing_upload(chunk).map(|digest| digest.to_string()) {
            return false;
        }
        match failure.segment {
            None => self.standing_split(chunk).is_none(),
            Some(segment) => {
                let split = failure.split_digest.as_ref();
                let transcribed = self.chunks.get(chunk).is_some_and(|rows| {
                    rows.transcripts.iter().any(|transcript| {
                        transcript.segment == segment && Some(&transcript.split_digest) == split
                    })
                });
                !transcribed && split.cloned() == self.standing_split(chunk).map(|digest| digest.to_string())
            }
        }
    }
}

/// The segments of a standing split, and how its chunk stands.
fn segments_of<'a>(
    split: &'a Split,
    upload: &str,
    transcripts: &[&'a Transcript],
    about: impl Fn(Option<i32>) -> Option<&'a Failure>,
) -> (&'static str, Vec<Segment<'a>>) {
    let mut best: HashMap<i32, &Transcript> = HashMap::new();
    for transcript in transcripts {
        if transcript.split_digest == split.digest && transcript.upload_digest == upload {
            let rank = |transcript: &Transcript| (transcript.generation, transcript.text_sha256.clone());
            let held = best.entry(transcript.segment).or_insert(transcript);
            if rank(transcript) > rank(held) {
                *held = transcript;
            }
        }
    }
    let segments: Vec<Segment<'a>> = split
        .segments
        .iter()
        .map(|piece| {
            let transcript = best.get(&piece.index);
            let failure = about(Some(piece.index))
                .filter(|failure| failure.split_digest.as_ref() == Some(&split.digest));
            let status = match (transcript, failure) {
                (Some(_), _) => "transcribed",
                (None, Some(failure)) if failure.terminal => "failed",
                _ => "pending",
            };
            Segment {
                index: piece.index,
                start_ms: piece.start_ms,
                end_ms: piece.end_ms,
                status,
                generation: transcript.map(|transcript| transcript.generation),
                provider: transcript.map(|transcript| transcript.provider.as_str()),
                model: transcript.map(|transcript| transcript.model.as_str()),
                language: transcript.and_then(|transcript| transcript.language.as_deref()),
                failure: failure.filter(|_| transcript.is_none()).map(Cause::of),
            }
        })
        .collect();
    let all = |status: &str| segments.iter().all(|segment| segment.status == status);
    let pending = segments.iter().any(|segment| segment.status == "pending");
    let status = match () {
        () if all("transcribed") => "complete",
        () if pending => "pending",
        () => "with_failures",
    };
    (status, segments)
}
