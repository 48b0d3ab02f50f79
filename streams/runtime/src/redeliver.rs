//! What becomes of a record that failed, as records: a retry or a dead letter, with its `Failure`, original bytes kept;
//! and the rows of dead letters, which are written from their topic.

use std::sync::Arc;

use bytes::Bytes;
use hansard_core::id::{Millis, Partition, Timestamp};
use hansard_core::redelivery::{Answer as Redelivery, Attempt, Cause, Class, Headers, Origin, Policy};
use hansard_schemas::{
    Failure, Framing, Record, RecordName, Stage, Topic, Topics, event_id, topic_of, upload_digest,
};

use crate::outcome::{Ending, Outcome};
use crate::ports::Ports;
use crate::ports::dead_letters::{DeadLetter, DeadLetterId};
use crate::ports::log::{LogRecord, Outgoing, TopicPartition};
use crate::stage::{Answer, Failed, Input};
use crate::trace::TraceParent;

/// How one stage answers failures, and how it writes.
#[derive(Clone)]
pub struct Redeliver {
    /// The stage.
    pub stage: Stage,
    /// Its tiers and attempts.
    pub policy: Policy,
    /// How records are framed.
    pub framing: Arc<Framing>,
    /// The names of topics.
    pub topics: Arc<Topics>,
    /// `source` of what is emitted: job and instance.
    pub source: Arc<str>,
}

/// A failed record and its history.
struct Failing<'a> {
    from: TopicPartition,
    record: &'a LogRecord,
    /// The decoded record, where it could be.
    decoded: Option<&'a Record>,
    /// The history so far, where there is one.
    history: Option<&'a Headers>,
    failed: &'a Failed,
    /// Where its `Failure` stands. The record itself keeps what it came with.
    trace: Option<TraceParent>,
    /// Failures so far, this one included.
    attempt: u32,
    now: Timestamp,
}

impl Redeliver {
    /// An emission on its way, with its place in a trace.
    pub(crate) fn outgoing(
        &self,
        partition: Partition,
        record: &Record,
        trace: Option<TraceParent>,
    ) -> Outgoing {
        Outgoing {
            to: TopicPartition { topic: topic_of(record.name()), partition },
            key: Some(Bytes::copy_from_slice(record.conversation_id().as_bytes())),
            value: Some(self.framing.encode(record)),
            headers: trace.iter().map(TraceParent::header).collect(),
        }
    }

    /// For a record of one of the stage's retry tiers: when it is due.
    pub(crate) fn due(&self, from: Topic, appended: Timestamp) -> Option<Timestamp> {
        match from {
            Topic::Retry(_, tier) => Some(self.policy.due(tier.into(), appended)),
            _ => None,
        }
    }

    /// A due record that must still not be tried goes round the last tier once more, uncounted.
    pub(crate) fn round_again(
        &self,
        from: TopicPartition,
        record: &LogRecord,
        input: &Input,
        now: Timestamp,
    ) -> Option<Outcome> {
        let not_before = input.history.as_ref().and_then(|history| history.not_before);
        let tier = self.policy.round_again(not_before, now)?;
        Some(Outcome::Emit(Ending { records: vec![self.again(from, record, tier)], transient: None }))
    }

    /// What a stage's answer leads to.
    pub(crate) fn outcome(
        &self,
        from: TopicPartition,
        record: &LogRecord,
        input: &Input,
        answer: Result<Answer, Failed>,
        now: Timestamp,
    ) -> Outcome {
        let failed = match answer {
            Ok(Answer::Done(emitted)) => {
                let records = emitted.into_iter().map(|mut emitted| {
                    emitted.stamp(&self.source, now.0);
                    self.outgoing(from.partition, &emitted, input.trace)
                });
                #[cfg(feature = "mutants")]
                if crate::mutants::is_in(crate::mutants::Mutant::OutputsWithRetry) && input.history.is_none()
                {
                    let records = records.chain([self.again(from, record, 1)]).collect();
                    return Outcome::Emit(Ending { records, transient: None });
                }
                return Outcome::Emit(Ending { records: records.collect(), transient: None });
            }
            Ok(Answer::Parked(wish)) => {
                let tier = self.policy.parked(wish);
                return Outcome::Emit(Ending {
                    records: vec![self.again(from, record, tier)],
                    transient: None,
                });
            }
            Err(failed) => failed,
        };
        let before = input.history.as_ref().map_or(0, |history| history.attempt).max(failed.attempts_before);
        let attempt = before.saturating_add(1);
        let retry_after =
            failed.retry_after.map(|wish| Millis(i64::try_from(wish.as_millis()).unwrap_or(i64::MAX)));
        let failing = Failing {
            from,
            record,
            decoded: Some(&input.record),
            history: input.history.as_ref(),
            failed: &failed,
            trace: input.trace,
            attempt,
            now,
        };
        match self.policy.answer(Attempt { class: failed.class, attempt, retry_after, pauses: 0 }) {
            Redelivery::Retry { tier, not_before } => {
                let records = self.retry(&failing, tier, not_before.map(|wish| now + wish));
                let transient = (failed.class == Class::Transient).then_some(failed.code);
                Outcome::Emit(Ending { records, transient })
            }
            Redelivery::DeadLetter => {
                Outcome::Emit(Ending { records: self.dead_letter(&failing), transient: None })
            }
            // Fencing shows in the group's events; until then the record rests like one whose dependency is down.
            Redelivery::Pause { .. } | Redelivery::Rejoin | Redelivery::Quarantine => {
                Outcome::Wait { cause: failed.to_string(), retry_after }
            }
        }
    }

