//! Ogg (RFC 3533): whether every page of sound is as it was written and nothing lies between, whether the last ends its
//! stream, whether all chained streams are of one kind, and which pages are the header of Opus.

use std::io;

use super::{Outline, SoundTrack, TRACKS_MAX};
use crate::ogg::{CHECKSUM, FIRST, FLAGS, HEAD, LAST, OGG, SERIAL, checksum};
use crate::opus::OpusHead;
use crate::source::Part;

/// The most that a page has.
const LONGEST_PAGE: usize = HEAD + 255 + 255 * 255;

/// What the first packet of a stream begins with, and the name of what follows (<https://wiki.xiph.org/MIMETypesCodecs>).
const STREAMS: [(&[u8], &str); 6] = [
    (b"OpusHead", "opus"),
    (b"\x01vorbis", "vorbis"),
    (b"\x7fFLAC", "flac"),
    (b"Speex   ", "speex"),
    (b"CELT    ", "celt"),
    (b"PCM     ", "pcm"),
];

/// What a file states; one that `continues` another need not end its stream, since others may follow.
pub(crate) fn outline(file: &Part, continues: bool) -> io::Result<Outline> {
    let mut outline = Outline { cut_short: !ends_whole(file, continues)?, ..Outline::default() };
    let (mut place, mut sound_begun) = (0, false);
    let mut page = Vec::with_capacity(LONGEST_PAGE);
    // Serial numbers of video and whatever else there is beside the sound.
    let mut others: Vec<Vec<u8>> = Vec::new();
    while read_page(file, &mut page, place)? {
        let (begins, holds) = (page[FLAGS] & FIRST != 0, page[CHECKSUM] == checksum(&page));
        let is_other = others.iter().any(|serial| page[SERIAL] == serial[..]);
        if begins {
            let first = &page[HEAD + usize::from(page[HEAD - 1])..];
            if !stream(first, sound_begun, &mut outline) && holds && others.len() < TRACKS_MAX {
                others.push(page[SERIAL].to_vec());
            }
        }
        // A demuxer passes over a damaged page without a word.
        outline.cut_short |= !holds && !is_other;
        sound_begun |= !begins;
        place += page.len() as u64;
    }
    // Where no page follows, what comes after is not known.
    let gap = place < file.length();
    outline.chain_differs |= gap;
    outline.cut_short |= gap;
    Ok(outline)
}

/// Notes what a stream is by its first packet; whether it is sound.
fn stream(first: &[u8], chained: bool, outline: &mut Outline) -> bool {
    let plain = OpusHead::parse(first, false).is_some_and(|head| head.is_plain());
    outline.chain_differs |= chained && !plain;
    let Some((_, codec)) = STREAMS.iter().find(|(magic, _)| first.starts_with(magic)) else { return false };
    if outline.tracks.len() < TRACKS_MAX {
        outline.tracks.push(SoundTrack { codec: (*codec).to_owned(), ..SoundTrack::default() });
    }
    true
}

/// Reads the page at that place; `false` where none is, or not all of it.
fn read_page(file: &Part, bytes: &mut Vec<u8>, place: u64) -> io::Result<bool> {
    let more = |bytes: &mut Vec<u8>, length: usize| {
        let known = bytes.len();
        bytes.resize(known + length, 0);
        file.read_at(&mut bytes[known..], place + known as u64)
    };
    bytes.clear();
    if !more(bytes, HEAD)? || !bytes.starts_with(OGG) {
        return Ok(false);
    }
    let segments = usize::from(bytes[HEAD - 1]);
    if !more(bytes, segments)? {
        return Ok(false);
    }
    let body = bytes[HEAD..].iter().map(|bytes| usize::from(*bytes)).sum();
    more(bytes, body)
}

/// The pages of Opus before the first sound, with which the bytes begin: its head has a page of its own, and the packet of its
/// tags ends the last (RFC 7845, 3).
pub(crate) fn header(bytes: &[u8]) -> Option<&[u8]> {
    let (begins, lacing, mut end) = page(bytes)?;
    if !begins || !bytes[HEAD + lacing.len()..end].starts_with(b"OpusHead") {
        return None;
    }
    loop {
        let (_, lacing, length) = page(&bytes[end..])?;
        end += length;
        // A packet ends with a segment that is not full.
        if lacing.iter().any(|segment| *segment < 255) {
            return Some(&bytes[..end]);
        }
    }
}

/// The page that the bytes begin with: whether it begins a stream, its table of segments, and its length.
fn page(bytes: &[u8]) -> Option<(bool, &[u8], usize)> {
    let head = bytes.get(..HEAD).filter(|head| head.starts_with(OGG))?;
    let lacing = bytes.get(HEAD..HEAD + usize::from(head[HEAD - 1]))?;
    let length = HEAD + lacing.len() + lacing.iter().map(|bytes| usize::from(*bytes)).sum::<usize>();
    (length <= bytes.len()).then_some((head[FLAGS] & FIRST != 0, lacing, length))
}

/// Whether the file ends with a whole page, and that one ends its stream (RFC 3533, 6) or need not.
fn ends_whole(file: &Part, need_not: bool) -> io::Result<bool> {
    let length = file.length();
    let place = length.saturating_sub(LONGEST_PAGE as u64);
    let mut tail = vec![0; usize::try_from(length - place).unwrap_or(LONGEST_PAGE)];
    if !file.read_at(&mut tail, place)? {
        return Ok(false);
    }
    let Some(at) = tail.windows(OGG.len()).rposition(|bytes| bytes == OGG) else { return Ok(false) };
    let last = &tail[at..];
    Ok(page(last).is_some_and(|(.., length)| length == last.len()) && (need_not || last[FLAGS] & LAST != 0))
}
