//! The stage notify: whoever a conversation's Open names is told of each change of its status.
//!
//! Consumes: `Conversation`. Emits: one `Delivery` for each URL. Key: the conversation. Effect: one POST to each URL, kept
//! in the journal under the status and the URL, so that a repetition calls only those that have not answered. Bad input:
//! a URL that refuses is told as `failed`; one that does not answer is tried again, and ends in the dead letters.
//!
//! The URLs come from the Open's row, since they may hold secrets and `conversations` is kept for ever; an erasure takes
//! the row, and nobody is told anything after it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use hansard_core::id::{Digest, Millis};
use hansard_core::redelivery::Class;
use hansard_runtime::effect::Paid;
use hansard_runtime::stage::{Answer, Failed, Input, Stage};
use hansard_schemas::{Conversation, Delivery, Record, RecordName, encode};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::effects::{Effect, event_of, journal_key, result, standing_open};
use crate::ports::{Notice, Webhook};

/// The stage.
pub struct Notify {
    effect: Effect,
    webhook: Arc<dyn Webhook>,
}

impl Notify {
    /// The stage with what calls webhooks.
    #[must_use]
    pub fn new(effect: Effect, webhook: Arc<dyn Webhook>) -> Self {
        Self { effect, webhook }
    }

    /// Tells one URL; nothing where another taker may be telling it.
    async fn tell(&self, input: &Input, told: &Conversation, url: &str) -> Result<Option<Delivery>, Failed> {
        let id = delivery_id(&told.event_id, url);
        let key = journal_key(&told.conversation_id, self.stage(), id, 0);
        let call = |_| self.call(input, told, url, id);
        let Paid::Result(bytes) = self.effect.pay(&key, input, call).await? else { return Ok(None) };
        let Record::Delivery(mut delivery) = result(&bytes)? else {
            return Err(Failed::new(Class::Defect, "journal_corrupt", "the result of a webhook is none"));
        };
        delivery.event_id = event_of(RecordName::Delivery, &key, "");
        Ok(Some(delivery))
    }

    async fn call(&self, input: &Input, told: &Conversation, url: &str, id: Digest) -> Result<Bytes, Failed> {
        let at = self.effect.ports.clock.now();
        let notice = Notice { id: id.to_string(), url: url.to_owned(), at, body: body(told) };
        let (outcome, status) = match self.webhook.post(&notice).await {
            Ok(status) => ("delivered", Some(status)),
            // The receiver has answered, and would answer the same again.
            Err(failed) if failed.class == Class::Permanent => {
                let (conversation, cause) = (&told.conversation_id, &failed.cause);
                tracing::warn!(conversation, code = failed.code, cause, "a webhook is refused");
                ("failed", failed.http_status)
            }
            Err(failed) => return Err(failed),
        };
        let before = input.history.as_ref().map_or(0, |history| history.attempt);
        Ok(encode(&Delivery {
            conversation_id: told.conversation_id.clone(),
            url_hash: Digest(Sha256::digest(url).into()).to_string(),
            delivery_id: notice.id,
            outcome: outcome.to_owned(),
            attempt: i32::try_from(before.saturating_add(1)).unwrap_or(i32::MAX),
            http_status: status.map(i32::from),
            ..Delivery::default()
        }))
    }
}

/// What the receiver drops repetitions by: the same for one status and one URL.
fn delivery_id(event_id: &str, url: &str) -> Digest {
    Digest(Sha256::new().chain_update(event_id).chain_update([0]).chain_update(url).finalize().into())
}

/// What is sent: the status as `conversations` has it, without where things lie.
fn body(told: &Conversation) -> Bytes {
    let counts = told.counts.as_ref().map(|counts| {
        json!({
            "chunks": counts.chunks,
            "segments": counts.segments,
            "transcribed": counts.transcribed,
            "failed": counts.failed,
            "missing": counts.missing,
        })
    });
    let told = json!({
        "type": format!("conversation.{}", told.status),
        "data": {
            "id": told.conversation_id,
            "status": told.status,
            "revision": told.revision,
            "outcome": told.outcome,
            "summary_status": told.summary_status,
            "merge_status": told.merge_status,
            "counts": counts,
            "opened_at": told.opened_at,
            "updated_at": told.updated_at,
            "delivered_at": told.delivered_at,
            "labels": told.labels,
        },
    });
    Bytes::from(told.to_string())
}

/// One of two ended: the status is what it was, and the other will change it.
fn is_half(told: &Conversation) -> bool {
    told.status == "finalized" && (told.merge_status.is_some() || told.summary_status.is_some())
}

