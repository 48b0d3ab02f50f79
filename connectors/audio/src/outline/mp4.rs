//! MP4 (ISO/IEC 14496-12): whether the file ends at the end of a box, and of each sound track the codec's name, its channels
//! and what its edit list leaves of it. The demuxer passes over edit lists, which state the encoder's delay.

use std::io;

use super::{Outline, SoundTrack, TRACKS_MAX, Ticks};
use crate::source::Part;

/// Boxes that are entered; all others are passed over.
const ENTERED: [&[u8; 4]; 6] = [b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl"];

/// Entries of an edit list that are read. A recorder writes one or two.
const EDITS_MAX: u32 = 64;

/// What is known so far.
#[derive(Default)]
struct Found {
    /// Ticks of the whole film in a second, in which edits state their lengths.
    film: u32,
    /// More sound may follow in fragments, whose length no edit list knows.
    in_fragments: bool,
    tracks: Vec<Track>,
}

#[derive(Default)]
struct Track {
    sound: SoundTrack,
    is_sound: bool,
    /// Ticks of the media in a second.
    scale: u32,
    edits: Edits,
}

/// What an edit list names of the media.
#[derive(Default)]
struct Edits {
    pieces: u32,
    /// Where the first piece begins.
    start: u64,
    /// How long all of them last, in ticks of the film.
    lasts: u64,
}

pub(crate) fn outline(file: &Part) -> io::Result<Outline> {
    let (length, mut position) = (file.length(), 0);
    let (mut found, mut cut_short) = (Found::default(), false);
    while position < length {
        let mut head = [0; 16];
        // The last box may be shorter than the longer form of a head.
        let wanted = if length - position < 16 { 8 } else { 16 };
        if !file.read_at(&mut head[..wanted], position)? {
            cut_short = true;
            break;
        }
        let [a, b, c, d, name @ ..] = head;
        let name = &name[..4];
        let (size, body) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (length - position, 8),
            1 => (head[8..].iter().fold(0, |size, byte| size << 8 | u64::from(*byte)), 16),
            size => (u64::from(size), 8),
        };
        let Some(end) = position.checked_add(size.max(body)).filter(|end| *end <= length) else {
            cut_short = true;
            break;
        };
        if ENTERED.iter().any(|entered| *entered == name) {
            if name == b"trak" && found.tracks.len() < TRACKS_MAX {
                found.tracks.push(Track::default());
            }
            position += body;
        } else {
            found.take(name, &Body { file, start: position + body, end })?;
            position = end;
        }
    }
    Ok(Outline { cut_short, tracks: found.sound(), chain_differs: false })
}

/// The contents of a box.
struct Body<'a> {
    file: &'a Part,
    start: u64,
    end: u64,
}

impl Body<'_> {
    fn read<const N: usize>(&self, place: u64) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        let inside = self.end - self.start >= place + N as u64;
        Ok((inside && self.file.read_at(&mut bytes, self.start + place)?).then_some(bytes))
    }

    /// A number that lies at one place in version 0 of the box and at another in version 1.
    fn number(&self, place: u64, place_of_1: u64) -> io::Result<u32> {
        let place = if self.is_long()? { place_of_1 } else { place };
        Ok(self.read(place)?.map_or(0, u32::from_be_bytes))
    }

    /// Whether the box is of version 1, whose times have eight bytes.
    fn is_long(&self) -> io::Result<bool> {
        Ok(self.read::<1>(0)?.is_some_and(|[version]| version == 1))
    }

    /// An edit list (8.6.6). Edits without media only delay what follows; of more than are read, only their number counts.
    fn edits(&self) -> io::Result<Edits> {
        let long = self.is_long()?;
        let (mut edits, size) = (Edits::default(), if long { 20 } else { 12 });
        let count = self.read(4)?.map_or(0, u32::from_be_bytes);
        if count > EDITS_MAX {
            return Ok(Edits { pieces: count, ..edits });
        }
        for entry in 0..u64::from(count) {
            let place = 8 + entry * size;
            let (lasts, starts) = if long {
                (self.read(place)?.map(u64::from_be_bytes), self.read(place + 8)?.map(i64::from_be_bytes))
            } else {
                let (lasts, starts) = (self.read(place)?, self.read(place + 4)?);
                (
                    lasts.map(|lasts| u32::from_be_bytes(lasts).into()),
                    starts.map(|starts| i32::from_be_bytes(starts).into()),
                )
            };
            let (Some(lasts), Some(Ok(starts))) = (lasts, starts.map(u64::try_from)) else { continue };
            if edits.pieces == 0 {
                edits.start = starts;
            }
            edits.pieces += 1;
            edits.lasts = edits.lasts.saturating_add(lasts);
        }
        Ok(edits)
    }
}

impl Found {
    fn take(&mut self, name: &[u8], body: &Body<'_>) -> io::Result<()> {
        if name == b"mvhd" {
            self.film = body.number(12, 20)?;
        }
        self.in_fragments |= name == b"mvex";
        let Some(track) = self.tracks.last_mut() else { return Ok(()) };
        match name {
            b"tkhd" => track.sound.id = body.number(12, 20)?,
            b"mdhd" => track.scale = body.number(12, 20)?,
            b"hdlr" => track.is_sound |= body.read(8)? == Some(*b"soun"),
            b"elst" => track.edits = body.edits()?,
            b"stsd" => {
                // The first entry's format (8.5.2), and the channels that it states (12.2.3).
                let name: Option<[u8; 4]> = body.read(12)?;
                track.sound.codec =
                    name.map_or_else(String::new, |name| String::from_utf8_lossy(&name).into());
                track.sound.channels = body.read(32)?.map(u16::from_be_bytes);
            }
            _ => {}
        }
        Ok(())
    }

    fn sound(self) -> Vec<SoundTrack> {
        let (film, in_fragments) = (self.film, self.in_fragments);
        let tracks = self.tracks.into_iter().filter(|track| track.is_sound);
        tracks
            .map(|Track { mut sound, scale, edits: Edits { pieces, start, lasts }, .. }| {
                sound.is_edited = pieces > 1;
                if (1..=EDITS_MAX).contains(&pieces) && scale > 0 {
                    sound.delay = Some(Ticks { count: start, per_second: scale });
                    let lasts = Ticks { count: lasts, per_second: film }.samples(scale);
                    let known = film > 0 && lasts > 0 && !in_fragments;
                    let end = known.then(|| start.saturating_add(lasts));
                    sound.end = end.map(|count| Ticks { count, per_second: scale });
                }
                sound
            })
            .collect()
    }
}
