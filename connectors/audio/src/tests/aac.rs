//! Merging AAC: packets that are copied into MP4, and what is merged where they cannot be.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::{self, StreamExt as _};
use hansard_jobs::ports::{Audio as _, MergeSource, Merged, Recording};
use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;

use super::merge::{foreign, merge, merge_with, packets, tone};
use super::{child, decoded, ffmpeg};
use crate::aac::AacConfig;
use crate::mp4::{Mp4File, PACKETS_MAX};
use crate::outline::{self, Ticks};
use crate::protocol::{Copied, Packets, Shape};
use crate::source::Part;
use crate::{AudioError, AudioPath, Decoder, Format, InputStatus, Limits, PlanMs};

/// Samples per channel of one packet.
const FRAME: u64 = 1_024;

/// As Safari's recorder writes it.
const FRAGMENTED: [&str; 6] = ["-c:a", "aac", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov"];

/// The packets' sizes and hashes as ffmpeg reads them.
fn foreign_packets(path: &Path) -> Vec<String> {
    let from = path.to_str().unwrap();
    let arguments = ["-v", "error", "-i", from, "-map", "0:a", "-c", "copy", "-f", "framemd5", "-"];
    let ended = Command::new("ffmpeg").args(arguments).output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    let told = String::from_utf8(ended.stdout).unwrap();
    let packets = told.lines().filter(|line| !line.starts_with('#'));
    packets.map(|line| line.split(',').skip(4).take(2).collect()).collect()
}

/// What ffprobe says of a file's only stream.
fn probed(path: &Path, what: &str) -> String {
    let entries = format!("stream={what}");
    let arguments = ["-v", "error", "-show_entries", &entries, "-of", "csv=p=0", path.to_str().unwrap()];
    let ended = Command::new("ffprobe").args(arguments).output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    String::from_utf8(ended.stdout).unwrap().trim().to_owned()
}

/// Where a packet lies in a file.
fn place(bytes: &[u8], packet: &[u8]) -> usize {
    bytes.windows(packet.len()).position(|window| window == packet).unwrap()
}

fn crossings(samples: &[i16]) -> usize {
    samples.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count()
}

fn ms(samples: u64) -> u64 {
    (samples * 1_000).div_ceil(48_000)
}

#[test]
fn aac_packets_are_copied_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let tone = tone(directory.path(), "tone.wav", 48_000, 1, 100_001);
    ffmpeg(&tone, &["-c:a", "aac"], &at("one.m4a"));
    ffmpeg(&tone, &["-c:a", "aac", "-b:a", "96k"], &at("two.aac"));
    ffmpeg(&tone, &FRAGMENTED, &at("three.mp4"));
    ffmpeg(&tone, &["-c:a", "aac", "-b:a", "32k"], &at("four.m4a"));
    let inputs = ["one.m4a", "two.aac", "three.mp4", "four.m4a"].map(at);
    let merged = at("merged");
    let places: Vec<(&Path, u64)> = inputs.iter().map(|input| (input.as_path(), 0)).collect();
    let report = merge(&places, &merged, Format::Auto).unwrap();
    assert_eq!((report.format, report.sample_rate, report.channels), (Format::Mp4, 48_000, 1));
    let (mut all, mut starts, mut samples) = (Vec::new(), Vec::new(), 0);
    for input in &inputs {
        let (packets, more, _) = packets(input);
        starts.push(ms(samples.max(FRAME) - FRAME));
        samples += more;
        all.extend(packets);
    }
    let (copied, as_many, padding) = packets(&merged);
    assert!(copied == all, "{} packets of {}", copied.len(), all.len());
    // The sound ends with the last sample: ffmpeg's delay is one packet.
    assert_eq!((as_many, padding), (samples, (FRAME - (100_001 + FRAME) % FRAME) % FRAME));
    let played = samples - padding - FRAME;
    assert_eq!(report.duration_ms, ms(played));
    let offsets: Vec<u64> = report.inputs.iter().map(|input| input.offset_ms).collect();
    assert_eq!(offsets, starts);
    assert!(report.inputs.iter().all(|input| input.status == InputStatus::Merged));
    let (heard, said) = foreign(&merged);
    assert_eq!(
        (heard as u64, said.as_str()),
        (samples - FRAME, ""),
        "all but the delay, to the last packet's end"
    );
    let from_mp4 = [&inputs[0], &inputs[2], &inputs[3]].map(|input| foreign_packets(input));
    let theirs = foreign_packets(&merged);
    let first = from_mp4[0].len();
    assert_eq!(theirs[..first], from_mp4[0]);
    assert_eq!(theirs[theirs.len() - from_mp4[2].len()..], from_mp4[2]);
    let third = theirs.len() - from_mp4[2].len() - from_mp4[1].len();
    assert_eq!(theirs[third..][..from_mp4[1].len()], from_mp4[1]);
    let seconds: f64 = probed(&merged, "duration").parse().unwrap();
    assert!((seconds * 48_000.0 - played as f64).abs() < 1.0, "{seconds}");
    assert_eq!(
        probed(&merged, "codec_name,profile,sample_rate,channels,nb_frames"),
        format!("aac,LC,48000,1,{}", all.len())
    );
}

