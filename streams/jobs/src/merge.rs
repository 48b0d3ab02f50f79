//! The stage merge: a finalized conversation's recordings become one file.
//!
//! Consumes: `Finalize`. Emits: `Merge`, naming each input with its status; or a terminal `Failure`. Key: the
//! conversation. Effect: reads every chunk that arrived, in timeline order, and writes one object and its waveform, which
//! is put together from those that split wrote: where packets are copied, nothing is decoded. Bad input: a bad chunk is
//! skipped with its reason; a newer revision makes this one superseded, without paying. A slice's header is taken from the
//! chunks that the Finalize names, so what goes into a merge is what its journal's key covers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use hansard_core::ChunkId;
use hansard_core::id::{Digest, Millis};
use hansard_core::redelivery::Class;
use hansard_runtime::effect::Paid;
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::ports::{PortError, Ports};
use hansard_runtime::stage::{Answer, Failed, Input, Stage};
use hansard_schemas::{
    Finalize, Merge as MergeRecord, MergeInput, Record, RecordName, Upload, encode, upload_digest,
};
use sha2::{Digest as _, Sha256};

use crate::effects::{Effect, Known, event_of, journal_key, known, peaks_key, result, segments_prefix};
use crate::ports::{Audio, MergeSource, Merged, Peaks};
use crate::slices;

/// Waveforms that are read at the same time.
const PEAKS_AT_ONCE: usize = 8;

/// The stage.
pub struct Merge {
    effect: Effect,
    audio: Arc<dyn Audio>,
}

/// One chunk that is to be merged.
#[derive(Clone)]
struct Source {
    upload: Upload,
    upload_digest: Digest,
    offset_ms: i64,
    /// For a slice without its own header, the upload that has it, or why there is none.
    header: Result<Option<Upload>, Failed>,
}

impl Merge {
    /// The stage with its audio path.
    #[must_use]
    pub fn new(effect: Effect, audio: Arc<dyn Audio>) -> Self {
        Self { effect, audio }
    }

    async fn call(&self, finalize: &Finalize, sources: Vec<Source>, input: Digest) -> Result<Bytes, Failed> {
        let Merged { file, inputs } = self.audio.merge(&|| self.open(sources.clone())).await?;
        let inputs = inputs.into_iter().map(|input| MergeInput {
            chunk_id: input.chunk_id,
            status: input.status.to_owned(),
            code: input.code,
            offset_ms: input.offset_ms,
            duration_ms: input.duration_ms,
        });
        let record = MergeRecord {
            conversation_id: finalize.conversation_id.clone(),
            inputs: inputs.collect(),
            ..Default::default()
        };
        let file = match file {
            Ok(file) => file,
            Err(code) => return Ok(encode(&failed(record, code))),
        };
        let stem = format!("merged/{}/{input}", finalize.conversation_id);
        let peaks = self.peaks(&finalize.conversation_id, &sources, &record.inputs, file.duration_ms).await?;
        let mut peaks_key = None;
        if !peaks.is_empty() {
            let key = peaks_key.insert(format!("{stem}.peaks.json"));
            let object = self.object(key);
            self.effect.ports.objects.put(&object, "application/json", peaks.to_json()).await?;
        }
        let key = format!("{stem}.{}", file.extension);
        self.effect.ports.objects.put_stream(&self.object(&key), file.content_type, file.body).await?;
        Ok(encode(&MergeRecord {
            outcome: "done".to_owned(),
            key: Some(key),
            format: Some(file.extension.to_owned()),
            peaks_key,
            sha256: Some(file.sha256),
            bytes: Some(file.bytes),
            duration_ms: Some(file.duration_ms),
            ..record
        }))
    }

    fn object(&self, key: &str) -> ObjectName {
        ObjectName { bucket: self.effect.storage.bucket.clone(), key: key.to_owned() }
    }

    /// The merged file's waveform, from those that split wrote of its inputs. It is flat where one has none, because the
    /// chunk was not cut, and empty where none has.
    async fn peaks(
        &self,
        conversation: &str,
        sources: &[Source],
        inputs: &[MergeInput],
        duration_ms: i64,
    ) -> Result<Peaks, Failed> {
        let read =
            sources.iter().zip(inputs).filter(|(_, input)| input.duration_ms > 0).map(|(source, input)| {
                let prefix = segments_prefix(conversation, &source.upload_digest.to_string());
                let (ports, name) = (self.effect.ports.clone(), self.object(&peaks_key(&prefix)));
                let (offset_ms, duration_ms) = (input.offset_ms, input.duration_ms);
                async move { Ok::<_, Failed>((offset_ms, duration_ms, read_peaks(&ports, &name).await?)) }
            });
        let read: Vec<_> = read.collect();
        let mut read = stream::iter(read).buffered(PEAKS_AT_ONCE);
        let (mut merged, mut found) = (Peaks::flat(duration_ms), false);
        while let Some(peaks) = read.next().await {
            let (offset_ms, duration_ms, Some(peaks)) = peaks? else { continue };
            merged.lay(offset_ms, duration_ms, &peaks);
            found = true;
        }
        Ok(if found { merged } else { Peaks::default() })
    }

