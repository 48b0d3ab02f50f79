//! The embedded engine: log, facts, journal, index of open windows and dead letters in one directory of one machine,
//! behind the same ports as Kafka and Scylla. It survives `kill -9` at any time without losing what it acknowledged.
//!
//! It never decides what a record means, never talks to a network, and never serves more than one process.
//!
//! Memory is bounded by [`Config`]: the newest records, the block cache, and up to four write buffers for each of the
//! three large keyspaces, so by default 512 MiB, of which about 200 are used; 16 bytes for each erased conversation come
//! on top.

mod batch;
mod config;
mod dead_letters;
mod engine;
mod erasures;
mod error;
mod facts;
mod group;
mod journal;
mod keys;
mod load;
mod lock;
mod log;
mod member;
mod partitions;
mod repair;
mod retention;
mod rows;
mod store;
#[cfg(test)]
mod tests;
mod topics;
mod windows;
mod writer;

pub use config::{Config, WallClock};
pub use engine::Engine;
pub use error::OpenError;
pub use log::RECORD_BYTES_MAX;
pub use retention::Maintained;