#[test]
fn every_packet_can_be_sought() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let low = tone(directory.path(), "low.wav", 44_100, 2, 88_200);
    ffmpeg(&low, &["-c:a", "aac", "-b:a", "96k"], &at("low.m4a"));
    ffmpeg(&low, &["-af", "asetrate=88200,aresample=44100", "-c:a", "aac"], &at("high.aac"));
    let merged = at("merged");
    let inputs: [(&Path, u64); 3] = [(&at("low.m4a"), 0), (&at("high.aac"), 0), (&at("low.m4a"), 0)];
    let report = merge(&inputs, &merged, Format::Auto).unwrap();
    assert_eq!((report.format, report.channels), (Format::Mp4, 2));
    for (input, tone) in report.inputs.iter().zip([440, 880, 440]) {
        let start = format!("{}ms", input.offset_ms + 200);
        let piece = at("piece.wav");
        ffmpeg(&merged, &["-ss", &start, "-t", "0.5", "-ac", "1"], &piece);
        let heard = crossings(&decoded(&piece, 44_100, 1).unwrap());
        assert!(heard.abs_diff(tone / 2) <= 2, "{heard} of {tone} at {start}");
    }
    let whole = decoded(&merged, 44_100, 1).unwrap();
    // Its edit list leaves out the first recording's delay.
    assert_eq!(whole.len() as u64 + FRAME, packets(&merged).1, "what we read of our own");
}

#[test]
fn gaps_between_copied_packets_are_silent_packets() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for channels in [1, 2] {
        let tone = tone(directory.path(), "tone.wav", 48_000, channels, 48_000);
        ffmpeg(&tone, &["-c:a", "aac"], &at("tone.m4a"));
        let inputs: [(&Path, u64); 2] = [(&at("tone.m4a"), 0), (&at("tone.m4a"), 2_000)];
        let merged = at("merged");
        let report = merge_with(&inputs, &merged, Format::Auto, 5_000, Limits::default()).unwrap();
        assert!(report.inputs[1].offset_ms.abs_diff(2_000) <= 22, "{report:?}");
        assert_eq!(foreign(&merged).1, "");
        let samples = decoded(&merged, 48_000, 1).unwrap();
        let silence = &samples[48 * 1_080..48 * 1_950];
        assert!(silence.iter().all(|sample| *sample == 0), "{:?}", silence.iter().max());
        assert!(samples[48 * 2_100..48 * 2_900].iter().any(|sample| *sample > 1_000));
        let whole: u64 = packets(&at("tone.m4a")).1;
        let silent = (packets(&merged).1 - 2 * whole) / FRAME;
        let gap = 2 * FRAME * silent / 96;
        assert!(gap.abs_diff(2_000 - report.inputs[0].duration_ms) <= 11, "{gap}");
    }
}

