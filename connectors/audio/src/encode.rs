//! Writing merged audio to a file, in the child: Ogg Opus, FLAC or WAV, streaming. Sizes that a header must state
//! are written into it at the end.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use ogg::writing::{PacketWriteEndInfo, PacketWriter};
use sha2::{Digest, Sha256};

use crate::error::AudioError;
use crate::flac::{BLOCK, FlacEncoder, HEADER_BYTES, Totals};
use crate::limits::Limits;
use crate::merge::Format;
use crate::opus::{OPUS_RATE, OpusEncoder};
use crate::protocol::{Encoded, Kind, Shape, read_frame, take_samples, write_json};

/// Packets of 20 ms on one Ogg page: players seek by pages.
const PACKETS_PER_PAGE: u64 = 50;

/// The serial number of the only stream in the file. It is fixed so that one input gives one file.
const SERIAL: u32 = 0x4861_6e73;

/// Bytes of a WAV file before the samples.
const WAV_HEADER: usize = 44;

/// Silence is written in steps of this many samples per channel.
const SILENCE_STEP: u64 = 48_000;

/// Takes samples from the parent until its end and writes the file, then reports.
pub(crate) fn encode(
    path: &Path,
    format: Format,
    shape: Shape,
    limits: &Limits,
    input: &mut impl Read,
    out: &mut impl Write,
) -> Result<(), AudioError> {
    if !(1..=2).contains(&shape.channels) || !(2_000..=768_000).contains(&shape.sample_rate) {
        return Err(AudioError::Protocol { detail: format!("cannot encode {shape:?}") });
    }
    let mut writer = Writer::create(path, format, shape, limits.output_bytes)?;
    let mut payload = Vec::new();
    let mut samples = Vec::new();
    loop {
        samples.clear();
        match read_frame(input, &mut payload)? {
            Kind::Samples => {
                take_samples(&payload, &mut samples);
                writer.push(&samples)?;
            }
            Kind::Silence => {
                let count = payload.as_slice().try_into().map(u64::from_le_bytes);
                let mut left = count
                    .map_err(|_| AudioError::Protocol { detail: "silence without a length".to_owned() })?;
                while left > 0 {
                    let step = left.min(SILENCE_STEP);
                    samples.clear();
                    samples.resize(step as usize * usize::from(shape.channels), 0);
                    writer.push(&samples)?;
                    left -= step;
                }
            }
            Kind::End => break,
            kind => return Err(AudioError::Protocol { detail: format!("unexpected {kind:?} frame") }),
        }
    }
    writer.finish()?;
    let report = measure(path)?;
    write_json(out, Kind::Report, &report).map_err(AudioError::io("answering the parent"))
}

/// Size and SHA-256 of the finished file.
fn measure(path: &Path) -> Result<Encoded, AudioError> {
    let mut file = File::open(path).map_err(AudioError::io("reading the merged file"))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        let got = file.read(&mut buffer).map_err(AudioError::io("reading the merged file"))?;
        if got == 0 {
            return Ok(Encoded { bytes, sha256: hash.finalize().into() });
        }
        hash.update(&buffer[..got]);
        bytes += got as u64;
    }
}

/// Collects samples into blocks of the format's size and writes them.
struct Writer {
    body: Body,
    block: usize,
    pending: Vec<i16>,
    limit: u64,
}

enum Body {
    Opus(OpusFile),
    Flac { file: BufWriter<File>, encoder: FlacEncoder, shape: Shape, bytes: u64, frame: Vec<u8> },
    Wav { file: BufWriter<File>, shape: Shape, bytes: u64 },
}

