//! Writing merged audio to a file, in the child: Ogg Opus, MP4, FLAC or WAV, streaming. Sizes that a header must state
//! are written into it at the end. Opus packets go into Ogg Opus as they are, between what is encoded here; into MP4 goes
//! nothing but AAC packets.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::AudioError;
use crate::flac::{BLOCK, FlacEncoder, HEADER_BYTES, Totals};
use crate::limits::Limits;
use crate::merge::Format;
use crate::mp4::Mp4File;
use crate::ogg::OggStream;
use crate::opus::{OPUS_RATE, OpusEncoder, packet_samples, silent_packet};
use crate::protocol::{
    Encoded, Kind, Ready, Shape, next_packet, read_frame, take_samples, write_frame, write_json,
};

/// Samples per channel on one Ogg page, about: players seek by pages.
const PAGE: u64 = OPUS_RATE as u64;

/// The serial number of the only stream in the file. It is fixed so that one input gives one file.
const SERIAL: u32 = 0x4861_6e73;

/// Bytes of a WAV file before the samples.
const WAV_HEADER: usize = 44;

/// Silence is written in steps of this many samples per channel.
const SILENCE_STEP: usize = 48_000;

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
                writer.silence(
                    count.map_err(|_| AudioError::Protocol {
                        detail: "silence without a length".to_owned(),
                    })?,
                )?;
            }
            Kind::Packets => writer.packets(&payload)?,
            Kind::Place => {
                let ready = serde_json::from_slice(&payload)
                    .map_err(|cause| AudioError::Protocol { detail: format!("bad place: {cause}") })?;
                let position = writer.place(ready)?;
                write_frame(out, Kind::Place, &position.to_le_bytes())
                    .and_then(|()| out.flush())
                    .map_err(AudioError::io("answering the parent"))?;
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
    channels: usize,
    pending: Vec<i16>,
    /// Samples per channel that were given.
    given: u64,
    limit: u64,
}

