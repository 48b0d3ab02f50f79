//! Files that are not what they seem, and the edges of every limit.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{child, ffmpeg, speech, split, split_with, tool, wav};
use crate::flac::{BLOCK, FlacEncoder, Totals};
use crate::protocol::{Kind, write_json};
use crate::{AudioError, Class, Decoder, Limits, PlanMs, SplitReport, SplitRequest};

fn code(path: &Path) -> &'static str {
    split(path).unwrap_err().code()
}

fn pseudo_random(count: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(next).collect()
}

#[test]
fn each_bad_file_gets_its_code() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    assert_eq!(code(&file("empty.webm", b"")), "empty");
    assert_eq!(code(&file("page.webm", b"<!DOCTYPE html><title>404 Not Found</title>")), "not_audio");
    assert_eq!(code(&file("random.mp3", &pseudo_random(700_000))), "not_audio");
    assert_eq!(code(&file("zero.ogg", &[0; 100_000])), "not_audio");
    let webm = directory.path().join("whole.webm");
    ffmpeg(&wav(), &["-c:a", "libopus"], &webm);
    let whole = std::fs::read(&webm).unwrap();
    assert_eq!(code(&file("header.webm", &whole[..150])), "corrupt");
    let silent_film = directory.path().join("film.mp4");
    tool(
        "ffmpeg",
        &["-loglevel", "error", "-f", "lavfi", "-i", "testsrc=d=1", silent_film.to_str().unwrap()],
    );
    assert_eq!(code(&silent_film), "no_audio_track");
    let caf = directory.path().join("whole.caf");
    ffmpeg(&wav(), &["-c:a", "pcm_s16be"], &caf);
    let mut absurd = std::fs::read(&caf).unwrap();
    assert_eq!(&absurd[8..12], b"desc");
    // Bytes of a packet.
    absurd[36] = 0x20;
    assert_eq!(code(&file("absurd.caf", &absurd)), "corrupt");
    let foreign = directory.path().join("ac3.mkv");
    ffmpeg(&wav(), &["-c:a", "ac3"], &foreign);
    assert_eq!(code(&foreign), "unsupported_codec");
    assert_eq!(code(&directory.path().join("nowhere.ogg")), "io");
}

#[test]
fn a_truncated_file_gives_what_can_be_decoded() {
    let directory = tempfile::tempdir().unwrap();
    let formats: [(&str, &[&str]); 7] = [
        ("a.wav", &[]),
        ("a.flac", &[]),
        ("a.ogg", &["-c:a", "libopus"]),
        ("a.webm", &["-c:a", "libopus"]),
        ("live.webm", &["-c:a", "libopus", "-live", "1"]),
        ("a.m4a", &["-movflags", "faststart"]),
        ("frag.mp4", &["-movflags", "frag_keyframe+empty_moov", "-frag_duration", "500000"]),
    ];
    for (name, arguments) in formats {
        let whole = directory.path().join(name);
        ffmpeg(&wav(), arguments, &whole);
        let bytes = std::fs::read(&whole).unwrap();
        let duration_ms = split(&whole).unwrap().0.duration_ms;
        for percent in [30, 61, 97] {
            let part = directory.path().join("part");
            std::fs::write(&part, &bytes[..bytes.len() * percent / 100]).unwrap();
            let (report, _) = split(&part).unwrap();
            assert!(report.truncated, "{name} at {percent} %");
            let share = report.duration_ms as f64 / duration_ms as f64 * 100.0;
            assert!((share - percent as f64).abs() < 15.0, "{name} at {percent} %: {share} % decoded");
        }
    }
}

#[test]
fn damage_in_the_middle_costs_only_its_place() {
    let directory = tempfile::tempdir().unwrap();
    for (name, arguments) in [("a.ogg", &["-c:a", "libopus"][..]), ("a.mp3", &[]), ("a.flac", &[])] {
        let file = directory.path().join(name);
        ffmpeg(&wav(), arguments, &file);
        let whole = split(&file).unwrap().0;
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        for byte in &mut bytes[middle..middle + 300] {
            *byte ^= 0x5a;
        }
        std::fs::write(&file, bytes).unwrap();
        let damaged = split(&file).unwrap().0;
        let lost = whole.duration_ms.saturating_sub(damaged.duration_ms);
        assert!(lost < 2_000, "{name} lost {lost} ms");
    }
}

#[test]
fn numbers_that_are_none_become_silence() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nan.wav");
    ffmpeg(&wav(), &["-c:a", "pcm_f32le", "-ac", "1", "-ar", "16000"], &file);
    let mut bytes = std::fs::read(&file).unwrap();
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
    let start = bytes.len() / 8 * 4;
    for (place, value) in bytes[start..start + 4_000].chunks_exact_mut(4).zip(odd.iter().cycle()) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(&file, bytes).unwrap();
    let (report, segments) = split(&file).unwrap();
    assert_eq!(report.duration_ms, split(&wav()).unwrap().0.duration_ms);
    assert!(!segments.is_empty());
}

#[test]
fn a_small_file_that_holds_hours_is_refused_at_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let bomb = directory.path().join("bomb.flac");
    // Two hours at 8 kHz, to the sample.
    let (mut encoder, mut bytes) = (FlacEncoder::new(8_000, 1), Vec::new());
    bytes.extend(FlacEncoder::header(8_000, 1, Totals::default()));
    let silence = [0; BLOCK];
    let mut left = 2 * 3_600 * 8_000;
    while left > 0 {
        let block = left.min(BLOCK);
        encoder.encode(&silence[..block], &mut bytes);
        left -= block;
    }
    assert!(bytes.len() < 250_000, "{} bytes", bytes.len());
    std::fs::write(&bomb, bytes).unwrap();
    let limits = Limits { decoded_ms: 7_200_000, ..Limits::default() };
    assert_eq!(split_with(&bomb, PlanMs::default(), limits).unwrap().0.duration_ms, 7_200_000);
    let limits = Limits { decoded_ms: 7_199_999, ..Limits::default() };
    let refused = split_with(&bomb, PlanMs::default(), limits).unwrap_err();
    assert_eq!(refused, AudioError::TooLong { limit_ms: 7_199_999 });
}