impl Writer {
    fn create(path: &Path, format: Format, shape: Shape, limit: u64) -> Result<Self, AudioError> {
        let file = File::create(path).map_err(AudioError::io("creating the merged file"))?;
        let mut file = BufWriter::with_capacity(1 << 16, file);
        let channels = usize::from(shape.channels);
        let write = AudioError::io("writing the merged file");
        let (body, block) = match format {
            Format::Opus { bits_per_second, complexity } => {
                let opus = OpusFile::new(file, shape, bits_per_second, complexity)?;
                (Body::Opus(opus), OpusEncoder::FRAME)
            }
            Format::Flac => {
                let header = FlacEncoder::header(shape.sample_rate, shape.channels, Totals::default());
                file.write_all(&header).map_err(write)?;
                let encoder = FlacEncoder::new(shape.sample_rate, shape.channels);
                let bytes = HEADER_BYTES as u64;
                (Body::Flac { file, encoder, shape, bytes, frame: Vec::new() }, BLOCK)
            }
            Format::Wav => {
                file.write_all(&[0; WAV_HEADER]).map_err(write)?;
                (Body::Wav { file, shape, bytes: WAV_HEADER as u64 }, BLOCK)
            }
        };
        Ok(Self { body, block: block * channels, pending: Vec::new(), limit })
    }

    fn push(&mut self, samples: &[i16]) -> Result<(), AudioError> {
        self.pending.extend_from_slice(samples);
        let mut used = 0;
        while self.pending.len() - used >= self.block {
            self.body.write(&self.pending[used..used + self.block])?;
            used += self.block;
        }
        self.pending.drain(..used);
        let limit = if matches!(self.body, Body::Wav { .. }) {
            self.limit.min(u64::from(u32::MAX))
        } else {
            self.limit
        };
        if self.body.bytes() > limit { Err(AudioError::OutputTooLarge { limit }) } else { Ok(()) }
    }

    fn finish(mut self) -> Result<(), AudioError> {
        if !self.pending.is_empty() {
            self.body.write(&self.pending)?;
        }
        self.body.finish()
    }
}

impl Body {
    fn write(&mut self, samples: &[i16]) -> Result<(), AudioError> {
        let failed = AudioError::io("writing the merged file");
        match self {
            Self::Opus(opus) => opus.write(samples),
            Self::Flac { file, encoder, bytes, frame, .. } => {
                frame.clear();
                encoder.encode(samples, frame);
                *bytes += frame.len() as u64;
                file.write_all(frame).map_err(failed)
            }
            Self::Wav { file, bytes, .. } => {
                *bytes += 2 * samples.len() as u64;
                samples.iter().try_for_each(|s| file.write_all(&s.to_le_bytes())).map_err(failed)
            }
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Opus(opus) => opus.bytes,
            Self::Flac { bytes, .. } | Self::Wav { bytes, .. } => *bytes,
        }
    }

    fn finish(self) -> Result<(), AudioError> {
        match self {
            Self::Opus(opus) => opus.finish(),
            Self::Flac { file, encoder, shape, .. } => {
                let header = FlacEncoder::header(shape.sample_rate, shape.channels, encoder.totals());
                patch(file, &header)
            }
            Self::Wav { file, shape, bytes } => patch(file, &wav_header(shape, bytes)),
        }
    }
}

/// Writes the header again, now that the totals are known.
fn patch(mut file: BufWriter<File>, header: &[u8]) -> Result<(), AudioError> {
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.write_all(header))
        .and_then(|()| file.flush())
        .map_err(AudioError::io("writing the merged file"))
}

/// The header of a WAV file of that many bytes, at most 4 GiB (checked by the caller).
fn wav_header(shape: Shape, bytes: u64) -> Vec<u8> {
    let size = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let frame = u16::from(shape.channels) * 2;
    let mut header = Vec::with_capacity(WAV_HEADER);
    header.extend(b"RIFF");
    header.extend(size(bytes - 8));
    header.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    header.extend(u16::from(shape.channels).to_le_bytes());
    header.extend(shape.sample_rate.to_le_bytes());
    header.extend((shape.sample_rate * u32::from(frame)).to_le_bytes());
    header.extend(frame.to_le_bytes());
    header.extend(b"\x10\0data");
    header.extend(size(bytes - WAV_HEADER as u64));
    header
}

