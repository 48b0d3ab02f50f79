//! What the store keeps: rows that are never overwritten, texts, the journal, open windows, dead letters and erasures.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hansard_core::id::Timestamp;
use hansard_schemas::{Record, Stage, Transcript};

use crate::ports::dead_letters::{DeadLetter, DeadLetterId, Verdict};
use crate::ports::facts::{Erasure, Row, RowKey, TextKey};
use crate::ports::journal::{JournalKey, Step, Submission, SubmissionId};
use crate::ports::windows::OpenWindow;

type Cells = BTreeMap<SubmissionId, [Option<Step>; 4]>;

/// Everything in the store.
#[derive(Debug, Default)]
pub(super) struct Rows {
    facts: BTreeMap<String, BTreeMap<RowKey, Row>>,
    texts: BTreeMap<(String, TextKey), Transcript>,
    pub(super) erasures: BTreeMap<String, Erasure>,
    journal: BTreeMap<JournalKey, Cells>,
    dead_journals: BTreeSet<String>,
    pub(super) windows: BTreeSet<OpenWindow>,
    letters: BTreeMap<DeadLetterId, DeadLetter>,
    verdicts: BTreeMap<DeadLetterId, u32>,
}

fn cell(step: &Step) -> usize {
    match step {
        Step::Started { .. } => 0,
        Step::Job { .. } => 1,
        Step::Ended { .. } => 2,
        Step::Result(_) => 3,
    }
}

impl Rows {
    /// Writes one row; dead where its conversation was erased.
    pub(super) fn write(&mut self, row: &Row) {
        let conversation = row.record.conversation_id();
        if self.erasures.contains_key(conversation) {
            return;
        }
        let mut bare = row.clone();
        if let Record::Transcript(transcript) = &mut *bare.record {
            let key = TextKey {
                chunk: transcript.chunk_id.clone(),
                segment: transcript.segment,
                sha256: transcript.text_sha256.parse().unwrap_or_default(),
            };
            self.texts.insert((conversation.to_owned(), key), transcript.clone());
            transcript.text.clear();
            transcript.words.clear();
            transcript.redactions.clear();
        }
        let (rows, key) = (self.facts.entry(conversation.to_owned()).or_default(), RowKey::of(row));
        #[cfg(feature = "mutants")]
        if key.segment >= 0 && crate::mutants::is_in(crate::mutants::Mutant::ZombieWriteWins) {
            let about = |key: &RowKey| (key.kind, key.chunk.clone(), key.segment);
            rows.retain(|held, _| about(held) != about(&key));
        }
        let held = rows.entry(key).or_insert_with(|| bare.clone());
        if bare.offset < held.offset {
            *held = bare;
        }
    }

