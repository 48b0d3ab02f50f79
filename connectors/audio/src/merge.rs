//! The parent's side of merging: decodes each input in a child of its own and pipes the samples into one encoding
//! child, so that an input that kills its decoder costs only itself.
//!
//! The rule of copying: into Ogg Opus, the packets of an Opus input are copied and not encoded again; into MP4 goes nothing
//! but the packets of AAC-LC inputs of one rate and as many channels. Their boundaries are packets': between two inputs
//! stay the padding of the last packet before and the encoder's delay of the first after, together less than 30 ms in the
//! Opus that browsers record and less than 70 ms in AAC, and silence is as long as whole packets (of 20 ms, or 1,024
//! samples) come nearest. What is encoded begins and ends exactly.
//!
//! The rule of the format, where none is chosen: the first usable input decides. If it is AAC-LC that can be copied, the
//! file is MP4, else Ogg Opus. A later input that cannot be copied into the MP4 ends the merge with `cannot_copy`; whoever
//! has the inputs begins again with Ogg Opus, once.
//!
//! The rule of the timeline: inputs follow each other in the order given, without gaps, so the merged duration is
//! the sum of theirs. With `fill_gaps_ms` above 0, a gap between the end of an input and the offset of the next is
//! filled with silence if it is not longer than that; longer ones are closed.
//!
//! The rule of the shape: Opus is 48 kHz; FLAC and WAV take the rate of the first usable input, at most 48 kHz. All
//! have its channels, at most two. Later inputs are converted.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::decoder::Decoder;
use crate::error::{AudioError, Class};
use crate::limits::Limits;
use crate::opus::OPUS_RATE;
use crate::process::Process;
use crate::protocol::{Decoded, Encoded, Kind, Packets, Ready, Request, Shape};

/// Inputs a merge takes, as many as a conversation has chunks.
const INPUTS_MAX: u32 = 5_000;

/// Processor time of the encoding child, which lives as long as the merge.
const ENCODE_CPU_SECONDS: u64 = 86_400;

/// The format of the merged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// MP4 or Ogg Opus, as the inputs are.
    Auto,
    /// MP4 with the packets of AAC-LC inputs; other inputs end the merge with `cannot_copy`.
    Mp4,
    /// Ogg Opus.
    Opus {
        /// Bits per second of what is encoded; libopus varies it. Copied packets keep theirs.
        bits_per_second: u32,
        /// libopus' effort, 0 to 10.
        complexity: u8,
    },
    /// FLAC, 16 bits.
    Flac,
    /// WAV, 16 bits, at most 4 GiB.
    Wav,
}

impl Format {
    /// Ogg Opus of speech at a size and effort fit for listening: 32 kbit/s, complexity 5.
    pub const OPUS: Self = Self::Opus { bits_per_second: 32_000, complexity: 5 };

    /// The usual ending of a file's name; `auto` before it is known.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mp4 => "m4a",
            Self::Opus { .. } => "ogg",
            Self::Flac => "flac",
            Self::Wav => "wav",
        }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Auto => "application/octet-stream",
            Self::Mp4 => "audio/mp4",
            Self::Opus { .. } => "audio/ogg",
            Self::Flac => "audio/flac",
            Self::Wav => "audio/wav",
        }
    }

    /// The packets that are copied into it.
    fn copies(self) -> Vec<Packets> {
        match self {
            Self::Auto => vec![Packets::Aac, Packets::Opus],
            Self::Mp4 => vec![Packets::Aac],
            Self::Opus { .. } => vec![Packets::Opus],
            Self::Flac | Self::Wav => Vec::new(),
        }
    }

    /// The rate to which samples are converted, where it does not follow from the first input.
    fn rate(self) -> Option<u32> {
        matches!(self, Self::Auto | Self::Opus { .. }).then_some(OPUS_RATE)
    }

    /// The format for such an input.
    fn of(self, shape: Shape) -> Result<Self, AudioError> {
        let aac = shape.copied.is_some_and(|copied| copied.packets == Packets::Aac);
        match self {
            Self::Auto if aac => Ok(Self::Mp4),
            Self::Auto => Ok(Self::OPUS),
            Self::Mp4 if !aac => Err(AudioError::CannotCopy { detail: "it is no aac-lc".to_owned() }),
            other => Ok(other),
        }
    }
}

/// How to merge.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeRequest {
    /// The file to write; one that exists is replaced.
    pub output: PathBuf,
    /// Its format.
    pub format: Format,
    /// The longest gap that is kept as silence; 0 closes all gaps.
    pub fill_gaps_ms: u64,
    /// The share of inputs, 0 to 1, that may be lost without failing the merge.
    pub lost_share_max: f64,
}

