//! What a conversation's rows and journal refer to: what must stay.

use std::collections::BTreeSet;
use std::ops::Bound::{Included, Unbounded};

use hansard_runtime::ports::facts::Row;
use hansard_runtime::ports::{PortError, Ports};
use hansard_runtime::stage::Failed;
use hansard_schemas::{Record, Split, Stage, upload_digest};

use crate::aggregate::hex;
use crate::effects::{Storage, peaks_key, result};

/// The keys that must stay. None of the beginnings is the beginning of another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct References {
    keys: BTreeSet<String>,
    /// What a stage may write under names that it wrote before: a deletion could meet the writing.
    beginnings: BTreeSet<String>,
}

impl References {
    /// Reads what a conversation refers to.
    ///
    /// # Errors
    /// As the store's; `Corrupt` where a result in the journal is none.
    pub(super) async fn of(ports: &Ports, storage: &Storage, conversation: &str) -> Result<Self, PortError> {
        let corrupt = |failed: Failed| PortError::Corrupt {
            what: format!("result in the journal of {conversation}"),
            cause: failed.to_string(),
        };
        let mut known = Self::default();
        let mut cut = BTreeSet::new();
        for (key, bytes) in ports.journal.results(conversation, Stage::Split).await? {
            cut.insert(key.input.to_string());
            if let Record::Split(split) = result(&bytes).map_err(corrupt)? {
                known.split(storage, &split);
            }
        }
        for (_, bytes) in ports.journal.results(conversation, Stage::Merge).await? {
            if let Record::Merge(merge) = result(&bytes).map_err(corrupt)? {
                known.keys.extend([merge.key, merge.peaks_key].into_iter().flatten());
            }
        }
        known.rows(storage, conversation, &ports.facts.read(conversation).await?, cut);
        Ok(known)
    }

    /// Takes in rows; `cut` are the Uploads whose split is in the journal.
    fn rows(&mut self, storage: &Storage, conversation: &str, rows: &[Row], mut cut: BTreeSet<String>) {
        let (mut uploads, mut merged, mut last) = (Vec::new(), BTreeSet::new(), None);
        for row in rows {
            match &*row.record {
                Record::Upload(upload) => {
                    uploads.push(upload_digest(upload));
                    if upload.object.bucket == storage.bucket {
                        self.keys.insert(upload.object.key.clone());
                    }
                }
                Record::Split(split) => {
                    cut.insert(split.upload_digest.clone());
                    self.split(storage, split);
                }
                Record::Merge(merge) => {
                    merged.insert(&merge.finalize_digest);
                    self.keys.extend([&merge.key, &merge.peaks_key].into_iter().flatten().cloned());
                }
                Record::Summary(summary) => self.keys.extend(summary.transcript_key.clone()),
                Record::Finalize(finalize) => {
                    last = last.max(Some((finalize.revision, &finalize.digest)));
                    // The gateway finds a revision's document by this when the summary failed.
                    self.beginnings.insert(format!("transcripts/{conversation}/{}-", finalize.revision));
                }
                _ => {}
            }
        }
        // A split that has not succeeded can be redriven, and then writes the same segments under the same names.
        let uncut = uploads.into_iter().filter(|digest| !cut.contains(digest));
        self.beginnings.extend(uncut.map(|digest| format!("segments/{conversation}/{digest}/")));
        if last.is_some_and(|(_, digest)| !merged.contains(digest)) {
            self.beginnings.insert(format!("merged/{conversation}/"));
        }
    }

    fn split(&mut self, storage: &Storage, split: &Split) {
        if split.bucket == storage.bucket {
            let key = |sha256: &Vec<u8>| format!("{}{}", split.key_prefix, hex(sha256));
            self.keys.extend(split.segments.iter().map(|segment| key(&segment.sha256)));
            self.keys.insert(peaks_key(&split.key_prefix));
        }
    }

