//! The facts port: one row a fact, never overwritten, from which a window is rebuilt.

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Digest, Offset, Timestamp};
use hansard_schemas::{Record, Transcript};

use super::PortError;

/// A fact as a row: the record, and where and when it entered the log (a redriven record's origin).
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its offset in its topic; the origin's for a redriven or forwarded one.
    pub offset: Offset,
    /// Its log time; likewise.
    pub time: Timestamp,
    /// The fact.
    pub record: Box<Record>,
}

/// The primary key of a row below its conversation. What orders competing facts is in it, and a digest of the content:
/// two different facts never have one key, so that a late or repeated write is harmless.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The record's name in lower case: `upload`, `split`, `transcript`, …
    pub kind: &'static str,
    /// The chunk, or empty for facts about the whole conversation.
    pub chunk: String,
    /// The segment, or −1.
    pub segment: i32,
    /// What orders competing facts of this kind: offset, generation or revision.
    pub rank: i64,
    /// SHA-256 over what tells this fact from another of the same place and rank.
    pub content: Digest,
}

/// Names one text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextKey {
    /// The chunk's id.
    pub chunk: String,
    /// The segment's index.
    pub segment: i32,
    /// `Transcript.text_sha256`.
    pub sha256: Digest,
}

/// The marker of an erased conversation, never removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// When the `Erase` entered the log.
    pub time: Timestamp,
    /// Its reason as given; `retention` for expiry.
    pub reason: String,
}

/// Rows of facts, and texts in a place of their own.
///
/// An implementation must give: a write that returned is durable no later than any transaction begun after it; writing
/// a row again changes nothing, and where records of several offsets make one row, it is that of the first, whichever was
/// written last; rows written after their conversation's erasure stay dead; `read` sees every write that
/// returned before it began. It need not give: an order among rows, atomicity over more than one row.
#[async_trait]
pub trait Facts: Send + Sync {
    /// Writes rows, of any conversations. A `Transcript`'s text, words and redactions go to the texts.
    async fn write(&self, rows: &[Row]) -> Result<(), PortError>;

    /// All rows of a conversation, without texts: a `Transcript` comes back with empty text, words and redactions.
    async fn read(&self, conversation: &str) -> Result<Vec<Row>, PortError>;

    /// The transcripts with their texts for the given keys, in the keys' order; `None` for one that is not there.
    async fn texts(&self, conversation: &str, keys: &[TextKey])
    -> Result<Vec<Option<Transcript>>, PortError>;

    /// Ids of conversations that have rows, after `cursor`, at most `limit`, in an order of the implementation's own;
    /// and the cursor for the next page, or `None` after the last.
    async fn conversations(
        &self,
        cursor: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<Bytes>), PortError>;

    /// Sets the marker, where there is none of an earlier time, then deletes all rows and texts of the conversation.
    async fn erase(&self, conversation: &str, marker: Erasure) -> Result<(), PortError>;

    /// The marker, if the conversation was erased.
    async fn erasure(&self, conversation: &str) -> Result<Option<Erasure>, PortError>;
}

/// The markers of all erased conversations: what sweep goes by.
///
/// An implementation must give: every marker that was set before the first page was asked for is met once; markers are
/// never removed.
#[async_trait]
pub trait Erasures: Send + Sync {
    /// Markers after `cursor`, at most `limit`, in an order of the implementation's own; and the cursor for the next
    /// page, or `None` after the last.
    async fn erasures(
        &self,
        cursor: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<(String, Erasure)>, Option<Bytes>), PortError>;
}
