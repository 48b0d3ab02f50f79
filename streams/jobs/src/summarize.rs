//! The stage summarize: a finalized conversation becomes a transcript document and a summary.
//!
//! Consumes: `Finalize`. Emits: `Summary`, or a terminal `Failure`. Key: the conversation. Effect: writes the transcript
//! document, one immutable object a revision, then the calls of a writer of summaries, each kept in the journal. Bad input: a newer
//! revision, or texts that are not those of the finalize, make this one superseded, without paying.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::ChunkId;
use hansard_core::document::{Document, Gap, PlacedChunk, Spoken, Word};
use hansard_core::export::to_json;
use hansard_core::id::{Digest, Millis};
use hansard_core::manifest::{SegmentStatus, chunk_digest};
use hansard_core::redelivery::Class;
use hansard_runtime::ports::facts::{Row, TextKey};
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::stage::{Answer, Failed, Input, Stage};
use hansard_schemas::{Finalize, FinalizeChunk, Options, Record, RecordName, Summary, Transcript};
use sha2::{Digest as _, Sha256};

use crate::aggregate::hex;
use crate::effects::{Effect, Known, event_of, journal_key, known, standing_open};
use crate::ports::SummarizerIdentity;
use crate::redaction::Redaction;
use crate::summaries::{Calls, Summarizers, digest_of};

/// The stage.
pub struct Summarize {
    effect: Effect,
    summarizers: Arc<Summarizers>,
    redaction: Redaction,
}

/// The transcript document of a finalize, as it is kept.
struct Written {
    document: Document,
    digest: Digest,
    key: String,
}

impl Summarize {
    /// The stage with its writers of summaries.
    #[must_use]
    pub fn new(effect: Effect, summarizers: Arc<Summarizers>, redaction: Redaction) -> Self {
        Self { effect, summarizers, redaction }
    }

    /// Assembles and writes the document; nothing where the texts are no longer those of the finalize.
    async fn write(&self, finalize: &Finalize, known: &Known) -> Result<Option<Written>, Failed> {
        let Some(wanted) = wanted(finalize, known) else { return Ok(None) };
        let keys: Vec<TextKey> = wanted.iter().flatten().cloned().collect();
        // All at once: a store may have to go through all texts of a conversation to find any.
        let texts = self.effect.ports.facts.texts(&finalize.conversation_id, &keys).await?;
        if let Some((_, key)) = texts.iter().zip(&keys).find(|(text, _)| text.is_none()) {
            // A text is written no later than its row.
            let cause = format!("the text of segment {} of chunk {:?} is not there", key.segment, key.chunk);
            return Err(Failed::new(Class::Transient, "text_missing", cause));
        }
        let mut texts = texts.into_iter().flatten();
        let placed = finalize.chunks.iter().zip(&wanted).map(|(chunk, keys)| PlacedChunk {
            chunk: chunk.chunk_id.clone(),
            track: chunk.track.clone(),
            offset: Millis(chunk.offset_ms),
            duration: Millis(chunk.duration_ms),
            segments: texts.by_ref().take(keys.len()).map(spoken).collect(),
        });
        let chunks = placed.collect();
        let mut document = Document::assemble(chunks);
        document.conversation.clone_from(&finalize.conversation_id);
        document.revision = finalize.revision;
        document.outcome.clone_from(&finalize.outcome);
        document.finalize_digest.clone_from(&finalize.digest);
        document.gaps = finalize.gaps.iter().map(gap).collect();
        document.gaps_truncated = finalize.gaps_truncated;
        let body = Bytes::from(to_json(&document));
        let digest = Digest(Sha256::digest(&body).into());
        let key = format!("transcripts/{}/{}-{digest}.json", finalize.conversation_id, finalize.revision);
        let object = ObjectName { bucket: self.effect.storage.bucket.clone(), key: key.clone() };
        self.effect.ports.objects.put(&object, "application/json", body).await?;
        Ok(Some(Written { document, digest, key }))
    }
}

/// The texts of each chunk; nothing where a chunk's digest is not the finalize's.
fn wanted(finalize: &Finalize, known: &Known) -> Option<Vec<Vec<TextKey>>> {
    let of = |chunk: &FinalizeChunk| {
        let id = ChunkId::new(chunk.chunk_id.as_str()).ok()?;
        let segments: Vec<(u32, SegmentStatus)> = known.window.segments(&id).collect();
        if chunk_digest(segments.iter().map(|(_, status)| *status)).0[..] != chunk.digest[..] {
            return None;
        }
        let keys = segments.into_iter().filter_map(|(segment, status)| match status {
            SegmentStatus::Transcribed(sha256) => Some(TextKey {
                chunk: chunk.chunk_id.clone(),
                segment: i32::try_from(segment).unwrap_or(i32::MAX),
                sha256,
            }),
            SegmentStatus::Failed | SegmentStatus::Pending => None,
        });
        Some(keys.collect())
    };
    finalize.chunks.iter().map(of).collect()
}

