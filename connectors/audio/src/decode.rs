//! Opens a media file by its content and decodes its audio track packet by packet, in constant memory. Runs in the
//! child only. Declared durations decide nothing; they only tell whether a file was cut short.

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as MediaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

use crate::error::AudioError;
use crate::opus::{OPUS_RATE, OpusDecoder, OpusHead, packet_samples};
use crate::slice::{EBML, Reader, Recording, is_mp4};
use crate::whole::{matroska_is_whole, mp4_is_whole, ogg_is_whole};

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

/// An Opus packet as it stands in the recording.
#[derive(Debug)]
pub(crate) struct OpusPacket {
    pub(crate) bytes: Box<[u8]>,
    /// Samples per channel at 48 kHz.
    pub(crate) samples: u64,
    /// How many of them, at the end, are only padding.
    pub(crate) padding: u64,
}

enum Codec {
    Symphonia(Box<dyn AudioDecoder>),
    Opus { head: OpusHead, decoder: OpusDecoder, skip: usize },
}

/// An open recording.
pub(crate) struct Media {
    format: Box<dyn FormatReader>,
    codec: Codec,
    track: u32,
    wish: Wish,
    channels: u8,
    source: Source,
    /// Duration that the file declares, if all of it is audio.
    declared_ms: Option<u64>,
    decoded_ms: f64,
    damaged: bool,
    cut_short: bool,
    raw: Vec<f32>,
    mixed: Vec<f32>,
    /// What stands in for a damaged Opus packet: one of its kind without content, which a decoder conceals.
    lost: Option<u8>,
}

impl Media {
    /// Recognises the file and prepares its first audio track that can be decoded.
    pub(crate) fn open(recording: &Recording, wish: Wish) -> Result<Self, AudioError> {
        let mut file = recording.open().map_err(AudioError::io("opening the input"))?;
        let mut head = Vec::new();
        let length = file.length();
        if length == 0 {
            return Err(AudioError::Empty);
        }
        (&mut file).take(16).read_to_end(&mut head).map_err(AudioError::io("reading the input"))?;
        let whole = match head.get(..4) {
            Some(b"OggS") => ogg_is_whole(&mut file, length),
            Some(EBML) => matroska_is_whole(&mut file, length),
            _ if is_mp4(&head) => mp4_is_whole(&mut file, length),
            _ => Ok(true),
        };
        let cut_short = !whole.map_err(AudioError::io("reading the input"))?;
        drop(file);
        let format = probe(recording, &head, cut_short)?;
        let container = match format.format_info().short_name {
            "isomp4" => "mp4",
            "wave" => "wav",
            other => other,
        }
        .to_owned();
        let (track, mut codec, source) = choose_track(format.as_ref(), &container, wish)?;
        if let (Codec::Opus { head, skip, .. }, true) = (&mut codec, recording.continues()) {
            (head.pre_skip, *skip) = (0, 0);
        }
        let channels = wish.channels.unwrap_or(if source.channels > 1 { 2 } else { 1 });
        // What a header declares is not about a slice that has another's.
        let declared_ms = declared_ms(format.as_ref(), track).filter(|_| !recording.continues());
        Ok(Self {
            format,
            codec,
            track,
            wish,
            channels,
            source,
            declared_ms,
            decoded_ms: 0.0,
            damaged: recording.is_torn(),
            cut_short,
            raw: Vec::new(),
            mixed: Vec::new(),
            lost: None,
        })
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

    /// The header of an Opus stream whose packets can stand in another.
    pub(crate) fn opus(&self) -> Option<&OpusHead> {
        match &self.codec {
            Codec::Opus { head, .. } => Some(head).filter(|head| head.is_plain()),
            Codec::Symphonia(_) => None,
        }
    }

    /// The next Opus packet, undecoded; `None` at the end. A damaged one has one in its place that a decoder conceals.
    pub(crate) fn read_packet(&mut self) -> Result<Option<OpusPacket>, AudioError> {
        let mut damaged_in_a_row = 0;
        while let Some(packet) = self.next_packet(&mut damaged_in_a_row)? {
            if self.opus().is_none() {
                // A chained stream of another kind.
                break;
            }
            let (bytes, samples) = match packet_samples(&packet.data) {
                Some(samples) => {
                    self.lost = Some(packet.data[0] & !3);
                    (packet.data, samples)
                }
                None => {
                    self.damaged = true;
                    damaged_in_a_row += 1;
                    let Some(lost) = self.lost else { continue };
                    let Some(samples) = packet_samples(&[lost]) else { continue };
                    (Box::from([lost]), samples)
                }
            };
            self.decoded_ms += samples as f64 * 1_000.0 / f64::from(OPUS_RATE);
            return Ok(Some(OpusPacket { bytes, samples, padding: packet.trim_end.get().min(samples) }));
        }
        self.cut_short |= self.opus().is_none();
        Ok(None)
    }

    /// The track's next packet; `None` at the end, and after too much damage in a row.
    fn next_packet(&mut self, damaged_in_a_row: &mut u32) -> Result<Option<Packet>, AudioError> {
        while *damaged_in_a_row < DAMAGED_IN_A_ROW {
            match self.format.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track => return Ok(Some(packet)),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(MediaError::IoError(cause)) if is_read_failure(&cause) => {
                    return Err(AudioError::io("reading the input")(cause));
                }
                Err(MediaError::DecodeError(_)) => {
                    self.damaged = true;
                    *damaged_in_a_row += 1;
                }
                Err(MediaError::ResetRequired) => {
                    let (track, codec, _) =
                        choose_track(self.format.as_ref(), &self.source.container, self.wish)?;
                    (self.track, self.codec) = (track, codec);
                }
                Err(_) => {
                    // A browser's WebM has no stated end, so running out of it says nothing.
                    self.cut_short |= self.source.container != "matroska";
                    return Ok(None);
                }
            }
        }
        self.cut_short = true;
        Ok(None)
    }