    /// Whether the object must stay.
    pub(super) fn hold(&self, key: &str) -> bool {
        let before = self.beginnings.range::<str, _>((Unbounded, Included(key))).next_back();
        self.keys.contains(key) || before.is_some_and(|beginning| key.starts_with(beginning.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use hansard_core::id::{Offset, Timestamp};
    use hansard_schemas::{Finalize, Merge, Object, SplitSegment, Summary, Upload};

    use super::*;

    fn of(records: Vec<Record>, cut: &[&str]) -> References {
        let rows: Vec<Row> = records
            .into_iter()
            .map(|record| Row { offset: Offset(0), time: Timestamp(0), record: Box::new(record) })
            .collect();
        let mut references = References::default();
        let cut = cut.iter().map(|digest| (*digest).to_owned()).collect();
        references.rows(&Storage::new("b"), "c", &rows, cut);
        references
    }

    fn upload(bucket: &str, key: &str) -> Upload {
        let object = Object { bucket: bucket.to_owned(), key: key.to_owned(), ..Default::default() };
        Upload { conversation_id: "c".to_owned(), chunk_id: "a".to_owned(), object, ..Default::default() }
    }

    #[test]
    fn an_upload_holds_its_original_and_what_its_split_may_write_again() {
        let upload = upload("b", "uploads/c/a/1");
        let segment = format!("segments/c/{}/00", upload_digest(&upload));
        let held = of(vec![upload.clone().into()], &[]);
        assert!(held.hold("uploads/c/a/1") && held.hold(&segment));
        assert!(!held.hold("uploads/c/a/12") && !held.hold("uploads/c/a") && !held.hold("segments/c/00/00"));
        assert!(!of(vec![upload.clone().into()], &[&upload_digest(&upload)]).hold(&segment), "it was cut");
        assert!(!of(vec![self::upload("other", "uploads/c/a/1").into()], &[]).hold("uploads/c/a/1"));
    }

    #[test]
    fn a_split_holds_its_segments() {
        let segments = vec![SplitSegment { sha256: vec![0xab, 0x01], ..Default::default() }];
        let split = Split {
            bucket: "b".to_owned(),
            key_prefix: "segments/c/d/".to_owned(),
            segments,
            ..Default::default()
        };
        let held = of(vec![split.into()], &[]);
        assert!(held.hold("segments/c/d/ab01") && !held.hold("segments/c/d/ab02"));
        assert!(held.hold("segments/c/d/peaks.json") && !held.hold("segments/c/peaks.json"));
    }

    #[test]
    fn a_revision_holds_its_documents_and_the_latest_its_merge_until_it_is_done() {
        let finalize =
            |revision| Finalize { revision, digest: format!("1:{revision}"), ..Default::default() };
        let merge = |revision: i32, key: &str| Merge {
            finalize_digest: format!("1:{revision}"),
            key: Some(key.to_owned()),
            peaks_key: Some(format!("{key}.peaks.json")),
            ..Default::default()
        };
        let held = of(vec![finalize(1).into(), finalize(12).into(), merge(1, "merged/c/1").into()], &[]);
        assert!(held.hold("transcripts/c/1-ab.json") && held.hold("transcripts/c/12-ab.json"));
        assert!(!held.hold("transcripts/c/2-ab.json") && !held.hold("transcripts/c/1"));
        assert!(held.hold("merged/c/1") && held.hold("merged/c/2"), "revision 12 is not merged yet");
        let held = of(vec![finalize(1).into(), merge(1, "merged/c/1").into()], &[]);
        assert!(held.hold("merged/c/1") && !held.hold("merged/c/2"));
        assert!(held.hold("merged/c/1.peaks.json") && !held.hold("merged/c/2.peaks.json"));
        let named =
            Summary { transcript_key: Some("transcripts/c/3-cd.json".to_owned()), ..Default::default() };
        assert!(of(vec![named.into()], &[]).hold("transcripts/c/3-cd.json"));
    }
}