#[test]
fn a_cut_or_damaged_recording_is_copied_as_far_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let tone = tone(directory.path(), "tone.wav", 48_000, 1, 96_000);
    ffmpeg(&tone, &["-c:a", "aac"], &at("whole.aac"));
    ffmpeg(&tone, &["-c:a", "aac", "-movflags", "faststart"], &at("whole.m4a"));
    ffmpeg(&tone, &FRAGMENTED, &at("whole.mp4"));
    let (whole, ..) = packets(&at("whole.aac"));
    for name in ["whole.aac", "whole.m4a", "whole.mp4"] {
        let bytes = std::fs::read(at(name)).unwrap();
        std::fs::write(at("cut"), &bytes[..place(&bytes, &whole[60]) + 9]).unwrap();
        let inputs: [(&Path, u64); 2] = [(&at("cut"), 0), (&at(name), 2_000)];
        let report = merge(&inputs, &at("merged"), Format::Auto).unwrap();
        let told: Vec<_> = report.inputs.iter().map(|input| (input.status, input.code.as_deref())).collect();
        assert_eq!(
            told,
            [(InputStatus::Truncated, Some("truncated")), (InputStatus::Merged, None)],
            "{name}"
        );
        let (copied, ..) = packets(&at("merged"));
        assert!(copied[..60] == whole[..60] && copied[60..] == whole, "{name}");
        assert_eq!(foreign(&at("merged")).1, "", "{name}");
    }
    let mut bytes = std::fs::read(at("whole.m4a")).unwrap();
    let damaged = place(&bytes, &whole[30]);
    bytes[damaged] = 0xff;
    std::fs::write(at("damaged"), bytes).unwrap();
    let report = merge(&[(&at("damaged"), 0)], &at("merged"), Format::Auto).unwrap();
    assert_eq!(report.inputs[0].code.as_deref(), Some("truncated"));
    let (mut copied, ..) = packets(&at("merged"));
    assert_eq!(*copied[30], *AacConfig::new(48_000, 1).unwrap().silence());
    copied[30].clone_from(&whole[30]);
    assert!(copied == whole, "what follows stays in its place");
    assert_eq!(foreign(&at("merged")).1, "");
}

/// An input of each kind that cannot follow AAC-LC of 48 kHz and one channel in an MP4, behind which it is `first`.
fn unlike(directory: &Path) -> (PathBuf, Vec<PathBuf>) {
    let at = |name: &str| directory.join(name);
    let mono = tone(directory, "mono.wav", 48_000, 1, 48_000);
    let (slow, stereo) =
        (tone(directory, "slow.wav", 44_100, 1, 44_100), tone(directory, "stereo.wav", 48_000, 2, 48_000));
    ffmpeg(&mono, &["-c:a", "aac"], &at("first.m4a"));
    ffmpeg(&slow, &["-c:a", "aac"], &at("slow.m4a"));
    ffmpeg(&stereo, &["-c:a", "aac"], &at("stereo.aac"));
    ffmpeg(&mono, &["-c:a", "libopus"], &at("opus.webm"));
    // Its edit list has several pieces.
    ffmpeg(&mono, &["-c:a", "aac"], &at("long.m4a"));
    ffmpeg(&at("long.m4a"), &["-ss", "0.5", "-c", "copy"], &at("edited.m4a"));
    let mut edited = std::fs::read(at("edited.m4a")).unwrap();
    let list = edited.windows(4).position(|name| name == b"elst").unwrap();
    // What was a pause at the start is a piece of its own: a quarter of a second from the second quarter on.
    edited[list + 12..list + 16].copy_from_slice(&250_u32.to_be_bytes());
    edited[list + 16..list + 20].copy_from_slice(&12_000_u32.to_be_bytes());
    std::fs::write(at("edited.m4a"), edited).unwrap();
    let names = ["slow.m4a", "stereo.aac", "opus.webm", "edited.m4a", "mono.wav"];
    (at("first.m4a"), names.map(at).to_vec())
}

#[test]
fn what_is_not_alike_is_not_copied() {
    let directory = tempfile::tempdir().unwrap();
    let (first, others) = unlike(directory.path());
    let merged = directory.path().join("merged");
    for other in &others {
        let refused = merge(&[(&first, 0), (other, 1_000)], &merged, Format::Auto).unwrap_err();
        assert!(matches!(refused, AudioError::CannotCopy { .. }), "{other:?}: {refused}");
        let opus = merge(&[(&first, 0), (other, 1_000)], &merged, Format::OPUS).unwrap();
        assert!(opus.inputs.iter().all(|input| input.status == InputStatus::Merged), "{opus:?}");
    }
    // The first that is usable decides.
    let webm = others.iter().find(|other| other.ends_with("opus.webm")).unwrap();
    let opus = merge(&[(webm, 0), (&first, 1_000)], &merged, Format::Auto).unwrap();
    assert_eq!(opus.format, Format::OPUS);
    let page = directory.path().join("page.mp4");
    std::fs::write(&page, b"<!DOCTYPE html>").unwrap();
    let copied = merge(&[(&page, 0), (&first, 0), (&first, 0)], &merged, Format::Auto).unwrap();
    assert_eq!((copied.format, copied.inputs[0].status), (Format::Mp4, InputStatus::Skipped));
    let refused = merge(&[(webm, 0)], &merged, Format::Mp4).unwrap_err();
    assert_eq!(refused.code(), "cannot_copy");
}