/// What a summary rests on, by whom it is written, and how. The document's revision is not in it: the same transcript is
/// never summarised twice.
fn input_digest(document: &Document, identity: &SummarizerIdentity, options: &Options) -> Digest {
    let said = Document {
        revision: 0,
        finalize_digest: String::new(),
        conversation: String::new(),
        ..document.clone()
    };
    digest_of(&[&to_json(&said)], identity, options)
}

fn spoken(transcript: Transcript) -> Spoken {
    Spoken {
        segment: u32::try_from(transcript.segment).unwrap_or(0),
        start: Millis(transcript.start_ms),
        end: Millis(transcript.end_ms),
        text: transcript.text,
        words: transcript
            .words
            .iter()
            .map(|word| Word {
                text: word.text,
                start: Millis(word.start_ms),
                end: Millis(word.end_ms),
                confidence: word.confidence,
                speaker: word.speaker,
            })
            .collect(),
        language: transcript.language,
    }
}

fn gap(gap: &hansard_schemas::Gap) -> Gap {
    Gap {
        track: gap.track.clone(),
        status: gap.status.clone(),
        code: gap.code.clone(),
        chunk: gap.chunk_id.clone(),
        segment: gap.segment.and_then(|segment| u32::try_from(segment).ok()),
        sequence: gap.sequence.and_then(|sequence| u32::try_from(sequence).ok()),
    }
}

/// The options of the conversation's Open, overlaid by those of the stage's highest rerun. Provider and model are the
/// rerun's alone: those of the Open recognise speech.
fn options(finalize: &Finalize, known: &Known, stage: &str) -> Options {
    let open = standing_open(&known.rows).and_then(|open| open.options.clone()).unwrap_or_default();
    // Who asks it for one chunk asks it for what is told of all.
    let asks = |row: &Row| match &*row.record {
        Record::Upload(upload) => upload.options.as_ref().is_some_and(|own| own.redact_pii == Some(true)),
        _ => false,
    };
    let redact_pii = if known.rows.iter().any(asks) { Some(true) } else { open.redact_pii };
    let own = Options { provider: None, model: None, redact_pii, ..open };
    let over = finalize.options.get(stage).map(crate::convert::core_options);
    over.map_or(own.clone(), |over| crate::convert::overlaid(&own, &over))
}

#[async_trait]
impl Stage for Summarize {
    fn stage(&self) -> hansard_schemas::Stage {
        hansard_schemas::Stage::Summarize
    }

    fn assigned(&self, held: usize, of: usize) {
        self.summarizers.share(held, of);
    }

    fn wants(&self, record: &Record) -> bool {
        matches!(record, Record::Finalize(_))
    }

    async fn process(&self, input: &Input) -> Result<Answer, Failed> {
        let Record::Finalize(finalize) = &*input.record else { return Ok(Answer::Done(Vec::new())) };
        let Some(known) = known(&self.effect.ports, finalize).await? else {
            return Ok(Answer::Done(Vec::new()));
        };
        let Some(written) = self.write(finalize, &known).await? else { return Ok(Answer::Done(Vec::new())) };
        let options = options(finalize, &known, self.stage().as_str());
        let generation = finalize.generations.get(self.stage().as_str()).copied().unwrap_or(0);
        let (writer, options) = self.summarizers.chosen(options)?;
        let digest = input_digest(&written.document, &writer.identity(&options), &options);
        let key = journal_key(&finalize.conversation_id, self.stage(), digest, generation);
        let Self { effect, redaction, .. } = self;
        let (options, document) = (&options, &written.document);
        let calls = Calls { effect, writer, options, redaction, document, input, key: &key };
        // What went wrong may repeat what was said.
        let made = calls.made().await.map_err(|failed| redaction.failure(failed, options))?;
        let Some(mut summary) = made else { return Ok(Answer::Parked(Millis::ZERO)) };
        summary.event_id = event_of(RecordName::Summary, &key, &finalize.digest);
        summary.revision = finalize.revision;
        summary.generation = generation;
        summary.finalize_digest.clone_from(&finalize.digest);
        summary.transcript_digest = hex(&written.digest.0);
        summary.transcript_key = Some(written.key);
        Ok(Answer::Done(vec![Record::Summary(summary)]))
    }

    async fn undo(&self, _input: &Input, emitted: &[Record]) -> Result<(), Failed> {
        for record in emitted {
            let Record::Summary(Summary { transcript_key: Some(key), .. }) = record else { continue };
            let object = ObjectName { bucket: self.effect.storage.bucket.clone(), key: key.clone() };
            self.effect.ports.objects.delete(&object).await?;
        }
        Ok(())
    }
}
