//! The stage transcribe: a segment becomes text.
//!
//! Consumes: `Segment`, `Callback`. Emits: `Transcript`, or `Failure`. Key: the conversation. Effect: one submission to a
//! provider, kept in the journal before anything is emitted, redacted where that is asked for; a job that takes long is parked, and looked at again. Bad
//! input: permanent failure. A callback is a hint: it may complete a job sooner, and never fails one.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Millis, Timestamp};
use hansard_core::redelivery::Class;
use hansard_runtime::effect::{self, Before, Called, Job, Look};
#[cfg(feature = "mutants")]
use hansard_runtime::mutants;
use hansard_runtime::pace::Permit;
use hansard_runtime::ports::journal::{JournalKey, Step, SubmissionId};
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::stage::{Answer, Failed, Input, Stage};
use hansard_schemas::{
    Callback, Record, RecordName, Segment, Transcript, encode, segment_digest, text_sha256,
};

use crate::aggregate::hex;
use crate::callback::{CallbackUrls, Token};
use crate::effects::{Effect, digest, event_of, fetch, journal_key, name, result};
use crate::ports::{JobState, SegmentAudio, SpeechReply, SpeechRequest, Submitted};
use crate::providers::{Named, Providers};
use crate::redaction::Redaction;

/// Bytes of a segment's audio, at most: a minute of 16 kHz FLAC is below 2 MB.
const SEGMENT_BYTES_MAX: usize = 8 << 20;
/// When what is above a budget is looked at again: by the last tier.
const OVER_BUDGET: Millis = Millis::hours(24);
/// Where a provider tells by itself, it is not asked sooner than this.
const TOLD_CHECK: Millis = Millis::minutes(1);

/// Links to objects for those who have no key to the store.
///
/// An implementation must: make links that end by themselves, and reach the object from wherever providers are.
#[async_trait]
pub trait Links: Send + Sync {
    /// A link by which the object can be read for some hours.
    async fn link(&self, object: &ObjectName) -> Result<String, Failed>;
}

/// The stage.
pub struct Transcribe {
    effect: Effect,
    providers: Arc<Providers>,
    links: Arc<dyn Links>,
    callbacks: Option<CallbackUrls>,
    redaction: Redaction,
}

/// One segment on its way.
struct Task<'a> {
    stage: &'a Transcribe,
    key: &'a JournalKey,
    segment: &'a Segment,
}

impl Transcribe {
    /// The stage with its providers. Without `callbacks` no provider is asked to tell when a job has ended.
    #[must_use]
    pub fn new(
        effect: Effect,
        providers: Arc<Providers>,
        links: Arc<dyn Links>,
        callbacks: Option<CallbackUrls>,
        redaction: Redaction,
    ) -> Self {
        Self { effect, providers, links, callbacks, redaction }
    }

    async fn segment(&self, segment: &Segment, input: &Input) -> Result<Answer, Failed> {
        let input_digest = digest(&segment_digest(segment))?;
        let key = &journal_key(&segment.conversation_id, self.stage(), input_digest, segment.generation);
        let task = Task { stage: self, key, segment };
        let Some(_busy) = self.effect.take(key) else { return Ok(Answer::Parked(Millis::ZERO)) };
        let ports = &self.effect.ports;
        let found = match effect::look(ports, key).await? {
            Look::Result(bytes) => return emit(key, &bytes),
            Look::UnderWay => return Ok(Answer::Parked(Millis::ZERO)),
            Look::Job { submission, since, job } => task.check(submission, since, &job).await,
            Look::Free(before) => task.submit(&before, input).await,
        };
        // What went wrong may repeat what was said.
        match found.map_err(|failed| self.redaction.failure(failed, &segment.options))? {
            Found::Result(bytes) => emit(key, &bytes),
            Found::UnderWay(again) => Ok(Answer::Parked(again)),
        }
    }