    /// The recordings one by one, each opened when its turn comes.
    fn open(&self, sources: Vec<Source>) -> BoxStream<'static, MergeSource> {
        let ports = self.effect.ports.clone();
        let storage = Arc::clone(&self.effect.storage);
        let opened = stream::iter(sources).then(move |source| {
            let (ports, storage) = (ports.clone(), Arc::clone(&storage));
            async move {
                let recording = match source.header {
                    Ok(header) => slices::open(&ports, &storage, &source.upload, header.as_ref()).await,
                    Err(failed) => Err(failed),
                };
                MergeSource { chunk_id: source.upload.chunk_id, offset_ms: source.offset_ms, recording }
            }
        });
        opened.boxed()
    }
}

/// A chunk's waveform; `None` where there is none that can be read.
async fn read_peaks(ports: &Ports, name: &ObjectName) -> Result<Option<Peaks>, Failed> {
    let mut body = match ports.objects.get(name, None).await {
        Err(PortError::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let mut json = Vec::new();
    while let Some(part) = body.next().await {
        json.extend_from_slice(&part?);
        if json.len() > Peaks::JSON_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(Peaks::from_json(&json))
}

fn failed(record: MergeRecord, code: &str) -> MergeRecord {
    MergeRecord { outcome: "failed".to_owned(), code: Some(code.to_owned()), ..record }
}

/// The chunks that arrived, in timeline order, with what stands for each.
fn sources(finalize: &Finalize, known: &Known) -> Vec<Source> {
    let mut uploads = BTreeMap::new();
    for row in &known.rows {
        if let Record::Upload(upload) = &*row.record {
            uploads.insert((upload.chunk_id.as_str(), upload_digest(upload)), upload);
        }
    }
    let standing = |chunk: &hansard_schemas::FinalizeChunk| {
        let standing = known.window.standing_upload(&ChunkId::new(chunk.chunk_id.as_str()).ok()?)?;
        let upload = uploads.get(&(chunk.chunk_id.as_str(), standing.digest.to_string()))?;
        Some((*upload, standing.digest, chunk.offset_ms))
    };
    let arrived: Vec<_> = finalize.chunks.iter().filter_map(standing).collect();
    let all: Vec<&Upload> = arrived.iter().map(|(upload, ..)| *upload).collect();
    let source = |(upload, upload_digest, offset_ms): (&Upload, Digest, i64)| {
        let header = if upload.continues {
            let header = slices::header_of(upload, &all).cloned();
            header.map(Some).ok_or_else(|| slices::missing(upload, Class::Permanent))
        } else {
            Ok(None)
        };
        Source { upload: upload.clone(), upload_digest, offset_ms, header }
    };
    arrived.into_iter().map(source).collect()
}

/// What goes into a merge: the format, and each chunk's id, Upload and offset.
fn input_digest(format: &str, sources: &[Source]) -> Digest {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(format.as_bytes());
    for source in sources {
        part(source.upload.chunk_id.as_bytes());
        part(&source.upload_digest.0);
        part(&source.offset_ms.to_be_bytes());
    }
    Digest(hash.finalize().into())
}

#[async_trait]
impl Stage for Merge {
    fn stage(&self) -> hansard_schemas::Stage {
        hansard_schemas::Stage::Merge
    }

    fn wants(&self, record: &Record) -> bool {
        matches!(record, Record::Finalize(_))
    }

    async fn process(&self, input: &Input) -> Result<Answer, Failed> {
        let Record::Finalize(finalize) = &*input.record else { return Ok(Answer::Done(Vec::new())) };
        let Some(known) = known(&self.effect.ports, finalize).await? else {
            return Ok(Answer::Done(Vec::new()));
        };
        let sources = sources(finalize, &known);
        let generation = finalize.generations.get(self.stage().as_str()).copied().unwrap_or(0);
        let digest = input_digest(self.audio.merge_format(), &sources);
        let key = journal_key(&finalize.conversation_id, self.stage(), digest, generation);
        let mut merge = if sources.is_empty() {
            let conversation_id = finalize.conversation_id.clone();
            failed(MergeRecord { conversation_id, ..Default::default() }, "no_audio")
        } else {
            let call = |_| self.call(finalize, sources, digest);
            match self.effect.pay(&key, input, call).await? {
                Paid::UnderWay => return Ok(Answer::Parked(Millis::ZERO)),
                Paid::Result(bytes) => match result(&bytes)? {
                    Record::Merge(merge) => merge,
                    _ => {
                        return Err(Failed::new(
                            Class::Defect,
                            "journal_corrupt",
                            "the result of a merge is none",
                        ));
                    }
                },
            }
        };
        merge.event_id = event_of(RecordName::Merge, &key, &finalize.digest);
        merge.revision = finalize.revision;
        merge.generation = generation;
        merge.finalize_digest.clone_from(&finalize.digest);
        Ok(Answer::Done(vec![Record::Merge(merge)]))
    }

    async fn undo(&self, _input: &Input, emitted: &[Record]) -> Result<(), Failed> {
        for record in emitted {
            let Record::Merge(MergeRecord { key, peaks_key, .. }) = record else { continue };
            for key in [key, peaks_key].into_iter().flatten() {
                self.effect.ports.objects.delete(&self.object(key)).await?;
            }
        }
        Ok(())
    }
}
