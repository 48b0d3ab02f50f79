//! What can be set of the engine, with defaults for one machine.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hansard_core::id::Timestamp;

/// A wall clock in milliseconds since the Unix epoch; gives the log its times.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How an [`Engine`](crate::Engine) is set up.
#[derive(Clone)]
pub struct Config {
    /// Partitions of each topic. Recorded when the directory is made; another number is refused later.
    pub partitions: u32,
    /// How long a rebalance waits for a member to release what was revoked.
    pub release_within: Duration,
    /// Writes are refused while fewer bytes than this are free on the file system, so that the engine can always
    /// finish what it has begun.
    pub reserve_bytes: u64,
    /// Bound of the newest records that are kept in memory over all partitions, in bytes.
    pub tail_bytes: usize,
    /// About so many bytes are handed over in one [`Event::Fetched`](hansard_runtime::ports::log::Event::Fetched).
    pub fetch_bytes: usize,
    /// Size of one keyspace's write buffer in bytes; of the three large keyspaces up to four each can exist.
    pub write_buffer_bytes: u64,
    /// Bound of the block cache in bytes.
    pub cache_bytes: u64,
    /// Whether rows are durable by themselves. Not needed where the engine is also the log, whose commits cover them; a
    /// log elsewhere may keep offsets of which a crash would take the rows. Default false.
    pub rows_synced: bool,
    /// Where log times come from.
    pub clock: WallClock,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            partitions: 8,
            release_within: Duration::from_secs(10),
            reserve_bytes: 256 << 20,
            tail_bytes: 64 << 20,
            fetch_bytes: 1 << 20,
            write_buffer_bytes: 16 << 20,
            cache_bytes: 16 << 20,
            rows_synced: false,
            clock: Arc::new(system_time),
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("partitions", &self.partitions)
            .field("release_within", &self.release_within)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("tail_bytes", &self.tail_bytes)
            .field("fetch_bytes", &self.fetch_bytes)
            .field("write_buffer_bytes", &self.write_buffer_bytes)
            .field("cache_bytes", &self.cache_bytes)
            .field("rows_synced", &self.rows_synced)
            .finish_non_exhaustive()
    }
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
