//! Objects that nothing refers to, and conversations whose retention is over. Keys carry the conversation, so that one
//! conversation's rows are held at a time.

use bytes::Bytes;
use hansard_core::id::Partition;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::facts::Row;
use hansard_runtime::ports::log::{Outgoing, TopicPartition};
use hansard_runtime::ports::objects::ObjectHead;
use hansard_schemas::{Erase, Record, RecordName, event_id, partition_for, topic_of};

use super::erasures::PAGE;
use super::marks::{Mark, Marks};
use super::references::References;
use super::report::{Fate, Report};
use super::{OWN_PREFIXES, Sweep, SweepError, conversation_of};

/// What the look has found, by key.
#[derive(Debug, Default)]
pub(super) struct Unreferenced {
    /// To be deleted: marked by an earlier run.
    deletable: Marks,
    /// Seen for the first time.
    fresh: Marks,
}

/// What is known of the conversation whose objects are looked at.
enum Known {
    Erased,
    Refers(References),
}

impl Sweep {
    /// Looks at all objects below the own prefixes, in the order of their keys. What is left of erased conversations is
    /// deleted at once, however long ago that was.
    pub(super) async fn look_at_objects(&self, report: &mut Report) -> Result<Unreferenced, SweepError> {
        let marks = self.marks().await?;
        let (mut found, old) = (Unreferenced::default(), self.old());
        for prefix in OWN_PREFIXES {
            let mut after: Option<String> = None;
            let mut known: Option<(String, Known)> = None;
            loop {
                let bucket = &self.storage.bucket;
                let page = self.ports.objects.list(bucket, prefix, after.as_deref(), PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                report.objects += page.len() as u64;
                for (key, head) in page.into_iter().filter(|(_, head)| head.modified < old) {
                    let conversation = conversation_of(&key);
                    if known.as_ref().is_none_or(|(held, _)| held != conversation) {
                        known = Some((conversation.to_owned(), self.known(conversation).await?));
                    }
                    match &known {
                        Some((_, Known::Erased)) => self.erase_object(&key, &head, report).await?,
                        Some((_, Known::Refers(references))) if report.log_read && !references.hold(&key) => {
                            found.take(&marks, key, &head, self.config.marks_max);
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(found)
    }

    async fn known(&self, conversation: &str) -> Result<Known, PortError> {
        if self.ports.facts.erasure(conversation).await?.is_some() {
            return Ok(Known::Erased);
        }
        References::of(&self.ports, &self.storage, conversation).await.map(Known::Refers)
    }

    /// Deletes what was marked, and marks the rest for the next run; appends what retention asks for.
    pub(super) async fn act_on(
        &self,
        mut found: Unreferenced,
        report: &mut Report,
    ) -> Result<(), SweepError> {
        if !report.log_read {
            // The old marks stay: they still say what was unreferenced then.
            return Ok(());
        }
        self.go_through_conversations(&mut found.deletable, report).await?;
        #[cfg(feature = "mutants")]
        if hansard_runtime::mutants::is_in(hansard_runtime::mutants::Mutant::SweepWithoutMark) {
            found.deletable.append(&mut found.fresh);
        }
        for (key, mark) in &found.deletable {
            let name = self.name(key);
            match self.ports.objects.head(&name).await {
                Ok(head) if Mark::of(&head) == *mark => {}
                // Gone, or written anew since it was marked.
                Ok(_) | Err(PortError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
            if !report.dry_run {
                self.ports.objects.delete(&name).await?;
            }
            report.deleted(key, mark.bytes, Fate::Unreferenced);
        }
        found.fresh.iter().for_each(|(key, mark)| report.marked(key, mark.bytes));
        if !report.dry_run {
            self.mark(&found.fresh).await?;
        }
        Ok(())
    }

    /// Goes through the rows of all conversations where that is needed. A producer of its own may keep originals below
    /// another name than their conversation's, so that any conversation may refer to one; and retention goes by the
    /// newest fact.
    async fn go_through_conversations(
        &self,
        deletable: &mut Marks,
        report: &mut Report,
    ) -> Result<(), SweepError> {
        let originals = deletable.keys().any(|key| key.starts_with(OWN_PREFIXES[0]));
        if !originals && self.config.retention.is_none() {
            return Ok(());
        }
        let mut cursor = None;
        loop {
            let (page, next) = self.ports.facts.conversations(cursor, PAGE).await?;
            for conversation in page {
                let rows = self.ports.facts.read(&conversation).await?;
                for row in &rows {
                    if let Record::Upload(upload) = &*row.record
                        && upload.object.bucket == self.storage.bucket
                    {
                        deletable.remove(&upload.object.key);
                    }
                }
                self.expire(&conversation, &rows, report).await?;
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Appends the `Erase` of a conversation whose newest fact is too old. Once: when the log is read next time, its
    /// rows are gone.
    async fn expire(&self, conversation: &str, rows: &[Row], report: &mut Report) -> Result<(), SweepError> {
        let now = self.ports.clock.now();
        let (Some(retention), Some(newest)) = (self.config.retention, rows.iter().map(|row| row.time).max())
        else {
            return Ok(());
        };
        if now - newest <= retention {
            return Ok(());
        }
        report.expired += 1;
        if report.dry_run {
            return Ok(());
        }
        let parts: [&[u8]; 3] = [conversation.as_bytes(), b"retention", &newest.0.to_be_bytes()];
        let mut record = Record::from(Erase {
            conversation_id: conversation.to_owned(),
            event_id: event_id(RecordName::Erase, &parts),
            requested_by: Some("sweep".to_owned()),
            reason: Some("retention".to_owned()),
            ..Default::default()
        });
        record.stamp("sweep", now.0);
        self.append(&record).await
    }

    async fn append(&self, record: &Record) -> Result<(), SweepError> {
        let key = Bytes::copy_from_slice(record.conversation_id().as_bytes());
        let partition = Partition(partition_for(&key, self.ports.log.partitions()));
        let to = TopicPartition { topic: topic_of(record.name()), partition };
        let value = Some(self.ports.framing.encode(record));
        self.ports.log.append(vec![Outgoing { to, key: Some(key), value, headers: Vec::new() }]).await?;
        Ok(())
    }
}

impl Unreferenced {
    /// Takes an object in, as far as there is room.
    fn take(&mut self, marks: &Marks, key: String, head: &ObjectHead, max: usize) {
        let mark = Mark::of(head);
        let found = if marks.get(&key) == Some(&mark) { &mut self.deletable } else { &mut self.fresh };
        if found.len() < max {
            found.insert(key, mark);
        }
    }
}
