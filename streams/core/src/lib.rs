//! The decisions of Hansard, pure: what a conversation's facts mean, when it is due, and what its finalize says.
//!
//! This crate never does I/O, never reads a clock, never draws a random number, never waits and never
//! names a wire format or a client. It is `no_std`, so the ordinary build proves it. Time comes in as a value,
//! decisions go out as values.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cues;
pub mod decide;
pub mod document;
mod draft;
pub mod export;
pub mod extract;
pub mod fact;
pub mod id;
pub mod manifest;
pub mod passages;
pub mod redact;
pub mod redelivery;
pub mod rules;
pub mod status;
pub mod timeline;
pub mod window;

pub use decide::{Decision, decide};
pub use fact::Fact;
pub use id::{
    ChunkId, ConversationId, Digest, FinalizeDigest, Generation, IdError, Millis, Offset, Only, Partition,
    Revision, Stage, Timestamp, Track,
};
pub use manifest::{Cause, Counts, Generations, Manifest, Outcome};
pub use rules::Rules;
pub use status::{Explanation, Status, explain, judge, status};
pub use window::Window;

#[cfg(test)]
mod tests;
