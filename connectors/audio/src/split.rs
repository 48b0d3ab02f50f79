//! Splitting, in the child: decodes a recording to 16 kHz mono, finds voice, cuts by the plan and answers with one
//! FLAC file a segment. Holds about one segment of audio at a time, however long the recording.

use std::io::Write;

use earshot::Detector;
use hansard_jobs::ports::Peaks;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cut::{CutPlan, Cutter, Frame, Piece};
use crate::decode::{Media, Wish};
use crate::error::AudioError;
use crate::flac;
use crate::limits::Limits;
use crate::protocol::{Kind, write_frame, write_json};
use crate::resample::Converter;
use crate::slice::Recording;

/// Names what decides where the cuts lie: the plan's rules and the voice detector. It changes when they do, so
/// that two splits of one recording can be told apart.
pub const PLAN_VERSION: &str = "1";

/// The rate of all segments, and of the waveform.
pub(crate) const RATE: u32 = Peaks::RATE;

/// Samples of one frame of the plan: what the voice detector takes, 16 ms.
const FRAME: usize = 256;

/// Milliseconds of one frame.
const FRAME_MS: u64 = 16;

/// The cutting plan in milliseconds, rounded to frames of 16 ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanMs {
    /// No cut comes earlier than this after the start of a segment (5 s); only the recording's end does.
    pub min_ms: u64,
    /// No segment is longer (25 s). Among equal pauses the one nearest to the middle of both is cut in (15 s).
    pub max_ms: u64,
    /// The shortest stretch without voice that counts as a pause to cut in (200 ms).
    pub pause_ms: u64,
    /// What is kept of a silent stretch on either side of voice (320 ms).
    pub pad_ms: u64,
    /// The shortest silent stretch that is left out (3 s).
    pub silence_ms: u64,
    /// The detector's score, 0 to 1, from which a frame counts as voice (0.4).
    pub voice_score: f32,
}

impl Default for PlanMs {
    fn default() -> Self {
        Self {
            min_ms: 5_000,
            max_ms: 25_000,
            pause_ms: 200,
            pad_ms: 320,
            silence_ms: 3_000,
            voice_score: 0.4,
        }
    }
}

impl PlanMs {
    /// The plan in frames; `None` if its lengths do not fit together or a segment could exceed 60 s.
    pub(crate) fn frames(&self) -> Option<CutPlan> {
        let plan = CutPlan {
            min: self.min_ms.div_ceil(FRAME_MS),
            max: self.max_ms / FRAME_MS,
            pause: self.pause_ms.div_ceil(FRAME_MS),
            pad: self.pad_ms.div_ceil(FRAME_MS),
            silence: self.silence_ms.div_ceil(FRAME_MS),
        };
        let bounded = self.min_ms <= 60_000 && self.max_ms <= 60_000 && self.pause_ms <= 60_000;
        (bounded && plan.is_sound() && (0.0..=1.0).contains(&self.voice_score)).then_some(plan)
    }
}

/// One segment of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its place among the recording's segments, from 0.
    pub index: u32,
    /// Where it begins in the decoded recording.
    pub start_ms: u64,
    /// Where it ends.
    pub end_ms: u64,
    /// Size of its FLAC file.
    pub bytes: u64,
    /// SHA-256 of its FLAC file.
    pub sha256: [u8; 32],
    /// Whether no pause was found to cut in at its end, so that somebody may be speaking there.
    pub forced_cut: bool,
}

/// What splitting found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReport {
    /// The decoded duration, from counted samples.
    pub duration_ms: u64,
    /// Short name of the codec, such as `opus`.
    pub codec: String,
    /// Short name of the container, such as `matroska`.
    pub container: String,
    /// The recording's own sample rate.
    pub sample_rate: u32,
    /// The recording's own channels.
    pub channels: u32,
    /// Whether the file was damaged or cut short, so that the segments hold less than was once recorded.
    pub truncated: bool,
    /// Stretches without voice that are in no segment, in sum.
    pub silent_ms: u64,
    /// The plan that cut it, [`PLAN_VERSION`].
    pub plan_version: String,
    /// The waveform.
    pub peaks: Peaks,
    /// The segments in order. The parent collects them; on the pipe the list is empty.
    #[serde(default)]
    pub segments: Vec<Segment>,
}

/// Splits the recording and writes segments, then the report.
pub(crate) fn split(
    recording: &Recording,
    plan: &PlanMs,
    limits: &Limits,
    out: &mut impl Write,
) -> Result<(), AudioError> {
    let frames =
        plan.frames().ok_or_else(|| AudioError::Protocol { detail: format!("unsound plan {plan:?}") })?;
    let mut media = Media::open(recording, Wish { rate: Some(RATE), channels: Some(1) })?;
    let mut source = media.source().clone();
    let mut converter = Converter::new(RATE, 1);
    let mut splitter = Splitter::new(frames, plan.voice_score, limits, out);
    let (mut fresh, mut peaks) = (Vec::new(), Peaks::default());
    while let Some(block) = media.read()? {
        if source.sample_rate == 0 {
            source.sample_rate = block.rate;
        }
        converter.push(block.rate, block.samples, &mut fresh)?;
        peaks.push(&fresh);
        splitter.push(&mut fresh)?;
    }
    converter.finish(&mut fresh)?;
    peaks.push(&fresh);
    splitter.push(&mut fresh)?;
    let (samples, silent) = splitter.finish()?;
    if samples == 0 && !recording.is_bare_header(limits.header_bytes)? {
        return Err(AudioError::Corrupt { detail: "not one packet of audio".to_owned() });
    }
    let report = SplitReport {
        duration_ms: ms(samples),
        codec: source.codec,
        container: source.container,
        sample_rate: source.sample_rate,
        channels: source.channels,
        truncated: media.truncated(),
        silent_ms: ms(silent),
        plan_version: PLAN_VERSION.to_owned(),
        peaks,
        segments: Vec::new(),
    };
    write_json(out, Kind::Report, &report).map_err(AudioError::io("answering the parent"))
}

