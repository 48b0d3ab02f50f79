//! The facts port: a row per fact in one keyspace, texts in another, markers of erasures in a third.
//!
//! Rows get no sync of their own: they go into the store's journal before the transaction that rests on them, whose
//! sync covers them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Offset, Timestamp};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::facts::{Erasure, Facts, Row, RowKey, TextKey};
use hansard_schemas::{Record, Transcript, decode, encode_into};

use crate::error::{SERVICE, StoreError};
use crate::keys::{self, Key, Parts};
use crate::load;
use crate::log::Handle;
use crate::store::Space;
use crate::writer::{Fence, Op, Shared, Urgency};

/// An erasure deletes so many keys in one batch.
const DELETES: usize = 4096;

/// The facts of the engine.
pub(crate) struct LocalFacts(pub(crate) Handle);

/// The row, and the text where there is one.
fn ops(row: &Row, ops: &mut Vec<Op>) -> Result<(), PortError> {
    let no_fact =
        || PortError::Refused { service: SERVICE, cause: format!("a {} is no fact", row.record.name()) };
    let conversation = row.record.conversation_id();
    if conversation.is_empty() || conversation.bytes().any(|byte| byte == 0) {
        return Err(PortError::Refused {
            service: SERVICE,
            cause: "a fact needs a conversation id".to_owned(),
        });
    }
    let key = keys::row(conversation, &RowKey::of(row)).ok_or_else(no_fact)?;
    let value = if let Record::Transcript(transcript) = &row.record {
        ops.push(text(conversation, transcript)?);
        value(row, &without_text(transcript))
    } else {
        value(row, &row.record)
    };
    ops.push(Op::put(Space::Facts, key, value).behind(Fence::Facts));
    Ok(())
}

fn value(row: &Row, record: &impl hansard_schemas::Encode) -> Vec<u8> {
    let mut value = Key::with_capacity(512).i64(row.offset.0).i64(row.time.0).build();
    encode_into(record, &mut value);
    value
}

fn text(conversation: &str, transcript: &Transcript) -> Result<Op, PortError> {
    let sha256 = transcript.text_sha256.parse().map_err(|error| PortError::Refused {
        service: SERVICE,
        cause: format!("a transcript's text_sha256 is none: {error}"),
    })?;
    let key = TextKey { chunk: transcript.chunk_id.clone(), segment: transcript.segment, sha256 };
    let mut value = Vec::with_capacity(512 + transcript.text.len());
    encode_into(transcript, &mut value);
    Ok(Op::put(Space::Texts, keys::text(conversation, &key), value).behind(Fence::Facts))
}

/// A transcript as its row keeps it. Every field is named, so that a new one is not forgotten.
fn without_text(transcript: &Transcript) -> Transcript {
    let Transcript {
        conversation_id,
        event_id,
        occurred_at,
        source,
        attributes,
        chunk_id,
        upload_digest,
        split_digest,
        provider,
        model,
        text: _,
        text_sha256,
        segment,
        generation,
        start_ms,
        end_ms,
        audio_ms,
        language,
        provider_job_id,
        currency,
        language_confidence,
        words: _,
        redactions: _,
        latency_ms,
        cost_micros,
    } = transcript;
    Transcript {
        conversation_id: conversation_id.clone(),
        event_id: event_id.clone(),
        occurred_at: *occurred_at,
        source: source.clone(),
        attributes: attributes.clone(),
        chunk_id: chunk_id.clone(),
        upload_digest: upload_digest.clone(),
        split_digest: split_digest.clone(),
        provider: provider.clone(),
        model: model.clone(),
        text: String::new(),
        text_sha256: text_sha256.clone(),
        segment: *segment,
        generation: *generation,
        start_ms: *start_ms,
        end_ms: *end_ms,
        audio_ms: *audio_ms,
        language: language.clone(),
        provider_job_id: provider_job_id.clone(),
        currency: currency.clone(),
        language_confidence: *language_confidence,
        words: Vec::new(),
        redactions: Vec::new(),
        latency_ms: *latency_ms,
        cost_micros: *cost_micros,
    }
}

fn read_row(value: &[u8]) -> Result<Row, StoreError> {
    let short = || StoreError::corrupt("row of a fact", "it ends early");
    let mut parts = Parts(value);
    let offset = Offset(parts.i64().ok_or_else(short)?);
    let time = Timestamp(parts.i64().ok_or_else(short)?);
    let record = decode(parts.0).map_err(|error| StoreError::corrupt("row of a fact", error))?;
    Ok(Row { offset, time, record })
}

fn read_text(value: &[u8]) -> Result<Transcript, StoreError> {
    match decode(value) {
        Ok(Record::Transcript(transcript)) => Ok(transcript),
        Ok(other) => Err(StoreError::corrupt("text", format!("it is a {}", other.name()))),
        Err(error) => Err(StoreError::corrupt("text", error)),
    }
}

fn rows(shared: &Shared, conversation: &str) -> Result<Vec<Row>, StoreError> {
    shared.disk.with(|store| {
        if shared.is_erased(store, Fence::Facts, conversation.as_bytes())? {
            return Ok(Vec::new());
        }
        let rows = store.space(Space::Facts).prefix(keys::conversation(conversation));
        rows.map(|guard| read_row(&guard.value()?)).collect()
    })
}

