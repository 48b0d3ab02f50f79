//! Why the engine cannot be opened, and why its store does not answer, with what each means at the ports.

use std::path::PathBuf;

use hansard_runtime::ports::PortError;
use hansard_runtime::ports::log::LogError;

/// The name under which the ports speak of this engine.
pub(crate) const SERVICE: &str = "embedded store";

/// Why the engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory.
    #[error("{} is in use by process {pid}; stop it, or give another --data-dir", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other's process id, or `unknown`.
        pid: String,
    },
    /// The directory was made with another number of partitions.
    #[error("{} was made with {recorded} partitions and cannot be opened with {asked}; set {recorded}", dir.display())]
    Partitions {
        /// The directory.
        dir: PathBuf,
        /// The number with which it was made.
        recorded: u32,
        /// The number asked for.
        asked: u32,
    },
    /// The directory cannot be made, locked or read.
    #[error("cannot open {}: {cause}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// What is in the directory cannot be read as a store.
    #[error("cannot open the store in {}: {cause}", dir.display())]
    Store {
        /// The directory.
        dir: PathBuf,
        /// What the storage library said.
        cause: fjall::Error,
    },
    /// A record of the engine's own in the store is not what this version writes.
    #[error("the store in {} holds unreadable {what}", dir.display())]
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// What was to be read.
        what: &'static str,
    },
}

/// Why the store did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("only {free} bytes are free where {} is, and {reserve} are kept in reserve; free some space", dir.display())]
    Full { dir: PathBuf, free: u64, reserve: u64 },
    #[error("{cause}")]
    Failed { cause: String },
    #[error("it is closed")]
    Closed,
    #[error("stored {what} is corrupt: {cause}")]
    Corrupt { what: String, cause: String },
}

impl StoreError {
    pub(crate) fn corrupt(what: impl Into<String>, cause: impl ToString) -> Self {
        Self::Corrupt { what: what.into(), cause: cause.to_string() }
    }
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        Self::Failed { cause: error.to_string() }
    }
}

impl From<StoreError> for PortError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { what, cause } => Self::Corrupt { what, cause },
            other => Self::Unavailable { service: SERVICE, cause: other.to_string() },
        }
    }
}

impl From<StoreError> for LogError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::Closed,
            other => Self::Unavailable { cause: other.to_string() },
        }
    }
}