/// Milliseconds of that many samples at [`RATE`]. Cuts lie on whole milliseconds; only the end is rounded up.
fn ms(samples: u64) -> u64 {
    samples.div_ceil(u64::from(RATE) / 1_000)
}

/// Takes samples at 16 kHz and writes segments.
struct Splitter<'a, W> {
    cutter: Cutter,
    detector: Detector,
    voice_score: f32,
    limits: &'a Limits,
    out: &'a mut W,
    /// Samples from `first` on that are not yet in a decided piece.
    samples: Vec<i16>,
    first: u64,
    /// How many of `samples` the detector has seen.
    seen: usize,
    silent: u64,
    segments: u32,
    bytes: u64,
}

impl<'a, W: Write> Splitter<'a, W> {
    fn new(plan: CutPlan, voice_score: f32, limits: &'a Limits, out: &'a mut W) -> Self {
        Self {
            cutter: Cutter::new(plan),
            detector: Detector::default(),
            voice_score,
            limits,
            out,
            samples: Vec::new(),
            first: 0,
            seen: 0,
            silent: 0,
            segments: 0,
            bytes: 0,
        }
    }

    /// Takes all of `fresh`.
    fn push(&mut self, fresh: &mut Vec<i16>) -> Result<(), AudioError> {
        self.samples.append(fresh);
        let total = self.first + self.samples.len() as u64;
        if total > self.limits.decoded_ms.saturating_mul(u64::from(RATE) / 1_000) {
            return Err(AudioError::TooLong { limit_ms: self.limits.decoded_ms });
        }
        while self.samples.len() - self.seen >= FRAME {
            let frame: [i16; FRAME] =
                self.samples[self.seen..self.seen + FRAME].try_into().expect("the length was checked");
            self.frame(&frame)?;
        }
        Ok(())
    }

    fn frame(&mut self, frame: &[i16; FRAME]) -> Result<(), AudioError> {
        self.seen += FRAME;
        let voiced = self.detector.predict_i16(frame) >= self.voice_score;
        let mut pieces = Vec::new();
        self.cutter.push(Frame { voiced, energy: energy(frame) }, &mut |piece| pieces.push(piece));
        for piece in pieces {
            self.piece(piece)?;
        }
        // A long silence is let go of before its end is known, in large steps because the rest has to move.
        let unneeded = self.cutter.needed_from() * FRAME as u64;
        if unneeded.saturating_sub(self.first) > 8 * u64::from(RATE) {
            self.forget(unneeded);
        }
        Ok(())
    }

    fn piece(&mut self, piece: Piece) -> Result<(), AudioError> {
        let total = self.first + self.samples.len() as u64;
        let sample = |frame: u64| (frame * FRAME as u64).min(total);
        match piece {
            Piece::Silence { start, end } => {
                self.silent += sample(end) - sample(start);
                self.forget(sample(end));
            }
            Piece::Segment { start, end, forced_cut } => {
                self.segment(sample(start), sample(end), forced_cut)?;
                self.forget(sample(end));
            }
        }
        Ok(())
    }

    fn segment(&mut self, start: u64, end: u64, forced_cut: bool) -> Result<(), AudioError> {
        if self.segments == self.limits.segments {
            return Err(AudioError::TooManySegments { limit: self.limits.segments });
        }
        let place = |sample: u64| usize::try_from(sample - self.first).expect("the buffer is bounded");
        let flac = flac::encode_all(RATE, 1, &self.samples[place(start)..place(end)]);
        let bytes = flac.len() as u64;
        self.bytes += bytes;
        if self.bytes > self.limits.output_bytes {
            return Err(AudioError::OutputTooLarge { limit: self.limits.output_bytes });
        }
        let sha256 = Sha256::digest(&flac).into();
        let (index, start_ms, end_ms) = (self.segments, ms(start), ms(end));
        let segment = Segment { index, start_ms, end_ms, bytes, sha256, forced_cut };
        self.segments += 1;
        write_json(self.out, Kind::Segment, &segment)
            .and_then(|()| write_frame(self.out, Kind::Audio, &flac))
            .map_err(AudioError::io("answering the parent"))
    }

    /// Lets go of the samples before `sample`.
    fn forget(&mut self, sample: u64) {
        let gone = usize::try_from(sample.saturating_sub(self.first)).expect("the buffer is bounded");
        self.samples.drain(..gone);
        self.first += gone as u64;
        self.seen = self.seen.saturating_sub(gone);
    }

    /// Ends the recording; gives all samples and the silent ones.
    fn finish(mut self) -> Result<(u64, u64), AudioError> {
        let total = self.first + self.samples.len() as u64;
        if self.seen < self.samples.len() {
            let mut last = [0; FRAME];
            let rest = &self.samples[self.seen..];
            last[..rest.len()].copy_from_slice(rest);
            self.frame(&last)?;
        }
        let mut pieces = Vec::new();
        self.cutter.finish(&mut |piece| pieces.push(piece));
        for piece in pieces {
            self.piece(piece)?;
        }
        Ok((total, self.silent))
    }
}

/// The mean square of a frame.
fn energy(frame: &[i16; FRAME]) -> u32 {
    let sum: u64 = frame.iter().map(|sample| u64::from(sample.unsigned_abs()).pow(2)).sum();
    u32::try_from(sum / FRAME as u64).unwrap_or(u32::MAX)
}
