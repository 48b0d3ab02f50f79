//! A recording's packets as they stand in it, for merged files that take them without decoding.

use symphonia::core::packet::Packet;

use super::{Codec, Media};
use crate::aac::{AAC_FRAME, AacConfig};
use crate::error::AudioError;
use crate::opus::{OPUS_RATE, packet_samples};
use crate::protocol::{Copied, Packets, Shape};

/// A packet as it stands in the recording, or what stands in for a damaged one.
#[derive(Debug)]
pub(crate) struct CopiedPacket {
    pub(crate) bytes: Box<[u8]>,
    /// Samples per channel: of Opus at 48 kHz, of AAC at its own rate.
    pub(crate) samples: u64,
    /// How many of them, at the end, are only padding.
    pub(crate) padding: u64,
}

/// Samples per channel that are taken for the delay of an encoder of AAC, at most; those known have 1,024 to 2,112. Where
/// more is to be dropped, the beginning of the sound was cut off.
const AAC_DELAY_MAX: u16 = 4_096;

/// What packets are, with what is needed to tell a damaged one.
#[derive(Clone, Copy)]
enum Stream {
    Opus { channels: u8, pre_skip: u16 },
    Aac(AacConfig),
}

impl Media {
    /// What the packets are, where they can stand in a file with others of their kind. To be asked before the first of them
    /// is read.
    pub(crate) fn copied(&self) -> Option<Shape> {
        let shape = |sample_rate, channels, packets, delay| Shape {
            sample_rate,
            channels,
            copied: Some(Copied { packets, delay }),
        };
        match self.stream()? {
            Stream::Opus { channels, pre_skip } => Some(shape(OPUS_RATE, channels, Packets::Opus, pre_skip)),
            Stream::Aac(config) => {
                let rate = config.sample_rate();
                let delay = self.skip.map_or(0, |delay| delay.samples(rate));
                let delay = u16::try_from(delay).ok().filter(|delay| *delay <= AAC_DELAY_MAX)?;
                (!self.stated.is_edited).then(|| shape(rate, config.channels, Packets::Aac, delay))
            }
        }
    }

    fn stream(&self) -> Option<Stream> {
        match &self.codec {
            Codec::Opus { head, .. } if head.is_plain() && !self.chain_differs => {
                Some(Stream::Opus { channels: head.channels, pre_skip: head.pre_skip })
            }
            Codec::Opus { .. } => None,
            Codec::Symphonia(decoder) => AacConfig::of(decoder.codec_params()).map(Stream::Aac),
        }
    }

    /// The next packet, undecoded; `None` at the end. A damaged one has one in its place that is concealed or silent.
    /// Of a chained stream the delay stays, as it does between two inputs of a merge.
    pub(crate) fn read_packet(&mut self) -> Result<Option<CopiedPacket>, AudioError> {
        let mut damaged_in_a_row = 0;
        while let Some(packet) = self.next_packet(&mut damaged_in_a_row)? {
            let (rate, taken) = match self.stream() {
                Some(Stream::Opus { .. }) => (OPUS_RATE, self.opus_packet(packet, &mut damaged_in_a_row)),
                Some(Stream::Aac(config)) => (config.sample_rate(), Some(self.aac_packet(packet, config))),
                None => {
                    // A chained stream of another kind, which damage has hidden so far.
                    self.cut_short = true;
                    break;
                }
            };
            let Some(packet) = taken else { continue };
            self.decoded_ms += packet.samples as f64 * 1_000.0 / f64::from(rate);
            return Ok(Some(packet));
        }
        Ok(None)
    }

    /// A damaged packet that is the first has no length, and is left out.
    fn opus_packet(&mut self, packet: Packet, damaged_in_a_row: &mut u32) -> Option<CopiedPacket> {
        let padding = packet.trim_end.get().max(self.padding(OPUS_RATE));
        let (bytes, samples) = match packet_samples(&packet.data) {
            Some(samples) => {
                self.lost = Some(packet.data[0] & !3);
                (packet.data, samples)
            }
            None => {
                self.damaged = true;
                *damaged_in_a_row += 1;
                let lost = [self.lost?];
                (Box::from(lost), packet_samples(&lost)?)
            }
        };
        Some(CopiedPacket { bytes, samples, padding: padding.min(samples) })
    }

    fn aac_packet(&mut self, packet: Packet, config: AacConfig) -> CopiedPacket {
        // An MP4 that counts in samples says by a shorter duration that the last packet is not full.
        let counts_samples = self.source.container == "mp4" && self.ticks_of(config.sample_rate());
        let padding = if counts_samples { AAC_FRAME.saturating_sub(packet.dur.get()) } else { 0 };
        let padding = padding.max(self.padding(config.sample_rate())).min(AAC_FRAME - 1);
        let bytes = if config.begins(&packet.data) {
            packet.data
        } else {
            self.damaged = true;
            Box::from(config.silence())
        };
        CopiedPacket { bytes, samples: AAC_FRAME, padding }
    }

    /// Whether the track's ticks are samples at that rate.
    fn ticks_of(&self, rate: u32) -> bool {
        let base = self
            .format
            .tracks()
            .iter()
            .find(|track| track.id == self.track)
            .and_then(|track| track.time_base);
        base.is_some_and(|base| (base.numer.get(), base.denom.get()) == (1, rate))
    }
}