/// Merges as the stage does; gives how often the first recording was opened, too.
fn merge_by_port(inputs: &[PathBuf], format: Format) -> (Merged, Vec<u8>, usize) {
    let directory = tempfile::tempdir().unwrap();
    let path = AudioPath {
        decoder: Decoder::new(child(), Limits::default()),
        plan: PlanMs::default(),
        format,
        fill_gaps_ms: 0,
        lost_share_max: 0.5,
        directory: directory.path().to_owned(),
        recording_bytes_max: 1 << 20,
    };
    let opened = AtomicUsize::new(0);
    let sources = || {
        opened.fetch_add(1, Ordering::Relaxed);
        let sources: Vec<MergeSource> = inputs
            .iter()
            .map(|input| {
                let bytes = std::fs::read(input).unwrap().into();
                let recording = Ok(Recording { body: stream::iter([Ok(bytes)]).boxed(), header: None });
                MergeSource { chunk_id: input.display().to_string(), offset_ms: 0, recording }
            })
            .collect();
        stream::iter(sources).boxed()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut merged = path.merge(&sources).await.unwrap();
        let mut bytes = Vec::new();
        merged.file.as_mut().unwrap().body.read_to_end(&mut bytes).await.unwrap();
        (merged, bytes, opened.load(Ordering::Relaxed))
    })
}

#[test]
fn a_merge_that_cannot_be_copied_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    let (first, others) = unlike(directory.path());
    let (merged, bytes, opened) = merge_by_port(&[first.clone(), first.clone()], Format::Auto);
    let file = merged.file.unwrap();
    assert_eq!((file.extension, file.content_type, opened), ("m4a", "audio/mp4", 1));
    assert_eq!((file.bytes, &bytes[4..8]), (i64::try_from(bytes.len()).unwrap(), &b"ftyp"[..]));
    let (merged, bytes, opened) = merge_by_port(&[first.clone(), others[0].clone()], Format::Auto);
    let file = merged.file.unwrap();
    assert_eq!((file.extension, file.content_type, opened), ("ogg", "audio/ogg", 2));
    assert_eq!(&bytes[..4], b"OggS");
    assert!(merged.inputs.iter().all(|input| input.status == "merged") && merged.inputs.len() == 2);
    let (merged, _, opened) = merge_by_port(&[first], Format::Flac);
    assert_eq!((merged.file.unwrap().extension, opened), ("flac", 1));
}

#[test]
fn an_mp4_has_no_more_packets_than_its_table_may() {
    let shape =
        Shape { sample_rate: 48_000, channels: 1, copied: Some(Copied { packets: Packets::Aac, delay: 0 }) };
    let file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create("/dev/null").unwrap());
    let mut mp4 = Mp4File::new(file, shape).unwrap();
    for _ in 0..PACKETS_MAX {
        mp4.copy(&[0]).unwrap();
    }
    assert_eq!(mp4.copy(&[0]).unwrap_err().code(), "cannot_copy");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_edit_list_that_lies_is_read_without_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
    ) {
        let edits_of = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            outline::of_mp4(&Part::new(file, Vec::new(), 0..bytes.len() as u64)).unwrap().tracks
        };
        let list = b"\0\0\0\x1celst\0\0\0\0\0\0\0\x01\0\0\x10\0\0\0\x04\0\0\x01\0\0";
        let within = |name: &[u8], body: &[u8]| {
            [&u32::try_from(body.len() + 8).unwrap().to_be_bytes()[..], name, body].concat()
        };
        let header = within(b"tkhd", &[&[0; 12][..], &[0, 0, 0, 1], &[0; 8]].concat());
        let scale = within(b"mdhd", &[&[0; 12][..], &48_000_u32.to_be_bytes(), &[0; 8]].concat());
        let media = within(b"mdia", &[scale, within(b"hdlr", b"\0\0\0\0\0\0\0\0soun")].concat());
        let track = within(b"trak", &[header, within(b"edts", list), media].concat());
        let mut bytes = within(b"moov", &track);
        let delay = Some(Ticks { count: 1_024, per_second: 48_000 });
        prop_assert_eq!(edits_of(&bytes)[0].delay, delay);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.truncate(length.index(bytes.len()) + 1);
        prop_assert!(edits_of(&bytes).len() <= 1);
    }
}