    /// A job has ended, somebody says. Whatever comes of it, the segment itself comes again: this is only sooner.
    async fn callback(&self, callback: &Callback) -> Result<Answer, Failed> {
        let nothing = Ok(Answer::Done(Vec::new()));
        let Token { key, submission } = callback.journal_key.parse()?;
        if key.conversation != callback.conversation_id || key.stage != self.stage() {
            let cause = "the effect is not of this conversation and stage";
            return Err(Failed::new(Class::Permanent, "invalid", cause));
        }
        let named = self.providers.named(&callback.provider)?;
        let ports = &self.effect.ports;
        let submissions = ports.journal.read(&key).await?;
        let Some(told) = submissions.iter().find(|other| other.id == submission) else { return nothing };
        let id = named.job(&callback.job_id);
        match effect::Look::at(std::slice::from_ref(told), Timestamp::MIN) {
            // The provider was faster than our own note of its id; or whoever was to make it has died, and this is it.
            Look::UnderWay => {
                let deadline = ports.clock.now() + named.provider.deadline;
                effect::note_job(ports, &key, submission, Job { id, deadline, asked: Bytes::new() }).await?;
                nothing
            }
            Look::Job { job, since, .. } if job.id == id && !job.asked.is_empty() => {
                let Record::Segment(segment) = result(&job.asked)? else { return nothing };
                let task = Task { stage: self, key: &key, segment: &segment };
                match task.hint(submission, since, &callback.job_id, named).await? {
                    Some(bytes) => emit(&key, &bytes),
                    None => nothing,
                }
            }
            Look::Result(_) | Look::Job { .. } | Look::Free(_) => nothing,
        }
    }
}

/// What has become of a segment.
enum Found {
    Result(Bytes),
    /// Look again after so long.
    UnderWay(Millis),
}

/// Whether a job is given up that nothing can be learned of: its id may be none of ours.
fn is_beyond_asking(failed: &Failed, now: Timestamp, job: &Job, named: Named<'_>) -> bool {
    let patience = if failed.class == Class::Permanent { Millis::ZERO } else { named.provider.give_up_after };
    now >= job.deadline + patience
}

