//! A waveform as players draw it: the lowest and the highest sample of each stretch of equal length, a pixel. Written as
//! the JSON, version 2, of BBC's audiowaveform, which peaks.js, wavesurfer and others read.
//!
//! Split makes one of each recording, since it decodes it anyway, and merge puts them together without decoding. A
//! waveform never has more than [`Peaks::PIXELS_MAX`] pixels: each then becomes twice as long.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A waveform, of one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peaks {
    version: u8,
    channels: u8,
    sample_rate: u32,
    samples_per_pixel: u32,
    bits: u8,
    length: usize,
    /// The lowest and the highest sample of each pixel, in turn.
    data: Vec<i8>,
    /// Samples that the last pixel still lacks.
    #[serde(skip)]
    lacks: u32,
}

impl Default for Peaks {
    /// An empty one with the shortest pixels.
    fn default() -> Self {
        Self {
            version: 2,
            channels: 1,
            sample_rate: Self::RATE,
            samples_per_pixel: Self::PIXEL_SAMPLES_MIN,
            bits: 8,
            length: 0,
            data: Vec::new(),
            lacks: 0,
        }
    }
}

impl Peaks {
    /// Samples of a second, the rate at which recordings are split.
    pub const RATE: u32 = 16_000;

    /// Pixels of one waveform, at most: more than a screen is wide.
    pub const PIXELS_MAX: usize = 4_096;

    /// Samples of a pixel, at least: 16 ms.
    pub const PIXEL_SAMPLES_MIN: u32 = 256;

    /// Bytes of the JSON, at most: two numbers of up to five characters a pixel, and the rest.
    pub const JSON_BYTES_MAX: usize = Self::PIXELS_MAX * 10 + 256;

    /// A waveform of silence, of that length in milliseconds.
    #[must_use]
    pub fn flat(duration_ms: i64) -> Self {
        let samples = samples(duration_ms);
        let mut flat = Self::default();
        let pixels = |each: u32| samples.div_ceil(u64::from(each));
        while pixels(flat.samples_per_pixel) > Self::PIXELS_MAX as u64 {
            let Some(twice) = flat.samples_per_pixel.checked_mul(2) else { break };
            flat.samples_per_pixel = twice;
        }
        flat.length = usize::try_from(pixels(flat.samples_per_pixel)).unwrap_or(0).min(Self::PIXELS_MAX);
        flat.data = vec![0; 2 * flat.length];
        flat
    }

    /// Whether it has no pixel.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes the next samples, at [`Peaks::RATE`] and of one channel.
    pub fn push(&mut self, mut samples: &[i16]) {
        while !samples.is_empty() {
            if self.lacks == 0 {
                self.begin_pixel();
            }
            let (now, later) = samples.split_at(samples.len().min(self.lacks as usize));
            self.lacks -= u32::try_from(now.len()).expect("no more than a pixel lacks");
            let extremes = now.iter().min().zip(now.iter().max());
            if let Some((low, high)) = extremes {
                self.widen(self.length - 1, high_byte(*low), high_byte(*high));
            }
            samples = later;
        }
    }

    /// Draws another over this one, from a place on for a length, both in milliseconds; what lies beyond the end is left out.
    pub fn lay(&mut self, offset_ms: i64, duration_ms: i64, other: &Self) {
        let (each, others) = (u64::from(self.samples_per_pixel), u64::from(other.samples_per_pixel));
        let start = samples(offset_ms);
        let end = start.saturating_add(samples(duration_ms));
        for (index, pair) in other.data.chunks_exact(2).enumerate() {
            let from = start.saturating_add(index as u64 * others);
            let to = from.saturating_add(others).min(end);
            for pixel in from / each..to.div_ceil(each).min(self.length as u64) {
                self.widen(usize::try_from(pixel).unwrap_or(usize::MAX), pair[0], pair[1]);
            }
        }
    }

    /// As JSON.
    ///
    /// # Panics
    /// Never: all of it are numbers.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).expect("numbers are JSON").into()
    }

    /// Of JSON that [`to_json`](Self::to_json) wrote; `None` where it is none.
    #[must_use]
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let peaks: Self = serde_json::from_slice(json).ok()?;
        let sound = peaks.data.len() == 2 * peaks.length
            && peaks.length <= Self::PIXELS_MAX
            && peaks.samples_per_pixel >= Self::PIXEL_SAMPLES_MIN
            && (peaks.version, peaks.channels, peaks.sample_rate, peaks.bits) == (2, 1, Self::RATE, 8);
        sound.then_some(peaks)
    }

    fn begin_pixel(&mut self) {
        if self.length == Self::PIXELS_MAX {
            self.halve();
        }
        self.lacks = self.samples_per_pixel;
        self.length += 1;
        // The reverse of any sample's range: the first one sets both.
        self.data.extend([i8::MAX, i8::MIN]);
    }

    /// Makes one pixel of two neighbours.
    fn halve(&mut self) {
        let pairs = self.data.chunks_exact(4).flat_map(|pair| [pair[0].min(pair[2]), pair[1].max(pair[3])]);
        self.data = pairs.collect();
        self.length /= 2;
        self.samples_per_pixel *= 2;
    }

    fn widen(&mut self, pixel: usize, low: i8, high: i8) {
        if let Some([lowest, highest]) = self.data.get_mut(2 * pixel..2 * pixel + 2) {
            (*lowest, *highest) = ((*lowest).min(low), (*highest).max(high));
        }
    }
}

/// The eight bits that a waveform shows of sixteen.
fn high_byte(sample: i16) -> i8 {
    sample.to_be_bytes()[0].cast_signed()
}

