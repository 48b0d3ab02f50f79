//! hansard-audio: recordings of any usual format become FLAC segments cut at silence, and conversations become one
//! merged file. It streams: memory does not grow with the recording.
//!
//! It never parses media in the calling process: every decoder and encoder runs in a child with limits on time and
//! memory ([`Decoder`] starts it, [`child_main`] is its whole life). It never trusts a file's name or declared
//! duration, and never touches the network, a clock's date, or anything but the files it is given.

extern crate alloc;

mod child;
pub mod cut;
mod decode;
mod decoder;
mod encode;
mod error;
mod flac;
mod limits;
mod merge;
mod opus;
mod port;
mod process;
mod protocol;
mod resample;
mod slice;
mod split;
mod whole;

#[cfg(test)]
mod tests;

pub use child::child_main;
pub use decoder::{Decoder, SegmentAudio, SplitRequest};
pub use error::{AudioError, Class};
pub use limits::Limits;
pub use merge::{Format, InputReport, InputStatus, Merge, MergeInput, MergeReport, MergeRequest};
pub use port::AudioPath;
pub use slice::HEADER_BYTES_MAX;
pub use split::{PLAN_VERSION, PlanMs, Segment, SplitReport};