/// One recording to merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeInput {
    /// Its name in the report.
    pub chunk_id: String,
    /// A file on disk, whole.
    pub path: PathBuf,
    /// For a slice without its own header, a file that begins with it; see [`SplitRequest`](crate::SplitRequest).
    pub header: Option<PathBuf>,
    /// Where it lies in the conversation.
    pub offset_ms: u64,
}

/// What became of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputStatus {
    /// All of it is in the merged file.
    Merged,
    /// A part of it is; its code says why not all.
    Truncated,
    /// Nothing of it is; its code says why.
    Skipped,
}

impl InputStatus {
    /// The word for records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Truncated => "truncated",
            Self::Skipped => "skipped",
        }
    }
}

/// One input's line in the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputReport {
    /// Its name.
    pub chunk_id: String,
    /// What became of it.
    pub status: InputStatus,
    /// The stable code of why it is not whole.
    pub code: Option<String>,
    /// Where it begins in the merged file.
    pub offset_ms: u64,
    /// How long it is there.
    pub duration_ms: u64,
}

/// What was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeReport {
    /// Duration of the merged file, from counted samples.
    pub duration_ms: u64,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Its sample rate.
    pub sample_rate: u32,
    /// Its channels.
    pub channels: u8,
    /// Its format; never [`Format::Auto`].
    pub format: Format,
    /// Every input in order.
    pub inputs: Vec<InputReport>,
}

impl Decoder {
    /// Begins a merge. Inputs are added one by one, so that each may be fetched when its turn comes and deleted
    /// after; memory and disk stay bounded however many there are. Dropping the merge kills its children.
    pub fn merge(&self, request: MergeRequest) -> Merge<'_> {
        Merge { decoder: self, request, encoder: None, written: 0, expected_ms: None, inputs: Vec::new() }
    }
}

/// A merge under way.
#[derive(Debug)]
pub struct Merge<'a> {
    decoder: &'a Decoder,
    request: MergeRequest,
    encoder: Option<(Process, Shape)>,
    /// Samples per channel in the file, as the encoder last said.
    written: u64,
    /// Where in the conversation the last usable input ended.
    expected_ms: Option<u64>,
    inputs: Vec<InputReport>,
}

impl Merge<'_> {
    /// Decodes one input to the end of the merged file. A bad input is no error: it is reported as skipped or
    /// truncated. An error is one of the encoder, the machine, or the protocol, and ends the merge.
    pub async fn add(&mut self, input: MergeInput) -> Result<&InputReport, AudioError> {
        let (ended, before) = Box::pin(self.take(&input)).await?;
        let usable = self.written > before;
        let (status, code) = match (ended, usable) {
            (Ok(Decoded { truncated: false, .. }), _) => (InputStatus::Merged, None),
            (Ok(Decoded { truncated: true, .. }), _) => (InputStatus::Truncated, Some("truncated")),
            (Err(error), true) => (InputStatus::Truncated, Some(error.code())),
            (Err(error), false) => (InputStatus::Skipped, Some(error.code())),
        };
        Ok(self.report(input, before, status, code))
    }

    /// Notes an input that could not even be fetched, with the stable code of why.
    pub fn add_skipped(&mut self, input: MergeInput, code: &str) -> &InputReport {
        let written = self.written;
        self.report(input, written, InputStatus::Skipped, Some(code))
    }

    /// Ends the file. Fails with `too_much_lost` if more inputs were skipped than is allowed, or all were.
    pub async fn finish(mut self) -> Result<MergeReport, AudioError> {
        let skipped = self.inputs.iter().filter(|input| input.status == InputStatus::Skipped).count();
        let share = skipped as f64 / self.inputs.len().max(1) as f64;
        let encoder = self.encoder.take().filter(|_| share <= self.request.lost_share_max);
        let Some((mut process, shape)) = encoder else {
            let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            return Err(AudioError::TooMuchLost {
                skipped: count(skipped),
                inputs: count(self.inputs.len()),
            });
        };
        process.send(Kind::End, &[]).await?;
        match process.next().await? {
            Kind::Report => {
                let Encoded { bytes, sha256 } = process.json()?;
                process.finish().await?;
                Ok(MergeReport {
                    duration_ms: ms(self.written, shape),
                    bytes,
                    sha256,
                    sample_rate: shape.sample_rate,
                    channels: shape.channels,
                    format: self.request.format,
                    inputs: self.inputs,
                })
            }
            kind => Err(unexpected(kind)),
        }
    }
}

