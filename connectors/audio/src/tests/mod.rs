//! Tests of the whole crate: they run the real child, real encoders and real files, all made at test time.

mod aac;
mod bad;
mod corpus;
mod cut;
mod flac;
mod hostile;
mod merge;
mod mutate;
mod ogg;
mod outline;
mod parse;
mod resample;
mod sandbox;
mod slices;
mod split;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::decode::{Media, Wish};
use crate::resample::Converter;
use crate::slice::Recording;
use crate::{AudioError, Decoder, Limits, PlanMs, SegmentAudio, SplitReport, SplitRequest};

/// The child program, built from the sources under test. Cargo does not build a binary for the library's tests.
fn child() -> &'static Path {
    static CHILD: OnceLock<PathBuf> = OnceLock::new();
    CHILD.get_or_init(|| {
        // `tests/run` has built it already.
        if let Some(built) = std::env::var_os("HANSARD_TEST_AUDIO_CHILD") {
            return PathBuf::from(built);
        }
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let name = profile.file_name().unwrap().to_str().unwrap();
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--offline",
                "--package",
                "hansard-audio",
                "--bin",
                "hansard-audio-child",
            ])
            .args(["--profile", if name == "debug" { "dev" } else { name }, "--target-dir"])
            .arg(profile.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success(), "the child program did not build");
        profile.join("hansard-audio-child")
    })
}

/// Runs a program that makes test audio; a missing one is named.
fn tool(program: &str, arguments: &[&str]) {
    let ended = Command::new(program).args(arguments).output().unwrap_or_else(|cause| {
        panic!("{program} is needed ({cause}): apt-get install ffmpeg sox espeak-ng opus-tools npm")
    });
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program} {arguments:?}: {said}");
}

/// Makes a file with ffmpeg from another.
fn ffmpeg(from: &Path, arguments: &[&str], to: &Path) {
    let mut all = vec!["-loglevel", "error", "-y", "-i", from.to_str().unwrap()];
    all.extend(arguments);
    all.push(to.to_str().unwrap());
    tool("ffmpeg", &all);
}

/// A directory with `speech.wav`: spoken sentences at 48 kHz stereo, about 35 s, with pauses of 0.6 s, and one of
/// 6 s in the middle.
fn speech() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let make = || {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let sentences = [
            "Good morning everybody, and thank you for coming to the meeting today.",
            "We would like to talk about how the neighbourhood uses the park.",
            "Some of you have written to us about the benches near the water.",
            "Others would rather see more trees, and a path for children on bicycles.",
            "Please tell us what you think, and we will write all of it down.",
            "After the break we shall vote on the three plans on the table.",
        ];
        let mut parts = Vec::new();
        for (index, sentence) in sentences.iter().enumerate() {
            let pause = if index == 2 { "6" } else { "0.6" };
            let (raw, part) = (at(&format!("raw{index}.wav")), at(&format!("part{index}.wav")));
            tool("espeak-ng", &["-s", "150", "-w", &raw, sentence]);
            tool("sox", &[&raw, "-r", "48000", "-c", "2", &part, "pad", "0", pause]);
            parts.push(part);
        }
        let mut arguments: Vec<&str> = parts.iter().map(String::as_str).collect();
        let speech = at("speech.wav");
        arguments.push(&speech);
        tool("sox", &arguments);
        directory
    };
    MADE.get_or_init(make).path()
}

fn wav() -> PathBuf {
    speech().join("speech.wav")
}

/// All samples of a file as split or merge see them.
fn decoded(path: &Path, rate: u32, channels: u8) -> Result<Vec<i16>, AudioError> {
    samples_of(&Recording::whole(path), rate, channels)
}

/// The same of any recording.
fn samples_of(recording: &Recording, rate: u32, channels: u8) -> Result<Vec<i16>, AudioError> {
    let mut media = Media::open(recording, Wish { rate: Some(rate), channels: Some(channels) })?;
    let mut converter = Converter::new(rate, channels);
    let mut samples = Vec::new();
    while let Some(block) = media.read()? {
        converter.push(block.rate, block.samples, &mut samples)?;
    }
    converter.finish(&mut samples)?;
    Ok(samples)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Splits in a real child and collects everything.
fn split_with(
    path: &Path,
    plan: PlanMs,
    limits: Limits,
) -> Result<(SplitReport, Vec<SegmentAudio>), AudioError> {
    runtime().block_on(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let decoder = Decoder::new(child(), limits);
        let request = SplitRequest { path: path.to_owned(), header: None, plan };
        let collect = async {
            let mut all = Vec::new();
            while let Some(segment) = receiver.recv().await {
                all.push(segment);
            }
            all
        };
        let (report, all) = tokio::join!(decoder.split(request, sender), collect);
        report.map(|report| (report, all))
    })
}

fn split(path: &Path) -> Result<(SplitReport, Vec<SegmentAudio>), AudioError> {
    split_with(path, PlanMs::default(), Limits::default())
}
