//! Recordings as a producer has them: files of any kind with their digest, and, for the demonstration, a WAV recording
//! cut into pieces as a recorder that uploads while it records would send them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::client::Recording;

/// Media types by the endings of names.
const TYPES: [(&str, &str); 14] = [
    ("aac", "audio/aac"),
    ("aif", "audio/aiff"),
    ("aiff", "audio/aiff"),
    ("caf", "audio/x-caf"),
    ("flac", "audio/flac"),
    ("m4a", "audio/mp4"),
    ("mkv", "video/x-matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("wav", "audio/wav"),
];

/// A file as a recording, with the rest left to the caller.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn recording(path: &Path, chunk_id: String) -> Result<Recording> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = std::fs::File::open(path).with_context(cannot)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let count = file.read(&mut buffer).with_context(cannot)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
    Ok(Recording {
        chunk_id,
        path: path.to_owned(),
        content_type: media_type(path).to_owned(),
        bytes,
        sha256: hex::encode(hash.finalize()),
        recorded_at: 0,
        track: String::new(),
        sequence: None,
    })
}

fn media_type(path: &Path) -> &'static str {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    if ending == "webm" {
        return "audio/webm";
    }
    TYPES.iter().find(|(known, _)| *known == ending).map_or("application/octet-stream", |(_, media)| media)
}

/// A piece of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The file.
    pub(crate) path: PathBuf,
    /// How long it is, in milliseconds.
    pub(crate) duration_ms: i64,
}

/// Cuts a mono WAV file of 16 bits into pieces of about so many seconds, at the quietest moment near each end, so that
/// no word is torn.
///
/// # Errors
/// The file cannot be read, or a piece not written.
pub(crate) fn cut(path: &Path, seconds: u32, directory: &Path, name: &str) -> Result<Vec<Piece>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut reader = hound::WavReader::open(path).with_context(cannot)?;
    let spec = reader.spec();
    let samples: Vec<i16> = reader.samples().collect::<Result<_, _>>().with_context(cannot)?;
    let rate = spec.sample_rate as usize;
    let bounds = bounds(&samples, rate, seconds as usize * rate);
    let mut pieces = Vec::new();
    for (number, bound) in bounds.windows(2).enumerate() {
        let piece = &samples[bound[0]..bound[1]];
        let path = directory.join(format!("{name}-{}.wav", number + 1));
        let mut writer = hound::WavWriter::create(&path, spec)?;
        for sample in piece {
            writer.write_sample(*sample)?;
        }
        writer.finalize()?;
        pieces.push(Piece { path, duration_ms: i64::try_from(piece.len() * 1_000 / rate)? });
    }
    Ok(pieces)
}

/// Where pieces begin and end: 0, the cuts, the number of samples.
fn bounds(samples: &[i16], rate: usize, length: usize) -> Vec<usize> {
    let (around, window) = (3 * rate, rate / 5);
    let mut bounds = vec![0];
    let mut at = length;
    // The last piece is not shorter than half of the others.
    while at + length / 2 < samples.len() {
        let starts = (at - around.min(at)..(at + around).min(samples.len() - window)).step_by(window / 4);
        let loudness = |start: &usize| {
            samples[*start..start + window].iter().map(|sample| u64::from(sample.unsigned_abs())).sum::<u64>()
        };
        let cut = starts.min_by_key(loudness).unwrap_or(at) + window / 2;
        bounds.push(cut);
        at = cut + length;
    }
    bounds.push(samples.len());
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lie_in_silence_and_lose_nothing() {
        // One second of 1 kHz in ten is silent, from 0.5 s before each full ten seconds.
        let rate = 1_000;
        let quiet = |at: usize| (at + 500) % 10_000 < 1_000;
        let samples: Vec<i16> = (0..34_000).map(|at| if quiet(at) { 0 } else { 1_000 }).collect();
        let bounds = bounds(&samples, rate, 10 * rate);
        assert_eq!(bounds.len(), 4, "{bounds:?}");
        assert_eq!((bounds[0], bounds[3]), (0, 34_000));
        assert!(bounds[1..3].iter().all(|cut| quiet(*cut)), "{bounds:?}");
    }

    #[test]
    fn a_short_recording_is_one_piece() {
        assert_eq!(bounds(&[0; 5_000], 1_000, 10_000), [0, 5_000]);
    }

    #[test]
    fn endings_name_media_types() {
        assert_eq!(media_type(Path::new("a/B.WAV")), "audio/wav");
        assert_eq!(media_type(Path::new("a.webm")), "audio/webm");
        assert_eq!(media_type(Path::new("a")), "application/octet-stream");
    }
}