#[test]
fn counts_and_bytes_are_limited_at_their_edge() {
    let (report, _) = split(&wav()).unwrap();
    let count = u32::try_from(report.segments.len()).unwrap();
    let bytes: u64 = report.segments.iter().map(|segment| segment.bytes).sum();
    let with = |segments, output_bytes| {
        split_with(&wav(), PlanMs::default(), Limits { segments, output_bytes, ..Limits::default() })
    };
    assert_eq!(with(count, bytes).unwrap().0, report);
    assert_eq!(with(count - 1, bytes).unwrap_err(), AudioError::TooManySegments { limit: count - 1 });
    assert_eq!(with(count, bytes - 1).unwrap_err(), AudioError::OutputTooLarge { limit: bytes - 1 });
}

#[test]
fn time_and_memory_are_limited() {
    let with = |limits| split_with(&wav(), PlanMs::default(), limits).unwrap_err();
    let small = with(Limits { memory_bytes: 8 << 20, ..Limits::default() });
    assert_eq!((small.code(), small.class()), ("decode_limit", Class::Permanent), "{small}");
    let spent = with(Limits { cpu_seconds: 0, ..Limits::default() });
    assert_eq!((spent.code(), spent.class()), ("decode_limit", Class::Permanent), "{spent}");
    let late = with(Limits { wall_seconds: 0, ..Limits::default() });
    assert_eq!((late.code(), late.class()), ("decode_timeout", Class::Transient), "{late}");
}

#[test]
fn a_receiver_that_stops_ends_the_child() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        drop(receiver);
        let decoder = Decoder::new(child(), Limits::default());
        let request = SplitRequest { path: wav(), header: None, plan: PlanMs::default() };
        assert_eq!(decoder.split(request, sender).await.unwrap_err(), AudioError::Cancelled);
        // A full channel that nobody reads runs into the clock, not into memory.
        let (sender, _receiver) = tokio::sync::mpsc::channel(1);
        let decoder = Decoder::new(child(), Limits { wall_seconds: 1, ..Limits::default() });
        let request =
            SplitRequest { path: wav(), header: None, plan: PlanMs { max_ms: 6_000, ..PlanMs::default() } };
        let began = Instant::now();
        let late = decoder.split(request, sender).await.unwrap_err();
        assert_eq!(late, AudioError::DecodeTimeout { limit_seconds: 1 });
        assert!(began.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_program_that_is_no_child_is_found_out() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = |program: &str| {
        let decoder = Decoder::new(program, Limits { wall_seconds: 5, ..Limits::default() });
        let (sender, _receiver) = tokio::sync::mpsc::channel(1);
        let request = SplitRequest { path: wav(), header: None, plan: PlanMs::default() };
        runtime.block_on(decoder.split(request, sender)).unwrap_err()
    };
    assert_eq!(run("/bin/false").code(), "decode_crashed");
    assert_eq!(run("/bin/echo").code(), "protocol");
    assert_eq!(run("/no/such/program").code(), "io");
    let script = speech().join("dies.sh");
    std::fs::write(&script, "#!/bin/sh\nread line\nkill -SEGV $$\n").unwrap();
    tool("chmod", &["+x", script.to_str().unwrap()]);
    let crashed = run(script.to_str().unwrap());
    assert_eq!((crashed.code(), crashed.class()), ("decode_crashed", Class::Defect));
}

#[test]
fn a_child_that_has_reported_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mut frame = Vec::new();
    let report = SplitReport {
        duration_ms: 1,
        codec: "opus".to_owned(),
        container: "ogg".to_owned(),
        sample_rate: 48_000,
        channels: 1,
        truncated: false,
        silent_ms: 1,
        plan_version: "1".to_owned(),
        peaks: Default::default(),
        segments: Vec::new(),
    };
    write_json(&mut frame, Kind::Report, &report).unwrap();
    std::fs::write(at("frame"), frame).unwrap();
    // It lives on until its input is closed, and only then leaves its mark.
    let script = "#!/bin/sh\ncd \"${0%/*}\"\nread line\n/bin/cat frame\n/bin/cat >/dev/null\n: >ended\n";
    std::fs::write(at("lingers.sh"), script).unwrap();
    tool("chmod", &["+x", at("lingers.sh").to_str().unwrap()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let decoder = Decoder::new(at("lingers.sh"), Limits::default());
    let (sender, _receiver) = tokio::sync::mpsc::channel(1);
    let request = SplitRequest { path: wav(), header: None, plan: PlanMs::default() };
    assert_eq!(runtime.block_on(decoder.split(request, sender)).unwrap(), report);
    assert!(at("ended").exists(), "the child was killed or left behind");
}

#[test]
fn codes_are_what_travels() {
    let errors = [
        AudioError::Empty,
        AudioError::Cancelled,
        AudioError::NoHeader { detail: "WAV".to_owned() },
        AudioError::NoAudioTrack { container: "mp4".to_owned() },
        AudioError::TooLong { limit_ms: 1 },
        AudioError::DecodeLimit { limit: "x".to_owned() },
        AudioError::TooMuchLost { skipped: 1, inputs: 2 },
        AudioError::CannotCopy { detail: "x".to_owned() },
    ];
    for error in errors {
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json["code"], error.code());
        assert_eq!(serde_json::from_value::<AudioError>(json).unwrap(), error);
    }
}