/// An Ogg Opus file (RFC 7845) in the making.
struct OpusFile {
    encoder: OpusEncoder,
    channels: usize,
    ogg: PacketWriter<'static, BufWriter<File>>,
    /// The last packet, held back until it is known whether it ends the stream.
    held: Option<Vec<u8>>,
    packets: u64,
    /// Samples per channel that were given.
    given: u64,
    pre_skip: u64,
    bytes: u64,
}

impl OpusFile {
    fn new(file: BufWriter<File>, shape: Shape, bits: u32, complexity: u8) -> Result<Self, AudioError> {
        let encoder = OpusEncoder::new(shape.channels, bits, complexity)
            .filter(|_| shape.sample_rate == OPUS_RATE)
            .ok_or_else(|| AudioError::Protocol { detail: format!("opus cannot encode {shape:?}") })?;
        let pre_skip = encoder.pre_skip();
        let mut ogg = PacketWriter::new(file);
        let mut head = b"OpusHead\x01".to_vec();
        head.push(shape.channels);
        head.extend(pre_skip.to_le_bytes());
        head.extend(OPUS_RATE.to_le_bytes());
        head.extend([0, 0, 0]);
        let mut tags = b"OpusTags".to_vec();
        tags.extend(7_u32.to_le_bytes());
        tags.extend(b"hansard");
        tags.extend(0_u32.to_le_bytes());
        for header in [head, tags] {
            ogg.write_packet(header, SERIAL, PacketWriteEndInfo::EndPage, 0)
                .map_err(AudioError::io("writing the merged file"))?;
        }
        let (channels, pre_skip) = (usize::from(shape.channels), u64::from(pre_skip));
        Ok(Self { encoder, channels, ogg, held: None, packets: 0, given: 0, pre_skip, bytes: 0 })
    }

    /// Takes one block; only the last may be shorter than a packet.
    fn write(&mut self, samples: &[i16]) -> Result<(), AudioError> {
        self.given += (samples.len() / self.channels) as u64;
        let full = OpusEncoder::FRAME * self.channels;
        if samples.len() == full {
            return self.packet(samples);
        }
        let mut padded = samples.to_vec();
        padded.resize(full, 0);
        self.packet(&padded)
    }

    fn packet(&mut self, samples: &[i16]) -> Result<(), AudioError> {
        let failed = || AudioError::DecodeCrashed { detail: "the opus encoder refused a packet".to_owned() };
        let packet = self.encoder.encode(samples).ok_or_else(failed)?.to_vec();
        self.bytes += packet.len() as u64 + 1;
        if let Some(held) = self.held.replace(packet) {
            self.packets += 1;
            let end = if self.packets.is_multiple_of(PACKETS_PER_PAGE) {
                PacketWriteEndInfo::EndPage
            } else {
                PacketWriteEndInfo::NormalPacket
            };
            let position = self.packets * OpusEncoder::FRAME as u64;
            self.ogg
                .write_packet(held, SERIAL, end, position)
                .map_err(AudioError::io("writing the merged file"))?;
        }
        Ok(())
    }

    /// Pushes the encoder's delay out and ends the stream; the last position trims the padding off.
    fn finish(mut self) -> Result<(), AudioError> {
        let due = self.given + self.pre_skip;
        let silence = vec![0; OpusEncoder::FRAME * self.channels];
        let encoded =
            |file: &Self| (file.packets + u64::from(file.held.is_some())) * OpusEncoder::FRAME as u64;
        while encoded(&self) < due {
            self.packet(&silence)?;
        }
        let last = self.held.take().unwrap_or_default();
        self.ogg
            .write_packet(last, SERIAL, PacketWriteEndInfo::EndStream, due)
            .and_then(|()| self.ogg.inner_mut().flush())
            .map_err(AudioError::io("writing the merged file"))
    }
}
