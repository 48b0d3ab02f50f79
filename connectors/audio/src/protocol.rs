//! What parent and child say to each other: one JSON line as the request, then frames of a kind byte, a length
//! (four bytes, little endian) and a payload. Samples are 16 bits, little endian, interleaved.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::AudioError;
use crate::limits::Limits;
use crate::merge::Format;

/// No payload is longer: a segment of 25 s is at most 0.8 MB, however badly it compresses.
pub(crate) const FRAME_BYTES_MAX: usize = 8 << 20;

/// Bytes of a frame before its payload.
pub(crate) const FRAME_HEAD: usize = 5;

/// What a frame's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// JSON of the segment whose audio follows in the next frame.
    Segment = b'S',
    /// A segment's FLAC file.
    Audio = b'A',
    /// JSON of the samples' rate and channels, before the first of them.
    Shape = b'F',
    /// Samples.
    Samples = b'P',
    /// Packets of one codec, each behind its length (two bytes, little endian).
    Packets = b'O',
    /// A number of silent samples per channel (eight bytes, little endian).
    Silence = b'Z',
    /// Asks an encoder to be ready for packets or samples (JSON, [`Ready`]), and answers with its position: samples per
    /// channel that the file has (eight bytes, little endian).
    Place = b'@',
    /// JSON of the report: the end.
    Report = b'R',
    /// JSON of the error: the end.
    Error = b'E',
    /// Nothing more comes from the parent.
    End = b'.',
}

impl Kind {
    pub(crate) fn of(byte: u8) -> Option<Self> {
        [
            Self::Segment,
            Self::Audio,
            Self::Shape,
            Self::Samples,
            Self::Packets,
            Self::Silence,
            Self::Place,
            Self::Report,
            Self::Error,
            Self::End,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The first line on the child's input. Where a `header` is given, the file at `path` is a slice without its own, and the
/// header is what that file begins with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Decode a recording, cut it, answer with segments.
    Split { path: PathBuf, header: Option<PathBuf>, plan: crate::split::PlanMs, limits: Limits },
    /// Decode a recording, answer with samples; where its packets are of a kind in `packets`, with those.
    Decode {
        path: PathBuf,
        header: Option<PathBuf>,
        sample_rate: Option<u32>,
        channels: Option<u8>,
        packets: Vec<Packets>,
        limits: Limits,
    },
    /// Take samples, write them to a file.
    Encode { path: PathBuf, format: Format, shape: Shape, limits: Limits },
    /// Try what no child may do, answer with a report of what the kernel let it do.
    Probe { limits: Limits },
}

impl Request {
    pub(crate) fn limits(&self) -> &Limits {
        match self {
            Self::Split { limits, .. }
            | Self::Decode { limits, .. }
            | Self::Encode { limits, .. }
            | Self::Probe { limits } => limits,
        }
    }

    /// The only files that the child may read.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &Path> {
        let (path, header) = match self {
            Self::Split { path, header, .. } | Self::Decode { path, header, .. } => {
                (Some(path), header.as_ref())
            }
            Self::Encode { .. } | Self::Probe { .. } => (None, None),
        };
        path.into_iter().chain(header).map(PathBuf::as_path)
    }

    /// The only file that the child may write, and read again.
    pub(crate) fn writes(&self) -> Option<&Path> {
        match self {
            Self::Encode { path, .. } => Some(path),
            Self::Split { .. } | Self::Decode { .. } | Self::Probe { .. } => None,
        }
    }
}

/// Rate and channels of what comes on the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) sample_rate: u32,
    pub(crate) channels: u8,
    /// Where packets come and not samples.
    pub(crate) copied: Option<Copied>,
}

impl Shape {
    /// Whether packets of that shape can follow those of this one; `cannot_copy` where not.
    pub(crate) fn agrees(&self, next: Self) -> Result<(), AudioError> {
        if (self.sample_rate, self.channels) == (next.sample_rate, next.channels) {
            return Ok(());
        }
        let told = |shape: &Self| format!("{} Hz and {} channels", shape.sample_rate, shape.channels);
        Err(AudioError::CannotCopy { detail: format!("{} after {}", told(&next), told(self)) })
    }
}

/// Packets that come from a recording as they stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copied {
    pub(crate) packets: Packets,
    /// How many samples per channel a player drops at the start.
    pub(crate) delay: u16,
}

/// The kinds of packets that are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Packets {
    Opus,
    /// AAC-LC.
    Aac,
}

/// What an encoder is to be ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Packets, else samples.
    pub(crate) packets: bool,
    /// Samples per channel at the end of what came that are only padding. They are cut off where nothing follows.
    pub(crate) padding: u64,
}

/// What a decode found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decoded {
    pub(crate) truncated: bool,
    /// Samples per channel at the end of the last packet that are only padding.
    pub(crate) padding: u64,
}

/// What an encode wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Encoded {
    pub(crate) bytes: u64,
    pub(crate) sha256: [u8; 32],
}

/// The head of a frame.
pub(crate) fn head(kind: Kind, length: usize) -> [u8; FRAME_HEAD] {
    let length = u32::try_from(length).expect("frames are bounded").to_le_bytes();
    [kind as u8, length[0], length[1], length[2], length[3]]
}

/// Reads a frame's head: its kind and the length of its payload.
pub(crate) fn parse_head(head: [u8; FRAME_HEAD]) -> Result<(Kind, usize), AudioError> {
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    match Kind::of(head[0]) {
        Some(kind) if length <= FRAME_BYTES_MAX => Ok((kind, length)),
        _ => Err(AudioError::Protocol { detail: format!("frame {:#04x} of {length} bytes", head[0]) }),
    }
}

/// Writes one frame.
pub(crate) fn write_frame(out: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    out.write_all(&head(kind, payload.len()))?;
    out.write_all(payload)
}

/// Writes a frame of JSON.
pub(crate) fn write_json(out: &mut impl Write, kind: Kind, value: &impl Serialize) -> io::Result<()> {
    write_frame(out, kind, &serde_json::to_vec(value)?)
}

/// Reads one frame into `payload`.
pub(crate) fn read_frame(input: &mut impl Read, payload: &mut Vec<u8>) -> Result<Kind, AudioError> {
    let mut bytes = [0; FRAME_HEAD];
    input.read_exact(&mut bytes).map_err(AudioError::io("reading from the parent"))?;
    let (kind, length) = parse_head(bytes)?;
    payload.resize(length, 0);
    input.read_exact(payload).map_err(AudioError::io("reading from the parent"))?;
    Ok(kind)
}

/// Appends samples as bytes.
pub(crate) fn put_samples(samples: &[i16], out: &mut Vec<u8>) {
    out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
}

/// Appends the samples that the bytes hold.
pub(crate) fn take_samples(bytes: &[u8], out: &mut Vec<i16>) {
    out.extend(bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
}

/// Appends a packet behind its length.
pub(crate) fn put_packet(packet: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(packet.len()).expect("the caller has checked the packet");
    out.extend(length.to_le_bytes());
    out.extend(packet);
}

/// Takes the next packet off the bytes; `None` at the end.
pub(crate) fn next_packet<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, AudioError> {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return if bytes.is_empty() { Ok(None) } else { Err(torn()) };
    };
    let (packet, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into()).ok_or_else(torn)?;
    *bytes = rest;
    Ok(Some(packet))
}

fn torn() -> AudioError {
    AudioError::Protocol { detail: "a packet ends early".to_owned() }
}
