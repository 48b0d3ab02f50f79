//! The stage transcribe: a segment becomes text.
//!
//! Consumes: `Segment`. Emits: `Transcript`, or `Failure`. Key: the conversation. Effect: one call of the provider, kept
//! in the journal before anything is emitted, redacted where that is asked for. Bad input: permanent failure.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::redelivery::Class;
use hansard_runtime::effect::Paid;
use hansard_runtime::ports::journal::SubmissionId;
use hansard_runtime::stage::{Answer, Failed, Input, Stage};
use hansard_schemas::{Record, RecordName, Segment, Transcript, encode, segment_digest, text_sha256};

use crate::aggregate::hex;
use crate::effects::{Effect, digest, event_of, fetch, journal_key, result};
use crate::ports::{Speech, SpeechRequest};
use crate::redaction::Redaction;

/// Bytes of a segment's audio, at most: a minute of 16 kHz FLAC is below 2 MB.
const SEGMENT_BYTES_MAX: usize = 8 << 20;

/// The stage.
pub struct Transcribe {
    effect: Effect,
    speech: Arc<dyn Speech>,
    redaction: Redaction,
}

impl Transcribe {
    /// The stage with its provider, and with what is done about personal data.
    #[must_use]
    pub fn new(effect: Effect, speech: Arc<dyn Speech>, redaction: Redaction) -> Self {
        Self { effect, speech, redaction }
    }

    async fn call(&self, segment: &Segment, id: SubmissionId) -> Result<Bytes, Failed> {
        let audio = fetch(&self.effect.ports, &segment.object, SEGMENT_BYTES_MAX).await?;
        let request = SpeechRequest {
            audio,
            start_ms: segment.start_ms,
            end_ms: segment.end_ms,
            options: segment.options.clone(),
            idempotency_key: hex(&id.0),
        };
        let heard = self.speech.transcribe(request).await;
        let (reply, redactions) = self.redaction.of(heard, &segment.options)?;
        let mut transcript = Transcript {
            conversation_id: segment.conversation_id.clone(),
            chunk_id: segment.chunk_id.clone(),
            upload_digest: segment.upload_digest.clone(),
            split_digest: segment.split_digest.clone(),
            provider: reply.provider,
            model: reply.model,
            text: reply.text,
            segment: segment.segment,
            generation: segment.generation,
            start_ms: segment.start_ms,
            end_ms: segment.end_ms,
            audio_ms: reply.audio_ms,
            language: reply.language,
            language_confidence: reply.language_confidence,
            words: reply.words.into_iter().collect(),
            redactions,
            provider_job_id: reply.provider_job_id,
            latency_ms: Some(reply.latency_ms),
            ..Default::default()
        };
        transcript.text_sha256 = text_sha256(&transcript);
        Ok(encode(&transcript))
    }
}

#[async_trait]
impl Stage for Transcribe {
    fn stage(&self) -> hansard_schemas::Stage {
        hansard_schemas::Stage::Transcribe
    }

    fn wants(&self, record: &Record) -> bool {
        matches!(record, Record::Segment(_))
    }

    async fn process(&self, input: &Input) -> Result<Answer, Failed> {
        let Record::Segment(segment) = &*input.record else { return Ok(Answer::Done(Vec::new())) };
        let input_digest = digest(&segment_digest(segment))?;
        let key = journal_key(&segment.conversation_id, self.stage(), input_digest, segment.generation);
        let call = |id| self.call(segment, id);
        let paid = self.effect.pay(&key, input, call).await?;
        let Paid::Result(bytes) = paid else { return Ok(Answer::Parked) };
        let Record::Transcript(mut transcript) = result(&bytes)? else {
            return Err(Failed::new(
                Class::Defect,
                "journal_corrupt",
                "the result of a transcription is none",
            ));
        };
        transcript.event_id = event_of(RecordName::Transcript, &key, "");
        Ok(Answer::Done(vec![Record::Transcript(transcript)]))
    }

    async fn undo(&self, _input: &Input, _emitted: &[Record]) -> Result<(), Failed> {
        // The journal's erasure takes the result; nothing else was left anywhere.
        Ok(())
    }
}
