//! Matroska and WebM (RFC 8794, RFC 9559): whether the file ends at the end of an element, the tracks' codecs, and the
//! padding at each track's end. A browser leaves the sizes of the segment and its clusters unknown, so all that can be
//! asked of the end is that no element is cut in two. Where only a part of a head is left nothing is missing that this file
//! ever held: a browser's slice ends so, and the next one has the rest.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

use super::{Outline, SoundTrack, TRACKS_MAX, Ticks, read_all};
use crate::source::Part;

const SEGMENT: u64 = 0x1853_8067;
const CLUSTER: u64 = 0x1f43_b675;
const BLOCK_GROUP: u64 = 0xa0;
const TRACKS: u64 = 0x1654_ae6b;
const TRACK_ENTRY: u64 = 0xae;

const TRACK_NUMBER: u64 = 0xd7;
const TRACK_TYPE: u64 = 0x83;
const CODEC_ID: u64 = 0x86;
const BLOCK: u64 = 0xa1;
const SIMPLE_BLOCK: u64 = 0xa3;
const DISCARD_PADDING: u64 = 0x75a2;

/// The most that the head of an element has: its id and its size.
const HEAD_BYTES_MAX: u64 = 4 + 8;

/// The type of a track that is sound (RFC 9559, 5.1.4.1.3).
const IS_AUDIO: u64 = 2;

/// A codec's name is read up to here; those registered have fewer than 30 letters.
const NAME_BYTES: usize = 64;

/// What is known so far.
#[derive(Default)]
struct Found {
    tracks: Vec<Entry>,
    /// Of each track's last block, what of it is padding, in nanoseconds.
    padding: BTreeMap<u64, u64>,
    /// The track of the block that was last met.
    block_of: u64,
}

#[derive(Default)]
struct Entry {
    number: u64,
    kind: u64,
    codec: String,
}

pub(crate) fn outline(file: &mut Part) -> io::Result<Outline> {
    let length = file.length();
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut position, mut found, mut cut_short) = (0, Found::default(), false);
    while position < length {
        let Some(next) = element(&mut reader, position, length, &mut found)? else {
            cut_short = true;
            break;
        };
        position = next;
    }
    Ok(Outline { cut_short, tracks: found.sound(), chain_differs: false })
}

/// Reads one element; gives where the next lies, `None` where the file ends before. Elements that hold others are
/// entered, whatever their size.
fn element(
    reader: &mut BufReader<&mut Part>,
    position: u64,
    length: u64,
    found: &mut Found,
) -> io::Result<Option<u64>> {
    let torn_head = (length - position < HEAD_BYTES_MAX).then_some(length);
    let Some((id, id_bytes)) = variable(reader, true)? else { return Ok(torn_head) };
    let Some((size, size_bytes)) = variable(reader, false)? else { return Ok(torn_head) };
    let body = position + id_bytes + size_bytes;
    if [SEGMENT, CLUSTER, BLOCK_GROUP, TRACKS, TRACK_ENTRY].contains(&id) {
        if id == TRACK_ENTRY && found.tracks.len() < TRACKS_MAX {
            found.tracks.push(Entry::default());
        }
        return Ok(Some(body));
    }
    let Some(end) = body.checked_add(size).filter(|end| *end <= length) else { return Ok(None) };
    let Some(used) = found.take(id, size, reader)? else { return Ok(None) };
    let Ok(rest) = i64::try_from(size.saturating_sub(used)) else { return Ok(None) };
    reader.seek_relative(rest)?;
    Ok(Some(end))
}

impl Found {
    /// Takes what an element says; gives how many of its bytes were read, `None` where it is damaged.
    fn take(&mut self, id: u64, size: u64, reader: &mut impl Read) -> io::Result<Option<u64>> {
        match id {
            BLOCK | SIMPLE_BLOCK => {
                let Some((track, bytes)) = variable(reader, false)? else { return Ok(None) };
                self.block_of = track;
                if self.padding.len() < TRACKS_MAX {
                    self.padding.insert(track, 0);
                }
                return Ok((bytes <= size).then_some(bytes));
            }
            DISCARD_PADDING | TRACK_NUMBER | TRACK_TYPE if (1..=8).contains(&size) => {
                let mut bytes = [0; 8];
                let from = 8 - usize::try_from(size).unwrap_or(8);
                if !read_all(reader, &mut bytes[from..])? {
                    return Ok(None);
                }
                self.number(id, u64::from_be_bytes(bytes), bytes[from] & 0x80 != 0);
            }
            CODEC_ID => {
                let mut name = vec![0; NAME_BYTES.min(usize::try_from(size).unwrap_or(NAME_BYTES))];
                if !read_all(reader, &mut name)? {
                    return Ok(None);
                }
                if let Some(track) = self.tracks.last_mut() {
                    track.codec = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
                }
                return Ok(Some(name.len() as u64));
            }
            _ => return Ok(Some(0)),
        }
        Ok(Some(size))
    }

    /// Takes a number. Padding is signed; a negative one means silence at the start, which nobody writes.
    fn number(&mut self, id: u64, value: u64, negative: bool) {
        match (id, self.tracks.last_mut()) {
            (DISCARD_PADDING, _) => {
                if let Some(padding) = self.padding.get_mut(&self.block_of).filter(|_| !negative) {
                    *padding = value;
                }
            }
            (TRACK_NUMBER, Some(track)) => track.number = value,
            (TRACK_TYPE, Some(track)) => track.kind = value,
            _ => {}
        }
    }

    fn sound(self) -> Vec<SoundTrack> {
        let padding = self.padding;
        let sound = self.tracks.into_iter().filter(|track| track.kind == IS_AUDIO);
        sound
            .filter_map(|track| {
                let count = padding.get(&track.number).copied().unwrap_or(0);
                let padding = (count > 0).then_some(Ticks { count, per_second: 1_000_000_000 });
                let id = u32::try_from(track.number).ok()?;
                Some(SoundTrack { id, codec: track.codec, padding, ..SoundTrack::default() })
            })
            .collect()
    }
}

/// A number of 1 to 8 bytes whose length is the place of its first set bit, and how many bytes it had. The marker
/// bit belongs to an element's id and not to its size.
pub(crate) fn variable(reader: &mut impl Read, keep_marker: bool) -> io::Result<Option<(u64, u64)>> {
    let mut bytes = [0; 8];
    if !read_all(reader, &mut bytes[..1])? || bytes[0] == 0 {
        return Ok(None);
    }
    let length = bytes[0].leading_zeros() as usize + 1;
    if !read_all(reader, &mut bytes[1..length])? {
        return Ok(None);
    }
    let value = bytes[..length].iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let mask = if keep_marker { u64::MAX } else { (1 << (7 * length)) - 1 };
    Ok(Some((value & mask, length as u64)))
}
