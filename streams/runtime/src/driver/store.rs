//! The four ports of the store, as one process has them. Rows survive everything once acknowledged; a write that failed
//! may have happened, in part.

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Partition, Timestamp};
use hansard_schemas::{Record, Stage, Transcript};

use super::faults::{Action, Refused};
use super::process::Process;
use super::world::World;
use crate::ports::PortError;
use crate::ports::dead_letters::{DeadLetter, DeadLetterId, DeadLetters, Verdict};
use crate::ports::facts::{Erasure, Erasures, Facts, Row, TextKey};
use crate::ports::journal::{Journal, JournalKey, Step, Submission, SubmissionId};
use crate::ports::windows::{OpenWindow, Windows};

/// The store as one process has it.
pub(super) struct SimStore(pub(super) Process);

impl From<Refused> for PortError {
    fn from(refused: Refused) -> Self {
        Self::Unavailable { service: "simulated store", cause: refused.0 }
    }
}

fn is_fact(record: &Record) -> bool {
    !matches!(
        record,
        Record::Segment(_) | Record::Callback(_) | Record::Conversation(_) | Record::Delivery(_)
    )
}

impl SimStore {
    /// Writes several things, of which a failure leaves some.
    async fn each<T>(
        &self,
        call: &str,
        all: &[T],
        write: impl Fn(&mut super::rows::Rows, &T),
    ) -> Result<(), PortError> {
        let world = &self.0.world;
        let written = self.0.gate(call, |action| {
            let mut state = world.state();
            let whole = matches!(action, None | Some(Action::Isolate(_) | Action::CrashAfter));
            for item in all {
                if whole || state.rng.chance(5000) {
                    write(&mut state.rows, item);
                }
            }
        });
        Ok(written.await?)
    }
}

#[async_trait]
impl Facts for SimStore {
    async fn write(&self, rows: &[Row]) -> Result<(), PortError> {
        if let Some(row) = rows.iter().find(|row| !is_fact(&row.record)) {
            let cause = format!("a {} is no fact", row.record.name());
            return Err(PortError::Refused { service: "simulated store", cause });
        }
        self.each("store.facts.write", rows, |all, row| all.write(row)).await
    }

    async fn read(&self, conversation: &str) -> Result<Vec<Row>, PortError> {
        Ok(self.0.on("store.facts.read", |state| state.rows.read(conversation)).await?)
    }

    async fn texts(
        &self,
        conversation: &str,
        keys: &[TextKey],
    ) -> Result<Vec<Option<Transcript>>, PortError> {
        let texts = self.0.on("store.facts.texts", |state| {
            keys.iter().map(|key| state.rows.text(conversation, key)).collect()
        });
        Ok(texts.await?)
    }

    async fn conversations(
        &self,
        cursor: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<Bytes>), PortError> {
        let page = self.0.on("store.facts.list", |state| state.rows.conversations(cursor.as_ref(), limit));
        Ok(page.await?)
    }

    async fn erase(&self, conversation: &str, marker: Erasure) -> Result<(), PortError> {
        Ok(self.0.on("store.facts.erase", |state| state.rows.erase(conversation, marker)).await?)
    }

    async fn erasure(&self, conversation: &str) -> Result<Option<Erasure>, PortError> {
        Ok(self.0.on("store.facts.erasure", |state| state.rows.erasures.get(conversation).cloned()).await?)
    }
}

#[async_trait]
impl Erasures for SimStore {
    async fn erasures(
        &self,
        cursor: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<(String, Erasure)>, Option<Bytes>), PortError> {
        let after = cursor.map(|cursor| String::from_utf8_lossy(&cursor).into_owned()).unwrap_or_default();
        let page = self.0.on("store.facts.erasures", |state| {
            let later = state.rows.erasures.iter().filter(|(id, _)| id.as_str() > after.as_str());
            later.take(limit).map(|(id, marker)| (id.clone(), marker.clone())).collect::<Vec<_>>()
        });
        let page = page.await?;
        let next = page.last().filter(|_| page.len() == limit).map(|(id, _)| Bytes::from(id.clone()));
        Ok((page, next))
    }
}

#[async_trait]
impl Windows for SimStore {
    async fn insert(&self, entries: &[OpenWindow]) -> Result<(), PortError> {
        let insert = |all: &mut super::rows::Rows, entry: &OpenWindow| {
            all.windows.insert(entry.clone());
        };
        self.each("store.windows.insert", entries, insert).await
    }

    async fn remove(&self, entries: &[OpenWindow]) -> Result<(), PortError> {
        let remove = |all: &mut super::rows::Rows, entry: &OpenWindow| {
            all.windows.remove(entry);
        };
        self.each("store.windows.remove", entries, remove).await
    }

