//! The stage split: a chunk's recording becomes segments.
//!
//! Consumes: `Upload`. Emits: `Split` and its `Segment`s, or a terminal `Failure`. Key: the conversation. Effect: decodes
//! and cuts the object, pinned by its ETag; writes the segments under their hash and reads them back, the waveform beside
//! them, then the journal. Bad input: permanent failure with the decoder's code. It never deletes the original.
//!
//! A slice without its own header is read with that of an earlier upload of its track. That one may come later, and its
//! row a moment after it: until then `no_header` is transient, so the slice goes through the retry tiers, and rests as a
//! dead letter if it has not come by then, to be redriven when it has. The journal's key stays the Upload's digest: the
//! first Split of an Upload stands, so that another header, known later, could only pay for one that nobody counts.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use hansard_core::id::Millis;
use hansard_core::redelivery::Class;
use hansard_runtime::effect::Paid;
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::stage::{Answer, Failed, Input, Stage};
use hansard_schemas::{
    Record, RecordName, Split as SplitRecord, Upload, encode, split_digest, upload_digest,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::aggregate::{hex, segment};
use crate::effects::{Effect, digest, event_of, journal_key, name, peaks_key, result, segments_prefix};
use crate::ports::{Audio, CutSegment};
use crate::slices;

/// Segments that wait between the cutter and the object store.
const SEGMENTS_WAITING: usize = 4;

/// The stage.
pub struct Split {
    effect: Effect,
    audio: Arc<dyn Audio>,
}

impl Split {
    /// The stage with its audio path.
    #[must_use]
    pub fn new(effect: Effect, audio: Arc<dyn Audio>) -> Self {
        Self { effect, audio }
    }

    /// The upload whose header goes before this one, where it has none of its own.
    async fn header(&self, upload: &Upload) -> Result<Option<Upload>, Failed> {
        if !upload.continues {
            return Ok(None);
        }
        let rows = self.effect.ports.facts.read(&upload.conversation_id).await?;
        let header = slices::header_of(upload, &slices::standing(&rows)).cloned();
        header.map(Some).ok_or_else(|| slices::missing(upload, Class::Transient))
    }

    async fn cut(&self, upload: &Upload, header: Option<&Upload>, digest: &str) -> Result<Bytes, Failed> {
        let Effect { ports, storage, .. } = &self.effect;
        let recording = slices::open(ports, storage, upload, header).await?;
        let key_prefix = segments_prefix(&upload.conversation_id, digest);
        let (sender, mut receiver) = mpsc::channel(SEGMENTS_WAITING);
        let keep = async {
            let mut kept = Vec::new();
            while let Some(cut) = receiver.recv().await {
                self.keep(&key_prefix, &cut).await?;
                kept.push(cut.segment);
            }
            Ok::<_, Failed>(kept)
        };
        let (cut, segments) = futures::future::join(self.audio.split(recording, sender), keep).await;
        // Where the store failed, the cutter only saw its receiver go.
        let (segments, cut) = (segments?, cut?);
        if !cut.peaks.is_empty() {
            let name = self.object(peaks_key(&key_prefix));
            self.effect.ports.objects.put(&name, "application/json", cut.peaks.to_json()).await?;
        }
        let mut split = SplitRecord {
            conversation_id: upload.conversation_id.clone(),
            chunk_id: upload.chunk_id.clone(),
            upload_digest: digest.to_owned(),
            plan_version: self.audio.plan_version().to_owned(),
            bucket: self.effect.storage.bucket.clone(),
            key_prefix,
            duration_ms: cut.duration_ms,
            codec: Some(cut.codec),
            container: Some(cut.container),
            sample_rate: Some(cut.sample_rate),
            channels: Some(cut.channels),
            truncated: cut.truncated,
            silent_ms: cut.silent_ms,
            segments,
            ..Default::default()
        };
        split.digest = split_digest(&split);
        Ok(encode(&split))
    }

    fn object(&self, key: String) -> ObjectName {
        ObjectName { bucket: self.effect.storage.bucket.clone(), key }
    }

    /// Writes one segment under its hash, and reads it back: nothing is announced that cannot be had.
    async fn keep(&self, key_prefix: &str, cut: &CutSegment) -> Result<(), Failed> {
        let key = format!("{key_prefix}{}", hex(&cut.segment.sha256));
        let object = self.object(key);
        let objects = &self.effect.ports.objects;
        let head = objects.put(&object, "audio/flac", cut.flac.clone()).await?;
        let mut body = objects.get(&object, Some(&head.etag)).await?;
        let mut hash = Sha256::new();
        while let Some(part) = body.next().await {
            hash.update(part?);
        }
        if hash.finalize()[..] != cut.segment.sha256[..] {
            let cause = format!("segment {} reads back with another hash", object.key);
            return Err(Failed::new(Class::Transient, "segment_differs", cause));
        }
        Ok(())
    }
}

#[async_trait]
impl Stage for Split {
    fn stage(&self) -> hansard_schemas::Stage {
        hansard_schemas::Stage::Split
    }

    fn shares_a_dependency(&self, code: &str) -> bool {
        // A slice waits for a record that its own producer owes.
        code != slices::NO_HEADER
    }

    fn wants(&self, record: &Record) -> bool {
        matches!(record, Record::Upload(_))
    }

    async fn process(&self, input: &Input) -> Result<Answer, Failed> {
        let Record::Upload(upload) = &*input.record else { return Ok(Answer::Done(Vec::new())) };
        self.effect.storage.check(&upload.object)?;
        let upload_digest = upload_digest(upload);
        let key = journal_key(&upload.conversation_id, self.stage(), digest(&upload_digest)?, 0);
        let header = self.header(upload).await?;
        let call = |_| self.cut(upload, header.as_ref(), &upload_digest);
        let paid = self.effect.pay(&key, input, call).await?;
        let Paid::Result(bytes) = paid else { return Ok(Answer::Parked(Millis::ZERO)) };
        let Record::Split(mut split) = result(&bytes)? else {
            return Err(Failed::new(Class::Defect, "journal_corrupt", "the result of a split is none"));
        };
        split.event_id = event_of(RecordName::Split, &key, "");
        let options = upload.options.clone().unwrap_or_default();
        let segments = split.segments.iter().map(|piece| {
            let mut work = segment(&split, piece.index, 0, options.clone());
            work.event_id = event_of(RecordName::Segment, &key, &piece.index.to_string());
            Record::Segment(work)
        });
        let segments: Vec<Record> = segments.collect();
        Ok(Answer::Done([Record::Split(split)].into_iter().chain(segments).collect()))
    }

    async fn undo(&self, _input: &Input, emitted: &[Record]) -> Result<(), Failed> {
        for record in emitted {
            let object = match record {
                Record::Segment(segment) => name(&segment.object),
                Record::Split(split) => self.object(peaks_key(&split.key_prefix)),
                _ => continue,
            };
            self.effect.ports.objects.delete(&object).await?;
        }
        Ok(())
    }
}
