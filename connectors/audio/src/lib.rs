//! hansard-audio: recordings of any usual format become FLAC segments cut at silence, and conversations become one
//! merged file. It streams: memory does not grow with the recording.
//!
//! It never parses media in the calling process: every decoder and encoder runs in a child with limits on time and
//! memory, out of reach of other files, processes and the network ([`Decoder`] starts it, [`child_main`] is its whole
//! life). It never trusts a file's name or declared
//! duration, and never touches the network, a clock's date, or anything but the files it is given.

extern crate alloc;

mod aac;
mod child;
pub mod cut;
mod decode;
mod decoder;
mod edits;
mod encode;
mod error;
mod flac;
mod limits;
mod merge;
mod mp4;
mod opus;
mod port;
mod process;
mod protocol;
mod resample;
mod sandbox;
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
pub use split::{PLAN_VERSION, PlanMs, Segment, SplitReport};
