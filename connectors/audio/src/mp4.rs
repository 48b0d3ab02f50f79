//! Writing an MP4 file (ISO/IEC 14496-12, -14) of copied AAC packets, in the child. The packets are written as they come
//! and the tables of them after all, so that nothing is written twice; players read the end of an object by a range.
//! Not fragmented: then every player knows the duration and can seek. What grows is two bytes a packet, up to a limit.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use crate::aac::{AAC_FRAME, AacConfig};
use crate::error::AudioError;
use crate::protocol::{Packets, Ready, Shape};

/// Packets of one file: 99 hours at 48 kHz, and 32 MiB of sizes. More `cannot_copy`.
pub(crate) const PACKETS_MAX: usize = 1 << 24;

/// Packets of one chunk, which is what players read and seek by: a second or two.
const CHUNK: usize = 64;

/// Bytes before the first packet: the file's type, and the head of the box with the packets.
const MEDIA: u64 = 28 + 16;

/// About how many bytes the tables have beside what each packet adds.
const TABLES: u64 = 1_024;

/// The unit matrix of a video's transformation (8.2.2).
const MATRIX: [u32; 9] = [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30];

/// An MP4 file in the making.
pub(crate) struct Mp4File {
    file: BufWriter<File>,
    config: AacConfig,
    sizes: Vec<u16>,
    /// Bytes of all packets.
    media: u64,
    /// Samples per channel that a player drops at the start.
    delay: u64,
    /// Samples per channel at the end of the last packet that are only padding.
    padding: u64,
}

impl Mp4File {
    /// Begins the file. Fails where the shape is not that of AAC packets.
    pub(crate) fn new(mut file: BufWriter<File>, shape: Shape) -> Result<Self, AudioError> {
        let copied = shape.copied.filter(|copied| copied.packets == Packets::Aac);
        let config = AacConfig::new(shape.sample_rate, shape.channels);
        let (Some(copied), Some(config)) = (copied, config) else {
            return Err(AudioError::Protocol { detail: format!("no aac packets: {shape:?}") });
        };
        let kind = bytes(*b"ftyp", &[b"M4A ", &[0, 0, 2, 0], b"M4A isommp42"]);
        file.write_all(&kind).and_then(|()| file.write_all(&media_head(0))).map_err(failed())?;
        let delay = copied.delay.into();
        Ok(Self { file, config, sizes: Vec::new(), media: 0, delay, padding: 0 })
    }

    /// Takes a packet as it is.
    pub(crate) fn copy(&mut self, packet: &[u8]) -> Result<(), AudioError> {
        if self.sizes.len() == PACKETS_MAX {
            return Err(AudioError::CannotCopy { detail: format!("more than {PACKETS_MAX} packets") });
        }
        let size = u16::try_from(packet.len())
            .map_err(|_| AudioError::Protocol { detail: format!("a packet of {} bytes", packet.len()) })?;
        self.sizes.push(size);
        self.media += u64::from(size);
        self.padding = 0;
        self.file.write_all(packet).map_err(failed())
    }

    /// Writes silence, as many whole packets as come nearest to so many samples per channel.
    pub(crate) fn silence(&mut self, samples: u64) -> Result<(), AudioError> {
        let packet = self.config.silence();
        (0..(samples + AAC_FRAME / 2) / AAC_FRAME).try_for_each(|_| self.copy(packet))
    }

    /// Notes the padding of what came; gives how many samples per channel a player plays.
    pub(crate) fn place(&mut self, ready: Ready) -> Result<u64, AudioError> {
        if !ready.packets {
            return Err(AudioError::Protocol { detail: "samples for a file of packets".to_owned() });
        }
        self.padding = if self.sizes.is_empty() { 0 } else { ready.padding.min(AAC_FRAME - 1) };
        Ok(self.played())
    }

    /// Bytes of the file, about.
    pub(crate) fn bytes(&self) -> u64 {
        MEDIA + self.media + TABLES + self.sizes.len() as u64 * 5
    }

    /// Writes the tables and how long the media are.
    pub(crate) fn finish(mut self) -> Result<(), AudioError> {
        let movie = self.movie();
        let file = &mut self.file;
        file.write_all(&movie)
            .and_then(|()| self.sizes.iter().try_for_each(|size| file.write_all(&number(*size))))
            .map_err(failed())?;
        file.seek(SeekFrom::Start(MEDIA - 16))
            .and_then(|_| file.write_all(&media_head(self.media)))
            .and_then(|()| file.flush())
            .map_err(failed())
    }

    fn samples(&self) -> u64 {
        self.sizes.len() as u64 * AAC_FRAME - self.padding
    }

    fn played(&self) -> u64 {
        self.samples().saturating_sub(self.delay)
    }

    /// The box that describes the file (8.2.1), without the packets' sizes, which are its end. All times are in samples, and
    /// no date is told.
    fn movie(&self) -> Vec<u8> {
        let (scale, played) = (self.config.sample_rate().to_be_bytes(), self.played().to_be_bytes());
        let matrix: Vec<u8> = MATRIX.iter().flat_map(|value| value.to_be_bytes()).collect();
        let header: [&[u8]; 8] =
            [&[0; 16], &scale, &played, &[0, 1, 0, 0], &[1, 0], &[0; 10], &matrix, &[0; 24]];
        let next_track = 2_u32.to_be_bytes();
        let track: [&[u8]; 8] =
            [&[0; 16], &[0, 0, 0, 1], &[0; 4], &played, &[0; 12], &[1, 0, 0, 0], &matrix, &[0; 8]];
        let enabled = 7;
        let edits: [&[u8]; 4] = [&[0, 0, 0, 1], &played, &self.delay.to_be_bytes(), &[0, 1, 0, 0]];
        let edits = full(*b"elst", 1, 0, &edits);
        let track = full(*b"tkhd", 1, enabled, &track);
        let track = self.open(*b"trak", &[&track, &bytes(*b"edts", &[&edits]), &self.media_description()]);
        let header = full(*b"mvhd", 1, 0, &[&header.concat(), &next_track]);
        self.open(*b"moov", &[&header, &track])
    }

