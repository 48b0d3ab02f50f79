//! libopus, the only C code in Hansard's audio path: its decoder can answer directly at 16 kHz and in mono, which
//! saves a resampling, and there is no encoder in Rust.
#![allow(unsafe_code)] // libopus is a C library; every call of it is in this file.

use std::ptr::NonNull;

use opusic_sys as sys;

/// The rate of Opus' own clock: granule positions and pre-skip count in it.
pub(crate) const OPUS_RATE: u32 = 48_000;

/// The rates libopus decodes to.
const RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];

/// The longest packet lasts 120 ms (RFC 6716, 3.2.5).
const LONGEST_PACKET_MS: usize = 120;

/// The longest delay that is an encoder's, 80 ms at 48 kHz: the pre-roll that RFC 7845, 4.2 advises. Where more is to be
/// dropped, the beginning of the sound was cut off.
const DELAY_MAX: u16 = 3_840;

/// The identification header `OpusHead` (RFC 7845, 5.1), which Matroska and MP4 carry as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpusHead {
    pub(crate) channels: u8,
    /// Samples at 48 kHz to drop at the start.
    pub(crate) pre_skip: u16,
    /// Gain to apply, in 1/256 dB.
    gain: i16,
    streams: u8,
    coupled: u8,
    /// Which decoded channel each output channel takes.
    mapping: Vec<u8>,
}

impl OpusHead {
    /// Reads the header; `None` if it is not one. Without the mapping table of family 0 the header has 19 bytes.
    pub(crate) fn parse(bytes: &[u8], big_endian: bool) -> Option<Self> {
        if bytes.len() < 19 || &bytes[..8] != b"OpusHead" {
            return None;
        }
        let word = |at: usize| {
            let pair = [bytes[at], bytes[at + 1]];
            if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
        };
        let channels = bytes[9];
        let (streams, coupled, mapping) = if bytes[18] == 0 {
            (1, channels.checked_sub(1)?, (0..channels).collect())
        } else {
            let table = bytes.get(21..21 + usize::from(channels))?;
            (bytes[19], bytes[20], table.to_vec())
        };
        if channels == 0 || (bytes[18] == 0 && channels > 2) {
            return None;
        }
        Some(Self {
            channels,
            pre_skip: word(10),
            gain: i16::from_ne_bytes(word(16).to_ne_bytes()),
            streams,
            coupled,
            mapping,
        })
    }

    /// Whether its packets can stand in any stream of one or two channels: nothing but its channels and an encoder's delay
    /// would be lost with the header.
    pub(crate) fn is_plain(&self) -> bool {
        self.channels <= 2
            && self.streams == 1
            && self.gain == 0
            && self.pre_skip <= DELAY_MAX
            && self.mapping.iter().copied().eq(0..self.channels)
    }

    /// What a stream without a header is taken for.
    pub(crate) fn plain(channels: u8) -> Self {
        let channels = channels.clamp(1, 2);
        Self {
            channels,
            pre_skip: 0,
            gain: 0,
            streams: 1,
            coupled: channels - 1,
            mapping: (0..channels).collect(),
        }
    }
}

/// Decodes the packets of one stream to interleaved samples.
pub(crate) struct OpusDecoder {
    state: NonNull<sys::OpusMSDecoder>,
    rate: u32,
    channels: usize,
    /// Samples per channel of the last packet, which stands in for a lost one.
    last_frames: usize,
    buffer: Vec<f32>,
}

impl std::fmt::Debug for OpusDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpusDecoder").field("rate", &self.rate).field("channels", &self.channels).finish()
    }
}

