//! What a container states about its sound and its demuxer leaves out: whether the file ends where it should, what of the
//! sound is an encoder's delay or padding, and a codec's name where no decoder knows it. Only heads are read, but for Ogg.

mod caf;
mod flac;
mod matroska;
mod mp4;
mod mpeg;
mod ogg;
mod wave;

use std::io::{self, Read};

pub(crate) use caf::{absurd_caf, cut_caf};
pub(crate) use flac::flac;
pub(crate) use matroska::{outline as of_matroska, variable};
pub(crate) use mp4::outline as of_mp4;
pub(crate) use mpeg::outline as of_mpeg;
pub(crate) use ogg::{header as ogg_header, outline as of_ogg};
pub(crate) use wave::{Wave, wave};

/// Sound tracks of one file that are looked at.
const TRACKS_MAX: usize = 128;

/// What a file states about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// The file ends within something that is stated to be longer, or something in it is not what its checksum says.
    pub(crate) cut_short: bool,
    /// Its sound tracks, where the container names them.
    pub(crate) tracks: Vec<SoundTrack>,
    /// Another stream follows that is not Opus, or none whose packets can stand in the one before.
    pub(crate) chain_differs: bool,
}

/// What a container states about one sound track.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SoundTrack {
    /// The number that packets carry.
    pub(crate) id: u32,
    /// The codec as the container names it.
    pub(crate) codec: String,
    /// Its channels, where the container states them.
    pub(crate) channels: Option<u16>,
    /// What a player leaves out at the start.
    pub(crate) delay: Option<Ticks>,
    /// Where the sound ends on the clock of the packets. The packet that lies there is still whole.
    pub(crate) end: Option<Ticks>,
    /// Its edit list names several pieces, so that the packets one after the other would be something else.
    pub(crate) is_edited: bool,
    /// What a player leaves out at the end of the last packet.
    pub(crate) padding: Option<Ticks>,
}

/// A time as a container counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticks {
    pub(crate) count: u64,
    pub(crate) per_second: u32,
}

impl Ticks {
    /// The nearest number of samples at `rate` hertz.
    pub(crate) fn samples(self, rate: u32) -> u64 {
        let per_second = u128::from(self.per_second.max(1));
        let samples = (u128::from(self.count) * u128::from(rate) + per_second / 2) / per_second;
        u64::try_from(samples).unwrap_or(u64::MAX)
    }
}

/// Reads all of `into`; whether there were so many bytes.
fn read_all(reader: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(into) {
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}
