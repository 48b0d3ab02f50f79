//! WAV (RIFF; RF64 and BW64 as EBU 3306 and ITU-R BS.2088 have it): where the samples lie. Sizes that recorders leave
//! unset or that lie do not count, and what a demuxer would stumble over is left out.

use std::io;
use std::ops::Range;

use crate::source::Part;

/// Chunks before the samples that are passed over.
const CHUNKS_MAX: usize = 1_000;

/// The longest chunk that is taken over into the new head.
const CHUNK_BYTES: u32 = 4_096;

/// A size that says that it is not known, or stands in `ds64`.
const UNKNOWN: u32 = u32::MAX;

/// A WAV file's samples and a head that fits them.
#[derive(Debug)]
pub(crate) struct Wave {
    /// A head of the usual kind, whose sizes are true, or unknown above 4 GiB.
    pub(crate) head: Vec<u8>,
    /// Where the samples lie in the file.
    pub(crate) samples: Range<u64>,
    /// The file ends before the samples do.
    pub(crate) cut_short: bool,
    /// The number of the codec in `fmt `.
    pub(crate) format: u16,
}

/// Reads the heads of all chunks before the samples; `None` where there are no samples or nothing says what they are.
pub(crate) fn wave(file: &Part, start: u64) -> io::Result<Option<Wave>> {
    let length = file.length();
    let mut head = b"RIFF\xff\xff\xff\xffWAVE".to_vec();
    let (mut place, mut format, mut long_size) = (start + 12, None, None);
    for _ in 0..CHUNKS_MAX {
        let mut chunk = [0; 8];
        if !file.read_at(&mut chunk, place)? {
            return Ok(None);
        }
        let [a, b, c, d, size @ ..] = chunk;
        let (name, size, body) = ([a, b, c, d], u32::from_le_bytes(size), place + 8);
        match &name {
            b"data" => {
                let stated = match size {
                    UNKNOWN => long_size.unwrap_or(0),
                    size => size.into(),
                };
                // A recorder that was stopped leaves 0.
                let end = body.checked_add(stated).filter(|end| stated > 0 && *end <= length);
                let samples = body..end.unwrap_or(length);
                let size = u32::try_from(samples.end - samples.start).unwrap_or(UNKNOWN);
                head.extend(b"data");
                head.extend(size.to_le_bytes());
                let cut_short = stated > 0 && end.is_none();
                return Ok(format.map(|format| Wave { head, samples, cut_short, format }));
            }
            b"ds64" => long_size = number(file, body + 8)?.map(u64::from_le_bytes),
            b"fmt " | b"fact" if size <= CHUNK_BYTES && (&name == b"fmt " || long_size.is_none()) => {
                let from = head.len() + 8;
                head.extend(chunk);
                head.resize(from + size as usize + size as usize % 2, 0);
                if !file.read_at(&mut head[from..from + size as usize], body)? {
                    return Ok(None);
                }
                if &name == b"fmt " {
                    format = number(file, body)?.map(u16::from_le_bytes);
                }
            }
            _ => {}
        }
        place = body + u64::from(size) + u64::from(size % 2);
    }
    Ok(None)
}

fn number<const N: usize>(file: &Part, place: u64) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    Ok(file.read_at(&mut bytes, place)?.then_some(bytes))
}