impl OpusDecoder {
    /// A decoder that answers at `wanted_rate` where libopus can, else at 48 kHz. A stereo stream is mixed to
    /// mono by libopus if `mono` is asked for; streams with more channels come as they are.
    pub(crate) fn new(head: &OpusHead, wanted_rate: u32, mono: bool) -> Option<Self> {
        let rate = if RATES.contains(&wanted_rate) { wanted_rate } else { OPUS_RATE };
        // A mono decoder accepts stereo packets and mixes them (RFC 6716 allows either way round).
        let single = head.streams == 1 && head.channels <= 2;
        let (channels, coupled) =
            if single && mono { (1, 0) } else { (usize::from(head.channels), head.coupled) };
        let mapping = &head.mapping[..channels];
        let mut error = 0;
        // SAFETY: `mapping` holds `channels` bytes, which is what the call reads; it checks all other arguments.
        let state = unsafe {
            sys::opus_multistream_decoder_create(
                rate.cast_signed(),
                i32::try_from(channels).ok()?,
                i32::from(head.streams),
                i32::from(coupled),
                mapping.as_ptr(),
                &raw mut error,
            )
        };
        let state = NonNull::new(state).filter(|_| error == sys::OPUS_OK)?;
        // SAFETY: the state is valid, and this request takes one int.
        unsafe {
            sys::opus_multistream_decoder_ctl(
                state.as_ptr(),
                sys::OPUS_SET_GAIN_REQUEST,
                i32::from(head.gain),
            );
        }
        let longest = rate as usize * LONGEST_PACKET_MS / 1_000;
        let last_frames = rate as usize / 50;
        Some(Self { state, rate, channels, last_frames, buffer: vec![0.0; longest * channels] })
    }

    /// The rate of the decoded samples.
    pub(crate) fn rate(&self) -> u32 {
        self.rate
    }

    /// The channels of the decoded samples.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// Decodes one packet. A damaged packet is concealed by as much sound as the last one had, so that what
    /// follows stays in its place; the flag says whether that happened.
    pub(crate) fn decode(&mut self, packet: &[u8]) -> (&[f32], bool) {
        let limit = self.buffer.len() / self.channels;
        let frames = match self.call(packet, limit) {
            Some(frames) if !packet.is_empty() => {
                self.last_frames = frames;
                return (&self.buffer[..frames * self.channels], false);
            }
            _ => self.call(&[], self.last_frames).unwrap_or(0),
        };
        (&self.buffer[..frames * self.channels], true)
    }

    fn call(&mut self, packet: &[u8], frames: usize) -> Option<usize> {
        let data = if packet.is_empty() { std::ptr::null() } else { packet.as_ptr() };
        let length = i32::try_from(packet.len()).ok()?;
        // SAFETY: the buffer holds `frames` samples for each channel, and `data` holds `length` bytes or is
        // null, which asks for concealment.
        let got = unsafe {
            sys::opus_multistream_decode_float(
                self.state.as_ptr(),
                data,
                length,
                self.buffer.as_mut_ptr(),
                i32::try_from(frames).ok()?,
                0,
            )
        };
        usize::try_from(got).ok()
    }
}

impl Drop for OpusDecoder {
    fn drop(&mut self) {
        // SAFETY: the state came from the matching create and is used no more.
        unsafe { sys::opus_multistream_decoder_destroy(self.state.as_ptr()) }
    }
}

/// The length of a whole packet in samples at 48 kHz; `None` where it is none that a decoder takes,
/// or has more than 65,535 bytes, which only padding can bring about.
pub(crate) fn packet_samples(packet: &[u8]) -> Option<u64> {
    let mut frames = [std::ptr::null(); 48];
    let mut sizes = [0; 48];
    let length = u16::try_from(packet.len()).ok().filter(|length| *length > 0)?;
    // SAFETY: `packet` has `length` bytes, at least one; a packet has at most 48 frames, for which there is room, and the
    // pointers into the packet that it writes are not used.
    let (frames, each) = unsafe {
        let parsed = sys::opus_packet_parse(
            packet.as_ptr(),
            length.into(),
            std::ptr::null_mut(),
            frames.as_mut_ptr(),
            sizes.as_mut_ptr(),
            std::ptr::null_mut(),
        );
        (parsed, sys::opus_packet_get_samples_per_frame(packet.as_ptr(), OPUS_RATE.cast_signed()))
    };
    let samples = u64::try_from(frames).ok()? * u64::try_from(each).ok()?;
    let longest = u64::from(OPUS_RATE) * LONGEST_PACKET_MS as u64 / 1_000;
    (1..=longest).contains(&samples).then_some(samples)
}

