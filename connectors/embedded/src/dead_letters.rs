//! Dead letters: the letter that rests under each id, an order by age, the verdicts, and who to erase.
//!
//! What a write changes depends on what is there, so writes go one after the other.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Offset, Partition, Timestamp};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::dead_letters::{DeadLetter, DeadLetterId, DeadLetters, Verdict};
use hansard_runtime::ports::log::TopicPartition;
use hansard_schemas::Stage;

use crate::error::StoreError;
use crate::keys::{Key, Parts};
use crate::log::Handle;
use crate::store::{Space, Store};
use crate::writer::{Op, Shared, Urgency};

/// By id: the letter that rests.
const LETTER: u8 = b'l';
/// By stage, age and id: nothing.
const AGE: u8 = b'a';
/// By id: the redrives up to which it was judged, and the letter's time, by which a listing can go on.
const VERDICT: u8 = b'v';
/// By conversation and id: nothing.
const CONVERSATION: u8 = b'c';

/// The dead letters of the engine.
pub(crate) struct LocalDeadLetters {
    handle: Handle,
    turn: tokio::sync::Mutex<()>,
}

fn id_key(key: Key, id: &DeadLetterId) -> Vec<u8> {
    let key = key.name(id.stage.as_str()).name(&id.origin.topic.to_string());
    key.i32(id.origin.partition.0).i64(id.offset.0).build()
}

fn by_id(table: u8, id: &DeadLetterId) -> Vec<u8> {
    id_key(Key::new().byte(table), id)
}

fn by_age(id: &DeadLetterId, at: Timestamp) -> Vec<u8> {
    id_key(Key::new().byte(AGE).name(id.stage.as_str()).i64(at.0), id)
}

fn by_conversation(id: &DeadLetterId, conversation: &str) -> Vec<u8> {
    id_key(Key::new().byte(CONVERSATION).name(conversation), id)
}

fn read_id(parts: &mut Parts<'_>) -> Option<DeadLetterId> {
    let stage = parts.name()?.parse().ok()?;
    let topic = parts.name()?.parse().ok()?;
    let origin = TopicPartition { topic, partition: Partition(parts.i32()?) };
    Some(DeadLetterId { stage, origin, offset: Offset(parts.i64()?) })
}

fn blob(key: Key, bytes: &[u8]) -> Key {
    key.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).bytes(bytes)
}

fn encode(letter: &DeadLetter) -> Vec<u8> {
    let DeadLetter { id: _, conversation, class, code, cause, attempts, redrives, at, key, value, headers } =
        letter;
    let mut out = Key::with_capacity(512).u32(*redrives).i64(at.0).u32(*attempts);
    for text in [conversation, class, code, cause] {
        out = blob(out, text.as_bytes());
    }
    for maybe in [key, value] {
        out = match maybe {
            Some(bytes) => blob(out.byte(1), bytes),
            None => out.byte(0),
        };
    }
    for (name, value) in headers {
        out = blob(blob(out, name.as_bytes()), value);
    }
    out.build()
}

fn decode(id: DeadLetterId, value: &[u8]) -> Option<DeadLetter> {
    fn blob<'a>(parts: &mut Parts<'a>) -> Option<&'a [u8]> {
        let len = parts.u32()?;
        parts.bytes(len as usize)
    }
    fn text(parts: &mut Parts<'_>) -> Option<String> {
        String::from_utf8(blob(parts)?.to_vec()).ok()
    }
    fn maybe(parts: &mut Parts<'_>) -> Option<Option<Bytes>> {
        if parts.byte()? == 0 { Some(None) } else { Some(Some(Bytes::copy_from_slice(blob(parts)?))) }
    }
    let mut parts = Parts(value);
    let (redrives, at, attempts) = (parts.u32()?, Timestamp(parts.i64()?), parts.u32()?);
    let conversation = text(&mut parts)?;
    let (class, code, cause) = (text(&mut parts)?, text(&mut parts)?, text(&mut parts)?);
    let (key, value) = (maybe(&mut parts)?, maybe(&mut parts)?);
    let mut headers = Vec::new();
    while !parts.0.is_empty() {
        headers.push((text(&mut parts)?, Bytes::copy_from_slice(blob(&mut parts)?)));
    }
    Some(DeadLetter { id, conversation, class, code, cause, attempts, redrives, at, key, value, headers })
}

fn corrupt() -> StoreError {
    StoreError::corrupt("dead letter", "it is none of this version's")
}

/// The letter that rests.
fn resting(store: &Store, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
    let value = store.space(Space::Letters).get(by_id(LETTER, &id))?;
    value.map(|value| decode(id, &value).ok_or_else(corrupt)).transpose()
}

/// Up to which redrives it was judged, and the time of the letter that was.
fn judged(store: &Store, id: &DeadLetterId) -> Result<Option<(u32, Timestamp)>, StoreError> {
    let Some(value) = store.space(Space::Letters).get(by_id(VERDICT, id))? else { return Ok(None) };
    let mut parts = Parts(&value);
    let read = parts.u32().and_then(|redrives| Some((redrives, Timestamp(parts.i64()?))));
    read.map(Some).ok_or_else(corrupt)
}

fn put(key: Vec<u8>, value: Vec<u8>) -> Op {
    Op::put(Space::Letters, key, value)
}

fn removes(letter: &DeadLetter) -> [Op; 3] {
    [
        by_id(LETTER, &letter.id),
        by_age(&letter.id, letter.at),
        by_conversation(&letter.id, &letter.conversation),
    ]
    .map(|key| Op::remove(Space::Letters, key))
}