fn texts(
    shared: &Shared,
    conversation: &str,
    wanted: &[TextKey],
) -> Result<Vec<Option<Transcript>>, StoreError> {
    shared.disk.with(|store| {
        if shared.is_erased(store, Fence::Facts, conversation.as_bytes())? {
            return Ok(wanted.iter().map(|_| None).collect());
        }
        let space = store.space(Space::Texts);
        let text = |key| space.get(keys::text(conversation, key))?.map(|value| read_text(&value)).transpose();
        wanted.iter().map(text).collect()
    })
}

/// Goes from each conversation's first row to behind its last.
fn ids(shared: &Shared, after: Option<&[u8]>, limit: usize) -> Result<Vec<String>, StoreError> {
    shared.disk.with(|store| {
        let mut ids = Vec::new();
        let mut from = after.map_or_else(Vec::new, |id| Key::new().bytes(id).byte(1).build());
        while ids.len() < limit
            && let Some(guard) = store.space(Space::Facts).range(from.clone()..).next()
        {
            let key = guard.key()?;
            let id = keys::conversation_of(&key);
            let text =
                std::str::from_utf8(id).map_err(|error| StoreError::corrupt("conversation id", error))?;
            from = keys::after_conversation(text);
            if !shared.is_erased(store, Fence::Facts, id)? {
                ids.push(text.to_owned());
            }
        }
        Ok(ids)
    })
}

/// Removes all keys of a conversation from some keyspaces, in bounded steps.
pub(crate) async fn remove_all(
    handle: &Handle,
    conversation: &str,
    spaces: &'static [Space],
) -> Result<(), StoreError> {
    let prefix: Arc<[u8]> = keys::conversation(conversation).into();
    loop {
        let prefix = Arc::clone(&prefix);
        let removes = handle.read(move |shared| {
            shared.disk.with(|store| {
                let keys = spaces.iter().flat_map(|space| {
                    let keys = store.space(*space).prefix(&prefix);
                    keys.map(|guard| Ok(Op::remove(*space, guard.key()?.to_vec())))
                });
                keys.take(DELETES).collect::<Result<Vec<_>, StoreError>>()
            })
        });
        let removes = removes.await?;
        if removes.is_empty() {
            return Ok(());
        }
        handle.write(removes, Urgency::Freeing).await?;
    }
}

#[async_trait]
impl Facts for LocalFacts {
    async fn write(&self, rows: &[Row]) -> Result<(), PortError> {
        let mut all = Vec::with_capacity(rows.len() * 2);
        rows.iter().try_for_each(|row| ops(row, &mut all))?;
        Ok(self.0.write(all, Urgency::Soon).await?)
    }

    async fn read(&self, conversation: &str) -> Result<Vec<Row>, PortError> {
        let conversation = conversation.to_owned();
        Ok(self.0.read(move |shared| rows(shared, &conversation)).await?)
    }

    async fn texts(
        &self,
        conversation: &str,
        keys: &[TextKey],
    ) -> Result<Vec<Option<Transcript>>, PortError> {
        let (conversation, keys) = (conversation.to_owned(), keys.to_vec());
        Ok(self.0.read(move |shared| texts(shared, &conversation, &keys)).await?)
    }

    async fn conversations(
        &self,
        cursor: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<Bytes>), PortError> {
        let ids = self.0.read(move |shared| ids(shared, cursor.as_deref(), limit)).await?;
        // A full page may be the last; then the next is empty.
        let next = ids.last().filter(|_| ids.len() == limit).map(|id| Bytes::copy_from_slice(id.as_bytes()));
        Ok((ids, next))
    }

    async fn erase(&self, conversation: &str, marker: Erasure) -> Result<(), PortError> {
        let key = load::marker(Fence::Facts, conversation.as_bytes());
        let value = Key::new().i64(marker.time.0).bytes(marker.reason.as_bytes()).build();
        self.0.write(vec![Op::put(Space::Erased, key, value)], Urgency::Freeing).await?;
        Ok(remove_all(&self.0, conversation, &[Space::Facts, Space::Texts]).await?)
    }

    async fn erasure(&self, conversation: &str) -> Result<Option<Erasure>, PortError> {
        // A point read, of microseconds: every stage asks this for every record.
        let shared = &self.0.shared;
        let erasure = shared.disk.with(|store| {
            if !shared.is_erased(store, Fence::Facts, conversation.as_bytes())? {
                return Ok(None);
            }
            store.space(Space::Erased).get(load::marker(Fence::Facts, conversation.as_bytes()))?.map_or(
                Ok(None),
                |value| {
                    let short = || StoreError::corrupt("erasure", "it ends early");
                    let mut parts = Parts(&value);
                    let time = Timestamp(parts.i64().ok_or_else(short)?);
                    let reason = String::from_utf8(parts.0.to_vec());
                    let reason = reason.map_err(|error| StoreError::corrupt("erasure", error))?;
                    Ok(Some(Erasure { time, reason }))
                },
            )
        });
        Ok(erasure?)
    }
}