    /// A record that can never be an input: its dead letter, and its terminal `Failure` where it has a valid key.
    pub(crate) fn refuse(
        &self,
        from: TopicPartition,
        record: &LogRecord,
        failed: &Failed,
        now: Timestamp,
    ) -> Ending {
        let decoded = record.value.as_ref().and_then(|value| self.framing.decode(value).ok());
        let decoded =
            decoded.filter(|decoded| record.key.as_deref() == Some(decoded.conversation_id().as_bytes()));
        let history = crate::intake::history(from, record).ok().flatten();
        let failing = Failing {
            from,
            record,
            decoded: decoded.as_ref(),
            history: history.as_ref(),
            failed,
            trace: TraceParent::read(&record.headers),
            attempt: history.as_ref().map_or(0, |history| history.attempt).saturating_add(1),
            now,
        };
        Ending { records: self.dead_letter(&failing), transient: None }
    }

    /// The dead letter of a record whose output the log has refused as too large. Where that was the dead letter itself,
    /// it keeps its place and history alone; the record still stands where it came from.
    pub(crate) fn too_large(
        &self,
        from: TopicPartition,
        record: &LogRecord,
        times: u32,
        now: Timestamp,
    ) -> Ending {
        let cause =
            "its output is larger than the log takes; raise the topics' max.message.bytes or send less";
        let mut ending = self.refuse(from, record, &Failed::new(Class::Permanent, "too_large", cause), now);
        if let Some(letter) = ending.records.first_mut().filter(|_| times > 1) {
            letter.value = None;
            letter.headers.retain(|(name, _)| name.starts_with("redelivery."));
        }
        ending
    }

    /// The record unchanged into a tier.
    fn again(&self, from: TopicPartition, record: &LogRecord, tier: usize) -> Outgoing {
        let tier = u8::try_from(tier).unwrap_or(u8::MAX);
        Outgoing {
            to: TopicPartition { topic: Topic::Retry(self.stage, tier), partition: from.partition },
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        }
    }

    fn retry(&self, failing: &Failing<'_>, tier: usize, not_before: Option<Timestamp>) -> Vec<Outgoing> {
        let headers = self.headers(failing, not_before);
        let mut again = self.again(failing.from, failing.record, tier);
        again.headers = with_history(&failing.record.headers, &headers);
        let retry_at = self.policy.due(tier, failing.now).max(not_before.unwrap_or(Timestamp::MIN));
        let mut records = vec![again];
        records.extend(self.failure(failing, &headers, Some(retry_at)));
        records
    }

    fn dead_letter(&self, failing: &Failing<'_>) -> Vec<Outgoing> {
        let headers = self.headers(failing, None);
        let mut rest = self.again(failing.from, failing.record, 1);
        rest.to.topic = Topic::DeadLetter(self.stage);
        rest.headers = with_history(&failing.record.headers, &headers);
        let mut records = vec![rest];
        records.extend(self.failure(failing, &headers, None));
        records
    }

