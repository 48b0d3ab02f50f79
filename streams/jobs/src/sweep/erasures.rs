//! Erasures, carried out by their markers: objects, late dead letters, and the providers' copies.

use hansard_core::id::Timestamp;
use hansard_runtime::ports::facts::Erasure;
use hansard_runtime::ports::objects::ObjectHead;
use hansard_schemas::Stage;

use super::report::{Fate, Report};
use super::{OWN_PREFIXES, Sweep, SweepError};

/// Markers, or objects, that are asked for at once.
pub(super) const PAGE: usize = 1_000;

impl Sweep {
    /// Goes through all markers: objects for as long as late writes are likely, jobs until they are confirmed.
    pub(super) async fn carry_erasures_out(&self, report: &mut Report) -> Result<(), SweepError> {
        let fresh = Timestamp(self.ports.clock.now().0.saturating_sub(self.config.erasure_fresh.0));
        let mut cursor = None;
        loop {
            let (page, next) = self.reach.erasures.erasures(cursor, PAGE).await?;
            for (conversation, Erasure { time, .. }) in page {
                if time >= fresh {
                    self.erase_objects(&conversation, report).await?;
                }
                self.forget_jobs(&conversation, report).await?;
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Deletes everything of an erased conversation, until nothing was found.
    async fn erase_objects(&self, conversation: &str, report: &mut Report) -> Result<(), SweepError> {
        let deleted = report.deleted;
        for prefix in OWN_PREFIXES {
            let below = format!("{prefix}{conversation}/");
            while self.erase_below(&below, report).await? && !report.dry_run {}
            let bucket = &self.storage.bucket;
            let parts = &self.reach.part_uploads;
            let aborted = parts.abort_stale(bucket, &below, Timestamp::MAX, report.dry_run).await?;
            aborted.into_iter().for_each(|key| report.aborted(key));
        }
        if !report.dry_run {
            // A stage that was at work may have laid one down since.
            self.ports.dead_letters.erase(conversation).await?;
        }
        report.erasures += u64::from(report.deleted > deleted);
        Ok(())
    }

    /// One time through; whether anything was there.
    async fn erase_below(&self, below: &str, report: &mut Report) -> Result<bool, SweepError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.ports.objects.list(&self.storage.bucket, below, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(after.is_some()) };
            after = Some(last.clone());
            report.objects += page.len() as u64;
            for (key, head) in page {
                self.erase_object(&key, &head, report).await?;
            }
        }
    }

    /// Deletes an object of an erased conversation.
    pub(super) async fn erase_object(
        &self,
        key: &str,
        head: &ObjectHead,
        report: &mut Report,
    ) -> Result<(), SweepError> {
        if !report.dry_run {
            self.ports.objects.delete(&self.name(key)).await?;
        }
        report.deleted(key, head.bytes, Fate::Erased);
        Ok(())
    }

    /// Has providers delete what they keep of a conversation's jobs. A provider that is down ends no run: its ids stay.
    async fn forget_jobs(&self, conversation: &str, report: &mut Report) -> Result<(), SweepError> {
        for (key, job) in self.ports.journal.jobs(conversation).await? {
            if report.dry_run {
                report.jobs_waiting += 1;
                continue;
            }
            // Only transcribe's provider has jobs of its own.
            let confirmed = match key.stage {
                Stage::Transcribe => self.reach.providers.forget(&job).await,
                _ => Ok(()),
            };
            match confirmed {
                Ok(()) => {
                    self.ports.journal.forget(&key, &job).await?;
                    report.jobs_forgotten += 1;
                }
                Err(failed) => {
                    tracing::warn!(%failed, conversation, "a provider's copy is not deleted yet");
                    report.jobs_waiting += 1;
                }
            }
        }
        Ok(())
    }
}
