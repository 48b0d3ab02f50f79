//! AAC-LC as it is copied from one container into another, without decoding: its parameters, how a packet begins, and
//! silence.

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_AAC;

/// Samples per channel of one packet (ISO/IEC 14496-3, 4.5.1.1; the form with 960 is not decoded).
pub(crate) const AAC_FRAME: u64 = 1_024;

/// The sampling rates that have an index (ISO/IEC 14496-3, 1.6.3.4).
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// What a decoder has to know of an AAC-LC stream of one or two channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AacConfig {
    rate_index: u8,
    pub(crate) channels: u8,
}

impl AacConfig {
    /// A stream of that rate in hertz; `None` where the rate has no index, or the channels are neither one nor two.
    pub(crate) fn new(sample_rate: u32, channels: u8) -> Option<Self> {
        let index = RATES.iter().position(|rate| *rate == sample_rate)?;
        let rate_index = u8::try_from(index).ok().filter(|_| (1..=2).contains(&channels))?;
        Some(Self { rate_index, channels })
    }

    /// Of a decoder's parameters; `None` where it decodes something else. The decoder refuses all of AAC but LC with
    /// packets of 1,024 samples, so rate and channels tell the rest.
    pub(crate) fn of(parameters: &AudioCodecParameters) -> Option<Self> {
        let channels = parameters.channels.as_ref().filter(|_| parameters.codec == CODEC_ID_AAC)?.count();
        Self::new(parameters.sample_rate?, u8::try_from(channels).ok()?)
    }

    /// The rate in hertz.
    pub(crate) fn sample_rate(self) -> u32 {
        RATES[usize::from(self.rate_index)]
    }

    /// The `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1): object type 2 in five bits, the rate's index and the channels
    /// in four each.
    pub(crate) fn specific(self) -> [u8; 2] {
        [2 << 3 | self.rate_index >> 1, self.rate_index << 7 | self.channels << 3]
    }

    /// Whether the bytes begin as a packet of such a stream does (ISO/IEC 14496-3, 4.4.2.1): with the element of its
    /// channels, or with data or filling before it. More than 65,535 bytes only filling could bring about.
    pub(crate) fn begins(self, packet: &[u8]) -> bool {
        let (single, pair, data, filling) = (0, 1, 4, 6);
        let element = if self.channels == 1 { single } else { pair };
        let id = packet.first().map(|first| first >> 5);
        packet.len() <= usize::from(u16::MAX) && id.is_some_and(|id| [element, data, filling].contains(&id))
    }

    /// A packet of silence: one scale factor band without a coefficient, in each channel.
    pub(crate) fn silence(self) -> &'static [u8] {
        match self.channels {
            1 => &[0x00, 0xc8, 0x00, 0x80, 0x23, 0x80],
            _ => &[0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80],
        }
    }
}
