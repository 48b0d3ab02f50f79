//! hansard-audio: recordings of any usual format become FLAC segments cut at silence, and conversations become one
//! merged file. It streams: memory does not grow with the recording.
//!
//! A file is known by its first bytes. Decoded are Opus, Vorbis, FLAC, AAC-LC of one or two channels, ALAC, MP3, PCM and the
//! usual ADPCM in WebM and Matroska, Ogg, MP4 and MOV, ADTS, MP3, FLAC, WAV, AIFF and CAF; video beside the sound is passed
//! over. What a container states of an encoder's delay and padding is left out. Anything else that is known is refused with
//! `unsupported_codec` and its name, HE-AAC too, since its decoder would lose the upper half of the sound: where it is
//! announced, and where it is not, if the first packets carry its data. `src/tests/corpus/corpus.txt` is the list.
//!
//! It never parses media in the calling process: every decoder and encoder runs in a child with limits on time and
//! memory, out of reach of other files, processes and the network ([`Decoder`] starts it, [`child_main`] is its whole
//! life). It never trusts a file's name or declared duration, and never touches the network, a clock's date, or anything
//! but the files it is given.

extern crate alloc;

mod aac;
mod child;
pub mod cut;
mod decode;
mod decoder;
mod encode;
mod error;
mod flac;
mod foreign;
mod limits;
mod merge;
mod mp4;
mod ogg;
mod opus;
mod outline;
mod port;
mod probe;
mod process;
mod protocol;
mod resample;
mod sandbox;
mod sbr;
mod slice;
mod source;
mod split;

#[cfg(test)]
mod tests;

pub use child::child_main;
pub use decoder::{Decoder, SegmentAudio, SplitRequest};
pub use error::{AudioError, Class};
pub use limits::Limits;
pub use merge::{Format, InputReport, InputStatus, Merge, MergeInput, MergeReport, MergeRequest};
pub use port::AudioPath;
pub use split::{PLAN_VERSION, PlanMs, Segment, SplitReport};
