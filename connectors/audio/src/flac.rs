//! A FLAC encoder (RFC 9639) for 16-bit audio: fixed predictors and Rice codes only, which is nearly as small as
//! linear prediction for speech and several times faster.
#![expect(clippy::cast_possible_truncation)] // Bits are cut out of wider words all over this file.

use crc::{CRC_8_SMBUS, CRC_16_UMTS, Crc, Table};

/// The checksum of a frame's header (RFC 9639, 9.1.8).
static HEADER_CRC: Crc<u8> = Crc::<u8>::new(&CRC_8_SMBUS);

/// The checksum of a frame (RFC 9639, 9.3).
static FRAME_CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_UMTS);

/// Samples per channel of one block.
pub(crate) const BLOCK: usize = 4_096;

/// Bytes before the first frame: the marker and one STREAMINFO block.
pub(crate) const HEADER_BYTES: usize = 42;

/// A Rice code of this parameter or more would need the longer parameters, which 16-bit audio never does.
const RICE_MAX: u32 = 14;

/// What STREAMINFO says of the whole stream; unknown until its end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Samples per channel; 0 means unknown.
    pub(crate) samples: u64,
    /// Bytes of the smallest and of the largest frame; 0 means unknown.
    pub(crate) frame_bytes: (u32, u32),
}

/// Encodes interleaved blocks into frames.
pub(crate) struct FlacEncoder {
    rate: u32,
    channels: u8,
    frames: u64,
    totals: Totals,
    bits: BitWriter,
    channel: Vec<i32>,
    residual: Vec<u32>,
}

impl FlacEncoder {
    /// An encoder for one or two channels.
    pub(crate) fn new(rate: u32, channels: u8) -> Self {
        let (bits, channel) = (BitWriter::default(), Vec::with_capacity(BLOCK));
        let (totals, residual) = (Totals::default(), Vec::with_capacity(BLOCK));
        Self { rate, channels, frames: 0, totals, bits, channel, residual }
    }

    /// The totals of what was encoded so far.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// The stream's header. The MD5 of the samples is left out, as the format allows.
    pub(crate) fn header(rate: u32, channels: u8, totals: Totals) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(b"fLaC\x80\x00\x00\x22");
        bytes[8..10].copy_from_slice(&(BLOCK as u16).to_be_bytes());
        bytes[10..12].copy_from_slice(&(BLOCK as u16).to_be_bytes());
        bytes[12..15].copy_from_slice(&totals.frame_bytes.0.to_be_bytes()[1..]);
        bytes[15..18].copy_from_slice(&totals.frame_bytes.1.to_be_bytes()[1..]);
        // 20 bits of rate, 3 of channels less one, 5 of bits less one, 36 of samples.
        let samples = if totals.samples < 1 << 36 { totals.samples } else { 0 };
        let packed = u64::from(rate) << 44 | u64::from(channels - 1) << 41 | 15 << 36 | samples;
        bytes[18..26].copy_from_slice(&packed.to_be_bytes());
        bytes
    }

    /// Encodes one block of at most [`BLOCK`] samples per channel and appends the frame. Only the last block of a
    /// stream may be shorter.
    pub(crate) fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) {
        let channels = usize::from(self.channels);
        let length = samples.len() / channels;
        assert!((1..=BLOCK).contains(&length), "a block of {length} samples");
        self.bits.clear();
        self.frame_header(length);
        for index in 0..channels {
            self.channel.clear();
            match channels {
                1 => self.channel.extend(samples.iter().map(|sample| i32::from(*sample))),
                _ => self.channel.extend(samples.chunks_exact(channels).map(|all| i32::from(all[index]))),
            }
            subframe(&self.channel, &mut self.residual, &mut self.bits);
        }
        self.bits.align();
        let crc = FRAME_CRC.checksum(&self.bits.bytes);
        self.bits.put(u32::from(crc), 16);
        self.bits.align();
        out.extend_from_slice(&self.bits.bytes);
        let bytes = u32::try_from(self.bits.bytes.len()).unwrap_or(0);
        let (least, most) = self.totals.frame_bytes;
        let least = if self.frames == 0 { bytes } else { least.min(bytes) };
        self.totals =
            Totals { samples: self.totals.samples + length as u64, frame_bytes: (least, most.max(bytes)) };
        self.frames += 1;
    }

    fn frame_header(&mut self, length: usize) {
        let rate_code = match self.rate {
            8_000 => 4,
            16_000 => 5,
            22_050 => 6,
            24_000 => 7,
            32_000 => 8,
            44_100 => 9,
            48_000 => 10,
            96_000 => 11,
            _ => 0,
        };
        let full = length == BLOCK;
        self.bits.put(0xfff8, 16);
        self.bits.put(if full { 12 } else { 7 }, 4);
        self.bits.put(rate_code, 4);
        self.bits.put(u32::from(self.channels - 1), 4);
        self.bits.put(4 << 1, 4);
        self.coded_number(self.frames);
        if !full {
            self.bits.put(length as u32 - 1, 16);
        }
        self.bits.align();
        let crc = HEADER_CRC.checksum(&self.bits.bytes);
        self.bits.put(u32::from(crc), 8);
    }

    /// A number in the extended UTF-8 of RFC 9639, 9.1.5.
    fn coded_number(&mut self, number: u64) {
        if number < 0x80 {
            self.bits.put(number as u32, 8);
            return;
        }
        let mut following = 1;
        while number >> (6 * following + 6 - following) != 0 {
            following += 1;
        }
        let mark = 0xff00_u32 >> (following + 1) & 0xff;
        self.bits.put(mark | (number >> (6 * following)) as u32, 8);
        for index in (0..following).rev() {
            self.bits.put(0x80 | (number >> (6 * index)) as u32 & 0x3f, 8);
        }
    }
}