fn write(shared: &Shared, letters: Vec<DeadLetter>) -> Result<Vec<Op>, StoreError> {
    let mut highest: BTreeMap<DeadLetterId, DeadLetter> = BTreeMap::new();
    for letter in letters {
        let seen = highest.get(&letter.id).is_some_and(|seen| seen.redrives >= letter.redrives);
        if !seen {
            highest.insert(letter.id, letter);
        }
    }
    shared.disk.with(|store| {
        let mut ops = Vec::new();
        for (id, letter) in highest {
            let there = resting(store, id)?;
            let old = there.as_ref().is_some_and(|there| there.redrives >= letter.redrives)
                || judged(store, &id)?.is_some_and(|(redrives, _)| redrives >= letter.redrives);
            if !old {
                ops.extend(there.iter().flat_map(removes));
                ops.push(put(by_id(LETTER, &id), encode(&letter)));
                ops.push(put(by_age(&id, letter.at), Vec::new()));
                ops.push(put(by_conversation(&id, &letter.conversation), Vec::new()));
            }
        }
        Ok(ops)
    })
}

fn judge(shared: &Shared, id: DeadLetterId, verdict: Verdict, at: Timestamp) -> Result<Vec<Op>, StoreError> {
    let (word, redrives) = match verdict {
        Verdict::Redriven { redrives } => (b'r', redrives),
        Verdict::Dismissed { redrives } => (b'd', redrives),
    };
    shared.disk.with(|store| {
        if judged(store, &id)?.is_some_and(|(before, _)| before >= redrives) {
            return Ok(Vec::new());
        }
        let there = resting(store, id)?.filter(|there| there.redrives <= redrives);
        let aged = there.as_ref().map_or(at, |there| there.at);
        let value = Key::new().u32(redrives).i64(aged.0).byte(word).i64(at.0).build();
        let mut ops = vec![put(by_id(VERDICT, &id), value)];
        ops.extend(there.iter().flat_map(removes));
        Ok(ops)
    })
}

fn list(
    shared: &Shared,
    stage: Stage,
    after: Option<DeadLetterId>,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let start = Key::new().byte(AGE).name(stage.as_str()).build();
    shared.disk.with(|store| {
        let mut from = start.clone();
        if let Some(after) = after {
            let aged = resting(store, after)?.map(|letter| letter.at);
            let aged = aged.or(judged(store, &after)?.map(|(_, at)| at));
            // An unknown one was erased; then the listing starts over, and shows nothing that is not there.
            if let Some(at) = aged {
                from = by_age(&after, at);
                from.push(0);
            }
        }
        let ages = store.space(Space::Letters).range(from..);
        let mut letters = Vec::new();
        for guard in ages {
            let key = guard.key()?;
            if !key.starts_with(&start) || letters.len() == limit {
                break;
            }
            let mut parts = Parts(&key[start.len()..]);
            parts.i64().ok_or_else(corrupt)?;
            let id = read_id(&mut parts).ok_or_else(corrupt)?;
            // One that was judged since the scan began has gone.
            letters.extend(resting(store, id)?);
        }
        Ok(letters)
    })
}

fn depth(shared: &Shared, stage: Stage) -> Result<u64, StoreError> {
    let prefix = Key::new().byte(AGE).name(stage.as_str()).build();
    shared.disk.with(|store| {
        let mut depth = 0;
        for guard in store.space(Space::Letters).prefix(&prefix) {
            guard.key()?;
            depth += 1;
        }
        Ok(depth)
    })
}

fn erase(shared: &Shared, conversation: &str) -> Result<Vec<Op>, StoreError> {
    let prefix = Key::new().byte(CONVERSATION).name(conversation).build();
    shared.disk.with(|store| {
        let mut ops = Vec::new();
        for guard in store.space(Space::Letters).prefix(&prefix) {
            let key = guard.key()?;
            let id = read_id(&mut Parts(&key[prefix.len()..])).ok_or_else(corrupt)?;
            ops.extend(resting(store, id)?.iter().flat_map(removes));
        }
        Ok(ops)
    })
}

impl LocalDeadLetters {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle, turn: tokio::sync::Mutex::new(()) }
    }

    /// Looks what is to be written, and writes it, before the next may look.
    async fn change(
        &self,
        urgency: Urgency,
        look: impl FnOnce(&Shared) -> Result<Vec<Op>, StoreError> + Send + 'static,
    ) -> Result<(), PortError> {
        let _turn = self.turn.lock().await;
        let ops = self.handle.read(look).await?;
        Ok(self.handle.write(ops, urgency).await?)
    }
}

#[async_trait]
impl DeadLetters for LocalDeadLetters {
    async fn write(&self, letters: &[DeadLetter]) -> Result<(), PortError> {
        let letters = letters.to_vec();
        self.change(Urgency::Synced, move |shared| write(shared, letters)).await
    }

    async fn judge(&self, id: DeadLetterId, verdict: Verdict, at: Timestamp) -> Result<(), PortError> {
        self.change(Urgency::Synced, move |shared| judge(shared, id, verdict, at)).await
    }

    async fn list(
        &self,
        stage: Stage,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, PortError> {
        Ok(self.handle.read(move |shared| list(shared, stage, after, limit)).await?)
    }

    async fn depth(&self, stage: Stage) -> Result<u64, PortError> {
        Ok(self.handle.read(move |shared| depth(shared, stage)).await?)
    }

    async fn get(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, PortError> {
        Ok(self.handle.read(move |shared| shared.disk.with(|store| resting(store, id))).await?)
    }

    async fn erase(&self, conversation: &str) -> Result<(), PortError> {
        let conversation = conversation.to_owned();
        self.change(Urgency::Freeing, move |shared| erase(shared, &conversation)).await
    }
}
