//! How a record's way through a stage ended, as a value: what the commit has to append, or that it waits.

use hansard_core::id::Millis;

use crate::ports::log::Outgoing;

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done: these records go into the transaction that holds its offset.
    Emit(Ending),
    /// A dependency is down: the record is tried again in place, its partition waits.
    Wait {
        /// What is down.
        cause: String,
        /// Not before this long from now, where the dependency said so.
        retry_after: Option<Millis>,
    },
}

/// What a done record leaves behind: its outputs, or one retry or dead-letter record with its `Failure`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// What is appended, in order.
    pub(crate) records: Vec<Outgoing>,
    /// The code, where this is a retry after a transient failure.
    pub(crate) transient: Option<&'static str>,
}

impl Outcome {
    /// Nothing to say.
    pub(crate) fn pass_over() -> Self {
        Self::Emit(Ending::default())
    }
}
