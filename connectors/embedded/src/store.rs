//! The store on disk: one fjall database with a keyspace for each kind of content, behind a door, because a store
//! that failed to write must be closed and recovered before it takes writes again.
//!
//! What fjall 3.1 does, read in its source: a batch goes to its journal, is synced if asked, and only then shows in
//! memory, all under the journal's lock; recovery replays the journal in order and drops a torn batch at its end. So
//! whoever's batch is synced has synced every batch before it. A failed write or flush poisons the database: it
//! reads on, but refuses writes until it is opened again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch,
    PersistMode,
};

use crate::config::Config;
use crate::error::{OpenError, StoreError};
use crate::lock::DirectoryLock;
use crate::repair;

/// A kind of content, each in a keyspace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// The engine's own: partition count, topics' numbers, where partitions begin, groups and their offsets.
    Meta,
    /// Record batches.
    Log,
    /// Groups of rows of facts.
    Facts,
    /// Groups of transcripts with their texts.
    Texts,
    /// Steps of effects.
    Journal,
    /// Providers' job ids, which outlive an erasure.
    Jobs,
    /// The index of open windows.
    Windows,
    /// Dead letters.
    Letters,
    /// Markers of erased conversations.
    Erased,
}

impl Space {
    const ALL: [Self; 9] = [
        Self::Meta,
        Self::Log,
        Self::Facts,
        Self::Texts,
        Self::Journal,
        Self::Jobs,
        Self::Windows,
        Self::Letters,
        Self::Erased,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Log => "log",
            Self::Facts => "facts",
            Self::Texts => "texts",
            Self::Journal => "journal",
            Self::Jobs => "jobs",
            Self::Windows => "windows",
            Self::Letters => "dead-letters",
            Self::Erased => "erased",
        }
    }

    fn options(self, config: &Config) -> KeyspaceCreateOptions {
        let options = KeyspaceCreateOptions::default();
        match self {
            // Values of the log are large and die in the order in which they came: kept apart, compaction does not
            // copy them.
            Self::Log => options
                .max_memtable_size(config.write_buffer_bytes)
                .with_kv_separation(Some(KvSeparationOptions::default().separation_threshold(4 << 10))),
            // Groups of rows come compressed.
            Self::Facts | Self::Texts => options
                .max_memtable_size(config.write_buffer_bytes)
                .data_block_size_policy(BlockSizePolicy::all(16 << 10))
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None)),
            _ => options.max_memtable_size(4 << 20),
        }
    }
}

/// An opened database.
pub(crate) struct Store {
    db: Database,
    spaces: Vec<Keyspace>,
}

impl Store {
    /// Opens the store, without the torn end that a loss of power may have left.
    fn open(dir: &Path, config: &Config) -> fjall::Result<Self> {
        match Self::recover(dir, config) {
            Err(fjall::Error::JournalRecovery(error)) => {
                let cut = repair::cut_torn_end(&dir.join("store"))?;
                tracing::error!(
                    bytes = cut,
                    ?error,
                    "cut a torn end, which was never synced, off the journal"
                );
                Self::recover(dir, config)
            }
            other => other,
        }
    }

    fn recover(dir: &Path, config: &Config) -> fjall::Result<Self> {
        let db = Database::builder(dir.join("store"))
            .cache_size(config.cache_bytes)
            .max_journaling_size(256 << 20)
            // Of two, one only passes compactions back to the queue while the other works at one, on a whole core.
            .worker_threads(1)
            .manual_journal_persist(true)
            .journal_compression(CompressionType::None)
            .open()?;
        let spaces: fjall::Result<_> =
            Space::ALL.iter().map(|space| db.keyspace(space.name(), || space.options(config))).collect();
        Ok(Self { db, spaces: spaces? })
    }

    pub(crate) fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }

    /// An atomic batch, not synced unless its durability is set.
    pub(crate) fn batch(&self, items: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.db.clone(), items)
    }
}

/// The directory with its store, which can be closed and opened again while others hold this.
pub(crate) struct Disk {
    dir: PathBuf,
    config: Config,
    /// The store, or why there is none.
    store: RwLock<Result<Store, StoreError>>,
    /// Set when a write failed: the store must be reopened.
    broken: AtomicBool,
    lock: std::sync::Mutex<Option<DirectoryLock>>,
}

impl Disk {
    pub(crate) fn open(dir: &Path, config: &Config) -> Result<Self, OpenError> {
        let lock = DirectoryLock::take(dir)?;
        let store =
            Store::open(dir, config).map_err(|cause| OpenError::Store { dir: dir.to_owned(), cause })?;
        Ok(Self {
            dir: dir.to_owned(),
            config: config.clone(),
            store: RwLock::new(Ok(store)),
            broken: AtomicBool::new(false),
            lock: std::sync::Mutex::new(Some(lock)),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Does something with the store; blocks while the store is being reopened.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // A panic in `work` leaves the store as it was: it only reads, or fjall guards itself.
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        work(store.as_ref().map_err(Clone::clone)?)
    }

    /// Waits until few enough full buffers wait to be written out, so that memory stays bounded. fjall would wait too,
    /// with more of them, and for ever where writing them out has failed.
    pub(crate) fn settle(&self, store: &Store) -> Result<(), StoreError> {
        let waits = |space: &Keyspace| space.sealed_memtable_count() >= 2;
        while store.spaces.iter().any(waits) {
            // Asks whether the database was poisoned.
            store
                .db
                .persist(PersistMode::Buffer)
                .inspect_err(|_| self.broken.store(true, Ordering::Release))?;
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Writes a batch; a failure breaks the store until it is reopened.
    pub(crate) fn commit(&self, batch: OwnedWriteBatch) -> Result<(), StoreError> {
        batch.commit().map_err(|error| {
            self.broken.store(true, Ordering::Release);
            error.into()
        })
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether there is room to write.
    pub(crate) fn room(&self) -> Result<(), StoreError> {
        let cause = |error: rustix::io::Errno| StoreError::Failed { cause: error.to_string() };
        let system = rustix::fs::statvfs(&self.dir).map_err(cause)?;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        if free < self.config.reserve_bytes {
            return Err(StoreError::Full { dir: self.dir.clone(), free, reserve: self.config.reserve_bytes });
        }
        Ok(())
    }

    /// Closes the broken store and recovers it from its journal: what was synced is there, what was not may be lost.
    /// It stays broken until [`Self::mended`].
    pub(crate) fn reopen(&self) -> Result<(), StoreError> {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        // The old one must be gone first: it holds the database's own lock.
        *store = Err(StoreError::Failed { cause: "it is being recovered".to_owned() });
        *store = Store::open(&self.dir, &self.config).map_err(StoreError::from);
        store.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// What is known in memory is again what the reopened store holds.
    pub(crate) fn mended(&self) {
        self.broken.store(false, Ordering::Release);
    }

    /// Closes the store for good, and lets the directory go.
    pub(crate) fn close(&self) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = Err(StoreError::Closed);
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