/// Writes one channel as a constant, as residuals of the best fixed predictor, or verbatim.
fn subframe(samples: &[i32], residual: &mut Vec<u32>, bits: &mut BitWriter) {
    if samples.iter().all(|sample| *sample == samples[0]) {
        bits.put(0, 8);
        bits.put_signed(samples[0], 16);
        return;
    }
    let order = best_order(samples);
    residuals(samples, order, residual);
    let partitions = partition_order(samples.len(), order);
    let start = bits.length();
    bits.put((8 | order as u32) << 1, 8);
    for sample in &samples[..order] {
        bits.put_signed(*sample, 16);
    }
    bits.put(partitions, 6);
    let length = samples.len() >> partitions;
    let mut from = 0;
    for partition in 0..1_usize << partitions {
        let to = (partition + 1) * length - order;
        rice(&residual[from..to], bits);
        from = to;
    }
    if bits.length() - start > 8 + 16 * samples.len() {
        bits.truncate(start);
        bits.put(1 << 1, 8);
        for sample in samples {
            bits.put_signed(*sample, 16);
        }
    }
}

/// The fixed predictor whose residuals are smallest. No sum overflows: a residual has at most 20 bits, and a block
/// at most 2^12 of them. Wrapping arithmetic lets the compiler use vectors here even where overflow is checked.
fn best_order(samples: &[i32]) -> usize {
    if samples.len() < 8 {
        return 0;
    }
    let mut sums = [0_u32; 5];
    for window in samples.windows(5) {
        let [e, d, c, b, a] = [window[0], window[1], window[2], window[3], window[4]];
        let (ab, bc, cd, de) = (a.wrapping_sub(b), b.wrapping_sub(c), c.wrapping_sub(d), d.wrapping_sub(e));
        let (abc, bcd, cde) = (ab.wrapping_sub(bc), bc.wrapping_sub(cd), cd.wrapping_sub(de));
        let (third, fourth) =
            (abc.wrapping_sub(bcd), abc.wrapping_sub(bcd).wrapping_sub(bcd.wrapping_sub(cde)));
        sums[0] = sums[0].wrapping_add(a.unsigned_abs());
        sums[1] = sums[1].wrapping_add(ab.unsigned_abs());
        sums[2] = sums[2].wrapping_add(abc.unsigned_abs());
        sums[3] = sums[3].wrapping_add(third.unsigned_abs());
        sums[4] = sums[4].wrapping_add(fourth.unsigned_abs());
    }
    (0..5).min_by_key(|order| sums[*order]).unwrap_or(0)
}

