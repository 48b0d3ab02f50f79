//! Merging real files: what is in the result, where, and what became of each input.

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{child, decoded, ffmpeg, split, tool, wav};
use crate::decode::{Media, Wish};
use crate::opus::{OpusDecoder, OpusHead, packet_samples};
use crate::slice::Recording;
use crate::{AudioError, Decoder, Format, InputStatus, Limits, MergeInput, MergeReport, MergeRequest};

/// Merges in real children; offsets are in milliseconds.
pub(super) fn merge_with(
    inputs: &[(&Path, u64)],
    output: &Path,
    format: Format,
    fill_gaps_ms: u64,
    limits: Limits,
) -> Result<MergeReport, AudioError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let decoder = Decoder::new(child(), limits);
        let output = output.to_owned();
        let mut merge = decoder.merge(MergeRequest { output, format, fill_gaps_ms, lost_share_max: 0.5 });
        for (index, (path, offset_ms)) in inputs.iter().enumerate() {
            let (chunk_id, path) = (format!("chunk-{index}"), path.to_path_buf());
            merge.add(MergeInput { chunk_id, path, header: None, offset_ms: *offset_ms }).await?;
        }
        merge.finish().await
    })
}

pub(super) fn merge(
    inputs: &[(&Path, u64)],
    output: &Path,
    format: Format,
) -> Result<MergeReport, AudioError> {
    merge_with(inputs, output, format, 0, Limits::default())
}

/// Merges recordings whatever is lost of them.
pub(super) fn merge_all(
    inputs: &[PathBuf],
    output: &Path,
    format: Format,
) -> Result<MergeReport, AudioError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let decoder = Decoder::new(child(), Limits::default());
        let (output, lost_share_max) = (output.to_owned(), 1.0);
        let mut merge = decoder.merge(MergeRequest { output, format, fill_gaps_ms: 0, lost_share_max });
        for path in inputs {
            let (chunk_id, path) = (path.display().to_string(), path.clone());
            merge.add(MergeInput { chunk_id, path, header: None, offset_ms: 0 }).await?;
        }
        merge.finish().await
    })
}

const FORMATS: [Format; 3] =
    [Format::Opus { bits_per_second: 32_000, complexity: 5 }, Format::Flac, Format::Wav];

/// A tone of an exact length.
pub(super) fn tone(directory: &Path, name: &str, rate: u32, channels: u8, samples: u32) -> PathBuf {
    let path = directory.join(name);
    let (rate, channels, length) = (rate.to_string(), channels.to_string(), format!("{samples}s"));
    let to = path.to_str().unwrap();
    // The rate stands before the null input: a length in samples is one at the input's rate.
    tool("sox", &["-r", &rate, "-c", &channels, "-n", "-b", "16", to, "synth", &length, "sine", "440"]);
    path
}

/// Samples per channel as ffmpeg counts them, and what it says about the file.
pub(super) fn foreign(path: &Path) -> (usize, String) {
    let ended = Command::new("ffmpeg")
        .args([
            "-loglevel",
            "error",
            "-err_detect",
            "crccheck",
            "-i",
            path.to_str().unwrap(),
            "-ac",
            "1",
            "-f",
            "s16le",
            "pipe:1",
        ])
        .output()
        .unwrap();
    assert!(ended.status.success());
    // Some versions remark that a plain WAV header names no loudspeakers.
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = said.lines().filter(|line| !line.starts_with("Guessed Channel Layout")).collect();
    (ended.stdout.len() / 2, said)
}

