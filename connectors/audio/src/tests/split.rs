//! Splitting real files of every format, and what the report says of them.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::{decoded, ffmpeg, speech, split, split_with, wav};
use crate::{Limits, PLAN_VERSION, PlanMs, SegmentAudio, SplitReport};

/// The segments and the silence between them are the decoded recording, sample for sample.
pub(super) fn assert_is_whole(path: &Path, report: &SplitReport, segments: &[SegmentAudio]) {
    let samples = decoded(path, 16_000, 1).unwrap();
    assert_eq!(report.duration_ms, samples.len().div_ceil(16) as u64);
    assert_eq!(report.plan_version, PLAN_VERSION);
    let directory = tempfile::tempdir().unwrap();
    let (mut end_ms, mut silent_ms) = (0, 0);
    for (index, SegmentAudio { segment, flac }) in segments.iter().enumerate() {
        assert_eq!(&report.segments[index], segment);
        assert_eq!(segment.index as usize, index);
        assert_eq!(segment.bytes, flac.len() as u64);
        assert_eq!(segment.sha256, <[u8; 32]>::from(Sha256::digest(flac)));
        assert!(segment.start_ms >= end_ms, "segments overlap");
        silent_ms += segment.start_ms - end_ms;
        end_ms = segment.end_ms;
        let file = directory.path().join("segment.flac");
        std::fs::write(&file, flac).unwrap();
        let at = |ms: u64| samples.len().min(usize::try_from(ms).unwrap() * 16);
        let (from, to) = (at(segment.start_ms), at(segment.end_ms));
        assert!(decoded(&file, 16_000, 1).unwrap() == samples[from..to], "segment {index} differs");
    }
    assert_eq!(report.segments.len(), segments.len());
    assert_eq!(report.silent_ms, silent_ms + report.duration_ms - end_ms);
}

#[test]
fn every_format_is_recognised_by_its_content() {
    let directory = tempfile::tempdir().unwrap();
    let video = ["-f", "lavfi", "-i", "testsrc=d=60:r=5", "-map", "0:a", "-map", "1:v", "-shortest"];
    let with_video = [&video[..], &["-c:v", "mpeg4", "-f", "mp4"]].concat();
    // The name says nothing, so all of them lie. Lossy codecs may add up to 60 ms.
    let formats: [(&str, &str, &[&str]); 16] = [
        ("wav", "pcm_s16le", &["-f", "wav"]),
        ("wav", "pcm_f32le", &["-f", "wav", "-c:a", "pcm_f32le", "-ar", "44100"]),
        ("flac", "flac", &["-f", "flac"]),
        ("mp3", "mp3", &["-f", "mp3", "-ar", "44100"]),
        ("mp4", "aac", &["-f", "ipod", "-c:a", "aac"]),
        ("mp4", "aac", &["-f", "mp4", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"]),
        ("mp4", "aac", &with_video),
        ("mp4", "alac", &["-f", "ipod", "-c:a", "alac"]),
        ("mp4", "opus", &["-f", "mp4", "-c:a", "libopus"]),
        ("aac", "aac", &["-f", "adts", "-c:a", "aac"]),
        ("ogg", "vorbis", &["-f", "ogg", "-c:a", "libvorbis"]),
        ("ogg", "opus", &["-f", "ogg", "-c:a", "libopus"]),
        ("ogg", "opus", &["-f", "ogg", "-c:a", "libopus", "-ac", "6"]),
        ("matroska", "opus", &["-f", "webm", "-c:a", "libopus"]),
        ("matroska", "opus", &["-f", "webm", "-c:a", "libopus", "-live", "1", "-cluster_time_limit", "900"]),
        ("aiff", "pcm_s16be", &["-f", "aiff"]),
    ];
    let expected = split(&wav()).unwrap().0;
    for (number, (container, codec, arguments)) in formats.into_iter().enumerate() {
        let file = directory.path().join(format!("{number}.txt"));
        ffmpeg(&wav(), arguments, &file);
        let (report, segments) = split(&file).unwrap();
        assert_eq!((report.container.as_str(), report.codec.as_str()), (container, codec));
        assert_eq!(report.sample_rate, if arguments.contains(&"44100") { 44_100 } else { 48_000 });
        assert_eq!(report.channels, if arguments.contains(&"6") { 6 } else { 2 });
        assert!(!report.truncated, "{container} {codec} counts as truncated");
        let longer = report.duration_ms.abs_diff(expected.duration_ms);
        assert!(longer <= 60, "{container} {codec} differs by {longer} ms");
        assert!(report.silent_ms.abs_diff(expected.silent_ms) <= 300, "{container} {codec}: {report:?}");
        assert_is_whole(&file, &report, &segments);
    }
}

#[test]
fn silence_is_left_out_and_speech_is_not() {
    let (report, segments) = split(&wav()).unwrap();
    assert_is_whole(&wav(), &report, &segments);
    // Of the 6 s pause, a pad stays at either end.
    assert!((4_500..6_000).contains(&report.silent_ms), "{} ms of silence", report.silent_ms);
    assert!(segments.len() >= 2);
    assert!(segments.iter().all(|audio| !audio.segment.forced_cut), "there are pauses to cut in");
    assert!(segments.iter().all(|audio| audio.segment.end_ms - audio.segment.start_ms <= 25_000));
}

#[test]
fn speech_without_a_pause_is_cut_by_force() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dense.wav");
    let arguments = ["-af", "silenceremove=stop_periods=-1:stop_duration=0.05:stop_threshold=-35dB"];
    ffmpeg(&wav(), &arguments, &file);
    let plan = PlanMs { max_ms: 6_000, ..PlanMs::default() };
    let (report, segments) = split_with(&file, plan, Limits::default()).unwrap();
    assert_is_whole(&file, &report, &segments);
    assert!(segments.iter().any(|audio| audio.segment.forced_cut));
    assert!(segments.iter().all(|audio| audio.segment.end_ms - audio.segment.start_ms <= 6_000));
}

#[test]
fn a_silent_recording_has_no_segments() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("silent.flac");
    super::tool("sox", &["-n", "-r", "44100", "-b", "16", file.to_str().unwrap(), "trim", "0", "20.5"]);
    let (report, segments) = split(&file).unwrap();
    assert_eq!((report.duration_ms, report.silent_ms, segments.len()), (20_500, 20_500, 0));
}

#[test]
fn splitting_again_gives_the_same_bytes() {
    let file = speech().join("again.ogg");
    ffmpeg(&wav(), &["-c:a", "libopus"], &file);
    assert_eq!(split(&file).unwrap(), split(&file).unwrap());
}

#[test]
fn chained_ogg_streams_are_read_to_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one.ogg"), directory.path().join("two.ogg"));
    ffmpeg(&wav(), &["-c:a", "libopus", "-t", "4"], &one);
    let bytes = std::fs::read(&one).unwrap();
    std::fs::write(&two, [&bytes[..], &bytes[..]].concat()).unwrap();
    let (report, segments) = split(&two).unwrap();
    assert_eq!(report.duration_ms, 8_000);
    assert_is_whole(&two, &report, &segments);
}
