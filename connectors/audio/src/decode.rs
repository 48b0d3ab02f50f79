//! Opens a media file by its content and decodes its audio track packet by packet, in constant memory. Runs in the
//! child only. Declared durations decide nothing; they only tell whether a file was cut short.

mod packets;

use std::collections::VecDeque;

use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AAC, CODEC_ID_OPUS, CODEC_ID_PCM_ALAW, CODEC_ID_PCM_MULAW,
};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as MediaError;
use symphonia::core::formats::{FormatReader, Track, TrackType};
use symphonia::core::packet::Packet;
use symphonia::core::units::Duration;

use crate::error::AudioError;
use crate::foreign;
use crate::opus::{OPUS_RATE, OpusDecoder, OpusHead};
use crate::outline::{SoundTrack, Ticks};
use crate::probe::{self, Opened, is_read_failure};
use crate::sbr;
use crate::slice::Recording;

/// Sample rates that are believed; anything else is a damaged header.
const RATES: std::ops::RangeInclusive<u32> = 2_000..=768_000;

/// Damaged packets in a row after which the rest of a file is given up.
const DAMAGED_IN_A_ROW: u32 = 200;

/// What a recording turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) container: String,
    pub(crate) codec: String,
    pub(crate) sample_rate: u32,
    pub(crate) channels: u32,
}

/// What the caller will make of the samples, which lets libopus answer in that form at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) rate: Option<u32>,
    /// Channels to mix to, 1 or 2; `None` keeps up to 2.
    pub(crate) channels: Option<u8>,
}

/// Decoded samples of one packet, interleaved, finite and within [-1, 1].
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) rate: u32,
    pub(crate) samples: &'a [f32],
}

enum Codec {
    Symphonia(Box<dyn AudioDecoder>),
    Opus { head: OpusHead, decoder: OpusDecoder },
}

/// An open recording.
pub(crate) struct Media {
    format: Box<dyn FormatReader>,
    codec: Codec,
    track: u32,
    /// What the container states about the track besides.
    stated: SoundTrack,
    /// What is left out before the next sample.
    skip: Option<Ticks>,
    /// Packets of the track that were read already.
    ahead: VecDeque<Packet>,
    /// Another stream follows whose packets cannot stand in this one.
    chain_differs: bool,
    wish: Wish,
    channels: u8,
    source: Source,
    /// Duration that the file declares, if all of it is audio.
    declared_ms: Option<u64>,
    decoded_ms: f64,
    damaged: bool,
    cut_short: bool,
    /// Others may follow it, so that it need not end as a file does.
    continues: bool,
    raw: Vec<f32>,
    mixed: Vec<f32>,
    /// What stands in for a damaged Opus packet: one of its kind without content, which a decoder conceals.
    lost: Option<u8>,
}

impl Media {
    /// Recognises the recording and prepares its first audio track that can be decoded.
    pub(crate) fn open(recording: &Recording, wish: Wish) -> Result<Self, AudioError> {
        let Opened { format, container, outline, head } = probe::open(recording)?;
        let chosen = choose_track(format.as_ref(), &container, &outline.tracks, wish)?;
        let Chosen { track, mut codec, source, mut stated } = chosen;
        let channels = wish.channels.unwrap_or(if source.channels > 1 { 2 } else { 1 });
        let mut declared_ms = declared_ms(format.as_ref(), track, &stated);
        if recording.continues() {
            // What a header states of a start and an end is not about a slice that has another's.
            (stated.delay, stated.end, declared_ms) = (None, None, None);
            if let Codec::Opus { head, .. } = &mut codec {
                head.pre_skip = 0;
            }
        }
        let skip = skip(&codec, &stated);
        let mut media = Self {
            format,
            skip,
            codec,
            track,
            stated,
            ahead: VecDeque::new(),
            chain_differs: outline.chain_differs,
            wish,
            channels,
            source,
            declared_ms: declared_ms
                .map(|declared| declared.saturating_sub(skip.map_or(0, |skip| skip.samples(1_000)))),
            decoded_ms: 0.0,
            damaged: recording.is_torn(),
            cut_short: outline.cut_short,
            continues: recording.continues(),
            raw: Vec::new(),
            mixed: Vec::new(),
            lost: None,
        };
        media.refuse_other_aac(&head)?;
        Ok(media)
    }