    async fn list(&self, partition: Partition, since_day: i32) -> Result<Vec<OpenWindow>, PortError> {
        let list = self.0.on("store.windows.list", |state| {
            let own = state.rows.windows.iter();
            own.filter(|entry| entry.partition == partition && entry.day >= since_day).cloned().collect()
        });
        Ok(list.await?)
    }
}

#[async_trait]
impl Journal for SimStore {
    async fn write(&self, key: &JournalKey, id: SubmissionId, step: Step) -> Result<(), PortError> {
        let call = match &step {
            Step::Started { .. } => "store.journal.started",
            Step::Job { .. } => "store.journal.job",
            Step::Ended { .. } => "store.journal.ended",
            Step::Result(_) => "store.journal.result",
        };
        Ok(self.0.on(call, |state| state.rows.write_step(key, id, step)).await?)
    }

    async fn read(&self, key: &JournalKey) -> Result<Vec<Submission>, PortError> {
        Ok(self.0.on("store.journal.read", |state| state.rows.submissions(key)).await?)
    }

    async fn jobs(&self, conversation: &str) -> Result<Vec<(JournalKey, String)>, PortError> {
        Ok(self.0.on("store.journal.jobs", |state| state.rows.jobs(conversation)).await?)
    }

    async fn results(&self, conversation: &str, stage: Stage) -> Result<Vec<(JournalKey, Bytes)>, PortError> {
        Ok(self.0.on("store.journal.results", |state| state.rows.results(conversation, stage)).await?)
    }

    async fn forget(&self, key: &JournalKey, job: &str) -> Result<(), PortError> {
        Ok(self.0.on("store.journal.forget", |state| state.rows.forget(key, job)).await?)
    }

    async fn erase(&self, conversation: &str) -> Result<(), PortError> {
        Ok(self.0.on("store.journal.erase", |state| state.rows.erase_journal(conversation)).await?)
    }
}

#[async_trait]
impl DeadLetters for SimStore {
    async fn write(&self, letters: &[DeadLetter]) -> Result<(), PortError> {
        self.each("store.letters.write", letters, |all, letter| all.write_letter(letter)).await
    }

    async fn judge(&self, id: DeadLetterId, verdict: Verdict, _at: Timestamp) -> Result<(), PortError> {
        Ok(self.0.on("store.letters.judge", |state| state.rows.judge(id, verdict)).await?)
    }

    async fn list(
        &self,
        stage: Stage,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, PortError> {
        let list = self.0.on("store.letters.list", |state| state.rows.letters_after(stage, after, limit));
        Ok(list.await?)
    }

    async fn depth(&self, stage: Stage) -> Result<u64, PortError> {
        let count = |state: &mut super::world::State| {
            state.rows.letters().filter(|letter| letter.id.stage == stage).count() as u64
        };
        Ok(self.0.on("store.letters.depth", count).await?)
    }

    async fn get(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, PortError> {
        let get =
            |state: &mut super::world::State| state.rows.letters().find(|letter| letter.id == id).cloned();
        Ok(self.0.on("store.letters.get", get).await?)
    }

    async fn erase(&self, conversation: &str) -> Result<(), PortError> {
        Ok(self.0.on("store.letters.erase", |state| state.rows.erase_letters(conversation)).await?)
    }
}

impl World {
    /// All rows of a conversation.
    #[must_use]
    pub fn rows(&self, conversation: &str) -> Vec<Row> {
        self.state().rows.read(conversation)
    }

    /// Every submission in the journal, by key.
    #[must_use]
    pub fn submissions(&self) -> Vec<(JournalKey, Vec<Submission>)> {
        self.state().rows.all_submissions()
    }

    /// How many of a provider's jobs are known of a conversation.
    #[must_use]
    pub fn jobs(&self, conversation: &str) -> usize {
        self.state().rows.jobs(conversation).len()
    }

    /// The entries of the index of open windows.
    #[must_use]
    pub fn open_windows(&self) -> Vec<OpenWindow> {
        self.state().rows.windows.iter().cloned().collect()
    }

    /// The dead letters that rest.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().rows.letters().cloned().collect()
    }

    /// Notes that a dead letter was sent through again.
    pub fn judge_redriven(&self, letter: &DeadLetter) {
        self.state().rows.judge(letter.id, Verdict::Redriven { redrives: letter.redrives });
    }

    /// Whether a conversation has been erased by now.
    #[must_use]
    pub fn is_erased(&self, conversation: &str) -> bool {
        let state = self.state();
        state.rows.is_erased(conversation, state.now)
    }
}
