//! MPEG audio (ISO/IEC 11172-3, 13818-3), which has no end that it states: whether its last frame is cut in two.

use std::io;

use super::Outline;
use crate::source::Part;

/// Bytes at the end that are looked at: room for several of the longest frames, which have 2,881 bytes.
const TAIL: u64 = 1 << 14;

/// Bits of a frame's head in which two frames of one stream agree: version, layer and sample rate.
const ALIKE: u32 = 0xfffe_0c00;

pub(crate) fn outline(file: &Part) -> io::Result<Outline> {
    let length = file.length();
    let place = length.saturating_sub(TAIL);
    let mut tail = vec![0; usize::try_from(length - place).unwrap_or(0)];
    let there = file.read_at(&mut tail, place)?;
    Ok(Outline { cut_short: there && ends_in_a_frame(&tail), ..Outline::default() })
}

/// Whether a frame that follows upon another one like it lasts longer than the bytes.
fn ends_in_a_frame(tail: &[u8]) -> bool {
    (0..tail.len()).any(|at| {
        let Some((head, bytes)) = frame(&tail[at..]) else { return false };
        let Some(rest) = tail.get(at + bytes..) else { return false };
        frame(rest).is_some_and(|(other, bytes)| (other ^ head) & ALIKE == 0 && bytes > rest.len())
    })
}

/// The head of the frame of layer III that begins here, and how many bytes it has.
fn frame(bytes: &[u8]) -> Option<(u32, usize)> {
    const KBITS_1: [usize; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const KBITS_2: [usize; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    const RATES: [usize; 3] = [44_100, 48_000, 32_000];
    let head = u32::from_be_bytes(*bytes.first_chunk()?);
    let bits = |from: u32, count: u32| (head >> from & ((1 << count) - 1)) as usize;
    let (version, layer, padding) = (bits(19, 2), bits(17, 2), bits(9, 1));
    // Free bit rates, which have no length, are left out.
    let index = bits(12, 4).checked_sub(1)?;
    let (kbits, slots, halved) = match version {
        3 => (KBITS_1, 144, 0),
        2 => (KBITS_2, 72, 1),
        0 => (KBITS_2, 72, 2),
        _ => return None,
    };
    let rate = RATES.get(bits(10, 2))? >> halved;
    let is_layer_3 = head >> 21 == 0x7ff && layer == 1;
    is_layer_3.then_some((head, slots * 1_000 * kbits.get(index)? / rate + padding))
}