#[test]
fn durations_add_up_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let one = tone(directory.path(), "one.wav", 48_000, 1, 100_001);
    let two = tone(directory.path(), "two.flac", 48_000, 1, 48_000);
    let opus = at("three.ogg");
    ffmpeg(&one, &["-c:a", "libopus"], &opus);
    for format in FORMATS {
        // Its packets would be copied, and end where packets do.
        let three = if matches!(format, Format::Opus { .. }) { &one } else { &opus };
        let output = at("merged").with_extension(format.extension());
        let report = merge(&[(&one, 0), (&two, 2_083), (three, 3_083)], &output, format).unwrap();
        let (samples, said) = foreign(&output);
        assert_eq!(samples, 100_001 + 48_000 + 100_001, "{format:?}");
        assert_eq!(said, "", "{format:?}");
        assert_eq!(report.duration_ms, 5_167);
        assert_eq!((report.sample_rate, report.channels), (48_000, 1));
        let bytes = std::fs::read(&output).unwrap();
        assert_eq!(report.bytes, bytes.len() as u64);
        assert_eq!(report.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
        let places: Vec<_> = report.inputs.iter().map(|input| (input.offset_ms, input.duration_ms)).collect();
        assert_eq!(places, [(0, 2_084), (2_084, 1_000), (3_084, 2_083)]);
        assert!(
            report.inputs.iter().all(|input| input.status == InputStatus::Merged && input.code.is_none())
        );
        assert_eq!(report.inputs[2].chunk_id, "chunk-2");
    }
}

/// The packets of a file, with the samples of all and the padding at the end.
pub(super) fn packets(path: &Path) -> (Vec<Box<[u8]>>, u64, u64) {
    let mut media = Media::open(&Recording::whole(path), Wish { rate: None, channels: None }).unwrap();
    let (mut packets, mut samples, mut padding) = (Vec::new(), 0, 0);
    while let Some(packet) = media.read_packet().unwrap() {
        (samples, padding) = (samples + packet.samples, packet.padding);
        packets.push(packet.bytes);
    }
    assert!(!media.truncated());
    (packets, samples, padding)
}

/// What ffmpeg's libopus has as its delay, in samples at 48 kHz.
const DELAY: u64 = 312;

#[test]
fn opus_packets_are_copied_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let tone = tone(directory.path(), "tone.wav", 48_000, 1, 100_001);
    ffmpeg(&tone, &["-c:a", "libopus"], &at("one.ogg"));
    ffmpeg(&wav(), &["-c:a", "libopus", "-frame_duration", "60"], &at("two.webm"));
    ffmpeg(&tone, &["-c:a", "libopus", "-frame_duration", "2.5"], &at("three.mka"));
    let inputs = [at("one.ogg"), at("two.webm"), at("three.mka")];
    let (mut all, mut starts, mut samples, mut last) = (Vec::new(), Vec::new(), 0, 0);
    for input in &inputs {
        let (packets, more, padding) = packets(input);
        starts.push(samples);
        (samples, last) = (samples + more, padding);
        all.extend(packets);
    }
    let merged = at("merged.ogg");
    let report =
        merge(&[(&inputs[0], 0), (&inputs[1], 2_084), (&inputs[2], 40_000)], &merged, Format::Auto).unwrap();
    let copied = packets(&merged);
    assert!(copied.0 == all, "{} packets of {}", copied.0.len(), all.len());
    assert_eq!((copied.1, copied.2), (samples, last));
    assert_eq!((report.sample_rate, report.channels), (48_000, 1));
    let ms = |samples: u64| (samples * 1_000).div_ceil(48_000);
    assert_eq!(report.duration_ms, ms(samples - last - DELAY));
    let offsets: Vec<u64> = report.inputs.iter().map(|input| input.offset_ms).collect();
    assert_eq!(offsets, starts.iter().map(|start| ms(start.saturating_sub(DELAY))).collect::<Vec<_>>());
    let (heard, said) = foreign(&merged);
    assert_eq!((heard as u64, said.as_str()), (samples - last - DELAY, ""));
}