enum Body {
    Opus(OpusFile),
    Mp4(Mp4File),
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
            Format::Mp4 => (Body::Mp4(Mp4File::new(file, shape)?), BLOCK),
            Format::Auto => return Err(AudioError::Protocol { detail: "no format is chosen".to_owned() }),
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
        // A WAV's header states its size in four bytes.
        let limit = if matches!(body, Body::Wav { .. }) { limit.min(u64::from(u32::MAX)) } else { limit };
        Ok(Self { body, block: block * channels, channels, pending: Vec::new(), given: 0, limit })
    }

    fn push(&mut self, samples: &[i16]) -> Result<(), AudioError> {
        self.given += (samples.len() / self.channels) as u64;
        self.pending.extend_from_slice(samples);
        let mut used = 0;
        while self.pending.len() - used >= self.block {
            self.body.write(&self.pending[used..used + self.block])?;
            used += self.block;
        }
        self.pending.drain(..used);
        self.check_size()
    }

    fn check_size(&self) -> Result<(), AudioError> {
        let limit = self.limit;
        if self.body.bytes() > limit { Err(AudioError::OutputTooLarge { limit }) } else { Ok(()) }
    }

    /// Writes the packets of a frame.
    fn packets(&mut self, mut bytes: &[u8]) -> Result<(), AudioError> {
        while let Some(packet) = next_packet(&mut bytes)? {
            match &mut self.body {
                Body::Opus(opus) => opus.copy(packet)?,
                Body::Mp4(mp4) => mp4.copy(packet)?,
                Body::Flac { .. } | Body::Wav { .. } => {
                    return Err(AudioError::Protocol { detail: "packets for a file of samples".to_owned() });
                }
            }
        }
        self.check_size()
    }

    /// Becomes ready for what comes next; gives how many samples per channel there are.
    fn place(&mut self, ready: Ready) -> Result<u64, AudioError> {
        let opus = match &mut self.body {
            Body::Opus(opus) => opus,
            Body::Mp4(mp4) => return mp4.place(ready),
            Body::Flac { .. } | Body::Wav { .. } => return Ok(self.given),
        };
        if ready.packets && !self.pending.is_empty() {
            opus.write(&self.pending)?;
            self.pending.clear();
        }
        let waiting = (self.pending.len() / self.channels) as u64;
        Ok(opus.place(ready)? + waiting)
    }

    /// Writes so many silent samples per channel; between copied packets as many as whole packets come nearest to.
    fn silence(&mut self, samples: u64) -> Result<(), AudioError> {
        if let Body::Mp4(mp4) = &mut self.body {
            mp4.silence(samples)?;
            return self.check_size();
        }
        if let Body::Opus(opus) = &mut self.body
            && opus.due.is_none()
        {
            let packet = silent_packet(opus.channels);
            let frame = OpusEncoder::FRAME as u64;
            for _ in 0..(samples + frame / 2) / frame {
                opus.copy(&packet)?;
            }
            return self.check_size();
        }
        let silence = vec![0; SILENCE_STEP * self.channels];
        let mut left = samples;
        while left > 0 {
            let step = usize::try_from(left).map_or(SILENCE_STEP, |left| left.min(SILENCE_STEP));
            self.push(&silence[..step * self.channels])?;
            left -= step as u64;
        }
        Ok(())
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
            Self::Mp4(_) => Err(AudioError::Protocol { detail: "samples for a file of packets".to_owned() }),
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
            Self::Mp4(mp4) => mp4.bytes(),
            Self::Flac { bytes, .. } | Self::Wav { bytes, .. } => *bytes,
        }
    }

    fn finish(self) -> Result<(), AudioError> {
        match self {
            Self::Opus(opus) => opus.finish(),
            Self::Mp4(mp4) => mp4.finish(),
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

/// An Ogg Opus file (RFC 7845) in the making: stretches of copied packets, and of samples encoded here.
struct OpusFile {
    encoder: OpusEncoder,
    bits: u32,
    complexity: u8,
    channels: u8,
    ogg: OggStream<BufWriter<File>>,
    /// Samples per channel of all packets.
    position: u64,
    /// Where the present page began.
    page: u64,
    /// While samples are encoded: where the last of them ends, the encoder's delay included.
    due: Option<u64>,
    /// Padding at the end of copied packets.
    padding: u64,
    pre_skip: u64,
    bytes: u64,
}

impl OpusFile {
    fn new(file: BufWriter<File>, shape: Shape, bits: u32, complexity: u8) -> Result<Self, AudioError> {
        let encoder = OpusEncoder::new(shape.channels, bits, complexity)
            .filter(|_| shape.sample_rate == OPUS_RATE)
            .ok_or_else(|| AudioError::Protocol { detail: format!("opus cannot encode {shape:?}") })?;
        let pre_skip = shape.copied.map_or(encoder.pre_skip(), |copied| copied.delay);
        let mut ogg = OggStream::new(file, SERIAL);
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
            ogg.packet(&header, 0)
                .and_then(|()| ogg.end_page())
                .map_err(AudioError::io("writing the merged file"))?;
        }
        Ok(Self {
            due: shape.copied.is_none().then(|| encoder.pre_skip().into()),
            encoder,
            bits,
            complexity,
            channels: shape.channels,
            ogg,
            position: 0,
            page: 0,
            padding: 0,
            pre_skip: pre_skip.into(),
            bytes: 0,
        })
    }

    /// Becomes ready for samples or packets; gives how many samples per channel a player plays.
    fn place(&mut self, ready: Ready) -> Result<u64, AudioError> {
        match (self.due, ready.packets) {
            (Some(due), true) => {
                self.drain(due)?;
                self.due = None;
            }
            (None, false) => {
                // What was encoded before has nothing to do with what comes now.
                self.encoder = OpusEncoder::new(self.channels, self.bits, self.complexity)
                    .ok_or_else(|| AudioError::Protocol { detail: "no encoder".to_owned() })?;
                self.due = Some(self.position + u64::from(self.encoder.pre_skip()));
            }
            _ => {}
        }
        self.padding = ready.padding.min(self.position);
        let end = self.due.unwrap_or(self.position - self.padding);
        Ok(end.saturating_sub(self.pre_skip))
    }

    /// Takes one block of samples; only the last before packets or the end may be shorter than a packet.
    fn write(&mut self, samples: &[i16]) -> Result<(), AudioError> {
        let channels = usize::from(self.channels);
        let due = self.due.as_mut();
        *due.ok_or_else(|| AudioError::Protocol { detail: "samples among packets".to_owned() })? +=
            (samples.len() / channels) as u64;
        let full = OpusEncoder::FRAME * channels;
        if samples.len() == full {
            return self.encode(samples);
        }
        let mut padded = samples.to_vec();
        padded.resize(full, 0);
        self.encode(&padded)
    }

    fn encode(&mut self, samples: &[i16]) -> Result<(), AudioError> {
        let failed = || AudioError::DecodeCrashed { detail: "the opus encoder refused a packet".to_owned() };
        let packet = self.encoder.encode(samples).ok_or_else(failed)?.to_vec();
        self.packet(&packet, OpusEncoder::FRAME as u64)
    }

    /// Takes a packet as it is.
    fn copy(&mut self, packet: &[u8]) -> Result<(), AudioError> {
        let samples = packet_samples(packet).filter(|_| self.due.is_none());
        let samples = samples.ok_or_else(|| AudioError::Protocol { detail: "no opus packet".to_owned() })?;
        self.packet(packet, samples)
    }

    fn packet(&mut self, packet: &[u8], samples: u64) -> Result<(), AudioError> {
        self.bytes += packet.len() as u64 + 1;
        self.padding = 0;
        let written = if self.position - self.page >= PAGE {
            self.page = self.position;
            self.ogg.end_page()
        } else {
            Ok(())
        };
        self.position += samples;
        written
            .and_then(|()| self.ogg.packet(packet, self.position))
            .map_err(AudioError::io("writing the merged file"))
    }

    /// Pushes the encoder's delay out.
    fn drain(&mut self, due: u64) -> Result<(), AudioError> {
        let silence = vec![0; OpusEncoder::FRAME * usize::from(self.channels)];
        while self.position < due {
            self.encode(&silence)?;
        }
        Ok(())
    }

    /// Ends the stream; the last position trims the padding off.
    fn finish(mut self) -> Result<(), AudioError> {
        let end = match self.due {
            Some(due) => {
                self.drain(due)?;
                due
            }
            None => self.position - self.padding,
        };
        self.ogg.finish(end).map_err(AudioError::io("writing the merged file"))
    }
}
