//! What of AAC is not AAC-LC (ISO/IEC 14496-3). HE-AAC is AAC-LC at half the rate with a second half in a side channel
//! (spectral band replication, SBR), which our decoder passes over: the sound would lose all above a quarter of its rate,
//! and nobody would know. It is refused, whichever way it is signalled.

/// Packets that are looked at for SBR that nothing announces.
pub(crate) const SBR_PACKETS: usize = 32;

/// Different packets that must all carry it: one in seventy looks as if it did.
const SBR_LEAST: usize = 3;

/// Of the `AudioSpecificConfig` (1.6.2.1), the name of what is not AAC-LC of one or two channels in packets of 1,024
/// samples.
pub(crate) fn refusal(config: &[u8]) -> Option<String> {
    let mut bits = Bits { bytes: config, at: 0 };
    let object = bits.object_type()?;
    let name = match object {
        2 => None,
        1 => Some("aac-main"),
        3 => Some("aac-ssr"),
        4 => Some("aac-ltp"),
        5 => Some("he-aac"),
        29 => Some("he-aac v2"),
        23 => Some("aac-ld"),
        39 => Some("aac-eld"),
        42 => Some("xhe-aac"),
        _ => return Some(format!("mpeg-4 audio object type {object}")),
    };
    if let Some(name) = name {
        return Some(name.to_owned());
    }
    if bits.take(4)? == 15 {
        bits.take(24)?;
    }
    let channels = bits.take(4)?;
    let (short, core) = (bits.take(1)?, bits.take(1)?);
    if core == 1 {
        bits.take(14)?;
    }
    bits.take(1)?;
    if !(1..=2).contains(&channels) {
        return Some(format!("aac-lc in channel configuration {channels}"));
    }
    if short == 1 {
        return Some("aac-lc in packets of 960 samples".to_owned());
    }
    // SBR that is announced behind what an older decoder reads (1.6.6.1).
    let announced = bits.take(11) == Some(0x2b7) && bits.object_type() == Some(5) && bits.take(1) == Some(1);
    announced.then(|| "he-aac".to_owned())
}

/// The profile in an ADTS head (1.A.3.2), where it is none that is decoded.
pub(crate) fn adts_refusal(head: &[u8]) -> Option<&'static str> {
    let [0xff, second, third, ..] = head else { return None };
    let is_adts = second & 0xf6 == 0xf0;
    match third >> 6 {
        _ if !is_adts => None,
        0 => Some("aac-main"),
        2 => Some("aac-ssr"),
        3 => Some("aac-ltp"),
        _ => None,
    }
}

/// Whether a stream's first packets carry SBR, which ADTS cannot announce and others need not. Each packet of such a stream
/// carries it; packets like the one before say nothing more.
pub(crate) fn carry_sbr<'a>(packets: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut before, mut seen) = (&[][..], 0);
    for packet in packets {
        if packet != before {
            if !carries_sbr(packet) {
                return false;
            }
            seen += 1;
        }
        before = packet;
    }
    seen >= SBR_LEAST
}

/// Whether a packet ends as SBR data does: with a filling element of that type (4.5.2.8.2), maybe another one of mere
/// filling, and the end's mark. Read from the end, since only a decoder can find the place from the start.
fn carries_sbr(packet: &[u8]) -> bool {
    let Some(last) = packet.iter().rposition(|byte| *byte != 0) else { return false };
    let end = 8 * (last + 1) - packet[last].trailing_zeros() as usize;
    let Some(mut end) = end.checked_sub(3) else { return false };
    if (Bits { bytes: packet, at: end }).take(3) != Some(7) {
        return false;
    }
    while let Some((start, kind)) = filling(packet, end) {
        match kind {
            13 | 14 => return true,
            _ => end = start,
        }
    }
    false
}

/// The filling element that ends at bit `end`: where it begins, and the type of what it holds, 0 for nothing.
fn filling(packet: &[u8], end: usize) -> Option<(usize, u32)> {
    const ELEMENT: u32 = 6;
    let at = |at: usize| Bits { bytes: packet, at };
    // The fewest bytes first, that is, the likeliest; 269 are the most (4.4.2.7).
    (0..=269_usize).find_map(|count| {
        let (head, escaped) = if count < 15 { (7, false) } else { (15, true) };
        let start = end.checked_sub(8 * count + head)?;
        let mut bits = at(start);
        let stated = (bits.take(3)? == ELEMENT).then(|| bits.take(4))??;
        let fits = if escaped {
            stated == 15 && bits.take(8)? as usize + 14 == count
        } else {
            stated as usize == count
        };
        let kind = if count == 0 { Some(0) } else { bits.take(4) };
        // SBR, or filling: nothing, zeros, or the fixed pattern.
        kind.filter(|kind| fits && [0, 1, 13, 14].contains(kind)).map(|kind| (start, kind))
    })
}

/// Reads bits, the highest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next bits, at most 32, as a number; `None` where there are fewer.
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for at in self.at..self.at + count {
            let bit = self.bytes.get(at / 8)? >> (7 - at % 8) & 1;
            value = value << 1 | u32::from(bit);
        }
        self.at += count;
        Some(value)
    }

    fn object_type(&mut self) -> Option<u32> {
        match self.take(5)? {
            31 => Some(32 + self.take(6)?),
            object => Some(object),
        }
    }
}
