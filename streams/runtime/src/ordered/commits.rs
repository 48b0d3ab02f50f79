//! How the ordered loop commits: at once what has to be emitted, within a while what are offsets alone.

use std::sync::Arc;

use hansard_core::id::Timestamp;
use hansard_schemas::{Record, Stage};

use super::{Applied, Fold, Ordered};
use crate::commit::{Batch, Source, commit};
use crate::held::{Committing, Held, Pending, wait_for_commit};
use crate::ports::log::LogError;
use crate::ports::traces::Description;
use crate::trace::Work;

impl<F: Fold> Ordered<F> {
    /// Commits what a look led to, if anything.
    pub(super) async fn commit_if_any(
        &mut self,
        held: &mut Held,
        batch: Batch,
        applied: Applied,
    ) -> Result<(), LogError> {
        self.succeeded();
        if applied.emissions.is_empty() {
            held.settled.extend(applied.settled);
            return Ok(());
        }
        self.commit(held, batch, applied, Vec::new()).await
    }

    /// Commits a batch with what is emitted, or puts its offsets off where nothing is.
    pub(super) async fn commit(
        &mut self,
        held: &mut Held,
        mut batch: Batch,
        applied: Applied,
        times: Vec<Timestamp>,
    ) -> Result<(), LogError> {
        let now = self.ports.clock.now();
        for (partition, mut record) in applied.emissions {
            record.stamp(&self.redeliver.source, now.0);
            let conversation = record.conversation_id();
            let parent = self.ports.place(self.fold.trace(partition, conversation), conversation);
            let work = Work::begin(&self.ports, parent, self.begun);
            let out = self.redeliver.outgoing(partition, &record, Some(work.place()));
            if held.oversized.times(&Source::Window(out.to.topic, out.key.clone())) > 0 {
                tracing::error!(conversation, topic = %out.to, "larger than the log takes; it is left out");
                continue;
            }
            work.end(now, || describe(self.redeliver.stage, &record));
            batch.emit(out);
        }
        let until = now + self.config.commit_within;
        let mut pending = Pending { batch, settled: applied.settled, times, until };
        if pending.batch.has_records() {
            return self.begin(held, pending).await;
        }
        if let Some(earlier) = held.pending.take() {
            pending.until = earlier.until;
            pending.absorb(earlier);
        }
        let is_full = pending.times.len() >= self.config.batch_max;
        held.pending = Some(pending);
        if is_full { self.commit_all(held).await } else { Ok(()) }
    }

    /// Commits offsets that were put off, once it is time and no commit is under way.
    pub(super) async fn commit_pending(&mut self, held: &mut Held) -> Result<bool, LogError> {
        let now = self.ports.clock.now();
        // A clock that was set back is not waited for.
        let is_due =
            |pending: &Pending| pending.until <= now || pending.until > now + self.config.commit_within;
        if held.committing.is_some() || !held.pending.as_ref().is_some_and(is_due) {
            return Ok(false);
        }
        self.commit_all(held).await?;
        Ok(true)
    }

    /// Commits whatever was put off.
    pub(super) async fn commit_all(&mut self, held: &mut Held) -> Result<(), LogError> {
        match held.pending.take() {
            Some(pending) => self.begin(held, pending).await,
            None => Ok(()),
        }
    }

    /// Begins a transaction, with the offsets that were put off, once the last one has ended.
    async fn begin(&mut self, held: &mut Held, mut next: Pending) -> Result<(), LogError> {
        let epoch = held.assignment.as_ref().map(|assignment| assignment.epoch);
        if wait_for_commit(held).await? && held.assignment.as_ref().map(|now| now.epoch) == epoch {
            if let Some(earlier) = held.pending.take() {
                next.absorb(earlier);
            }
            let Pending { batch, settled, times, .. } = next;
            self.metrics.transaction(batch.len());
            let commit = commit(held.member.as_mut(), batch);
            held.committing = Some(Committing { commit, settled, times });
        }
        Ok(())
    }

    /// Lets the commit under way end, and commits what was put off, bounded.
    pub(super) async fn drain(&mut self, held: &mut Held) -> Result<(), LogError> {
        let clock = Arc::clone(&self.ports.clock);
        let bound = clock.sleep_until(clock.now() + self.config.drain);
        let commits = async {
            self.commit_all(held).await?;
            wait_for_commit(held).await.map(|_| ())
        };
        tokio::select! {
            biased;
            result = commits => result,
            () = bound => Ok(()),
        }
    }
}

/// What is told of an emission.
fn describe(stage: Stage, record: &Record) -> Description {
    Description {
        job: stage.as_str(),
        name: format!("{stage} {}", record.name().as_str()),
        attributes: vec![("hansard.conversation", record.conversation_id().to_owned())],
        failed: None,
    }
}