#[test]
fn packets_and_samples_take_turns() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let samples = tone(directory.path(), "tone.wav", 48_000, 1, 48_000);
    let packets = at("tone.webm");
    ffmpeg(&samples, &["-c:a", "libopus", "-b:a", "64k"], &packets);
    std::fs::write(at("page.webm"), b"<!DOCTYPE html>").unwrap();
    for turns in ["spsp", "psps", "sspp", "pxsxp", "xs"] {
        let page = at("page.webm");
        let of = |turn| match turn {
            's' => samples.as_path(),
            'p' => packets.as_path(),
            _ => page.as_path(),
        };
        let inputs: Vec<(&Path, u64)> = turns.chars().map(|turn| (of(turn), 0)).collect();
        let merged = at("merged.ogg");
        let report = merge(&inputs, &merged, Format::Auto).unwrap();
        let usable: Vec<_> =
            report.inputs.iter().filter(|input| input.status == InputStatus::Merged).collect();
        let (heard, said) = foreign(&merged);
        assert_eq!((heard as u64 * 1_000).div_ceil(48_000), report.duration_ms, "{turns}");
        assert_eq!(said, "", "{turns}");
        for (input, next) in usable.iter().zip(usable.iter().skip(1)) {
            let gap = next.offset_ms - (input.offset_ms + input.duration_ms);
            assert!(gap <= 27 && input.duration_ms.abs_diff(1_000) <= 27, "{turns}: {report:?}");
        }
        // Each has its tone where the report says, from one end to the other.
        let heard = decoded(&merged, 48_000, 1).unwrap();
        for input in usable {
            let start = 48 * usize::try_from(input.offset_ms).unwrap();
            let (from, to) = (start + 1_500, start + 970 * 48);
            let crossings = heard[from..to].windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
            let expected = 440 * (to - from) / 48_000;
            assert!(crossings.abs_diff(expected) <= 2, "{turns}: {crossings} of {expected}");
        }
    }
}

#[test]
fn silence_between_copied_packets_is_packets() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let tone = tone(directory.path(), "tone.wav", 48_000, 2, 48_000);
    ffmpeg(&tone, &["-c:a", "libopus"], &at("tone.ogg"));
    let merged = at("merged.ogg");
    let inputs: [(&Path, u64); 2] = [(&at("tone.ogg"), 0), (&at("tone.ogg"), 2_000)];
    let report = merge_with(&inputs, &merged, Format::Auto, 5_000, Limits::default()).unwrap();
    assert!(report.inputs[1].offset_ms.abs_diff(2_000) <= 27, "{report:?}");
    let samples = decoded(&merged, 48_000, 2).unwrap();
    // What rings on after the tone takes a few packets.
    let silence = &samples[2 * 48 * 1_100..2 * 48 * 1_950];
    assert!(silence.iter().all(|sample| sample.abs() < 33), "{:?}", silence.iter().max());
    assert!(samples[2 * 48 * 2_050..2 * 48 * 2_900].iter().any(|sample| *sample > 1_000));
}

#[test]
fn a_damaged_packet_costs_only_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let tone = tone(directory.path(), "tone.wav", 48_000, 1, 48_000);
    ffmpeg(&tone, &["-c:a", "libopus"], &at("whole.webm"));
    let (whole, samples, padding) = packets(&at("whole.webm"));
    let mut bytes = std::fs::read(at("whole.webm")).unwrap();
    let place = bytes.windows(whole[20].len()).position(|window| *window == *whole[20]).unwrap();
    // A number of frames follows, of which there are none.
    bytes[place] |= 3;
    bytes[place + 1] = 0;
    std::fs::write(at("damaged.webm"), bytes).unwrap();
    let inputs: [(&Path, u64); 1] = [(&at("damaged.webm"), 0)];
    let report = merge(&inputs, &at("merged.ogg"), Format::Auto).unwrap();
    assert_eq!(
        (report.inputs[0].status, report.inputs[0].code.as_deref()),
        (InputStatus::Truncated, Some("truncated"))
    );
    let (mut merged, as_long, as_padded) = packets(&at("merged.ogg"));
    assert_eq!((as_long, as_padded, merged.len()), (samples, padding, whole.len()));
    assert_eq!(*merged[20], [whole[20][0] & !3]);
    merged[20].clone_from(&whole[20]);
    assert!(merged == whole);
    let (heard, said) = foreign(&at("merged.ogg"));
    assert_eq!((heard as u64, said.as_str()), (samples - padding - DELAY, ""));
}

