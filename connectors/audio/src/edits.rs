//! An MP4's edit list (ISO/IEC 14496-12, 8.6.6), which says how much of the encoder's delay a player drops. The demuxer
//! passes over it. Runs in the child only.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// Samples per channel that are taken for an encoder's delay, at most; those known have 1,024 to 2,112.
const DELAY_MAX: u16 = 4_096;

/// Entries of an edit list that are read. Others than one with media are no mere delay.
const ENTRIES_MAX: u32 = 16;

/// Boxes in one box, or in the file, that are looked at.
const BOXES_MAX: usize = 10_000;

/// Samples per channel at `rate` that the edit list of this track leaves out at the start; 0 where there is none. `None`
/// where it does more than leave out an encoder's delay, so that the packets alone would sound otherwise.
pub(crate) fn delay(path: &Path, track: u32, rate: u32) -> io::Result<Option<u16>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let Some(movie) = find(&mut file, 0..length, *b"moov")? else { return Ok(Some(0)) };
    for body in all(&mut file, movie, *b"trak")? {
        if track_id(&mut file, body.clone())? == Some(track) {
            return of_track(&mut file, body, rate);
        }
    }
    Ok(Some(0))
}

fn of_track(file: &mut File, body: Range<u64>, rate: u32) -> io::Result<Option<u16>> {
    let Some(edits) = find(file, body.clone(), *b"edts")? else { return Ok(Some(0)) };
    let Some(list) = find(file, edits, *b"elst")? else { return Ok(Some(0)) };
    let Some(starts) = starts(file, list)? else { return Ok(None) };
    let [start] = starts[..] else { return Ok(if starts.is_empty() { Some(0) } else { None }) };
    let Some(scale) = time_scale(file, body)? else { return Ok(None) };
    let samples = u128::from(start) * u128::from(rate) / u128::from(scale.max(1));
    Ok(u16::try_from(samples).ok().filter(|delay| *delay <= DELAY_MAX))
}

/// Where in the media each edit begins that has any; `None` where there are too many, or the list ends early.
fn starts(file: &mut File, list: Range<u64>) -> io::Result<Option<Vec<u64>>> {
    let Some([version, _, _, _, a, b, c, d]) = read(file, &list, 0)? else { return Ok(None) };
    let count = u32::from_be_bytes([a, b, c, d]);
    if count > ENTRIES_MAX {
        return Ok(None);
    }
    let (size, at) = if version == 1 { (20, 8) } else { (12, 4) };
    let mut starts = Vec::new();
    for entry in 0..u64::from(count) {
        let place = 8 + entry * size + at;
        let start = match version {
            1 => read(file, &list, place)?.map(i64::from_be_bytes),
            _ => read(file, &list, place)?.map(|bytes| i64::from(i32::from_be_bytes(bytes))),
        };
        let Some(start) = start else { return Ok(None) };
        // An edit without media only delays what follows.
        starts.extend(u64::try_from(start));
    }
    Ok(Some(starts))
}

fn track_id(file: &mut File, track: Range<u64>) -> io::Result<Option<u32>> {
    let Some(header) = find(file, track, *b"tkhd")? else { return Ok(None) };
    let Some([version]) = read(file, &header, 0)? else { return Ok(None) };
    let place = if version == 1 { 20 } else { 12 };
    Ok(read(file, &header, place)?.map(u32::from_be_bytes))
}

/// Ticks of the media in a second.
fn time_scale(file: &mut File, track: Range<u64>) -> io::Result<Option<u32>> {
    let Some(media) = find(file, track, *b"mdia")? else { return Ok(None) };
    let Some(header) = find(file, media, *b"mdhd")? else { return Ok(None) };
    let Some([version]) = read(file, &header, 0)? else { return Ok(None) };
    let place = if version == 1 { 20 } else { 12 };
    Ok(read(file, &header, place)?.map(u32::from_be_bytes))
}

/// So many bytes of a box's body; `None` where it ends before.
fn read<const N: usize>(file: &mut File, body: &Range<u64>, at: u64) -> io::Result<Option<[u8; N]>> {
    if body.end.saturating_sub(body.start) < at + N as u64 {
        return Ok(None);
    }
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(body.start + at))?;
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(cause) => Err(cause),
    }
}

fn find(file: &mut File, within: Range<u64>, kind: [u8; 4]) -> io::Result<Option<Range<u64>>> {
    boxes(file, within, kind, 1).map(|found| found.into_iter().next())
}

fn all(file: &mut File, within: Range<u64>, kind: [u8; 4]) -> io::Result<Vec<Range<u64>>> {
    boxes(file, within, kind, usize::MAX)
}

/// The bodies of the first boxes of a kind.
fn boxes(file: &mut File, within: Range<u64>, kind: [u8; 4], wanted: usize) -> io::Result<Vec<Range<u64>>> {
    let (mut at, mut found) = (within.start, Vec::new());
    for _ in 0..BOXES_MAX {
        let rest = at..within.end;
        let Some([a, b, c, d, name @ ..]) = read::<8>(file, &rest, 0)? else { break };
        let (head, size) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (8, within.end - at),
            1 => (16, read(file, &rest, 8)?.map_or(0, u64::from_be_bytes)),
            size => (8, u64::from(size)),
        };
        let Some(end) = at.checked_add(size).filter(|_| size >= head) else { break };
        if name == kind {
            found.push(at + head..end.min(within.end));
            if found.len() >= wanted {
                break;
            }
        }
        at = end;
    }
    Ok(found)
}
