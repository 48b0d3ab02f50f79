//! Keys of the store. Numbers are big-endian, so that bytes sort as values do; texts that others follow end with a
//! zero byte or follow their length, so that no key is the beginning of another's.

use hansard_core::id::Digest;
use hansard_runtime::ports::journal::{JournalKey, SubmissionId};
use hansard_runtime::ports::windows::OpenWindow;

use crate::partitions::Slot;

/// A key that is being built.
#[derive(Debug, Clone, Default)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    pub(crate) fn new() -> Self {
        Self::with_capacity(96)
    }

    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// The sign's bit is turned, so that negative numbers sort first.
    pub(crate) fn i32(self, number: i32) -> Self {
        self.u32(number.cast_unsigned() ^ (1 << 31))
    }

    /// Likewise.
    pub(crate) fn i64(self, number: i64) -> Self {
        self.bytes(&(number.cast_unsigned() ^ (1 << 63)).to_be_bytes())
    }

    /// A text without zero bytes, as conversation ids and names of groups and topics are.
    pub(crate) fn name(self, name: &str) -> Self {
        self.bytes(name.as_bytes()).byte(0)
    }

    pub(crate) fn build(self) -> Vec<u8> {
        self.0
    }
}

/// The conversation with which a key of facts, texts or the journal begins.
pub(crate) fn conversation_of(key: &[u8]) -> &[u8] {
    key.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A batch stands under its last offset, so that the first key at or above an offset is the batch that holds it.
pub(crate) fn batch(slot: Slot, last: i64) -> Vec<u8> {
    Key::new().u32(slot.0).i64(last).build()
}

/// The last offset in a batch's key.
pub(crate) fn last_offset(key: &[u8]) -> Option<i64> {
    let bytes = key.get(4..)?.first_chunk::<8>()?;
    Some((u64::from_be_bytes(*bytes) ^ (1 << 63)).cast_signed())
}

/// The beginning of all keys of a conversation.
pub(crate) fn conversation(conversation: &str) -> Vec<u8> {
    Key::new().name(conversation).build()
}

/// The first key after all of a conversation's.
pub(crate) fn after_conversation(conversation: &str) -> Vec<u8> {
    Key::new().bytes(conversation.as_bytes()).byte(1).build()
}

/// The beginning of all keys of an effect.
pub(crate) fn effect(key: &JournalKey) -> Vec<u8> {
    let stage = key.stage.as_str();
    Key::new().name(&key.conversation).name(stage).bytes(&key.input.0).i64(key.generation.0).build()
}

/// A step of a submission; `step` is its place in the order of steps.
pub(crate) fn step(key: &JournalKey, id: SubmissionId, step: u8) -> Vec<u8> {
    Key(effect(key)).bytes(&id.0).byte(step).build()
}

pub(crate) fn window(entry: &OpenWindow) -> Vec<u8> {
    let place = Key::new().i32(entry.partition.0).i32(entry.day);
    place.name(&entry.conversation).i32(entry.revision).build()
}

/// Takes a key or value apart, from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a>(pub(crate) &'a [u8]);

impl<'a> Parts<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.u32().map(|number| (number ^ (1 << 31)).cast_signed())
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(|bytes| (u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
    }

    pub(crate) fn digest(&mut self) -> Option<Digest> {
        self.array().map(Digest)
    }

    pub(crate) fn name(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let name = self.bytes(end)?;
        self.byte()?;
        std::str::from_utf8(name).ok()
    }
}
