//! The journal of one machine. Only one process at a time owns a data directory, so a call that an earlier process began
//! and did not end is certainly not under way any more: without knowing that, everything that was under way in a crash
//! would wait for the end of its lease, a minute in which a person looks at a page that stands still.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::Timestamp;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::journal::{Journal, JournalKey, Step, Submission, SubmissionId};
use hansard_schemas::Stage;

/// A journal whose calls from before this process are over.
pub(crate) struct OneOwner {
    /// The journal itself.
    pub(crate) inner: Arc<dyn Journal>,
    /// When this process took the data directory.
    pub(crate) since: Timestamp,
}

impl OneOwner {
    /// Ends the waiting for a call of an earlier process. A provider's job goes on without us, and keeps its deadline.
    fn judge(&self, mut submission: Submission) -> Submission {
        for step in &mut submission.steps {
            if let Step::Started { at, until } = step
                && *at < self.since
            {
                *until = (*until).min(self.since);
            }
        }
        submission
    }
}

#[async_trait]
impl Journal for OneOwner {
    async fn write(&self, key: &JournalKey, id: SubmissionId, step: Step) -> Result<(), PortError> {
        self.inner.write(key, id, step).await
    }

    async fn read(&self, key: &JournalKey) -> Result<Vec<Submission>, PortError> {
        let submissions = self.inner.read(key).await?;
        Ok(submissions.into_iter().map(|submission| self.judge(submission)).collect())
    }

    async fn jobs(&self, conversation: &str) -> Result<Vec<(JournalKey, String)>, PortError> {
        self.inner.jobs(conversation).await
    }

    async fn results(&self, conversation: &str, stage: Stage) -> Result<Vec<(JournalKey, Bytes)>, PortError> {
        self.inner.results(conversation, stage).await
    }

    async fn forget(&self, key: &JournalKey, job: &str) -> Result<(), PortError> {
        self.inner.forget(key, job).await
    }

    async fn erase(&self, conversation: &str) -> Result<(), PortError> {
        self.inner.erase(conversation).await
    }
}

#[cfg(test)]
mod tests {
    use hansard_core::id::{Digest, Generation};
    use hansard_embedded::{Config, Engine};

    use super::*;

    #[tokio::test]
    async fn only_calls_of_earlier_processes_are_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let engine = Engine::open(directory.path(), Config::default()).expect("opens");
        let journal = OneOwner { inner: engine.journal(), since: Timestamp(1_000) };
        let key = JournalKey {
            conversation: "c".to_owned(),
            stage: Stage::Merge,
            input: Digest([1; 32]),
            generation: Generation(0),
        };
        let started = |at: i64| Step::Started { at: Timestamp(at), until: Timestamp(at + 5_000) };
        let job = Step::Job { id: "j".to_owned(), deadline: Timestamp(9_000), asked: Bytes::new() };
        journal.write(&key, SubmissionId([1; 16]), started(999)).await.expect("written");
        journal.write(&key, SubmissionId([1; 16]), job.clone()).await.expect("written");
        journal.write(&key, SubmissionId([2; 16]), started(1_000)).await.expect("written");
        let mut read = journal.read(&key).await.expect("read");
        read.sort_by_key(|submission| submission.id);
        let over = Step::Started { at: Timestamp(999), until: Timestamp(1_000) };
        assert_eq!(read[0].steps, [over, job]);
        assert_eq!(read[1].steps, [started(1_000)]);
    }
}
