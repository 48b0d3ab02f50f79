//! Names of what is not decoded, so that a refusal says what was uploaded: formats by the bytes that they begin with, codecs
//! by the numbers and names that containers give them.

use symphonia::core::codecs::audio::{AudioCodecId, well_known as id};

/// Formats by their first bytes (place, bytes, codec, container). An empty codec means any: nobody looks inside.
const MAGIC: [(usize, &[u8], &str, &str); 33] = [
    (0, b"#!AMR-WB", "amr-wb", "amr"),
    (0, b"#!AMR", "amr-nb", "amr"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "wma", "asf"),
    (0, b"\x7f\xfe\x80\x01", "dts", "dts"),
    (0, b"\xfe\x7f\x01\x80", "dts", "dts"),
    (0, b"wvpk", "wavpack", "wavpack"),
    (0, b"TTA1", "tta", "tta"),
    (0, b"TTA2", "tta", "tta"),
    (0, b"MAC ", "monkey's audio", "ape"),
    (0, b"tBaK", "tak", "tak"),
    (0, b"OFR ", "optimfrog", "optimfrog"),
    (0, b"ajkg", "shorten", "shorten"),
    (0, b"MPCK", "musepack", "musepack"),
    (0, b"MP+", "musepack", "musepack"),
    (0, b"DSD ", "dsd", "dsf"),
    (0, b"FRM8", "dsd", "dsdiff"),
    (0, b"ADIF", "aac", "adif"),
    (0, b".snd", "", "au"),
    (0, b"Creative Voice File", "", "voc"),
    (0, b"riff\x2e\x91\xcf\x11", "", "wave64"),
    (0, b"#!SILK", "silk", "silk"),
    (1, b"#!SILK", "silk", "silk"),
    (0, b"FLV\x01", "", "flv"),
    (0, b".RMF", "", "realmedia"),
    (0, b".ra\xfd", "", "realaudio"),
    (0, b"\x00\x00\x01\xba", "", "mpeg program stream"),
    (0, b"MThd", "midi", "midi"),
    (8, b"AVI LIST", "", "avi"),
    (8, b"RMIDdata", "midi", "midi"),
    (0, b"caff\x00\x00", "", "caf of another version"),
    (0, b"NIST_1A", "", "sphere"),
    (0, b"2BIT", "", "avr"),
    (0, b"\x64\xa3", "", "ircam"),
];

/// Codec and container of a format that is known and not decoded, by a file's beginning.
pub(crate) fn format(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let found = MAGIC
        .iter()
        .find(|(place, magic, ..)| head.get(*place..).is_some_and(|head| head.starts_with(magic)));
    let (codec, container) = match found {
        Some((_, _, codec, container)) => (*codec, *container),
        None if is_transport_stream(head) => ("", "mpeg transport stream"),
        None if is_loas(head) => ("aac", "latm"),
        None => (dolby(head)?, "a bare stream"),
    };
    Some((if codec.is_empty() { "audio" } else { codec }, container))
}

/// Packets of 188 bytes that each begin with the same byte (ISO/IEC 13818-1, 2.4.3.2).
fn is_transport_stream(head: &[u8]) -> bool {
    (0..4).all(|packet| head.get(packet * 188) == Some(&0x47))
}

/// AAC in LATM, as LOAS frames it (ISO/IEC 14496-3, 1.7.2): two frames, each behind its length.
fn is_loas(head: &[u8]) -> bool {
    let frame = |at: usize| match head.get(at..at + 3) {
        Some(&[0x56, second, third]) if second >> 5 == 7 => {
            Some(at + 3 + (usize::from(second & 0x1f) << 8 | usize::from(third)))
        }
        _ => None,
    };
    frame(0).and_then(frame).is_some()
}

/// AC-3 and E-AC-3 (ETSI TS 102 366, annexes A and E): two frames, told apart by their versions.
fn dolby(head: &[u8]) -> Option<&'static str> {
    const SYNC: &[u8] = b"\x0b\x77";
    let version = head.strip_prefix(SYNC)?.get(3)? >> 3;
    head[2..].windows(2).any(|bytes| bytes == SYNC).then_some(())?;
    match version {
        0..=10 => Some("ac-3"),
        11..=16 => Some("e-ac-3"),
        _ => None,
    }
}

/// The name of a codec that the demuxer knows and no decoder does.
pub(crate) fn codec(codec: AudioCodecId) -> Option<&'static str> {
    Some(match codec {
        id::CODEC_ID_SPEEX => "speex",
        id::CODEC_ID_MUSEPACK => "musepack",
        id::CODEC_ID_MP1 => "mp1",
        id::CODEC_ID_MP2 => "mp2",
        id::CODEC_ID_AC3 => "ac-3",
        id::CODEC_ID_EAC3 => "e-ac-3",
        id::CODEC_ID_AC4 => "ac-4",
        id::CODEC_ID_DCA => "dts",
        id::CODEC_ID_WMA => "wma",
        id::CODEC_ID_ATRAC1 | id::CODEC_ID_ATRAC3 | id::CODEC_ID_ATRAC3PLUS | id::CODEC_ID_ATRAC9 => "atrac",
        id::CODEC_ID_WAVPACK => "wavpack",
        id::CODEC_ID_MONKEYS_AUDIO => "monkey's audio",
        id::CODEC_ID_TTA => "tta",
        id::CODEC_ID_TRUEHD => "truehd",
        id::CODEC_ID_ADPCM_G722 => "g.722",
        id::CODEC_ID_ADPCM_G726 | id::CODEC_ID_ADPCM_G726LE => "g.726",
        _ => return None,
    })
}

/// The name of a codec that the demuxer does not know, by what the container calls it; that itself where it is unknown here
/// too.
pub(crate) fn codec_name(stated: &str) -> &str {
    match stated {
        "samr" => "amr-nb",
        "sawb" => "amr-wb",
        "sawp" => "amr-wb+",
        "sevc" => "evrc",
        "sqcp" => "qcelp",
        "ima4" => "ima adpcm",
        "ulaw" => "mu-law",
        "alaw" => "a-law",
        "mp4a" => "mpeg-4 audio",
        "dtsc" | "dtse" | "dtsh" | "dtsl" => "dts",
        "agsm" => "gsm",
        "A_MS/ACM" => "a windows codec (A_MS/ACM)",
        other => other,
    }
}

/// The name of a codec in WAV that the demuxer does not know, by its number (registered in RFC 2361).
pub(crate) fn wave_codec(format: u16) -> String {
    let name = match format {
        0x0014 | 0x0040 | 0x0045 | 0x0064 => "g.726",
        0x0020 => "yamaha adpcm",
        0x0022 => "truespeech",
        0x0031 => "gsm",
        0x0042 => "g.723.1",
        0x0050 => "mp2",
        0x0055 => "mp3",
        0x0065 | 0x028f => "g.722",
        0x0083 => "g.729",
        0x00ff | 0x1600 | 0x1610 => "aac",
        0x0160..=0x0163 => "wma",
        0x0270 => "atrac3",
        0x2000 => "ac-3",
        0x2001 => "dts",
        _ => return format!("codec {format:#06x}"),
    };
    name.to_owned()
}