/// What all URLs together come to. One that may answer yet decides before one that never will, so that nobody is given up
/// for another's sake.
fn together(ended: Vec<Result<Option<Delivery>, Failed>>) -> Result<Answer, Failed> {
    let (mut deliveries, mut failures, mut under_way) = (Vec::new(), Vec::new(), false);
    for one in ended {
        match one {
            Ok(Some(delivery)) => deliveries.push(Record::Delivery(delivery)),
            Ok(None) => under_way = true,
            Err(failed) => failures.push(failed),
        }
    }
    let rank = |failed: &Failed| match failed.class {
        Class::Fenced | Class::Unavailable => (2, None),
        Class::Transient => (1, failed.retry_after),
        Class::Defect | Class::Permanent => (0, None),
    };
    match failures.into_iter().max_by_key(rank) {
        Some(failed) if rank(&failed).0 > 0 => Err(failed),
        _ if under_way => Ok(Answer::Parked(Millis::ZERO)),
        Some(failed) => Err(failed),
        None => Ok(Answer::Done(deliveries)),
    }
}

#[async_trait]
impl Stage for Notify {
    fn stage(&self) -> hansard_schemas::Stage {
        hansard_schemas::Stage::Notify
    }

    fn shares_a_dependency(&self, _code: &str) -> bool {
        // One receiver that is gone is no reason to keep the others waiting.
        false
    }

    fn wants(&self, record: &Record) -> bool {
        matches!(record, Record::Conversation(told) if told.webhooks && !told.erased && !is_half(told))
    }

    async fn process(&self, input: &Input) -> Result<Answer, Failed> {
        let Record::Conversation(told) = &*input.record else { return Ok(Answer::Done(Vec::new())) };
        let rows = self.effect.ports.facts.read(&told.conversation_id).await?;
        let urls: BTreeSet<&String> =
            standing_open(&rows).iter().flat_map(|open| &open.webhook_urls).collect();
        together(join_all(urls.into_iter().map(|url| self.tell(input, told, url))).await)
    }

    async fn undo(&self, _input: &Input, _emitted: &[Record]) -> Result<(), Failed> {
        // What was told cannot be taken back, and the journal's erasure takes the result.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failed(class: Class, retry_after: Option<u64>) -> Result<Option<Delivery>, Failed> {
        let retry_after = retry_after.map(Duration::from_secs);
        Err(Failed { retry_after, ..Failed::new(class, "code", "cause") })
    }

    #[test]
    fn who_may_answer_yet_decides() {
        let told = || Ok(Some(Delivery::default()));
        let class = |ended: Vec<_>| together(ended).map_err(|failed| (failed.class, failed.retry_after));
        let (permanent, transient) = (failed(Class::Permanent, None), failed(Class::Transient, None));
        let later = failed(Class::Transient, Some(60));
        let done = Answer::Done(vec![Record::Delivery(Delivery::default())]);
        assert_eq!(class(vec![]), Ok(Answer::Done(Vec::new())));
        assert_eq!(class(vec![told()]), Ok(done));
        assert_eq!(class(vec![told(), Ok(None)]), Ok(Answer::Parked(Millis::ZERO)));
        assert_eq!(class(vec![permanent.clone(), Ok(None)]), Ok(Answer::Parked(Millis::ZERO)));
        assert_eq!(class(vec![told(), permanent.clone()]), Err((Class::Permanent, None)));
        assert_eq!(class(vec![permanent, transient.clone(), told()]), Err((Class::Transient, None)));
        let longest = Err((Class::Transient, Some(Duration::from_secs(60))));
        assert_eq!(class(vec![later.clone(), transient, Ok(None)]), longest);
        let down = failed(Class::Unavailable, None);
        assert_eq!(class(vec![down, later]), Err((Class::Unavailable, None)));
    }

    #[test]
    fn an_id_is_of_one_status_and_one_url() {
        let ids =
            [("a", "bc"), ("ab", "c"), ("a", "b"), ("b", "bc")].map(|(event, url)| delivery_id(event, url));
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        assert_eq!(delivery_id("a", "bc"), ids[0]);
    }

    #[test]
    fn a_body_says_the_status_and_not_where_things_lie() {
        let told = Conversation {
            conversation_id: "c".to_owned(),
            status: "delivered".to_owned(),
            revision: 2,
            merge_key: Some("merged/key".to_owned()),
            transcript_key: Some("transcripts/key".to_owned()),
            ..Conversation::default()
        };
        let body = String::from_utf8(body(&told).to_vec()).expect("JSON");
        assert!(
            body.contains(r#""type":"conversation.delivered""#) && body.contains(r#""revision":2"#),
            "{body}"
        );
        assert!(!body.contains("/key"), "{body}");
    }
}