impl Merge<'_> {
    /// Takes over all of an input; gives how it ended and where it began. An outer error ends the merge, an inner one only
    /// this input.
    async fn take(&mut self, input: &MergeInput) -> Result<(Result<Decoded, AudioError>, u64), AudioError> {
        if self.inputs.len() >= INPUTS_MAX as usize {
            return Err(AudioError::TooManyInputs { limit: INPUTS_MAX });
        }
        let known = self.encoder.as_ref().map(|(_, shape)| *shape);
        let format = self.request.format;
        let request = Request::Decode {
            path: input.path.clone(),
            header: input.header.clone(),
            sample_rate: known.map(|shape| shape.sample_rate).or(format.rate()),
            channels: known.map(|shape| shape.channels),
            packets: format.copies(),
            limits: self.decoder.limits().clone(),
        };
        let mut source = Process::start(self.decoder.program(), &request).await?;
        if let Some((encoder, _)) = &mut self.encoder {
            encoder.renew();
        }
        let (mut before, mut packets) = (self.written, None);
        let ended = loop {
            match source.next().await {
                Ok(Kind::Shape) => {
                    let shape: Shape = source.json()?;
                    self.open(shape, input.offset_ms).await?;
                    let ready = Ready { packets: shape.copied.is_some(), padding: 0 };
                    before = self.place(ready).await?;
                    packets = Some(ready.packets);
                }
                Ok(kind @ (Kind::Samples | Kind::Packets)) => {
                    let Some((encoder, _)) = &mut self.encoder else { return Err(unexpected(kind)) };
                    encoder.send(kind, source.payload()).await?;
                }
                Ok(Kind::Report) => {
                    let decoded: Decoded = source.json()?;
                    source.finish().await?;
                    break Ok(decoded);
                }
                Ok(kind) => return Err(unexpected(kind)),
                // What lies in the input is reported; what lies in this machine ends the merge, to be tried again.
                Err(error @ AudioError::DecodeCrashed { .. }) => break Err(error),
                Err(error) if error.class() == Class::Permanent => break Err(error),
                Err(error) => return Err(error),
            }
        };
        let padding = ended.as_ref().map_or(0, |decoded| decoded.padding);
        if let Some(packets) = packets {
            self.place(Ready { packets, padding }).await?;
        }
        Ok((ended, before))
    }

    /// Starts the encoder at the first usable input, and fills the gap before a later one.
    async fn open(&mut self, shape: Shape, offset_ms: u64) -> Result<(), AudioError> {
        self.request.format = self.request.format.of(shape)?;
        if let Some((encoder, first)) = &mut self.encoder {
            if self.request.format == Format::Mp4 {
                first.agrees(shape)?;
            }
            let gap_ms = self.expected_ms.map_or(0, |expected| offset_ms.saturating_sub(expected));
            if gap_ms > 0 && gap_ms <= self.request.fill_gaps_ms {
                let silence = gap_ms * u64::from(first.sample_rate) / 1_000;
                encoder.send(Kind::Silence, &silence.to_le_bytes()).await?;
            }
            return Ok(());
        }
        // Encoding takes samples that are already bounded, so its time is that of the whole merge.
        let limits = Limits { cpu_seconds: ENCODE_CPU_SECONDS, ..self.decoder.limits().clone() };
        let (path, format) = (self.request.output.clone(), self.request.format);
        let request = Request::Encode { path, format, shape, limits };
        self.encoder = Some((Process::start(self.decoder.program(), &request).await?, shape));
        Ok(())
    }

    /// Has the encoder ready for packets or samples; gives where it stands.
    async fn place(&mut self, ready: Ready) -> Result<u64, AudioError> {
        let Some((encoder, _)) = &mut self.encoder else { return Ok(0) };
        let ready =
            serde_json::to_vec(&ready).map_err(|cause| AudioError::Protocol { detail: cause.to_string() })?;
        encoder.send(Kind::Place, &ready).await?;
        let kind = encoder.next().await?;
        let position = encoder.payload().as_slice().try_into().ok().filter(|_| kind == Kind::Place);
        self.written = u64::from_le_bytes(position.ok_or_else(|| unexpected(kind))?);
        Ok(self.written)
    }

    fn report(
        &mut self,
        input: MergeInput,
        before: u64,
        status: InputStatus,
        code: Option<&str>,
    ) -> &InputReport {
        let at = |written| self.encoder.as_ref().map_or(0, |(_, shape)| ms(written, *shape));
        let (offset_ms, duration_ms) = (at(before), at(self.written) - at(before));
        if status != InputStatus::Skipped {
            self.expected_ms = Some(input.offset_ms + duration_ms);
        }
        let code = code.map(str::to_owned);
        self.inputs.push(InputReport { chunk_id: input.chunk_id, status, code, offset_ms, duration_ms });
        &self.inputs[self.inputs.len() - 1]
    }
}

/// Milliseconds of that many samples per channel, rounded up as a split's are.
fn ms(samples: u64, shape: Shape) -> u64 {
    (samples * 1_000).div_ceil(u64::from(shape.sample_rate))
}

fn unexpected(kind: Kind) -> AudioError {
    AudioError::Protocol { detail: format!("unexpected {kind:?} frame") }
}