    /// Refuses what only looks like AAC-LC: see [`sbr`].
    fn refuse_other_aac(&mut self, head: &[u8]) -> Result<(), AudioError> {
        if self.source.codec != "aac" {
            return Ok(());
        }
        let adts = sbr::adts_refusal(head).filter(|_| self.source.container == "aac");
        while self.ahead.len() < sbr::SBR_PACKETS {
            let Some(packet) = self.fetch(&mut 0)? else { break };
            self.ahead.push_back(packet);
        }
        let hidden = || sbr::carry_sbr(self.ahead.iter().map(|packet| &*packet.data)).then_some("he-aac");
        match adts.or_else(hidden) {
            Some(codec) => Err(unsupported(codec, &self.source.container)),
            None => Ok(()),
        }
    }

    /// Channels of the samples that [`read`](Self::read) gives.
    pub(crate) fn channels(&self) -> u8 {
        self.channels
    }

    /// The rate at which samples will probably come; the first block is sure.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Whether less was decoded than the file once held. Final after [`read`](Self::read) gave `None`.
    pub(crate) fn truncated(&self) -> bool {
        // Encoder delay and rounding are allowed for.
        let missing = |declared: u64| self.decoded_ms + 250.0 < declared as f64;
        self.cut_short || self.damaged || self.declared_ms.is_some_and(missing)
    }

    /// Decodes the next packet; `None` at the end. Damaged packets are passed over.
    pub(crate) fn read(&mut self) -> Result<Option<Block<'_>>, AudioError> {
        let mut damaged_in_a_row = 0;
        while let Some(packet) = self.next_packet(&mut damaged_in_a_row)? {
            match self.decode(&packet) {
                Some((_, 0, _)) => {}
                Some((rate, channels, concealed)) => {
                    self.damaged |= concealed;
                    self.leave_out(rate, channels);
                    if self.raw.is_empty() {
                        continue;
                    }
                    self.decoded_ms += (self.raw.len() / channels) as f64 * 1_000.0 / f64::from(rate);
                    mix(&self.raw, channels, usize::from(self.channels), &mut self.mixed);
                    return Ok(Some(Block { rate, samples: &self.mixed }));
                }
                None => {
                    self.damaged = true;
                    damaged_in_a_row += 1;
                }
            }
        }
        Ok(None)
    }

    /// The track's next packet; `None` at the end, and after too much damage in a row.
    fn next_packet(&mut self, damaged_in_a_row: &mut u32) -> Result<Option<Packet>, AudioError> {
        let packet = match self.ahead.pop_front() {
            Some(packet) => Some(packet),
            None => self.fetch(damaged_in_a_row)?,
        };
        // Which packet is the last one, only its successor tells.
        if self.stated.padding.is_some() && self.ahead.is_empty() {
            let next = self.fetch(damaged_in_a_row)?;
            self.ahead.extend(next);
        }
        Ok(packet)
    }

    /// Reads the track's next packet.
    fn fetch(&mut self, damaged_in_a_row: &mut u32) -> Result<Option<Packet>, AudioError> {
        while *damaged_in_a_row < DAMAGED_IN_A_ROW {
            match self.format.next_packet() {
                Ok(Some(packet)) if packet.track_id != self.track => {}
                Ok(Some(packet)) if self.is_past_end(&packet) => {}
                Ok(Some(packet)) => return Ok(Some(self.trimmed(packet))),
                Ok(None) => return Ok(None),
                Err(MediaError::IoError(cause)) if is_read_failure(&cause) => {
                    return Err(AudioError::io("reading the input")(cause));
                }
                Err(MediaError::DecodeError(_)) => {
                    self.damaged = true;
                    *damaged_in_a_row += 1;
                }
                Err(MediaError::ResetRequired) => {
                    let chosen = choose_track(self.format.as_ref(), &self.source.container, &[], self.wish)?;
                    Chosen { track: self.track, codec: self.codec, stated: self.stated, .. } = chosen;
                    self.skip = skip(&self.codec, &self.stated);
                }
                Err(cause) => {
                    // A browser's WebM has no stated end, and that of a WAV and of an Ogg's slice was looked at: running
                    // out of them says nothing.
                    let runs_out = match self.source.container.as_str() {
                        "matroska" | "wav" => true,
                        "ogg" => self.continues && is_end(&cause),
                        _ => false,
                    };
                    self.cut_short |= !runs_out;
                    return Ok(None);
                }
            }
        }
        self.cut_short = true;
        Ok(None)
    }

    fn is_past_end(&self, packet: &Packet) -> bool {
        let start = u64::try_from(packet.pts.get()).unwrap_or(0);
        self.stated.end.is_some_and(|end| start >= end.count)
    }

    /// A packet with what of it is not sound. An MP3's first frame states how many follow: without the encoder's delay
    /// beside it, it is wrong as often as right, and what lies behind them and their padding is another file that was
    /// appended.
    fn trimmed(&self, mut packet: Packet) -> Packet {
        if let Some(track) = self.format.tracks().first().filter(|_| self.source.container == "mp3") {
            let end =
                track.num_frames.filter(|frames| *frames > 0 && track.delay.is_some_and(|delay| delay > 0));
            let padded = |end: u64| end + u64::from(track.padding.unwrap_or(0));
            let start = u64::try_from(packet.pts.get()).unwrap_or(0);
            if end.is_none_or(|end| start >= padded(end)) {
                packet.trim_end = Duration::ZERO;
            }
        }
        packet
    }

    /// Samples at `rate` that are padding at the end of the packet that [`next_packet`](Self::next_packet) gave.
    fn padding(&self, rate: u32) -> u64 {
        self.stated.padding.filter(|_| self.ahead.is_empty()).map_or(0, |padding| padding.samples(rate))
    }

    /// Leaves out of `raw` what is an encoder's delay or padding.
    fn leave_out(&mut self, rate: u32, channels: usize) {
        let frames = self.raw.len() / channels;
        let bounded = |samples: u64| usize::try_from(samples).unwrap_or(usize::MAX);
        let kept = frames.saturating_sub(bounded(self.padding(rate)));
        self.raw.truncate(kept * channels);
        if let Some(skip) = self.skip {
            let due = bounded(skip.samples(rate));
            let now = due.min(kept);
            self.raw.drain(..now * channels);
            let left = (due - now) as u64;
            self.skip = (left > 0).then_some(Ticks { count: left, per_second: rate });
        }
    }

    /// Decodes a packet into `raw`; gives rate, channels (0 where nothing came), and whether it was concealed.
    fn decode(&mut self, packet: &Packet) -> Option<(u32, usize, bool)> {
        self.raw.clear();
        match &mut self.codec {
            Codec::Opus { decoder, .. } => {
                let (rate, channels) = (decoder.rate(), decoder.channels());
                let (samples, concealed) = decoder.decode(&packet.data);
                // The container counts in samples at 48 kHz, whatever rate is decoded to.
                let trim = usize::try_from(packet.trim_end.get()).ok()? * rate as usize / OPUS_RATE as usize;
                let frames = (samples.len() / channels).saturating_sub(trim);
                self.raw.extend_from_slice(&samples[..frames * channels]);
                Some((rate, if frames == 0 { 0 } else { channels }, concealed))
            }
            Codec::Symphonia(decoder) => {
                let audio = decoder.decode(packet).ok()?;
                let (rate, channels) = (audio.spec().rate(), audio.spec().channels().count());
                if !RATES.contains(&rate) || channels == 0 {
                    return None;
                }
                audio.copy_to_vec_interleaved(&mut self.raw);
                Some((rate, if self.raw.is_empty() { 0 } else { channels }, false))
            }
        }
    }
}

