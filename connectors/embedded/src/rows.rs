//! Rows of facts as they stand in the store: those of one conversation and one write together, compressed.
//!
//! A row so costs no key, no journal entry and no place in the index of its own, and all that the store copies, syncs and
//! compacts is small. What was written twice stands twice, unless it is the very same group; readers drop repetitions.
//! A group is the length of its frames (4 bytes), then the frames in LZ4; a frame is its length (4 bytes) and its content.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use hansard_core::id::{Offset, Timestamp};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::facts::{Row, RowKey, TextKey};
use hansard_schemas::{Encode, Record, Transcript, decode, encode_into};
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_size_prepended, get_maximum_output_size,
};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{SERVICE, StoreError};
use crate::keys::{Key, Parts};
use crate::store::Space;
use crate::writer::{Fence, Op};

/// A group is closed once it has so many bytes before compression, so that no value is large.
const GROUP_BYTES: usize = 64 << 10;
/// The length before a frame or a group.
const LENGTH: usize = 4;

/// The writes for some rows, of any conversations; those of one that stand together make a group.
///
/// # Errors
/// [`PortError::Refused`] where a row is of no conversation, or no fact.
pub(crate) fn pack(rows: &[Row]) -> Result<Vec<Op>, PortError> {
    let mut packer = Packer::default();
    for rows in rows.chunk_by(|a, b| a.record.conversation_id() == b.record.conversation_id()) {
        let Some(first) = rows.first() else { continue };
        let conversation = first.record.conversation_id();
        for row in rows {
            check(&row.record)?;
            packer.push(conversation, row);
        }
        packer.close(conversation, Space::Facts);
        packer.close(conversation, Space::Texts);
    }
    Ok(packer.ops)
}

fn check(record: &Record) -> Result<(), PortError> {
    let refused = |cause| Err(PortError::Refused { service: SERVICE, cause });
    let conversation = record.conversation_id();
    if conversation.is_empty() || conversation.bytes().any(|byte| byte == 0) {
        return refused("a fact needs a conversation id".to_owned());
    }
    match record {
        Record::Segment(_) | Record::Callback(_) | Record::Conversation(_) | Record::Delivery(_) => {
            refused(format!("a {} is no fact", record.name()))
        }
        Record::Open(_)
        | Record::Upload(_)
        | Record::Finish(_)
        | Record::Rerun(_)
        | Record::Erase(_)
        | Record::Split(_)
        | Record::Transcript(_)
        | Record::Failure(_)
        | Record::Finalize(_)
        | Record::Merge(_)
        | Record::Summary(_) => Ok(()),
    }
}

/// Makes groups. Its buffers are used again for each, so that a row costs no allocation.
#[derive(Default)]
struct Packer {
    facts: Vec<u8>,
    texts: Vec<u8>,
    /// A transcript without its text, kept for its allocations.
    bare: Transcript,
    table: CompressTable,
    packed: Vec<u8>,
    ops: Vec<Op>,
}

impl Packer {
    fn push(&mut self, conversation: &str, row: &Row) {
        let Record::Transcript(transcript) = &*row.record else {
            frame(&mut self.facts, |out| put_row(row, &*row.record, out));
            return self.close_full(conversation);
        };
        frame(&mut self.texts, |out| encode_into(transcript, out));
        strip(transcript, &mut self.bare);
        frame(&mut self.facts, |out| put_row(row, &self.bare, out));
        self.close_full(conversation);
    }

    fn close_full(&mut self, conversation: &str) {
        if self.facts.len() >= GROUP_BYTES {
            self.close(conversation, Space::Facts);
        }
        if self.texts.len() >= GROUP_BYTES {
            self.close(conversation, Space::Texts);
        }
    }

    /// Ends the group under way, if there is one. Its key is of its content: a repeated write is the same group.
    fn close(&mut self, conversation: &str, space: Space) {
        let frames = if space == Space::Texts { &mut self.texts } else { &mut self.facts };
        if frames.is_empty() {
            return;
        }
        let room = LENGTH + get_maximum_output_size(frames.len());
        if self.packed.len() < room {
            self.packed.resize(room, 0);
        }
        self.packed[..LENGTH].copy_from_slice(&length(frames.len()));
        let bytes = compress_into_with_table(frames, &mut self.packed[LENGTH..], &mut self.table)
            .expect("a buffer of the greatest size that compression can give");
        let key = Key::new().name(conversation).bytes(&xxh3_128(frames).to_be_bytes()).build();
        let value = Bytes::copy_from_slice(&self.packed[..LENGTH + bytes]);
        self.ops.push(Op::put(space, key, value).behind(Fence::Facts));
        frames.clear();
    }
}

