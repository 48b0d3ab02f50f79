//! Dead letters as rows: for listing, depth and dismissal. The records themselves rest in the dead-letter topics.

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Offset, Timestamp};
use hansard_schemas::Stage;

use super::PortError;
use super::log::TopicPartition;

/// Names a dead letter by where its record first stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadLetterId {
    /// The stage that gave up.
    pub stage: Stage,
    /// The origin's partition.
    pub origin: TopicPartition,
    /// The origin's offset.
    pub offset: Offset,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its name.
    pub id: DeadLetterId,
    /// The conversation, where the key is a valid id; else empty.
    pub conversation: String,
    /// The class of the last failure, as text.
    pub class: String,
    /// Its stable code.
    pub code: String,
    /// Its text, without secrets.
    pub cause: String,
    /// Attempts made.
    pub attempts: u32,
    /// How often it was redriven.
    pub redrives: u32,
    /// When it came to rest.
    pub at: Timestamp,
    /// The original key.
    pub key: Option<Bytes>,
    /// The original value.
    pub value: Option<Bytes>,
    /// The original headers, with those of redelivery.
    pub headers: Vec<(String, Bytes)>,
}

/// What an operator did with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Sent through again; it rests no more, unless it fails again (with a higher `redrives`).
    Redriven {
        /// The letter's `redrives` at that moment.
        redrives: u32,
    },
    /// Given up by a person.
    Dismissed {
        /// The letter's `redrives` at that moment.
        redrives: u32,
    },
}

/// The table of dead letters.
///
/// An implementation must give: writes are durable when they return and seen by every later `list`; writing again
/// changes nothing; a letter with higher `redrives` rests again after a verdict on a lower one.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Writes letters; idempotent by id and `redrives`.
    async fn write(&self, letters: &[DeadLetter]) -> Result<(), PortError>;
    /// Records a verdict.
    async fn judge(&self, id: DeadLetterId, verdict: Verdict, at: Timestamp) -> Result<(), PortError>;
    /// The letters of a stage that rest, oldest first, at most `limit`, after `after`.
    async fn list(
        &self,
        stage: Stage,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, PortError>;
    /// How many letters of a stage rest. One that was judged and then written again late may be counted too.
    async fn depth(&self, stage: Stage) -> Result<u64, PortError>;
    /// One letter, if it rests.
    async fn get(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, PortError>;
    /// Deletes the letters of an erased conversation.
    async fn erase(&self, conversation: &str) -> Result<(), PortError>;
}