/// A track that can be decoded.
struct Chosen {
    track: u32,
    codec: Codec,
    source: Source,
    stated: SoundTrack,
}

fn choose_track(
    format: &dyn FormatReader,
    container: &str,
    stated: &[SoundTrack],
    wish: Wish,
) -> Result<Chosen, AudioError> {
    // A codec that the demuxer does not know is none of its audio tracks.
    let mut refusal = match stated {
        [track, ..] if !track.codec.is_empty() => unsupported(foreign::codec_name(&track.codec), container),
        _ => AudioError::NoAudioTrack { container: container.to_owned() },
    };
    for track in format.tracks().iter().filter(|track| track.track_type() == Some(TrackType::Audio)) {
        let Some(parameters) = track.codec_params.as_ref().and_then(|codec| codec.audio()) else { continue };
        let stated = stated.iter().find(|stated| stated.id == track.id).cloned().unwrap_or_default();
        match make_codec(parameters, container, &stated, wish) {
            Ok((codec, name, channels)) => {
                let sample_rate = parameters.sample_rate.unwrap_or(0);
                let container = container.to_owned();
                let source = Source { container, codec: name, sample_rate, channels };
                return Ok(Chosen { track: track.id, codec, source, stated });
            }
            Err(name) => refusal = unsupported(&name, container),
        }
    }
    Err(refusal)
}

fn unsupported(codec: &str, container: &str) -> AudioError {
    AudioError::UnsupportedCodec { codec: codec.to_owned(), container: container.to_owned() }
}