#[test]
fn a_packet_may_be_padded_to_what_its_length_can_say() {
    let padded = |bytes: usize| {
        // One frame of 20 ms, and padding whose length stands in bytes of 254 each and a rest.
        let (mut packet, mut left) = (vec![0xF8 | 3, 0x41], bytes - 2);
        while left > 255 {
            packet.push(255);
            left -= 255;
        }
        packet.push(u8::try_from(left - 1).unwrap());
        packet.resize(bytes, 0);
        packet
    };
    assert_eq!(packet_samples(&padded(200)), Some(960));
    assert_eq!(packet_samples(&padded(65_535)), Some(960));
    assert_eq!(packet_samples(&padded(65_536)), None);
    assert_eq!(packet_samples(&[]), None);
}

proptest! {
    #[test]
    fn a_packets_length_is_what_a_decoder_makes_of_it(packet in prop::collection::vec(any::<u8>(), 0..200)) {
        let head = OpusHead::plain(2);
        let mut decoder = OpusDecoder::new(&head, 48_000, false).unwrap();
        let (decoded, concealed) = decoder.decode(&packet);
        prop_assert_eq!(packet_samples(&packet), (!concealed).then_some(decoded.len() as u64 / 2));
    }
}

#[test]
fn lossless_merges_hold_the_samples() {
    let directory = tempfile::tempdir().unwrap();
    let stereo = wav();
    let mut expected = decoded(&stereo, 48_000, 2).unwrap();
    expected.extend_from_within(..);
    for format in [Format::Flac, Format::Wav] {
        let output = directory.path().join(format.extension());
        let report = merge(&[(&stereo, 0), (&stereo, 0)], &output, format).unwrap();
        assert_eq!(report.channels, 2);
        assert!(decoded(&output, 48_000, 2).unwrap() == expected, "{format:?}");
    }
}

#[test]
fn the_first_usable_input_gives_the_shape() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("broken"), b"no audio").unwrap();
    let first = tone(directory.path(), "first.wav", 22_050, 1, 22_050);
    let second = tone(directory.path(), "second.wav", 44_100, 2, 44_100);
    let inputs: [(&Path, u64); 3] = [(&at("broken"), 0), (&first, 0), (&second, 1_000)];
    let report = merge(&inputs, &at("merged.flac"), Format::Flac).unwrap();
    assert_eq!((report.sample_rate, report.channels, report.duration_ms), (22_050, 1, 2_000));
    let report = merge(&inputs, &at("merged.ogg"), Format::Auto).unwrap();
    assert_eq!((report.sample_rate, report.channels, report.duration_ms), (48_000, 1, 2_000));
    assert_eq!(foreign(&at("merged.ogg")).0, 96_000);
    // The tone goes on where the second input begins: it was converted, not reinterpreted.
    let samples = decoded(&at("merged.flac"), 22_050, 1).unwrap();
    let crossings = samples[22_050..].windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
    assert!((438..=442).contains(&crossings), "{crossings} Hz");
}

