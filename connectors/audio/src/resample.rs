//! Brings decoded samples to one rate and to 16 bits, streaming and without delay: the output begins with the
//! first input sample and has exactly the input's duration.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler};

use crate::error::AudioError;

/// Frames that one step of the resampler takes, at least.
const STEP: usize = 1_024;

/// Converts a stream of blocks whose rate may change between them.
pub(crate) struct Converter {
    rate: u32,
    channels: usize,
    inner: Option<Inner>,
}

/// The resampler for one input rate.
struct Inner {
    from: u32,
    resampler: Fft<f32>,
    pending: Vec<f32>,
    scratch: Vec<f32>,
    /// Output frames still to drop: the resampler's delay.
    skip: usize,
    frames_in: u64,
    frames_out: u64,
}

impl Converter {
    /// A converter to `rate`, for interleaved samples of that many channels.
    pub(crate) fn new(rate: u32, channels: u8) -> Self {
        Self { rate, channels: usize::from(channels), inner: None }
    }

    /// Takes a block at `from` Hz and appends what is ready to `out`.
    pub(crate) fn push(&mut self, from: u32, samples: &[f32], out: &mut Vec<i16>) -> Result<(), AudioError> {
        if self.inner.as_ref().is_some_and(|inner| inner.from != from) {
            self.finish(out)?;
        }
        if from == self.rate {
            out.extend(samples.iter().map(|sample| to_i16(*sample)));
            return Ok(());
        }
        let inner = match &mut self.inner {
            Some(inner) => inner,
            none => none.insert(Inner::new(from, self.rate, self.channels)?),
        };
        inner.pending.extend_from_slice(samples);
        inner.frames_in += (samples.len() / self.channels) as u64;
        inner.drain(self.channels, out)
    }

    /// Appends what is still held back.
    pub(crate) fn finish(&mut self, out: &mut Vec<i16>) -> Result<(), AudioError> {
        let Some(mut inner) = self.inner.take() else { return Ok(()) };
        let due = (u128::from(inner.frames_in) * u128::from(self.rate)).div_ceil(u128::from(inner.from));
        let due = u64::try_from(due).map_err(|_| defect("the recording is too long"))?;
        while inner.frames_out < due {
            // Silence pushes the last samples out of the resampler.
            let step = inner.resampler.input_frames_next() * self.channels;
            let missing = step.saturating_sub(inner.pending.len());
            inner.pending.extend(std::iter::repeat_n(0.0, missing));
            let before = out.len();
            inner.drain(self.channels, out)?;
            if inner.frames_out > due {
                let excess = usize::try_from(inner.frames_out - due).map_err(|_| defect("too much came"))?;
                out.truncate(out.len().saturating_sub(excess * self.channels).max(before));
            }
        }
        Ok(())
    }
}

impl Inner {
    fn new(from: u32, to: u32, channels: usize) -> Result<Self, AudioError> {
        // A power of two times the shortest step keeps large primes out of the transform's size, which would make
        // it slow.
        let shortest = from as usize / greatest_divisor(from, to) as usize;
        let step = shortest * STEP.div_ceil(shortest).next_power_of_two();
        let resampler = Fft::new_custom(
            from as usize,
            to as usize,
            step,
            1,
            channels,
            rubato::WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .map_err(|cause| defect(&cause.to_string()))?;
        let scratch = vec![0.0; resampler.output_frames_max() * channels];
        let skip = resampler.output_delay();
        Ok(Self { from, resampler, pending: Vec::new(), scratch, skip, frames_in: 0, frames_out: 0 })
    }

    fn drain(&mut self, channels: usize, out: &mut Vec<i16>) -> Result<(), AudioError> {
        let frames = self.pending.len() / channels;
        let mut indexing = Indexing::new();
        while frames - indexing.input_offset >= self.resampler.input_frames_next() {
            let room = self.scratch.len() / channels;
            let input = InterleavedSlice::new(&self.pending, channels, frames)
                .map_err(|cause| defect(&cause.to_string()))?;
            let mut output = InterleavedSlice::new_mut(&mut self.scratch, channels, room)
                .map_err(|cause| defect(&cause.to_string()))?;
            let (taken, given) = self
                .resampler
                .process_into_buffer(&input, &mut output, Some(&indexing))
                .map_err(|cause| defect(&cause.to_string()))?;
            indexing.input_offset += taken;
            let dropped = self.skip.min(given);
            self.skip -= dropped;
            self.frames_out += (given - dropped) as u64;
            let ready = &self.scratch[dropped * channels..given * channels];
            out.extend(ready.iter().map(|sample| to_i16(*sample)));
        }
        self.pending.drain(..indexing.input_offset * channels);
        Ok(())
    }
}

/// The nearest of 16 bits, halves to even. A number of 24 bits has no room for a fraction beside 1.5 * 2^23, so that the
/// sum is rounded and its low bits are the result: a cast would be checked one by one, this is done for many at once. What is
/// no number gives any; none comes here, since samples are cleaned of them when they are mixed.
#[expect(clippy::cast_possible_truncation)] // The low bits are wanted.
pub(crate) fn to_i16(sample: f32) -> i16 {
    const NO_FRACTION: f32 = 12_582_912.0;
    let scaled = (sample * 32_768.0).clamp(f32::from(i16::MIN), f32::from(i16::MAX));
    (scaled + NO_FRACTION).to_bits() as i16
}

fn greatest_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn defect(detail: &str) -> AudioError {
    AudioError::DecodeCrashed { detail: format!("resampler: {detail}") }
}