/// A decoder, its name and the recording's channels; or the name of what cannot be decoded.
fn make_codec(
    parameters: &AudioCodecParameters,
    container: &str,
    stated: &SoundTrack,
    wish: Wish,
) -> Result<(Codec, String, u32), String> {
    let extra = parameters.extra_data.as_deref();
    let declared = parameters.channels.as_ref().map(|channels| channels.count());
    let declared = declared.unwrap_or_else(|| stated.channels.unwrap_or(1).into());
    let codecs = symphonia::default::get_codecs();
    let name = codecs.get_audio_decoder(parameters.codec).map(|known| known.codec.info.short_name);
    if parameters.codec == CODEC_ID_OPUS {
        let head = extra.and_then(|bytes| OpusHead::parse(bytes, container == "mp4"));
        let head = head.unwrap_or_else(|| OpusHead::plain(u8::try_from(declared).unwrap_or(2)));
        let decoder = OpusDecoder::new(&head, wish.rate.unwrap_or(OPUS_RATE), wish.channels == Some(1));
        let channels = u32::from(head.channels);
        return Ok((Codec::Opus { head, decoder: decoder.ok_or("opus")? }, "opus".to_owned(), channels));
    }
    if let Some(other) = extra.filter(|_| parameters.codec == CODEC_ID_AAC).and_then(sbr::refusal) {
        return Err(other);
    }
    let Some(name) = name else {
        let unknown = foreign::codec_name(&stated.codec);
        return Err(foreign::codec(parameters.codec).unwrap_or(unknown).to_owned());
    };
    let decoder = codecs
        .make_audio_decoder(&complete(parameters), &AudioDecoderOptions::default())
        .map_err(|_| name.to_owned())?;
    Ok((Codec::Symphonia(decoder), name.to_owned(), u32::try_from(declared).unwrap_or(1)))
}

/// The parameters as a decoder takes them. The logarithmic codes have eight bits in a file and sixteen when decoded; a CAF
/// states the former, and the decoder refuses it.
fn complete(parameters: &AudioCodecParameters) -> AudioCodecParameters {
    let mut parameters = parameters.clone();
    if [CODEC_ID_PCM_ALAW, CODEC_ID_PCM_MULAW].contains(&parameters.codec) {
        (parameters.bits_per_sample, parameters.bits_per_coded_sample) = (None, None);
    }
    parameters
}

/// What is left out at the start: the delay that an Opus header states, else the one in the container's edit list.
fn skip(codec: &Codec, stated: &SoundTrack) -> Option<Ticks> {
    match codec {
        Codec::Opus { head, .. } => Some(Ticks { count: head.pre_skip.into(), per_second: OPUS_RATE }),
        Codec::Symphonia(_) => stated.delay,
    }
}

/// The declared duration with the encoder's delay, where the file holds nothing but audio; a video's may be longer than its
/// sound.
fn declared_ms(format: &dyn FormatReader, track: u32, stated: &SoundTrack) -> Option<u64> {
    let only_audio = |track: &Track| track.track_type() == Some(TrackType::Audio);
    if !format.tracks().iter().all(only_audio) {
        return None;
    }
    // Of several pieces the lengths say nothing about how much follows the first one's start.
    if let Some(end) = stated.end {
        return (!stated.is_edited).then(|| end.samples(1_000));
    }
    let track = format.tracks().iter().find(|candidate| candidate.id == track)?;
    let rate = track.codec_params.as_ref()?.audio()?.sample_rate?;
    // ADTS never states a duration, and MP3 only in the tag that states the encoder's delay as well: otherwise the
    // number is an estimate.
    let short_name = format.format_info().short_name;
    if short_name == "aac" || (short_name.starts_with("mp") && track.delay.is_none()) {
        return None;
    }
    if let Some(frames) = track.num_frames {
        return (frames as u128 * 1_000).checked_div(u128::from(rate))?.try_into().ok();
    }
    let media = format.media_info();
    let (base, duration) = match (track.time_base, track.duration) {
        (Some(base), Some(duration)) => (base, duration),
        _ => (media.time_base?, media.duration?),
    };
    let ticks = u128::from(duration.get()) * u128::from(base.numer.get()) * 1_000;
    (ticks / u128::from(base.denom.get())).try_into().ok()
}

/// The end of the file, where a demuxer looked for more.
fn is_end(cause: &MediaError) -> bool {
    matches!(cause, MediaError::IoError(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// Mixes interleaved samples to one or two channels and makes them finite. One channel is the mean of all; two
/// are the first two of a stereo recording, else the mean in both.
fn mix(samples: &[f32], from: usize, to: usize, into: &mut Vec<f32>) {
    let clean = |sample: f32| if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) };
    into.clear();
    if from == to {
        into.extend(samples.iter().map(|sample| clean(*sample)));
        return;
    }
    let scale = 1.0 / from as f32;
    for frame in samples.chunks_exact(from) {
        let mean = frame.iter().map(|sample| clean(*sample)).sum::<f32>() * scale;
        into.extend(std::iter::repeat_n(mean, to));
    }
}