impl Task<'_> {
    /// Gives the segment to a provider: the first, or, where that is exhausted, the next.
    async fn submit(&self, before: &Before, input: &Input) -> Result<Found, Failed> {
        let Self { stage: Transcribe { effect, providers, .. }, key, segment } = self;
        let chain = providers.chain(&segment.options)?;
        let each = effect.bounds.attempts_max.max(1);
        let limit = each.saturating_mul(u32::try_from(chain.len()).unwrap_or(1));
        let made = before.attempts(input.history.as_ref(), limit)?;
        let exhausted = (made / each) as usize;
        let at = if before.refused { exhausted.max(1) } else { exhausted };
        let named = chain[at.min(chain.len() - 1)];
        if let Some((submission, since)) = before.lost
            && let Some(found) = self.find(named, submission, since).await?
        {
            return Ok(found);
        }
        let audio = Millis(segment.end_ms.saturating_sub(segment.start_ms).max(0));
        if !named.may_spend(&effect.ports, input.from.partition, audio).await? {
            tracing::warn!(provider = named.name, "the day's budget is spent; what is above it waits");
            return Ok(Found::UnderWay(OVER_BUDGET));
        }
        let permit = named.provider.pace.permit().await;
        let call = async |id: SubmissionId| self.call(named, id, &permit).await;
        let bounds = (made, effect.bounds.time_max);
        let called = effect::submit(&effect.ports, &effect.metrics, key, before, bounds, call).await;
        drop(permit);
        match called {
            Ok(Called::Result(bytes)) => Ok(Found::Result(bytes)),
            Ok(Called::Job(_)) => Ok(Found::UnderWay(self.check_after(Millis::ZERO))),
            // What one provider refuses another may take.
            Err(failed) if failed.class == Class::Permanent && at + 1 < chain.len() => {
                Err(Failed { class: Class::Transient, ..failed })
            }
            Err(failed) => Err(failed),
        }
    }

    async fn call(&self, named: Named<'_>, id: SubmissionId, permit: &Permit<'_>) -> Result<Called, Failed> {
        let clock = &self.stage.effect.ports.clock;
        let (request, began) = (self.request(named, id), clock.now());
        match named.submit(&request, permit).await? {
            Submitted::Reply(reply) => Ok(Called::Result(self.transcript(named, reply, clock.now() - began))),
            Submitted::Job(job) => Ok(Called::Job(Job {
                id: named.job(&job),
                deadline: clock.now() + named.provider.deadline,
                asked: encode(self.segment),
            })),
        }
    }

    /// A submission never told its end: where the provider can be asked for what came of it, it is asked before it is paid
    /// again. Where it cannot answer that, the repeat is what a crash costs.
    async fn find(
        &self,
        named: Named<'_>,
        submission: SubmissionId,
        since: Timestamp,
    ) -> Result<Option<Found>, Failed> {
        #[cfg(feature = "mutants")]
        if mutants::is_in(mutants::Mutant::LostUnsought) {
            return Ok(None);
        }
        let request = self.request(named, submission);
        let found = match named.find(&request, since).await {
            Ok(found) => found,
            Err(failed) if failed.class == Class::Unavailable => return Err(failed),
            Err(failed) => {
                // Not its words, which may repeat what was said.
                tracing::warn!(code = failed.code, provider = named.name, "a lost job cannot be looked for");
                None
            }
        };
        let Some(id) = found else { return Ok(None) };
        let ports = &self.stage.effect.ports;
        let deadline = ports.clock.now() + named.provider.deadline;
        let job = Job { id: named.job(&id), deadline, asked: encode(self.segment) };
        effect::note_job(ports, self.key, submission, job.clone()).await?;
        self.check(submission, Some(since), &job).await.map(Some)
    }

    /// Asks for a job. It is given up once it was not done at a look after its deadline; a provider that cannot be asked says
    /// nothing of it, unless it knows no such job then, or told nothing readable for very much longer.
    async fn check(
        &self,
        submission: SubmissionId,
        since: Option<Timestamp>,
        job: &Job,
    ) -> Result<Found, Failed> {
        let ports = &self.stage.effect.ports;
        let (named, id) = self.stage.providers.of_job(&job.id)?;
        let asked_at = ports.clock.now();
        let age = since.map_or(Millis::ZERO, |since| asked_at - since);
        let failed = match named.check(id, &self.request(named, submission)).await {
            Ok(JobState::Done(reply)) => {
                return self.done(named, submission, reply, age).await.map(Found::Result);
            }
            Ok(JobState::UnderWay) if asked_at < job.deadline => {
                return Ok(Found::UnderWay(self.check_after(age)));
            }
            Ok(JobState::UnderWay) => {
                let cause = format!("job {id} was not done {} ms after it began; it is given up", age.0);
                Failed {
                    provider: Some(named.name.to_owned()),
                    ..Failed::new(Class::Transient, "timeout", cause)
                }
            }
            Ok(JobState::Ended(failed)) => Failed { provider: Some(named.name.to_owned()), ..failed },
            #[cfg(feature = "mutants")]
            Err(failed) if mutants::is_in(mutants::Mutant::GivenUpUnasked) => failed,
            Err(failed) if failed.class == Class::Unavailable => return Err(failed),
            Err(failed) if is_beyond_asking(&failed, asked_at, job, named) => {
                Failed { class: Class::Transient, ..failed }
            }
            Err(failed) => {
                tracing::warn!(
                    code = failed.code,
                    provider = named.name,
                    job = id,
                    "a job cannot be asked for"
                );
                return Ok(Found::UnderWay(self.check_after(age)));
            }
        };
        effect::end(ports, self.key, submission, &failed).await?;
        // An id that somebody has told, and no call of ours, may be of a job of others.
        let ours = !job.asked.is_empty();
        if ours && let Err(refused) = self.stage.providers.forget(&job.id).await {
            // It costs nothing more, and an erasure asks again.
            tracing::debug!(
                code = refused.code,
                provider = named.name,
                job = id,
                "a given up job is not deleted"
            );
        }
        Err(failed)
    }

    /// The result of a job that is said to have ended; nothing where that does not hold, which the next check will tell.
    async fn hint(
        &self,
        submission: SubmissionId,
        since: Option<Timestamp>,
        id: &str,
        named: Named<'_>,
    ) -> Result<Option<Bytes>, Failed> {
        let now = self.stage.effect.ports.clock.now();
        match named.check(id, &self.request(named, submission)).await {
            Ok(JobState::Done(reply)) => {
                let age = since.map_or(Millis::ZERO, |since| now - since);
                self.done(named, submission, reply, age).await.map(Some)
            }
            Ok(JobState::UnderWay | JobState::Ended(_)) => Ok(None),
            Err(failed) => {
                tracing::debug!(
                    code = failed.code,
                    provider = named.name,
                    job = id,
                    "a hint is not followed"
                );
                Ok(None)
            }
        }
    }

    async fn done(
        &self,
        named: Named<'_>,
        submission: SubmissionId,
        reply: SpeechReply,
        age: Millis,
    ) -> Result<Bytes, Failed> {
        let bytes = self.transcript(named, reply, age);
        let journal = &self.stage.effect.ports.journal;
        journal.write(self.key, submission, Step::Result(bytes.clone())).await?;
        Ok(bytes)
    }

    /// After how long a job of this age is looked at again: less and less often.
    fn check_after(&self, age: Millis) -> Millis {
        if self.stage.callbacks.is_some() { age.max(TOLD_CHECK) } else { age }
    }

    fn request(&self, named: Named<'_>, submission: SubmissionId) -> SpeechRequest {
        let Self { stage, key, segment } = self;
        let token = Token { key: (*key).clone(), submission };
        SpeechRequest {
            audio: Arc::new(Audio {
                effect: stage.effect.clone(),
                links: Arc::clone(&stage.links),
                object: segment.object.clone(),
            }),
            start_ms: segment.start_ms,
            end_ms: segment.end_ms,
            redact: stage.redaction.applies(&segment.options),
            options: stage.providers.completed(&segment.options),
            idempotency_key: hex(&submission.0),
            callback: stage.callbacks.as_ref().map(|urls| urls.url(named.name, &token)),
        }
    }

    /// The result as it is kept: the record that is emitted.
    fn transcript(&self, named: Named<'_>, reply: SpeechReply, latency: Millis) -> Bytes {
        let segment = self.segment;
        let cost = named.cost(&reply);
        let (reply, redactions) = self.stage.redaction.heard(reply, &segment.options);
        let mut transcript = Transcript {
            conversation_id: segment.conversation_id.clone(),
            chunk_id: segment.chunk_id.clone(),
            upload_digest: segment.upload_digest.clone(),
            split_digest: segment.split_digest.clone(),
            provider: named.name.to_owned(),
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
            provider_job_id: reply.call_id,
            latency_ms: Some(latency.0),
            cost_micros: cost.map(|(micros, _)| micros),
            currency: cost.map(|(_, currency)| currency.to_owned()),
            ..Default::default()
        };
        transcript.text_sha256 = text_sha256(&transcript);
        encode(&transcript)
    }
}