fn length(bytes: usize) -> [u8; LENGTH] {
    u32::try_from(bytes).expect("records are bounded far below 4 GiB").to_le_bytes()
}

fn frame(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    content(out);
    let bytes = length(out.len() - start - LENGTH);
    out[start..start + LENGTH].copy_from_slice(&bytes);
}

fn put_row(row: &Row, record: &impl Encode, out: &mut Vec<u8>) {
    out.extend_from_slice(&row.offset.0.to_be_bytes());
    out.extend_from_slice(&row.time.0.to_be_bytes());
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

/// The rows of some groups, each once: of repetitions the one of the lowest offset.
#[derive(Default)]
pub(crate) struct Rows {
    rows: Vec<Row>,
    places: HashMap<RowKey, usize>,
}

impl Rows {
    /// Takes in a group.
    pub(crate) fn unpack(&mut self, group: &[u8]) -> Result<(), StoreError> {
        frames(group, |content| {
            let short = || StoreError::corrupt("row of a fact", "it ends early");
            let mut parts = Parts(content);
            let offset = Offset(i64::from_be_bytes(parts.array().ok_or_else(short)?));
            let time = Timestamp(i64::from_be_bytes(parts.array().ok_or_else(short)?));
            let record = decode(parts.0).map_err(|error| StoreError::corrupt("row of a fact", error))?;
            let row = Row { offset, time, record: Box::new(record) };
            let place = *self.places.entry(RowKey::of(&row)).or_insert(self.rows.len());
            match self.rows.get_mut(place) {
                Some(held) if row.offset < held.offset => *held = row,
                Some(_) => {}
                None => self.rows.push(row),
            }
            Ok(())
        })
    }

    pub(crate) fn rows(self) -> Vec<Row> {
        self.rows
    }
}

/// Transcripts with their texts that are looked for in groups.
pub(crate) struct Texts(BTreeMap<TextKey, Option<Transcript>>);

impl Texts {
    pub(crate) fn wanted(keys: &[TextKey]) -> Self {
        Self(keys.iter().map(|key| (key.clone(), None)).collect())
    }

    /// Takes what is wanted out of a group.
    pub(crate) fn unpack(&mut self, group: &[u8]) -> Result<(), StoreError> {
        frames(group, |content| {
            let transcript = match decode(content) {
                Ok(Record::Transcript(transcript)) => transcript,
                Ok(other) => return Err(StoreError::corrupt("text", format!("it is a {}", other.name()))),
                Err(error) => return Err(StoreError::corrupt("text", error)),
            };
            let Ok(sha256) = transcript.text_sha256.parse() else { return Ok(()) };
            let key = TextKey { chunk: transcript.chunk_id.clone(), segment: transcript.segment, sha256 };
            if let Some(found) = self.0.get_mut(&key) {
                *found = Some(transcript);
            }
            Ok(())
        })
    }

    /// What was found, in the keys' order.
    pub(crate) fn found(self, keys: &[TextKey]) -> Vec<Option<Transcript>> {
        keys.iter().map(|key| self.0.get(key).cloned().flatten()).collect()
    }
}

/// Goes through the frames of a group.
fn frames(group: &[u8], mut content: impl FnMut(&[u8]) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let corrupt = |cause: &str| StoreError::corrupt("group of rows", cause);
    let frames = decompress_size_prepended(group).map_err(|error| corrupt(&error.to_string()))?;
    let mut parts = Parts(&frames);
    while let Some(bytes) = parts.array().map(u32::from_le_bytes) {
        content(parts.bytes(bytes as usize).ok_or_else(|| corrupt("it ends within a row"))?)?;
    }
    if parts.0.is_empty() { Ok(()) } else { Err(corrupt("it ends within a length")) }
}
