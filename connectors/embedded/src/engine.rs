//! Opening and closing the engine, and its ports.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use hansard_core::id::Timestamp;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::dead_letters::DeadLetters;
use hansard_runtime::ports::facts::{Erasures, Facts};
use hansard_runtime::ports::journal::Journal;
use hansard_runtime::ports::log::Log;
use hansard_runtime::ports::windows::Windows;
use hansard_schemas::Topic;

use crate::config::Config;
use crate::dead_letters::LocalDeadLetters;
use crate::erasures::LocalErasures;
use crate::error::OpenError;
use crate::facts::LocalFacts;
use crate::journal::LocalJournal;
use crate::load;
use crate::log::{Handle, LocalLog};
use crate::retention::{self, Maintained, Rounds};
use crate::store::Disk;
use crate::windows::LocalWindows;
use crate::writer::{Shared, Work, Writer};

/// The embedded engine. It is closed when this is dropped: what was begun is finished, and the ports then answer that
/// they are closed.
pub struct Engine {
    handle: Handle,
    log: Arc<dyn Log>,
    facts: Arc<dyn Facts>,
    journal: Arc<dyn Journal>,
    windows: Arc<dyn Windows>,
    dead_letters: Arc<dyn DeadLetters>,
    rounds: Rounds,
    writer: Option<JoinHandle<()>>,
}

impl Engine {
    /// Opens the engine in a directory, which is made if it is not there, and recovers what was acknowledged.
    ///
    /// # Errors
    /// [`OpenError`]: the directory is in use, was made with another number of partitions, or cannot be read.
    pub fn open(dir: &Path, config: Config) -> Result<Self, OpenError> {
        let disk = Disk::open(dir, &config)?;
        let catalogue: Vec<_> = Topic::all().collect();
        let topics = load::topics(&disk, &catalogue, config.partitions)?;
        let loaded = disk.with(|store| load::load(store, &topics)).map_err(|error| {
            tracing::error!(%error, "the store cannot be read");
            OpenError::Unreadable { dir: dir.to_owned(), what: "entries of the engine" }
        })?;
        let shared = Arc::new(Shared::new(disk, config, topics, loaded));
        let (sender, work) = mpsc::channel();
        let handle = Handle::new(Arc::clone(&shared), sender);
        let writer = Writer::new(shared, work);
        let writer =
            std::thread::Builder::new().name("embedded-writer".to_owned()).spawn(move || writer.run());
        let writer = writer.map_err(|cause| OpenError::Directory { dir: dir.to_owned(), cause })?;
        Ok(Self {
            log: Arc::new(LocalLog(handle.clone())),
            facts: Arc::new(LocalFacts(handle.clone())),
            journal: Arc::new(LocalJournal(handle.clone())),
            windows: Arc::new(LocalWindows(handle.clone())),
            dead_letters: Arc::new(LocalDeadLetters::new(handle.clone())),
            handle,
            rounds: Rounds::default(),
            writer: Some(writer),
        })
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log)
    }

    /// Rows of facts, and texts.
    #[must_use]
    pub fn facts(&self) -> Arc<dyn Facts> {
        Arc::clone(&self.facts)
    }

    /// The markers of erasures.
    #[must_use]
    pub fn erasures(&self) -> Arc<dyn Erasures> {
        Arc::new(LocalErasures(self.handle.clone()))
    }

    /// The journal of effects.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.journal)
    }

    /// The index of open windows.
    #[must_use]
    pub fn windows(&self) -> Arc<dyn Windows> {
        Arc::clone(&self.windows)
    }

    /// The table of dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::clone(&self.dead_letters)
    }

    /// Deletes and compacts what the catalogue no longer keeps at `now`. To be called now and then, for example every
    /// minute.
    ///
    /// # Errors
    /// The store is unavailable or corrupt; what was done stays done.
    pub async fn maintain(&self, now: Timestamp) -> Result<Maintained, PortError> {
        retention::maintain(&self.handle, &self.rounds, now).await
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.handle.send(Work::Close);
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the embedded engine panicked");
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.handle.shared.config).finish_non_exhaustive()
    }
}