fn samples(time_ms: i64) -> u64 {
    u64::try_from(time_ms).unwrap_or(0).saturating_mul(u64::from(Peaks::RATE) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: impl IntoIterator<Item = i16>) -> Peaks {
        let mut peaks = Peaks::default();
        for sample in samples {
            peaks.push(&[sample]);
        }
        peaks
    }

    /// What is drawn, without what is still lacking.
    fn drawn(peaks: &Peaks) -> (u32, Vec<i8>) {
        let again = Peaks::from_json(&peaks.to_json()).expect("what was written is read");
        (again.samples_per_pixel, again.data)
    }

    #[test]
    fn a_pixel_is_the_lowest_and_the_highest_sample() {
        let mut peaks = Peaks::default();
        let one: Vec<i16> = (0..256).map(|index| if index == 9 { i16::MIN } else { 256 }).collect();
        peaks.push(&one);
        peaks.push(&[i16::MAX, -1]);
        assert_eq!(drawn(&peaks), (256, vec![-128, 1, -1, 127]));
        let json: serde_json::Value = serde_json::from_slice(&peaks.to_json()).expect("JSON");
        let expected = serde_json::json!({
            "version": 2, "channels": 1, "sample_rate": 16_000, "samples_per_pixel": 256, "bits": 8, "length": 2,
            "data": [-128, 1, -1, 127],
        });
        assert_eq!(json, expected);
        assert!(Peaks::default().is_empty() && !peaks.is_empty());
    }

    #[test]
    fn however_long_it_is_the_pixels_are_bounded() {
        let full = Peaks::PIXELS_MAX * 256;
        let steps = |count: usize| of((0..count).map(|at| i16::try_from(at % 100).expect("small") << 8));
        assert_eq!((steps(full).length, steps(full).samples_per_pixel), (Peaks::PIXELS_MAX, 256));
        let longer = steps(full + 1);
        assert_eq!((longer.length, longer.samples_per_pixel), (Peaks::PIXELS_MAX / 2 + 1, 512));
        assert_eq!(&longer.data[..2], [0, 99]);
        let twice = (0..2 * full).map(|at| if at < full { -256 } else { 512 });
        let twice = of(twice);
        assert_eq!((twice.length, twice.samples_per_pixel), (Peaks::PIXELS_MAX, 512));
        let middle = Peaks::PIXELS_MAX;
        assert_eq!(&twice.data[middle - 2..middle + 2], [-1, -1, 2, 2]);
        let worst = Peaks { length: Peaks::PIXELS_MAX, data: vec![-128; 2 * Peaks::PIXELS_MAX], ..twice };
        assert!(worst.to_json().len() <= Peaks::JSON_BYTES_MAX, "{}", worst.to_json().len());
        assert!(Peaks::from_json(&worst.to_json()).is_some());
    }

    #[test]
    fn waveforms_are_laid_where_their_sound_is() {
        let mut merged = Peaks::flat(160);
        assert_eq!((merged.length, merged.samples_per_pixel), (10, 256));
        let loud = of([25_600; 512]);
        merged.lay(32, 32, &loud);
        merged.lay(136, 32, &of([-25_600; 512]));
        let highs: Vec<i8> = merged.data.chunks(2).map(|pair| pair[1]).collect();
        let lows: Vec<i8> = merged.data.chunks(2).map(|pair| pair[0]).collect();
        assert_eq!(highs, [0, 0, 100, 100, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lows, [0, 0, 0, 0, 0, 0, 0, 0, -100, -100], "half a pixel counts, and the end is the end");
        // A merge took less of the recording than split did.
        let mut shorter = Peaks::flat(160);
        shorter.lay(0, 16, &loud);
        assert_eq!(shorter.data.iter().filter(|value| **value != 0).count(), 1);
    }

    #[test]
    fn a_coarser_or_a_finer_waveform_fits_in() {
        let hours = Peaks::flat(20 * 3_600_000);
        assert!(hours.length <= Peaks::PIXELS_MAX && hours.length > Peaks::PIXELS_MAX / 2);
        let mut finer = Peaks::flat(1_000);
        let coarser = Peaks { samples_per_pixel: 16_384, length: 1, data: vec![-3, 3], ..Peaks::default() };
        finer.lay(0, 1_000, &coarser);
        assert!(finer.data.chunks(2).all(|pair| pair == [-3, 3]), "{:?}", finer.data);
        let mut coarse = Peaks { samples_per_pixel: 16_384, length: 1, data: vec![0; 2], ..Peaks::default() };
        coarse.lay(0, 1_000, &of((0..1_024).map(|at| if at == 700 { 5 << 8 } else { 0 })));
        assert_eq!(coarse.data, [0, 5]);
        for time in [i64::MIN, -1, 0] {
            assert!(Peaks::flat(time).is_empty());
        }
        assert_eq!(Peaks::flat(i64::MAX).length, Peaks::PIXELS_MAX);
        let mut peaks = Peaks::flat(10);
        peaks.lay(i64::MAX, i64::MAX, &coarser);
        assert_eq!(peaks.data, [0, 0]);
    }

    #[test]
    fn what_is_no_waveform_is_none() {
        let good = String::from_utf8(of([0; 300]).to_json().to_vec()).expect("text");
        assert!(Peaks::from_json(good.as_bytes()).is_some());
        for (from, to) in [
            ("\"length\":2", "\"length\":3"),
            ("\"version\":2", "\"version\":1"),
            ("\"bits\":8", "\"bits\":16"),
            ("\"channels\":1", "\"channels\":2"),
            ("16000", "0"),
            ("256", "0"),
            ("[0,", "[1000,"),
            ("{", ""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(Peaks::from_json(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