    /// Decodes a packet into `raw`; gives rate, channels (0 where nothing came), and whether it was concealed.
    fn decode(&mut self, packet: &Packet) -> Option<(u32, usize, bool)> {
        self.raw.clear();
        match &mut self.codec {
            Codec::Opus { decoder, skip, .. } => {
                let (rate, channels) = (decoder.rate(), decoder.channels());
                let (samples, concealed) = decoder.decode(&packet.data);
                // The container counts in samples at 48 kHz, whatever rate is decoded to.
                let trim = usize::try_from(packet.trim_end.get()).ok()? * rate as usize / OPUS_RATE as usize;
                let frames = (samples.len() / channels).saturating_sub(trim);
                let from = (*skip).min(frames);
                *skip -= from;
                self.raw.extend_from_slice(&samples[from * channels..frames * channels]);
                Some((rate, if from == frames { 0 } else { channels }, concealed))
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

/// A read error of the system, unlike the end of the file that demuxers report in the same way.
fn is_read_failure(cause: &io::Error) -> bool {
    cause.raw_os_error().is_some()
}

/// A damaged file, as a demuxer can still make something of it.
struct Damaged {
    file: Reader,
    /// Without seeking, a demuxer does without the index at the end, which may be lost.
    seekable: bool,
}

impl Damaged {
    /// A length that no box exceeds: a demuxer then does not refuse one that was cut off.
    const LENGTH: u64 = 1 << 40;
}

impl Read for Damaged {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into)
    }
}

impl Seek for Damaged {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::End(_) => self.file.seek(SeekFrom::Start(Self::LENGTH)),
            to => self.file.seek(to),
        }
    }
}

impl MediaSource for Damaged {
    fn is_seekable(&self) -> bool {
        self.seekable
    }

    fn byte_len(&self) -> Option<u64> {
        None
    }
}

