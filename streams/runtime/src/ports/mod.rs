//! The ports: what the runtime and the jobs need from the world, each with its guarantees in words.
//!
//! Every port has at least two implementations that ship (a cluster's and the embedded one) and one in the driver
//! that can be made to fail; one contract suite runs over all of them. Only a cluster may have a schema registry, and
//! either may have a collector of traces.

pub mod clock;
pub mod dead_letters;
pub mod facts;
pub mod journal;
pub mod log;
pub mod objects;
mod row_key;
pub mod schemas;
pub mod traces;
pub mod windows;

use std::sync::Arc;

use hansard_core::redelivery::Class;

/// Why a store or an object service did not answer as asked.
///
/// The connector that knows the cause chooses the variant; nobody reads the text to classify it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The service cannot be reached, timed out, or refuses everyone (disk full, overloaded): waiting may help.
    #[error("{service} is unavailable: {cause}")]
    Unavailable {
        /// Which service, in the operator's words: `cql`, `s3`, `embedded store`.
        service: &'static str,
        /// What was seen.
        cause: String,
    },
    /// What was asked for does not exist, or no longer does.
    #[error("{what} is not there")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The thing exists and is not the one that was asked for: its ETag, size or checksum differs.
    #[error("{what} differs from what was expected: {difference}")]
    Differs {
        /// What was looked at.
        what: String,
        /// Expected and seen values.
        difference: String,
    },
    /// The service understood and refuses for good: a bad request, a missing permission, an unknown table.
    #[error("{service} refuses: {cause}")]
    Refused {
        /// Which service.
        service: &'static str,
        /// What it said.
        cause: String,
    },
    /// Stored bytes cannot be read back as what they were written as.
    #[error("stored {what} is corrupt: {cause}")]
    Corrupt {
        /// What was read.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl PortError {
    /// The class that the five answers to failure need.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Unavailable,
            Self::NotFound { .. } | Self::Differs { .. } => Class::Permanent,
            Self::Refused { .. } => Class::Unavailable,
            Self::Corrupt { .. } => Class::Defect,
        }
    }
}

/// All ports that loops and stages share. Cloning is cheap.
#[derive(Clone)]
pub struct Ports {
    /// The log.
    pub log: Arc<dyn log::Log>,
    /// Rows of facts, and texts.
    pub facts: Arc<dyn facts::Facts>,
    /// The index of open windows.
    pub windows: Arc<dyn windows::Windows>,
    /// The journal of effects.
    pub journal: Arc<dyn journal::Journal>,
    /// The table of dead letters.
    pub dead_letters: Arc<dyn dead_letters::DeadLetters>,
    /// Recordings, segments, merged audio and documents.
    pub objects: Arc<dyn objects::Objects>,
    /// Time.
    pub clock: Arc<dyn clock::Clock>,
    /// Randomness.
    pub entropy: Arc<dyn clock::Entropy>,
    /// How records are framed in this deployment.
    pub framing: Arc<hansard_schemas::Framing>,
    /// The schema registry, where the framing is that of one.
    pub schemas: Option<Arc<dyn schemas::Schemas>>,
    /// Where spans go; without it they cost nothing.
    pub traces: Option<Arc<dyn traces::Traces>>,
}
