//! Recognises a file by its content and opens it with the demuxer that its first bytes name. A demuxer that finds its own
//! marks somewhere in a file of another kind is not believed. Runs in the child only.

use std::io;

use symphonia::core::errors::Error as MediaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;

use crate::error::AudioError;
use crate::foreign;
use crate::outline::{self, Outline, Wave};
use crate::slice::Recording;
use crate::source::{Damaged, Part};

/// Bytes at the start that tell what a file is.
const HEAD: u64 = 8_192;

/// ID3 tags, one after the other, that are passed over.
const TAGS_MAX: usize = 16;

/// An open file.
pub(crate) struct Opened {
    pub(crate) format: Box<dyn FormatReader>,
    /// Short name of the container, such as `matroska`.
    pub(crate) container: String,
    pub(crate) outline: Outline,
    /// The first bytes behind tags.
    pub(crate) head: Vec<u8>,
}

/// Containers that are known by their first bytes. Streams of MPEG audio and ADTS are not: they begin anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ogg,
    Matroska,
    Mp4,
    Wave,
    Flac,
    Aiff,
    Caf,
}

impl Kind {
    fn of(head: &[u8]) -> Option<Self> {
        let form = head.get(8..12).unwrap_or(&[]);
        match head.get(..4)? {
            b"OggS" => Some(Self::Ogg),
            b"\x1a\x45\xdf\xa3" => Some(Self::Matroska),
            b"RIFF" | b"RF64" | b"BW64" if form == b"WAVE" => Some(Self::Wave),
            b"fLaC" => Some(Self::Flac),
            b"FORM" if form == b"AIFF" || form == b"AIFC" => Some(Self::Aiff),
            b"caff" => Some(Self::Caf),
            _ if head.get(4..8) == Some(b"ftyp") => Some(Self::Mp4),
            _ => None,
        }
    }
}

/// Recognises and opens a recording.
pub(crate) fn open(recording: &Recording) -> Result<Opened, AudioError> {
    let io = || AudioError::io("reading the input");
    let mut file = recording.open().map_err(AudioError::io("opening the input"))?;
    let length = file.length();
    if length == 0 {
        return Err(AudioError::Empty);
    }
    let start = behind_tags(&file).map_err(io())?;
    let mut head = vec![0; usize::try_from((length - start).min(HEAD)).unwrap_or(0)];
    file.read_at(&mut head, start).map_err(io())?;
    if let Some((codec, container)) = foreign::format(&head) {
        let (codec, container) = (codec.to_owned(), container.to_owned());
        return Err(AudioError::UnsupportedCodec { codec, container });
    }
    let kind = Kind::of(&head);
    if kind == Some(Kind::Caf) && outline::absurd_caf(&head) {
        let detail = "its packets are stated to have half a gigabyte or more each".to_owned();
        return Err(AudioError::Corrupt { detail });
    }
    let wave = match kind {
        Some(Kind::Wave) => outline::wave(&file, start).map_err(io())?,
        _ => None,
    };
    let behind_new_head = match kind {
        Some(Kind::Flac) => outline::flac(&file, start).map_err(io())?,
        Some(Kind::Caf) => outline::cut_caf(&file, start).map_err(io())?,
        _ => None,
    };
    let outline = match (kind, &wave) {
        (Some(Kind::Ogg), _) => file
            .behind(Vec::new(), start..length)
            .and_then(|pages| outline::of_ogg(&pages, recording.continues())),
        (Some(Kind::Matroska), _) => outline::of_matroska(&mut file),
        (Some(Kind::Mp4), _) => outline::of_mp4(&file),
        (None, _) => outline::of_mpeg(&file),
        (_, Some(wave)) => Ok(Outline { cut_short: wave.cut_short, ..Outline::default() }),
        (Some(Kind::Caf), _) => Ok(Outline { cut_short: behind_new_head.is_some(), ..Outline::default() }),
        _ => Ok(Outline::default()),
    };
    let outline = outline.map_err(io())?;
    let (new_head, place) = match (&wave, behind_new_head) {
        (Some(Wave { head, samples, .. }), _) => (head.clone(), samples.clone()),
        (None, Some((head, place))) => (head, place..length),
        (None, None) => (Vec::new(), start..length),
    };
    let part = || file.behind(new_head.clone(), place.clone()).map_err(io());
    let format = demuxer(kind, outline.cut_short, part)
        .map_err(|refusal| named(refusal, kind, wave.as_ref(), &outline, &head))?;
    let container = match format.format_info().short_name {
        "isomp4" => "mp4",
        "wave" => "wav",
        other => other,
    };
    if kind.is_none() && !["mp1", "mp2", "mp3", "aac"].contains(&container) {
        return Err(AudioError::NotAudio);
    }
    Ok(Opened { container: container.to_owned(), format, outline, head })
}