fn probe(recording: &Recording, head: &[u8], cut_short: bool) -> Result<Box<dyn FormatReader>, AudioError> {
    let open = || recording.open().map_err(AudioError::io("opening the input"));
    let damaged = |seekable| Ok(Box::new(Damaged { file: open()?, seekable }) as Box<dyn MediaSource>);
    // An MP4 whose last box was cut off opens, but gives no packets while its length is known.
    let first: Box<dyn MediaSource> =
        if cut_short && is_mp4(head) { damaged(true)? } else { Box::new(open()?) };
    let refusal = match try_format(first) {
        Ok(format) => return Ok(format),
        Err(MediaError::IoError(cause)) if is_read_failure(&cause) => {
            return Err(AudioError::io("reading the input")(cause));
        }
        Err(_) if !is_known_container(head) => return Err(AudioError::NotAudio),
        Err(refusal) => refusal,
    };
    try_format(damaged(false)?).map_err(|_| AudioError::Corrupt { detail: refusal.to_string() })
}

fn try_format(source: Box<dyn MediaSource>) -> Result<Box<dyn FormatReader>, MediaError> {
    let stream = MediaSourceStream::new(source, Default::default());
    let (format, meta) = (FormatOptions::default(), MetadataOptions::default());
    symphonia::default::get_probe().probe(&Hint::new(), stream, format, meta)
}

/// Whether the first bytes are those of a container that carries audio, so that a failure to read on is damage.
fn is_known_container(head: &[u8]) -> bool {
    const MAGIC: [&[u8]; 7] = [b"OggS", b"RIFF", b"fLaC", b"FORM", b"caff", b"ID3", EBML];
    MAGIC.iter().any(|magic| head.starts_with(magic)) || is_mp4(head)
}

fn choose_track(
    format: &dyn FormatReader,
    container: &str,
    wish: Wish,
) -> Result<(u32, Codec, Source), AudioError> {
    let mut refusal = AudioError::NoAudioTrack { container: container.to_owned() };
    for track in format.tracks().iter().filter(|track| track.track_type() == Some(TrackType::Audio)) {
        let Some(parameters) = track.codec_params.as_ref().and_then(|codec| codec.audio()) else { continue };
        match make_codec(parameters, container, wish) {
            Some((codec, name, channels)) => {
                let sample_rate = parameters.sample_rate.unwrap_or(0);
                let container = container.to_owned();
                return Ok((track.id, codec, Source { container, codec: name, sample_rate, channels }));
            }
            None => {
                let codec = symphonia::default::get_codecs()
                    .get_audio_decoder(parameters.codec)
                    .map_or_else(|| parameters.codec.to_string(), |known| known.codec.info.short_name.into());
                refusal = AudioError::UnsupportedCodec { codec, container: container.to_owned() };
            }
        }
    }
    Err(refusal)
}

fn make_codec(
    parameters: &AudioCodecParameters,
    container: &str,
    wish: Wish,
) -> Option<(Codec, String, u32)> {
    let declared = parameters.channels.as_ref().map_or(1, |channels| channels.count());
    if parameters.codec == CODEC_ID_OPUS {
        let head =
            parameters.extra_data.as_deref().and_then(|bytes| OpusHead::parse(bytes, container == "mp4"));
        let head = head.unwrap_or_else(|| OpusHead::plain(u8::try_from(declared).unwrap_or(2)));
        let decoder = OpusDecoder::new(&head, wish.rate.unwrap_or(OPUS_RATE), wish.channels == Some(1))?;
        let skip = usize::from(head.pre_skip) * decoder.rate() as usize / OPUS_RATE as usize;
        let channels = u32::from(head.channels);
        return Some((Codec::Opus { head, decoder, skip }, "opus".to_owned(), channels));
    }
    let codecs = symphonia::default::get_codecs();
    let name = codecs.get_audio_decoder(parameters.codec)?.codec.info.short_name;
    let decoder = codecs.make_audio_decoder(parameters, &AudioDecoderOptions::default()).ok()?;
    Some((Codec::Symphonia(decoder), name.to_owned(), u32::try_from(declared).ok()?))
}

/// The declared duration, where the file holds nothing but audio; a video's may be longer than its sound.
fn declared_ms(format: &dyn FormatReader, track: u32) -> Option<u64> {
    let only_audio = |track: &Track| track.track_type() == Some(TrackType::Audio);
    if !format.tracks().iter().all(only_audio) {
        return None;
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
