//! The index of open windows: which conversations a partition's next owner must look at.

use async_trait::async_trait;
use hansard_core::id::Partition;

use super::PortError;

/// An entry: revision `revision` of `conversation` is awaited.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenWindow {
    /// The input partition that the conversation's records are in.
    pub partition: Partition,
    /// The UTC day of insertion, in days since the Unix epoch; spreads the rows.
    pub day: i32,
    /// The conversation's id.
    pub conversation: String,
    /// The awaited revision, from 1.
    pub revision: i32,
}

/// The index. Too many entries are harmless, too few never are: an entry is inserted before the awaited revision's first
/// fact commits, and removed only after that revision was delivered or the conversation erased.
///
/// An implementation must give: an insert that returned is durable no later than any transaction begun after it, and is
/// seen by every later `list`; repeating either call changes nothing.
#[async_trait]
pub trait Windows: Send + Sync {
    /// Inserts entries.
    async fn insert(&self, entries: &[OpenWindow]) -> Result<(), PortError>;
    /// Removes entries.
    async fn remove(&self, entries: &[OpenWindow]) -> Result<(), PortError>;
    /// All entries of a partition inserted on `since_day` or later.
    async fn list(&self, partition: Partition, since_day: i32) -> Result<Vec<OpenWindow>, PortError>;
}