/// What the predictor leaves, folded to unsigned.
fn residuals(samples: &[i32], order: usize, out: &mut Vec<u32>) {
    let first = |w: &[i32]| w[1].wrapping_sub(w[0]);
    let second = |w: &[i32]| first(&w[1..]).wrapping_sub(first(w));
    let third = |w: &[i32]| second(&w[1..]).wrapping_sub(second(w));
    let fourth = |w: &[i32]| third(&w[1..]).wrapping_sub(third(w));
    out.clear();
    match order {
        0 => out.extend(samples.iter().map(|sample| fold(*sample))),
        1 => out.extend(samples.windows(2).map(|w| fold(first(w)))),
        2 => out.extend(samples.windows(3).map(|w| fold(second(w)))),
        3 => out.extend(samples.windows(4).map(|w| fold(third(w)))),
        _ => out.extend(samples.windows(5).map(|w| fold(fourth(w)))),
    }
}

/// As many partitions as divide the block, up to 16, each longer than the predictor.
fn partition_order(length: usize, order: usize) -> u32 {
    (0..=4).rev().find(|p| length.is_multiple_of(1 << p) && length >> p > order).unwrap_or(0)
}

/// One partition: its parameter and its residuals.
fn rice(residual: &[u32], bits: &mut BitWriter) {
    let sum: u64 = residual.iter().map(|value| u64::from(*value)).sum();
    let mean = sum / (residual.len() as u64).max(1);
    let parameter = mean.checked_ilog2().unwrap_or(0).min(RICE_MAX);
    bits.put(parameter, 4);
    let (stop, low) = (1 << parameter, (1 << parameter) - 1);
    for value in residual {
        let zeros = value >> parameter;
        let rest = stop | value & low;
        if zeros <= 31 - parameter {
            bits.put(rest, zeros + parameter + 1);
        } else {
            bits.put_zeros(zeros);
            bits.put(rest, parameter + 1);
        }
    }
}

/// 0, -1, 1, -2, 2 … become 0, 1, 2, 3, 4 …
fn fold(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

/// Bits, most significant first.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    /// How many of the low bits of `pending` are not yet in `bytes`; below 32 between calls.
    count: u32,
}

impl BitWriter {
    fn clear(&mut self) {
        self.bytes.clear();
        (self.pending, self.count) = (0, 0);
    }

    /// Appends the low `count` bits, of at most 32, of a value that has no others.
    fn put(&mut self, value: u32, count: u32) {
        self.pending = self.pending << count | u64::from(value);
        self.count += count;
        if self.count >= 32 {
            self.count -= 32;
            let word = (self.pending >> self.count) as u32;
            self.bytes.extend_from_slice(&word.to_be_bytes());
            self.pending &= (1 << self.count) - 1;
        }
    }

    fn put_signed(&mut self, value: i32, count: u32) {
        self.put(value.cast_unsigned() & ((1 << count) - 1), count);
    }

    fn put_zeros(&mut self, mut count: u32) {
        while count > 31 {
            self.put(0, 31);
            count -= 31;
        }
        self.put(0, count);
    }

    /// Fills the last byte with zeros and writes all of it.
    fn align(&mut self) {
        self.put(0, self.count.wrapping_neg() % 8);
        while self.count > 0 {
            self.count -= 8;
            self.bytes.push((self.pending >> self.count) as u8);
        }
        self.pending = 0;
    }

    fn length(&self) -> usize {
        self.bytes.len() * 8 + self.count as usize
    }

    /// Takes back everything after bit `length`.
    fn truncate(&mut self, length: usize) {
        let whole = length / 8;
        self.align();
        let last = self.bytes.get(whole).copied().unwrap_or(0);
        self.bytes.truncate(whole);
        self.count = (length % 8) as u32;
        self.pending = u64::from(last) >> (8 - self.count);
    }
}

/// A whole stream in memory, for short pieces.
pub(crate) fn encode_all(rate: u32, channels: u8, samples: &[i16]) -> Vec<u8> {
    let mut encoder = FlacEncoder::new(rate, channels);
    let mut out = FlacEncoder::header(rate, channels, Totals::default()).to_vec();
    for block in samples.chunks(BLOCK * usize::from(channels)) {
        encoder.encode(block, &mut out);
    }
    out[..HEADER_BYTES].copy_from_slice(&FlacEncoder::header(rate, channels, encoder.totals()));
    out
}
