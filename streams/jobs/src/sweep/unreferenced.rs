//! Objects that nothing refers to, and conversations whose retention is over. Keys carry the conversation, so that one
//! conversation's rows are held at a time.

use bytes::Bytes;
use hansard_core::id::{Partition, Timestamp};
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
#[derive(Debug)]
pub(super) struct Unreferenced {
    /// The marks of earlier runs.
    known: Marks,
    /// A mark of this time or before is old enough.
    ripe: Timestamp,
    /// At most so many are deleted, and so many marked.
    max: usize,
    /// To be deleted: their marks are old enough.
    deletable: Marks,
    /// Marked, but not for long enough, as when another run has just been.
    waiting: Marks,
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
        // Before the first look, so that each mark that is ripe is `every` older than the look that deletes.
        let ripe = Timestamp(self.ports.clock.now().0.saturating_sub(self.config.every.0));
        #[cfg(feature = "mutants")]
        let ripe = match hansard_runtime::mutants::is_in(hansard_runtime::mutants::Mutant::SweepByYoungMark) {
            true => Timestamp::MAX,
            false => ripe,
        };
        let mut found = Unreferenced::new(self.marks().await?, ripe, self.config.marks_max);
        let old = self.old();
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
                            found.take(key, &head, self.ports.clock.now());
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

    /// Deletes what was marked long enough ago, and marks the rest for a later run; appends what retention asks for.
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
                Ok(head) if mark.is_of(&head) => {}
                // Gone, perhaps by another run, or written anew since it was marked.
                Ok(_) | Err(PortError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
            if !report.dry_run {
                self.ports.objects.delete(&name).await?;
            }
            report.deleted(key, mark.bytes, Fate::Unreferenced);
        }
        report.waiting += found.waiting.len() as u64;
        found.fresh.iter().for_each(|(key, mark)| report.marked(key, mark.bytes));
        if !report.dry_run {
            found.waiting.append(&mut found.fresh);
            self.mark(&found.waiting).await?;
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

    /// Appends the `Erase` of a conversation whose newest fact is too old. Once, or once for each of several runs at once,
    /// under one event's id: when the log is read next time, its rows are gone.
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
    fn new(known: Marks, ripe: Timestamp, max: usize) -> Self {
        let (deletable, waiting, fresh) = (Marks::new(), Marks::new(), Marks::new());
        Self { known, ripe, max, deletable, waiting, fresh }
    }

    /// Takes an object in that nothing refers to now, as far as there is room.
    fn take(&mut self, key: String, head: &ObjectHead, now: Timestamp) {
        let known = self.known.remove(&key).filter(|mark| mark.is_of(head));
        let room = self.waiting.len() + self.fresh.len() < self.max;
        match known {
            Some(mark) if mark.since <= self.ripe && self.deletable.len() < self.max => {
                self.deletable.insert(key, mark);
            }
            Some(mark) if room => {
                // Whoever marked it may have had a clock that is ahead: its mark would never be old enough.
                self.waiting.insert(key, Mark { since: mark.since.min(now), ..mark });
            }
            None if room => {
                self.fresh.insert(key, Mark::of(head, now));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(etag: &str) -> ObjectHead {
        ObjectHead { bytes: 1, etag: etag.to_owned(), sha256: None, modified: Timestamp(0) }
    }

    fn marked(key: &str, since: i64) -> Marks {
        Marks::from([(key.to_owned(), Mark::of(&head("e"), Timestamp(since)))])
    }

    #[test]
    fn a_mark_ripens_at_the_bound() {
        for (since, ripe) in [(10, true), (11, false)] {
            let mut found = Unreferenced::new(marked("k", since), Timestamp(10), 9);
            found.take("k".to_owned(), &head("e"), Timestamp(20));
            assert_eq!((found.deletable.len(), found.waiting.len()), (usize::from(ripe), usize::from(!ripe)));
            assert!(ripe || found.waiting == marked("k", since), "it keeps its age: {found:?}");
        }
    }

    #[test]
    fn a_mark_of_the_future_is_of_now_and_one_of_another_content_is_none() {
        let mut found = Unreferenced::new(marked("k", 99), Timestamp(10), 9);
        found.take("k".to_owned(), &head("e"), Timestamp(20));
        assert_eq!(found.waiting, marked("k", 20));
        let mut found = Unreferenced::new(marked("k", 1), Timestamp(10), 9);
        found.take("k".to_owned(), &head("other"), Timestamp(20));
        assert_eq!(found.fresh["k"], Mark::of(&head("other"), Timestamp(20)));
    }

    #[test]
    fn no_more_is_deleted_and_marked_than_there_is_room_for() {
        let known = ["a", "b", "c", "d"].iter().flat_map(|key| marked(key, 1)).collect();
        let mut found = Unreferenced::new(known, Timestamp(10), 2);
        ["a", "b", "c", "d", "e"]
            .iter()
            .for_each(|key| found.take((*key).to_owned(), &head("e"), Timestamp(20)));
        let of = |marks: &Marks| marks.keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!([of(&found.deletable), of(&found.waiting), of(&found.fresh)], ["a b", "c d", ""]);
    }
}