    /// Writes the row of a dead letter that was read from the stage's topic: it is committed, and the row is idempotent,
    /// so that neither an abort nor a crash leaves the one without the other. One that says nothing of its history was
    /// written by somebody else, and is left alone.
    ///
    /// # Errors
    /// When the store cannot be reached; the letter is to be tried again in place.
    pub(crate) async fn keep(
        &self,
        ports: &Ports,
        from: TopicPartition,
        record: &LogRecord,
    ) -> Result<(), Failed> {
        let Ok(Some(history)) = crate::intake::history(from, record) else {
            tracing::error!(partition = %from, offset = record.offset.0, "a dead letter without its history");
            return Ok(());
        };
        let Ok(origin) = self.topics.parse(&history.origin.topic) else {
            tracing::error!(partition = %from, offset = record.offset.0, origin = history.origin.topic, "a dead letter of no topic of ours");
            return Ok(());
        };
        let conversation = conversation(record).unwrap_or_default().to_owned();
        if !conversation.is_empty() && ports.facts.erasure(&conversation).await?.is_some() {
            return Ok(());
        }
        let letter = DeadLetter {
            id: DeadLetterId {
                stage: self.stage,
                origin: TopicPartition { topic: origin, partition: history.origin.partition },
                offset: history.origin.offset,
            },
            conversation,
            class: history.failure.class.to_string(),
            code: history.failure.code,
            cause: history.failure.message,
            attempts: history.attempt,
            redrives: history.redrives,
            at: record.time,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        Ok(ports.dead_letters.write(std::slice::from_ref(&letter)).await?)
    }

    fn headers(&self, failing: &Failing<'_>, not_before: Option<Timestamp>) -> Headers {
        let history = failing.history;
        Headers {
            stage: self.stage.as_str().to_owned(),
            attempt: failing.attempt,
            not_before,
            first_failed_at: history.filter(|h| h.attempt > 0).map_or(failing.now, |h| h.first_failed_at),
            redrives: history.map_or(0, |history| history.redrives),
            origin: history.map_or_else(
                || Origin {
                    topic: self.topics.name(failing.from.topic),
                    partition: failing.from.partition,
                    offset: failing.record.offset,
                    timestamp: failing.record.time,
                },
                |history| history.origin.clone(),
            ),
            failure: Cause {
                class: failing.failed.class,
                code: failing.failed.code.to_owned(),
                message: failing.failed.cause.clone(),
            },
        }
    }

    /// The `Failure`; terminal where nothing follows. None for a record without a valid key, and none for a callback,
    /// which is only a hint.
    fn failure(
        &self,
        failing: &Failing<'_>,
        headers: &Headers,
        retry_at: Option<Timestamp>,
    ) -> Option<Outgoing> {
        let conversation = conversation(failing.record)?;
        if failing.from.topic == Topic::Callbacks || matches!(failing.decoded, Some(Record::Callback(_))) {
            return None;
        }
        let origin = &headers.origin;
        let parts: [&[u8]; 6] = [
            self.stage.as_str().as_bytes(),
            origin.topic.as_bytes(),
            &origin.partition.0.to_be_bytes(),
            &origin.offset.0.to_be_bytes(),
            &failing.attempt.to_be_bytes(),
            &headers.redrives.to_be_bytes(),
        ];
        let mut failure = Failure {
            conversation_id: conversation.to_owned(),
            event_id: event_id(RecordName::Failure, &parts),
            occurred_at: failing.now.0,
            source: self.source.to_string(),
            stage: self.stage.as_str().to_owned(),
            class: failing.failed.class.to_string(),
            code: failing.failed.code.to_owned(),
            message: failing.failed.cause.clone(),
            provider: failing.failed.provider.clone(),
            http_status: failing.failed.http_status.map(i32::from),
            attempt: i32::try_from(failing.attempt).unwrap_or(i32::MAX),
            terminal: retry_at.is_none(),
            first_failed_at: headers.first_failed_at.0,
            retry_at: retry_at.map(|at| at.0),
            origin: Some(hansard_schemas::Origin {
                topic: origin.topic.clone(),
                partition: origin.partition.0,
                offset: origin.offset.0,
            }),
            ..Default::default()
        };
        concern(&mut failure, self.stage, failing.decoded);
        Some(self.outgoing(failing.from.partition, &Record::Failure(failure), failing.trace))
    }
}

/// Says which piece of the conversation a failure concerns, so that nobody waits for it any longer.
fn concern(failure: &mut Failure, stage: Stage, record: Option<&Record>) {
    match record {
        Some(Record::Upload(upload)) => {
            failure.chunk_id = Some(upload.chunk_id.clone());
            failure.upload_digest = Some(upload_digest(upload));
        }
        Some(Record::Segment(segment)) => {
            failure.chunk_id = Some(segment.chunk_id.clone());
            failure.upload_digest = Some(segment.upload_digest.clone());
            failure.split_digest = Some(segment.split_digest.clone());
            failure.segment = Some(segment.segment);
            failure.generation = segment.generation;
        }
        Some(Record::Finalize(finalize)) => {
            failure.finalize_digest = Some(finalize.digest.clone());
            failure.revision = Some(finalize.revision);
            failure.generation = finalize.generations.get(stage.as_str()).copied().unwrap_or(0);
        }
        _ => {}
    }
}

/// The conversation of a record, where its key is the id of one.
fn conversation(record: &LogRecord) -> Option<&str> {
    let key = std::str::from_utf8(record.key.as_deref()?).ok()?;
    hansard_core::ConversationId::new(key).is_ok().then_some(key)
}

/// The record's own headers, and the history after them.
fn with_history(own: &[(String, Bytes)], history: &Headers) -> Vec<(String, Bytes)> {
    let mut headers: Vec<(String, Bytes)> =
        own.iter().filter(|(name, _)| !name.starts_with("redelivery.")).cloned().collect();
    headers.extend(history.to_pairs().into_iter().map(|(name, value)| (name.to_owned(), Bytes::from(value))));
    headers
}
