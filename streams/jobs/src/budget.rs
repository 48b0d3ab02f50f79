//! A day's budget of audio for one provider: what is above it waits for the next day, and is never dropped.
//!
//! Each partition number has an equal share, so that instances need not talk, and the account of a day is kept like any
//! effect's journal, one row a submission: who takes a partition over knows what it has spent. Rows are written before the
//! submission, so a crash may spend a little too much of the account and never too little.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hansard_core::id::{Digest, Generation, Millis, Partition};
use hansard_runtime::ports::journal::{JournalKey, Step, SubmissionId};
use hansard_runtime::ports::{PortError, Ports};
use hansard_schemas::Stage;

const DAY: Millis = Millis::hours(24);

/// A provider's budget.
#[derive(Debug)]
pub struct Budget {
    provider: String,
    day_max: Millis,
    accounts: Mutex<Accounts>,
}

/// What this process knows of a day.
#[derive(Debug, Default)]
struct Accounts {
    day: i64,
    spent: BTreeMap<Partition, Millis>,
}

impl Budget {
    /// So much audio from midnight to midnight in UTC.
    #[must_use]
    pub fn new(provider: &str, day_max: Millis) -> Self {
        Self { provider: provider.to_owned(), day_max, accounts: Mutex::default() }
    }

    /// Puts audio on a partition's account; false where it does not fit.
    ///
    /// # Errors
    /// As the journal's.
    pub(crate) async fn take(
        &self,
        ports: &Ports,
        partition: Partition,
        audio: Millis,
    ) -> Result<bool, PortError> {
        let share = Millis(self.day_max.0 / i64::from(ports.log.partitions().max(1)));
        let day = ports.clock.now().0.div_euclid(DAY.0);
        let known = self.of(day).spent.get(&partition).copied();
        let spent = match known {
            Some(spent) => spent,
            None => self.read(ports, day, partition).await?,
        };
        if spent + audio > share {
            return Ok(false);
        }
        // Before the row is written, so that those that are under way together do not each take the last of it.
        self.of(day).spent.entry(partition).or_insert(spent).0 += audio.0;
        let id = SubmissionId(ports.entropy.id());
        let row = Step::Result(Bytes::copy_from_slice(&audio.0.to_be_bytes()));
        ports.journal.write(&self.account(day, partition), id, row).await?;
        Ok(true)
    }

    /// The accounts are to be read again: others may have had the partitions meanwhile.
    pub(crate) fn forget(&self) {
        *self.accounts() = Accounts::default();
    }

    async fn read(&self, ports: &Ports, day: i64, partition: Partition) -> Result<Millis, PortError> {
        let account = self.account(day, partition);
        let rows = ports.journal.results(&account.conversation, Stage::Transcribe).await?;
        let audio = |(_, row): &(JournalKey, Bytes)| row[..].try_into().map_or(0, i64::from_be_bytes);
        let spent = Millis(rows.iter().map(audio).sum());
        // Two days later nobody can be asked to pay for it any more.
        ports.journal.erase(&self.account(day - 2, partition).conversation).await?;
        let mut accounts = self.of(day);
        let held = accounts.spent.entry(partition).or_insert(spent);
        *held = spent.max(*held);
        Ok(*held)
    }

    /// The account of a day under a name that no conversation can have.
    fn account(&self, day: i64, partition: Partition) -> JournalKey {
        JournalKey {
            conversation: format!("~{}/{day}/{}", self.provider, partition.0),
            stage: Stage::Transcribe,
            input: Digest::default(),
            generation: Generation(0),
        }
    }

    /// The accounts of a day; those of another are over.
    fn of(&self, day: i64) -> MutexGuard<'_, Accounts> {
        let mut accounts = self.accounts();
        if accounts.day != day {
            *accounts = Accounts { day, spent: BTreeMap::new() };
        }
        accounts
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