/// Where the file begins behind ID3 tags (<https://id3.org/id3v2.4.0-structure>, 3.1), which may be larger than what a
/// demuxer is willing to search.
fn behind_tags(file: &Part) -> io::Result<u64> {
    let mut start = 0;
    for _ in 0..TAGS_MAX {
        let mut head = [0; 10];
        if !file.read_at(&mut head, start)? || !head.starts_with(b"ID3") {
            break;
        }
        let size = head[6..].iter().fold(0, |size, byte| size << 7 | u64::from(byte & 0x7f));
        let footer = if head[5] & 0x10 == 0 { 0 } else { 10 };
        match start + 10 + size + footer {
            end if end < file.length() => start = end,
            // A tag that says so is damaged.
            _ => break,
        }
    }
    Ok(start)
}

/// Has the file opened, a damaged one in such a way that something comes of it.
fn demuxer(
    kind: Option<Kind>,
    cut_short: bool,
    part: impl Fn() -> Result<Part, AudioError>,
) -> Result<Box<dyn FormatReader>, AudioError> {
    let damaged = |seekable| Ok(Box::new(Damaged { part: part()?, seekable }) as Box<dyn MediaSource>);
    // An MP4 whose last box was cut off opens, but gives no packets while its length is known.
    let first: Box<dyn MediaSource> =
        if cut_short && kind == Some(Kind::Mp4) { damaged(true)? } else { Box::new(part()?) };
    let refusal = match try_format(first) {
        Ok(format) => return Ok(format),
        Err(MediaError::IoError(cause)) if is_read_failure(&cause) => {
            return Err(AudioError::io("reading the input")(cause));
        }
        Err(_) if kind.is_none() => return Err(AudioError::NotAudio),
        Err(refusal) => refusal,
    };
    try_format(damaged(false)?).map_err(|_| AudioError::Corrupt { detail: refusal.to_string() })
}

fn try_format(source: Box<dyn MediaSource>) -> Result<Box<dyn FormatReader>, MediaError> {
    let stream = MediaSourceStream::new(source, Default::default());
    let (format, meta) = (FormatOptions::default(), MetadataOptions::default());
    symphonia::default::get_probe().probe(&Hint::new(), stream, format, meta)
}

/// A read error of the system, unlike the end of the file that demuxers report in the same way. A place that no file can
/// have, before its start or beyond all bounds, is where a lying header made the demuxer seek.
pub(crate) fn is_read_failure(cause: &io::Error) -> bool {
    cause.raw_os_error().is_some() && cause.kind() != io::ErrorKind::InvalidInput
}

/// Names the codec where a demuxer refused a file for it.
fn named(
    refusal: AudioError,
    kind: Option<Kind>,
    wave: Option<&Wave>,
    outline: &Outline,
    head: &[u8],
) -> AudioError {
    /// Numbers of codecs in WAV that the demuxer knows: if it refuses, it is for something else.
    const KNOWN: [u16; 7] = [0x0001, 0x0002, 0x0003, 0x0006, 0x0007, 0x0011, 0xfffe];
    if !matches!(refusal, AudioError::Corrupt { .. }) {
        return refusal;
    }
    let unsupported = |codec: String, container: &str| AudioError::UnsupportedCodec {
        codec,
        container: container.to_owned(),
    };
    match (kind, wave, outline.tracks.first()) {
        (Some(Kind::Wave), Some(wave), _) if !KNOWN.contains(&wave.format) => {
            unsupported(foreign::wave_codec(wave.format), "wav")
        }
        (Some(Kind::Ogg), _, Some(track)) if !["opus", "vorbis", "flac"].contains(&track.codec.as_str()) => {
            unsupported(track.codec.clone(), "ogg")
        }
        // Video in Ogg without sound.
        (Some(Kind::Ogg), _, None) if head.get(28..35) == Some(b"\x80theora") => {
            AudioError::NoAudioTrack { container: "ogg".to_owned() }
        }
        (Some(Kind::Aiff), ..) => aifc(head).map_or(refusal, |codec| unsupported(codec, "aiff")),
        _ => refusal,
    }
}

/// The compression that an AIFC file names in its `COMM` chunk, which stands at its start, where it is none of those known.
fn aifc(head: &[u8]) -> Option<String> {
    const KNOWN: [&[u8]; 12] = [
        b"NONE", b"none", b"twos", b"sowt", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64", b"alaw",
        b"ulaw",
    ];
    let place = head.windows(4).position(|name| name == b"COMM")?;
    let compression = head.get(place + 26..place + 30).filter(|_| head.get(8..12) == Some(b"AIFC"))?;
    let name = std::str::from_utf8(compression).ok().filter(|_| !KNOWN.contains(&compression))?;
    Some(foreign::codec_name(name).to_owned())
}
