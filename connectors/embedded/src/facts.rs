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

/// Encodes rows into two buffers, one for each keyspace, so that a row costs no allocation of its own.
#[derive(Default)]
struct Rows {
    facts: Buffer,
    texts: Buffer,
    /// A transcript without its text, kept for its allocations.
    bare: Transcript,
}

/// Keys and values, one behind the other.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// The ends of each key and its value.
    ends: Vec<(usize, usize)>,
}

impl Buffer {
    fn push(&mut self, key: Key, value: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(&key.build());
        let key = self.bytes.len();
        value(&mut self.bytes);
        self.ends.push((key, self.bytes.len()));
    }

    fn ops(self, space: Space) -> impl Iterator<Item = Op> {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        self.ends.into_iter().map(move |(key, value)| {
            let op = Op::put(space, bytes.slice(start..key), bytes.slice(key..value));
            start = value;
            op.behind(Fence::Facts)
        })
    }
}

impl Rows {
    fn push(&mut self, row: &Row) -> Result<(), PortError> {
        let refused = |cause| PortError::Refused { service: SERVICE, cause };
        let conversation = row.record.conversation_id();
        if conversation.is_empty() || conversation.bytes().any(|byte| byte == 0) {
            return Err(refused("a fact needs a conversation id".to_owned()));
        }
        let key = keys::row(conversation, &RowKey::of(row));
        let key = key.ok_or_else(|| refused(format!("a {} is no fact", row.record.name())))?;
        let Record::Transcript(transcript) = &row.record else {
            self.facts.push(key, |out| put_row(row, &row.record, out));
            return Ok(());
        };
        let sha256 = transcript.text_sha256.parse();
        let sha256 =
            sha256.map_err(|error| refused(format!("a transcript's text_sha256 is none: {error}")))?;
        let text = TextKey { chunk: transcript.chunk_id.clone(), segment: transcript.segment, sha256 };
        self.texts.push(keys::text(conversation, &text), |out| encode_into(transcript, out));
        strip(transcript, &mut self.bare);
        self.facts.push(key, |out| put_row(row, &self.bare, out));
        Ok(())
    }

    fn ops(self) -> Vec<Op> {
        self.facts.ops(Space::Facts).chain(self.texts.ops(Space::Texts)).collect()
    }
}

fn put_row(row: &Row, record: &impl hansard_schemas::Encode, out: &mut Vec<u8>) {
    out.extend_from_slice(&Key::new().i64(row.offset.0).i64(row.time.0).build());
    encode_into(record, out);
}

/// Makes `bare` what the row of a transcript keeps: all but the text. Every field is named, so that a new one is not
/// forgotten.
fn strip(transcript: &Transcript, bare: &mut Transcript) {
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
    bare.conversation_id.clone_from(conversation_id);
    bare.event_id.clone_from(event_id);
    bare.source.clone_from(source);
    bare.chunk_id.clone_from(chunk_id);
    bare.upload_digest.clone_from(upload_digest);
    bare.split_digest.clone_from(split_digest);
    bare.provider.clone_from(provider);
    bare.model.clone_from(model);
    bare.text_sha256.clone_from(text_sha256);
    bare.attributes.clone_from(attributes);
    bare.language.clone_from(language);
    bare.provider_job_id.clone_from(provider_job_id);
    bare.currency.clone_from(currency);
    bare.occurred_at = *occurred_at;
    bare.segment = *segment;
    bare.generation = *generation;
    bare.start_ms = *start_ms;
    bare.end_ms = *end_ms;
    bare.audio_ms = *audio_ms;
    bare.language_confidence = *language_confidence;
    bare.latency_ms = *latency_ms;
    bare.cost_micros = *cost_micros;
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
        let text = |key| {
            space.get(keys::text(conversation, key).build())?.map(|value| read_text(&value)).transpose()
        };
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
                    keys.map(|guard| Ok(Op::remove(*space, guard.key()?)))
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
        let mut all = Rows::default();
        rows.iter().try_for_each(|row| all.push(row))?;
        Ok(self.0.write(all.ops(), Urgency::Soon).await?)
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