/// A segment's audio in the object store.
struct Audio {
    effect: Effect,
    links: Arc<dyn Links>,
    object: hansard_schemas::Object,
}

#[async_trait]
impl SegmentAudio for Audio {
    async fn bytes(&self) -> Result<Bytes, Failed> {
        fetch(&self.effect.ports, &self.object, SEGMENT_BYTES_MAX).await
    }

    async fn link(&self) -> Result<String, Failed> {
        self.links.link(&name(&self.object)).await
    }
}

fn emit(key: &JournalKey, bytes: &Bytes) -> Result<Answer, Failed> {
    let Record::Transcript(mut transcript) = result(bytes)? else {
        let cause = "the result of a transcription is none";
        return Err(Failed::new(Class::Defect, "journal_corrupt", cause));
    };
    transcript.event_id = event_of(RecordName::Transcript, key, "");
    Ok(Answer::Done(vec![Record::Transcript(transcript)]))
}

#[async_trait]
impl Stage for Transcribe {
    fn stage(&self) -> hansard_schemas::Stage {
        hansard_schemas::Stage::Transcribe
    }

    fn wants(&self, record: &Record) -> bool {
        matches!(record, Record::Segment(_) | Record::Callback(_))
    }

    fn assigned(&self, held: usize, of: usize) {
        self.providers.share(held, of);
    }

    async fn process(&self, input: &Input) -> Result<Answer, Failed> {
        match &*input.record {
            Record::Segment(segment) => self.segment(segment, input).await,
            Record::Callback(callback) => self.callback(callback).await,
            _ => Ok(Answer::Done(Vec::new())),
        }
    }

    async fn undo(&self, _input: &Input, _emitted: &[Record]) -> Result<(), Failed> {
        // The journal's erasure takes the result, and sweep has the jobs deleted that it leaves.
        Ok(())
    }
}
