//! Ogg (RFC 3533): whether the last page ends its stream, whether all chained streams are of one kind, and which pages are
//! the header of Opus.

use std::io;

use super::{Outline, SoundTrack, TRACKS_MAX};
use crate::opus::OpusHead;
use crate::source::Part;

/// What each page begins with.
pub(crate) const OGG: &[u8] = b"OggS";

/// Bytes of a page's head before its table of segments.
const HEAD: usize = 27;

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
    let mut page = [0; HEAD + 255];
    while let Some(body) = head(file, &mut page, place)? {
        let begins = page[5] & 2 != 0;
        if begins {
            let mut first = [0; 64];
            let known = usize::try_from(body.end - body.start).unwrap_or(first.len()).min(first.len());
            if !file.read_at(&mut first[..known], body.start)? {
                break;
            }
            stream(&first[..known], sound_begun, &mut outline);
        }
        sound_begun |= !begins;
        place = body.end;
    }
    // Where no page follows, what comes after is not known.
    outline.chain_differs |= place < file.length();
    Ok(outline)
}

/// Notes what a stream is by its first packet.
fn stream(first: &[u8], chained: bool, outline: &mut Outline) {
    let plain = OpusHead::parse(first, false).is_some_and(|head| head.is_plain());
    outline.chain_differs |= chained && !plain;
    let name = STREAMS.iter().find(|(magic, _)| first.starts_with(magic));
    if let Some((_, codec)) = name.filter(|_| outline.tracks.len() < TRACKS_MAX) {
        outline.tracks.push(SoundTrack { codec: (*codec).to_owned(), ..SoundTrack::default() });
    }
}

/// Reads the head of the page at that place; gives where its body lies, `None` where no page is.
fn head(file: &Part, page: &mut [u8; HEAD + 255], place: u64) -> io::Result<Option<std::ops::Range<u64>>> {
    if !file.read_at(&mut page[..HEAD], place)? || !page.starts_with(OGG) {
        return Ok(None);
    }
    let segments = usize::from(page[HEAD - 1]);
    if !file.read_at(&mut page[HEAD..HEAD + segments], place + HEAD as u64)? {
        return Ok(None);
    }
    let start = place + (HEAD + segments) as u64;
    let body: u64 = page[HEAD..HEAD + segments].iter().map(|bytes| u64::from(*bytes)).sum();
    Ok(Some(start..start + body))
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
    (length <= bytes.len()).then_some((head[5] & 2 != 0, lacing, length))
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
    Ok(page(last).is_some_and(|(.., length)| length == last.len()) && (need_not || last[5] & 4 != 0))
}
