//! The jobs: one file a stage, and the whole dataflow on one screen.
//!
//! They never name a client of a real system, never read the environment or the system's time; what they need of the
//! world comes through ports.

pub mod aggregate;
mod asking;
pub mod budget;
pub mod callback;
pub use hansard_runtime::convert;
pub mod effects;
pub mod merge;
pub mod notify;
pub mod peaks;
pub mod ports;
pub mod providers;
pub mod redaction;
pub mod slices;
pub mod split;
pub mod summaries;
pub mod summarize;
pub mod sweep;
pub mod topology;
pub mod transcribe;
