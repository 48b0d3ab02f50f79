//! The journal of effects: a key per step, and one per renewal of a lease. Job ids stand a second time where an erasure
//! does not reach them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Generation, Timestamp};
use hansard_core::redelivery::Class;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::journal::{Journal, JournalKey, Step, Submission, SubmissionId};
use hansard_schemas::Stage;

use crate::error::StoreError;
use crate::facts::remove_all;
use crate::keys::{self, Key, Parts};
use crate::load;
use crate::log::Handle;
use crate::store::Space;
use crate::writer::{Fence, Op, Urgency};

const STARTED: u8 = 0;
const JOB: u8 = 1;
const ENDED: u8 = 2;
const RESULT: u8 = 3;

/// The journal of the engine.
pub(crate) struct LocalJournal(pub(crate) Handle);

fn encode(step: &Step) -> (u8, Vec<u8>) {
    match step {
        Step::Started { at, until } => (STARTED, Key::new().i64(at.0).i64(until.0).build()),
        Step::Job { id, deadline, asked } => (JOB, Key::new().i64(deadline.0).name(id).bytes(asked).build()),
        Step::Ended { class, code } => {
            (ENDED, Key::new().name(class.as_str()).bytes(code.as_bytes()).build())
        }
        Step::Result(bytes) => (RESULT, bytes.to_vec()),
    }
}

fn decode(step: u8, value: &[u8]) -> Option<Step> {
    let mut parts = Parts(value);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some(match step {
        STARTED => Step::Started { at: Timestamp(parts.i64()?), until: Timestamp(parts.i64()?) },
        JOB => Step::Job {
            deadline: Timestamp(parts.i64()?),
            id: parts.name()?.to_owned(),
            asked: Bytes::copy_from_slice(parts.0),
        },
        ENDED => Step::Ended { class: parts.name()?.parse::<Class>().ok()?, code: text(parts.0)? },
        RESULT => Step::Result(Bytes::copy_from_slice(value)),
        _ => return None,
    })
}

/// The effect and submission in a key.
fn names(key: &[u8]) -> Option<(JournalKey, SubmissionId, u8)> {
    let mut parts = Parts(key);
    let conversation = parts.name()?.to_owned();
    let stage = parts.name()?.parse().ok()?;
    let key =
        JournalKey { conversation, stage, input: parts.digest()?, generation: Generation(parts.i64()?) };
    Some((key, SubmissionId(parts.array()?), parts.byte()?))
}

fn corrupt() -> StoreError {
    StoreError::corrupt("step of an effect", "it is none of this version's")
}

#[async_trait]
impl Journal for LocalJournal {
    async fn write(&self, key: &JournalKey, id: SubmissionId, step: Step) -> Result<(), PortError> {
        let (place, value) = encode(&step);
        let mut name = keys::step(key, id, place);
        if let Step::Started { until, .. } = step {
            // So that none overwrites a later one: the greatest is read last.
            name.extend(Key::new().i64(until.0).build());
        }
        let mut ops = Vec::with_capacity(2);
        if let Step::Job { id, deadline, .. } = &step {
            // What was asked does not outlive an erasure.
            let bare = Step::Job { id: id.clone(), deadline: *deadline, asked: Bytes::new() };
            ops.push(Op::put(Space::Jobs, name.clone(), encode(&bare).1));
        }
        ops.push(Op::put(Space::Journal, name, value).behind(Fence::Journal));
        Ok(self.0.write(ops, Urgency::Synced).await?)
    }

    async fn read(&self, key: &JournalKey) -> Result<Vec<Submission>, PortError> {
        let (prefix, conversation) = (keys::effect(key), key.conversation.clone());
        let read = self.0.read(move |shared| {
            let mut submissions: BTreeMap<SubmissionId, Vec<Step>> = BTreeMap::new();
            shared.disk.with(|store| {
                if shared.is_erased(store, Fence::Journal, conversation.as_bytes())? {
                    return Ok(());
                }
                for guard in store.space(Space::Journal).prefix(prefix) {
                    let (key, value) = guard.into_inner()?;
                    let (_, id, place) = names(&key).ok_or_else(corrupt)?;
                    let steps = submissions.entry(id).or_default();
                    if place == STARTED {
                        // Nothing but an earlier end of the lease comes before it.
                        steps.clear();
                    }
                    steps.push(decode(place, &value).ok_or_else(corrupt)?);
                }
                Ok(())
            })?;
            Ok(submissions.into_iter().map(|(id, steps)| Submission { id, steps }).collect())
        });
        Ok(read.await?)
    }

    async fn jobs(&self, conversation: &str) -> Result<Vec<(JournalKey, String)>, PortError> {
        let prefix = keys::conversation(conversation);
        let read = self.0.read(move |shared| {
            shared.disk.with(|store| {
                let jobs = store.space(Space::Jobs).prefix(prefix).map(|guard| {
                    let (key, value) = guard.into_inner()?;
                    let (key, _, place) = names(&key).ok_or_else(corrupt)?;
                    match decode(place, &value) {
                        Some(Step::Job { id, .. }) => Ok((key, id)),
                        _ => Err(corrupt()),
                    }
                });
                jobs.collect()
            })
        });
        Ok(read.await?)
    }

    async fn results(&self, conversation: &str, stage: Stage) -> Result<Vec<(JournalKey, Bytes)>, PortError> {
        let prefix = Key::new().name(conversation).name(stage.as_str()).build();
        let conversation = conversation.to_owned();
        let read = self.0.read(move |shared| {
            let mut results = Vec::new();
            shared.disk.with(|store| {
                if shared.is_erased(store, Fence::Journal, conversation.as_bytes())? {
                    return Ok(());
                }
                for guard in store.space(Space::Journal).prefix(prefix) {
                    let (key, value) = guard.into_inner()?;
                    let (key, _, place) = names(&key).ok_or_else(corrupt)?;
                    if place == RESULT {
                        results.push((key, Bytes::copy_from_slice(&value)));
                    }
                }
                Ok(())
            })?;
            Ok(results)
        });
        Ok(read.await?)
    }

    async fn forget(&self, key: &JournalKey, job: &str) -> Result<(), PortError> {
        let (prefix, job) = (keys::effect(key), job.to_owned());
        let found = self.0.read(move |shared| {
            shared.disk.with(|store| {
                let mut removes = Vec::new();
                for guard in store.space(Space::Jobs).prefix(prefix) {
                    let (key, value) = guard.into_inner()?;
                    if matches!(decode(JOB, &value), Some(Step::Job { id, .. }) if id == job) {
                        removes.push(Op::remove(Space::Jobs, key));
                    }
                }
                Ok(removes)
            })
        });
        Ok(self.0.write(found.await?, Urgency::Freeing).await?)
    }

    async fn erase(&self, conversation: &str) -> Result<(), PortError> {
        let marker = load::marker(Fence::Journal, conversation.as_bytes());
        self.0.write(vec![Op::put(Space::Erased, marker, Vec::new())], Urgency::Freeing).await?;
        Ok(remove_all(&self.0, conversation, &[Space::Journal]).await?)
    }
}