/// A packet of 20 ms of silence for one or two channels: full band, CELT, all zero.
pub(crate) fn silent_packet(channels: u8) -> [u8; 3] {
    [if channels == 2 { 0xFC } else { 0xF8 }, 0xFF, 0xFE]
}

/// Encodes speech at 48 kHz in packets of 20 ms.
pub(crate) struct OpusEncoder {
    state: NonNull<sys::OpusEncoder>,
    channels: usize,
    packet: Vec<u8>,
}

impl OpusEncoder {
    /// Samples per channel of one packet.
    pub(crate) const FRAME: usize = 960;

    /// The largest packet that libopus' documentation advises to make room for.
    const PACKET_BYTES: usize = 4_000;

    /// An encoder for one or two channels.
    pub(crate) fn new(channels: u8, bits_per_second: u32, complexity: u8) -> Option<Self> {
        let mut error = 0;
        // SAFETY: plain values; the call checks them.
        let state = unsafe {
            sys::opus_encoder_create(
                OPUS_RATE.cast_signed(),
                i32::from(channels),
                sys::OPUS_APPLICATION_VOIP,
                &raw mut error,
            )
        };
        let state = NonNull::new(state).filter(|_| error == sys::OPUS_OK)?;
        let encoder = Self { state, channels: usize::from(channels), packet: vec![0; Self::PACKET_BYTES] };
        for (request, value) in [
            (sys::OPUS_SET_BITRATE_REQUEST, i32::try_from(bits_per_second).ok()?),
            (sys::OPUS_SET_COMPLEXITY_REQUEST, i32::from(complexity)),
            (sys::OPUS_SET_SIGNAL_REQUEST, sys::OPUS_SIGNAL_VOICE),
        ] {
            // SAFETY: the state is valid, and each of these requests takes one int.
            if unsafe { sys::opus_encoder_ctl(encoder.state.as_ptr(), request, value) } != sys::OPUS_OK {
                return None;
            }
        }
        Some(encoder)
    }

    /// Samples that a decoder has to drop at the start.
    pub(crate) fn pre_skip(&self) -> u16 {
        let mut lookahead: i32 = 0;
        // SAFETY: the state is valid, and the request writes one int through the pointer.
        unsafe {
            sys::opus_encoder_ctl(self.state.as_ptr(), sys::OPUS_GET_LOOKAHEAD_REQUEST, &raw mut lookahead);
        }
        u16::try_from(lookahead).unwrap_or(0)
    }

    /// Encodes [`Self::FRAME`] samples per channel, interleaved.
    pub(crate) fn encode(&mut self, samples: &[i16]) -> Option<&[u8]> {
        assert_eq!(samples.len(), Self::FRAME * self.channels, "a packet of the wrong length");
        // SAFETY: `samples` holds FRAME samples for each channel, and the packet buffer's size is passed along.
        let length = unsafe {
            sys::opus_encode(
                self.state.as_ptr(),
                samples.as_ptr(),
                i32::try_from(Self::FRAME).ok()?,
                self.packet.as_mut_ptr(),
                i32::try_from(self.packet.len()).ok()?,
            )
        };
        usize::try_from(length).ok().map(|length| &self.packet[..length])
    }
}

impl Drop for OpusEncoder {
    fn drop(&mut self) {
        // SAFETY: the state came from the matching create and is used no more.
        unsafe { sys::opus_encoder_destroy(self.state.as_ptr()) }
    }
}