    pub(super) fn read(&self, conversation: &str) -> Vec<Row> {
        self.facts.get(conversation).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    pub(super) fn text(&self, conversation: &str, key: &TextKey) -> Option<Transcript> {
        self.texts.get(&(conversation.to_owned(), key.clone())).cloned()
    }

    pub(super) fn conversations(&self, cursor: Option<&Bytes>, limit: usize) -> (Vec<String>, Option<Bytes>) {
        let after = cursor.map(|cursor| String::from_utf8_lossy(cursor).into_owned()).unwrap_or_default();
        let later = self.facts.keys().filter(|id| id.as_str() > after.as_str());
        let page: Vec<String> = later.take(limit).cloned().collect();
        let next = (page.len() == limit).then(|| page.last().map(|id| Bytes::from(id.clone()))).flatten();
        (page, next)
    }

    pub(super) fn erase(&mut self, conversation: &str, marker: Erasure) {
        let held = self.erasures.entry(conversation.to_owned()).or_insert_with(|| marker.clone());
        if marker.time < held.time {
            *held = marker;
        }
        self.facts.remove(conversation);
        self.texts.retain(|(of, _), _| of != conversation);
    }

    pub(super) fn write_step(&mut self, key: &JournalKey, id: SubmissionId, step: Step) {
        let dead = self.dead_journals.contains(&key.conversation) && !matches!(step, Step::Job { .. });
        if !dead {
            let cells = self.journal.entry(key.clone()).or_default().entry(id).or_default();
            let held = cells[cell(&step)].get_or_insert_with(|| step.clone());
            if let (Step::Started { until: held, .. }, Step::Started { until, .. }) = (held, step) {
                *held = until.max(*held);
            }
        }
    }

    pub(super) fn submissions(&self, key: &JournalKey) -> Vec<Submission> {
        let cells = self.journal.get(key).filter(|_| !self.dead_journals.contains(&key.conversation));
        let submission = |(id, cells): (&SubmissionId, &[Option<Step>; 4])| Submission {
            id: *id,
            steps: cells.iter().flatten().cloned().collect(),
        };
        cells.into_iter().flatten().map(submission).collect()
    }

    pub(super) fn jobs(&self, conversation: &str) -> Vec<(JournalKey, String)> {
        let own = self.journal.iter().filter(|(key, _)| key.conversation == conversation);
        let job = |cells: &[Option<Step>; 4]| match &cells[1] {
            Some(Step::Job { id, .. }) => Some(id.clone()),
            _ => None,
        };
        own.flat_map(|(key, cells)| cells.values().filter_map(job).map(|id| (key.clone(), id))).collect()
    }

    pub(super) fn results(&self, conversation: &str, stage: Stage) -> Vec<(JournalKey, Bytes)> {
        let own = |(key, _): &(&JournalKey, &Cells)| key.conversation == conversation && key.stage == stage;
        let result = |cells: &[Option<Step>; 4]| match &cells[3] {
            Some(Step::Result(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        let all = self.journal.iter().filter(own);
        all.flat_map(|(key, cells)| cells.values().filter_map(result).map(|bytes| (key.clone(), bytes)))
            .collect()
    }

    pub(super) fn forget(&mut self, key: &JournalKey, job: &str) {
        for cells in self.journal.get_mut(key).into_iter().flat_map(BTreeMap::values_mut) {
            cells[1].take_if(|step| matches!(step, Step::Job { id, .. } if id == job));
        }
    }

    pub(super) fn erase_journal(&mut self, conversation: &str) {
        self.dead_journals.insert(conversation.to_owned());
        for cells in self.journal.iter_mut().filter(|(key, _)| key.conversation == conversation) {
            cells.1.values_mut().for_each(|cells| [cells[0], cells[2], cells[3]] = [None, None, None]);
        }
    }

    /// Every submission, by key.
    pub(super) fn all_submissions(&self) -> Vec<(JournalKey, Vec<Submission>)> {
        self.journal.keys().map(|key| (key.clone(), self.submissions(key))).collect()
    }

    pub(super) fn write_letter(&mut self, letter: &DeadLetter) {
        let newer = self.letters.get(&letter.id).is_none_or(|held| held.redrives < letter.redrives);
        if newer {
            self.letters.insert(letter.id, letter.clone());
        }
    }

    pub(super) fn judge(&mut self, id: DeadLetterId, verdict: Verdict) {
        let (Verdict::Redriven { redrives } | Verdict::Dismissed { redrives }) = verdict;
        let judged = self.verdicts.entry(id).or_insert(redrives);
        *judged = redrives.max(*judged);
    }

    /// The letters that rest.
    pub(super) fn letters(&self) -> impl Iterator<Item = &DeadLetter> {
        let rests = |letter: &&DeadLetter| {
            self.verdicts.get(&letter.id).is_none_or(|judged| letter.redrives > *judged)
        };
        self.letters.values().filter(rests)
    }

    pub(super) fn letters_after(
        &self,
        stage: Stage,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Vec<DeadLetter> {
        let mut letters: Vec<&DeadLetter> =
            self.letters().filter(|letter| letter.id.stage == stage).collect();
        letters.sort_by_key(|letter| (letter.at, letter.id));
        // Also after one that rests no more.
        let after = after.and_then(|id| self.letters.get(&id)).map(|letter| (letter.at, letter.id));
        let later = letters.into_iter().filter(|letter| Some((letter.at, letter.id)) > after);
        later.take(limit).cloned().collect()
    }

    pub(super) fn erase_letters(&mut self, conversation: &str) {
        self.letters.retain(|_, letter| letter.conversation != conversation);
    }

    /// Whether the conversation was erased at or before `now`.
    pub(super) fn is_erased(&self, conversation: &str, now: Timestamp) -> bool {
        self.erasures.get(conversation).is_some_and(|erasure| erasure.time <= now)
    }
}