#[test]
fn lost_inputs_are_named_and_too_many_fail() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let good = tone(directory.path(), "good.wav", 16_000, 1, 16_000);
    let whole = std::fs::read(&good).unwrap();
    std::fs::write(at("half.wav"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(at("page.webm"), b"<!DOCTYPE html>").unwrap();
    let inputs: [(&Path, u64); 3] = [(&good, 0), (&at("page.webm"), 1_000), (&at("half.wav"), 2_000)];
    let report = merge(&inputs, &at("merged.ogg"), Format::Auto).unwrap();
    let told: Vec<_> = report
        .inputs
        .iter()
        .map(|input| (input.status.as_str(), input.code.as_deref(), input.offset_ms, input.duration_ms))
        .collect();
    let expected = [
        ("merged", None, 0, 1_000),
        ("skipped", Some("not_audio"), 1_000, 0),
        ("truncated", Some("truncated"), 1_000, 500),
    ];
    assert_eq!(told, expected);
    let lost = merge(&inputs[..2], &at("merged.ogg"), Format::Auto).unwrap();
    assert_eq!(lost.inputs.len(), 2, "half of the inputs may be lost");
    let inputs: [(&Path, u64); 3] = [(&good, 0), (&at("page.webm"), 0), (&at("page.webm"), 0)];
    let lost = merge(&inputs, &at("merged.ogg"), Format::Auto).unwrap_err();
    assert_eq!(lost, AudioError::TooMuchLost { skipped: 2, inputs: 3 });
    let none = merge(&[], &at("merged.ogg"), Format::Auto).unwrap_err();
    assert_eq!(none.code(), "too_much_lost");
    // A file that is not there is this machine's trouble, and not the recording's.
    let missing = merge(&[(&at("nowhere"), 0)], &at("merged.ogg"), Format::Auto).unwrap_err();
    assert_eq!(missing.code(), "io");
}

#[test]
fn gaps_are_closed_or_filled() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("merged.wav");
    let second = tone(directory.path(), "second.wav", 16_000, 1, 16_000);
    let inputs: [(&Path, u64); 3] = [(&second, 500), (&second, 2_000), (&second, 9_000)];
    let starts = |fill_gaps_ms| {
        let report = merge_with(&inputs, &output, Format::Wav, fill_gaps_ms, Limits::default()).unwrap();
        let starts: Vec<_> = report.inputs.iter().map(|input| input.offset_ms).collect();
        (starts, report.duration_ms)
    };
    assert_eq!(starts(0), (vec![0, 1_000, 2_000], 3_000));
    assert_eq!(starts(499), (vec![0, 1_000, 2_000], 3_000));
    assert_eq!(starts(500), (vec![0, 1_500, 2_500], 3_500));
    assert_eq!(starts(6_000), (vec![0, 1_500, 8_500], 9_500));
    let samples = decoded(&output, 16_000, 1).unwrap();
    assert!(samples[16_000..24_000].iter().all(|sample| *sample == 0));
    assert!(samples[24_000..40_000].iter().any(|sample| *sample > 10_000));
}

#[test]
fn an_input_that_breaks_its_decoder_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let good = tone(directory.path(), "good.wav", 16_000, 1, 16_000);
    let long = tone(directory.path(), "long.wav", 16_000, 1, 16_001);
    let limits = Limits { decoded_ms: 1_000, ..Limits::default() };
    let inputs: [(&Path, u64); 3] = [(&good, 0), (&long, 1_000), (&good, 2_000)];
    let report = merge_with(&inputs, &at("merged.wav"), Format::Wav, 0, limits).unwrap();
    let told: Vec<_> =
        report.inputs.iter().map(|input| (input.status, input.code.as_deref(), input.duration_ms)).collect();
    let (merged, skipped) = (InputStatus::Merged, InputStatus::Skipped);
    assert_eq!(told, [(merged, None, 1_000), (skipped, Some("too_long"), 0), (merged, None, 1_000)]);
    let limits = Limits { output_bytes: 10_000, ..Limits::default() };
    let large = merge_with(&[(&good, 0)], &at("merged.wav"), Format::Wav, 0, limits).unwrap_err();
    assert_eq!(large, AudioError::OutputTooLarge { limit: 10_000 });
}

#[test]
fn a_merged_file_can_be_split_and_merged_again() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    merge(&[(&wav(), 0)], &at("once.ogg"), Format::Auto).unwrap();
    let (report, segments) = split(&at("once.ogg")).unwrap();
    assert!(!report.truncated && segments.len() >= 2);
    let again = merge(&[(&at("once.ogg"), 0)], &at("twice.ogg"), Format::Auto).unwrap();
    // The one counts frames of 16 kHz, the other of 48 kHz; half a millisecond may round either way.
    assert!(
        again.duration_ms.abs_diff(report.duration_ms) <= 1,
        "{} {}",
        again.duration_ms,
        report.duration_ms
    );
}
