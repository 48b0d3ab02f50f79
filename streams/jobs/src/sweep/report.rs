//! What a run did, or with dry run would do.

use serde::Serialize;

use super::SweepError;

/// At most so many objects are named; all are counted.
const NAMED_MAX: usize = 1_000;

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its conversation was erased: deleted.
    Erased,
    /// Nothing refers to it: marked, and deleted by a run that comes `sweep.every` later.
    Marked,
    /// Nothing has referred to it since it was marked: deleted.
    Unreferenced,
    /// A multipart upload that nobody joined: aborted.
    Aborted,
}

/// An object that a run did something with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its key in the deployment's bucket.
    pub key: String,
    /// Its size; of a multipart upload it is not known.
    pub bytes: u64,
    /// What becomes of it.
    pub fate: Fate,
}

/// A run in numbers. With `dry_run` they say what would have been done, and nothing was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Whether aggregate had read the log. Where not, nothing was called unreferenced and no retention applied.
    pub log_read: bool,
    /// Objects looked at.
    pub objects: u64,
    /// Objects that were marked.
    pub marked: u64,
    /// Objects that an earlier run has marked, less than `sweep.every` ago.
    pub waiting: u64,
    /// Objects that were deleted: of erased conversations, and unreferenced ones.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Erased conversations of which something was left.
    pub erasures: u64,
    /// Providers' jobs of erased conversations whose deletion is confirmed.
    pub jobs_forgotten: u64,
    /// Those that were not confirmed; they are asked for again.
    pub jobs_waiting: u64,
    /// Conversations that retention has erased.
    pub expired: u64,
    /// Multipart uploads that were aborted.
    pub aborted: u64,
    /// The objects, the first 1,000.
    pub found: Vec<Found>,
}

impl Report {
    fn name(&mut self, key: String, bytes: u64, fate: Fate) {
        if self.found.len() < NAMED_MAX {
            self.found.push(Found { key, bytes, fate });
        }
    }

    pub(super) fn marked(&mut self, key: &str, bytes: u64) {
        self.marked += 1;
        self.name(key.to_owned(), bytes, Fate::Marked);
    }

    pub(super) fn deleted(&mut self, key: &str, bytes: u64, fate: Fate) {
        self.deleted += 1;
        self.deleted_bytes += bytes;
        self.name(key.to_owned(), bytes, fate);
    }

    pub(super) fn aborted(&mut self, key: String) {
        self.aborted += 1;
        self.name(key, 0, Fate::Aborted);
    }

    /// One line a run.
    pub(super) fn log(&self, error: Option<&SweepError>) {
        let Self { dry_run, log_read, objects, marked, waiting, deleted, deleted_bytes, erasures, .. } = self;
        let Self { jobs_forgotten, jobs_waiting, expired, aborted, .. } = self;
        if let Some(error) = error {
            tracing::warn!(%error, dry_run, objects, deleted, erasures, "sweep ended early; the next run goes on");
            return;
        }
        tracing::info!(
            dry_run,
            log_read,
            objects,
            marked,
            waiting,
            deleted,
            deleted_bytes,
            erasures,
            jobs_forgotten,
            jobs_waiting,
            expired,
            aborted,
            "swept"
        );
    }
}
