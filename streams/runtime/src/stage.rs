//! What a stage is: a record in, an answer out, nothing held in between.

use std::time::Duration;

use async_trait::async_trait;
use hansard_core::id::{Millis, Offset, Timestamp};
use hansard_core::redelivery::{Class, Headers};
use hansard_schemas::Record;

use crate::ports::PortError;
use crate::ports::log::TopicPartition;
use crate::trace::TraceParent;

/// A decoded record on its way through a stage.
#[derive(Debug, Clone)]
pub struct Input {
    /// Where it was read.
    pub from: TopicPartition,
    /// Its offset there.
    pub offset: Offset,
    /// The offset that counts: its origin's, where it came by a retry topic.
    pub origin: Offset,
    /// The log time that counts, likewise.
    pub time: Timestamp,
    /// What redelivery knows of it; nothing at the first delivery.
    pub history: Option<Headers>,
    /// Where in a trace it stands, and what follows from it.
    pub trace: Option<TraceParent>,
    /// The record.
    pub record: Box<Record>,
}

impl Input {
    /// The conversation's id.
    #[must_use]
    pub fn conversation(&self) -> &str {
        self.record.conversation_id()
    }
}

/// What a stage makes of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Done, with these records to be emitted; none where there is nothing to say (`superseded`).
    Done(Vec<Record>),
    /// Under way elsewhere: come back with the same record by the last retry tier that takes no longer than this, or by the
    /// first, and count no attempt.
    Parked(Millis),
}

/// Why a stage could not answer, as the connector that knows the cause classed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {cause}")]
pub struct Failed {
    /// Decides what happens next.
    pub class: Class,
    /// Stable, lower case with underscores; goes into the `Failure`.
    pub code: &'static str,
    /// For people; no secrets.
    pub cause: String,
    /// Not before this long from now, where the other side said so.
    pub retry_after: Option<Duration>,
    /// The answer's HTTP status, where there was one.
    pub http_status: Option<u16>,
    /// The provider that failed, where it was one.
    pub provider: Option<String>,
    /// Attempts that the journal knows of, before this one.
    pub attempts_before: u32,
}

impl Failed {
    /// A failure without any of the optional parts.
    #[must_use]
    pub fn new(class: Class, code: &'static str, cause: impl Into<String>) -> Self {
        Self {
            class,
            code,
            cause: cause.into(),
            retry_after: None,
            http_status: None,
            provider: None,
            attempts_before: 0,
        }
    }
}

impl From<PortError> for Failed {
    fn from(error: PortError) -> Self {
        let code = match &error {
            PortError::Unavailable { .. } => "store_unavailable",
            PortError::NotFound { .. } => "object_missing",
            PortError::Differs { .. } => "object_differs",
            PortError::Refused { .. } => "store_refuses",
            PortError::Corrupt { .. } => "store_corrupt",
        };
        Self::new(error.class(), code, error.to_string())
    }
}

/// An effect stage: split, transcribe, merge, summarize, notify.
///
/// `process` may be dropped at any await and called again with the same record, here or in another process; whatever
/// costs or changes something outside goes through the journal ([`crate::effect`]).
#[async_trait]
pub trait Stage: Send + Sync {
    /// Which stage it is.
    fn stage(&self) -> hansard_schemas::Stage;

    /// Whether calls that end in this transient code go to one dependency, so that many that end alike tell of it and not of
    /// their records.
    fn shares_a_dependency(&self, _code: &str) -> bool {
        true
    }

    /// This process now holds so many of so many partitions of each topic: its share of what the whole deployment may do.
    fn assigned(&self, _held: usize, _of: usize) {}

    /// Whether it acts on this record at all; what it does not want is passed over.
    fn wants(&self, record: &Record) -> bool;

    /// Does the work. See the trait for what it must bear.
    async fn process(&self, input: &Input) -> Result<Answer, Failed>;

    /// Takes back what `process` left outside, because the conversation was erased meanwhile. Idempotent.
    async fn undo(&self, input: &Input, emitted: &[Record]) -> Result<(), Failed>;
}