    /// The track's media (8.4).
    fn media_description(&self) -> Vec<u8> {
        let (scale, samples) = (self.config.sample_rate().to_be_bytes(), self.samples().to_be_bytes());
        let undetermined = [0x55, 0xc4];
        let header = full(*b"mdhd", 1, 0, &[&[0; 16], &scale, &samples, &undetermined, &[0; 2]]);
        let handler = full(*b"hdlr", 0, 0, &[&[0; 4], b"soun", &[0; 12], b"hansard\0"]);
        let sound = full(*b"smhd", 0, 0, &[&[0; 4]]);
        let same_file = full(*b"url ", 0, 1, &[]);
        let references = full(*b"dref", 0, 0, &[&[0, 0, 0, 1], &same_file]);
        let data = bytes(*b"dinf", &[&references]);
        let information = self.open(*b"minf", &[&sound, &data, &self.tables()]);
        self.open(*b"mdia", &[&header, &handler, &information])
    }

    /// How long, how large and where the packets are (8.5.1).
    fn tables(&self) -> Vec<u8> {
        let count = self.sizes.len();
        let whole = count - usize::from(self.padding > 0);
        let last = (count - whole, AAC_FRAME - self.padding);
        let times = [(whole, AAC_FRAME), last].into_iter().filter(|(count, _)| *count > 0);
        let times = rows(times.map(|(count, samples)| [number(count), number(samples)].concat()));
        // A run of chunks with as many packets each: where it begins, how many, how they are coded.
        let (full_chunks, rest) = (count / CHUNK, count % CHUNK);
        let runs = [(1, CHUNK, full_chunks > 0), (full_chunks + 1, rest, rest > 0)];
        let runs = runs.into_iter().filter(|(.., any)| *any);
        let runs =
            rows(runs.map(|(first, packets, _)| [number(first), number(packets), number(1_u8)].concat()));
        let mut place = MEDIA;
        let places = rows(self.sizes.chunks(CHUNK).map(|chunk| {
            let begins = place.to_be_bytes();
            place += chunk.iter().map(|size| u64::from(*size)).sum::<u64>();
            begins
        }));
        let description = full(*b"stsd", 0, 0, &[&[0, 0, 0, 1], &self.coding()]);
        self.open(
            *b"stbl",
            &[
                &description,
                &full(*b"stts", 0, 0, &[&times]),
                &full(*b"stsc", 0, 0, &[&runs]),
                &full(*b"co64", 0, 0, &[&places]),
                &self.open(*b"stsz", &[&[0; 8], &number(count)]),
            ],
        )
    }

    /// A box that ends with the packets' sizes, which are not among these parts.
    fn open(&self, name: [u8; 4], parts: &[&[u8]]) -> Vec<u8> {
        let mut whole = bytes(name, parts);
        let length = whole.len() + 4 * self.sizes.len();
        whole[..4].copy_from_slice(&number(length));
        whole
    }

    /// How the packets are coded: the entry of AAC (ISO/IEC 14496-14, 5.6), and its descriptors (14496-1, 7.2.6).
    fn coding(&self) -> Vec<u8> {
        let rate = u16::try_from(self.config.sample_rate()).unwrap_or(0).to_be_bytes();
        let specific = descriptor(5, &[&self.config.specific()]);
        // MPEG-4 audio, a stream of sound; buffer and bit rates are not told.
        let decoder = descriptor(4, &[&[0x40, 0x15], &[0; 11], &specific]);
        let sync = descriptor(6, &[&[2]]);
        let stream = descriptor(3, &[&[0, 1, 0], &decoder, &sync]);
        let sound = [0, self.config.channels, 0, 16, 0, 0, 0, 0];
        let stream = full(*b"esds", 0, 0, &[&stream]);
        bytes(*b"mp4a", &[&[0; 6], &[0, 1], &[0; 8], &sound, &rate, &[0; 2], &stream])
    }
}

/// The head of the box with the packets, which have so many bytes.
fn media_head(media: u64) -> [u8; 16] {
    let mut head = *b"\0\0\0\x01mdat\0\0\0\0\0\0\0\0";
    head[8..].copy_from_slice(&(media + 16).to_be_bytes());
    head
}

/// A box of these parts.
fn bytes(name: [u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&number(body.len() + 8)[..], &name, &body].concat()
}

/// A box with version and flags.
fn full(name: [u8; 4], version: u8, flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    bytes(name, &[&[version, 0, 0, flags], &parts.concat()])
}

/// A table with its number of rows before it.
fn rows<Row: AsRef<[u8]>>(rows: impl Iterator<Item = Row>) -> Vec<u8> {
    let mut table = vec![0; 4];
    let mut count = 0_u32;
    for row in rows {
        table.extend(row.as_ref());
        count += 1;
    }
    table[..4].copy_from_slice(&count.to_be_bytes());
    table
}

/// A descriptor of less than 128 bytes.
fn descriptor(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[tag, u8::try_from(body.len()).expect("descriptors are short")], &body[..]].concat()
}

fn number(value: impl TryInto<u32>) -> [u8; 4] {
    value.try_into().unwrap_or(u32::MAX).to_be_bytes()
}

fn failed() -> impl FnOnce(std::io::Error) -> AudioError {
    AudioError::io("writing the merged file")
}
