//! Files made to hurt: each is answered with a report or a code, within its limits, and the process that asked is none
//! the worse. Most are new in each run; a seed stands in every complaint.
//!
//! `HANSARD_SEED=x` takes the one file of that seed; `HANSARD_TEST_FULL=1` takes twenty times as many.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::mutate::{Corpus, absurd, crashes, opus_bomb};
use super::{child, ffmpeg, runtime, split, split_with, tool, wav};
use crate::{
    AudioError, Decoder, Format, InputStatus, Limits, MergeInput, MergeReport, MergeRequest, PlanMs,
};

/// New files of one run.
const FRESH: u64 = 1_000;

/// New files of a long run.
const FRESH_FULL: u64 = 20_000;

/// Of the new files, one in so many goes through a merge as well.
const MERGED: usize = 16;

/// Children at a time.
const WORKERS: usize = 2;

/// Seeds whose files once were answered wrongly.
const ONCE_RED: [u64; 5] = [
    1_795_666_764_920_442,
    1_795_666_764_925_045,
    1_795_666_764_926_300,
    1_795_727_976_143_605,
    1_795_727_976_153_058,
];

/// Of so many files one may end in a panic, at most. In 20,000 there were 15.
const PANIC_SHARE: u32 = 200;

/// What the process that asks may grow by from the hundredth file to the last, in KiB.
const GROWTH_KIB_MAX: u64 = 8 << 10;

/// Packages that are known to panic on damaged files, which costs nothing but the file: the child answers for it.
const PANIC: [&str; 4] =
    ["symphonia-codec-pcm-", "symphonia-format-caf-", "symphonia-format-isomp4-", "symphonia-format-riff-"];

/// Says that this is the process of its own, in which memory is measured.
const APART: &str = "HANSARD_TEST_HOSTILE_APART";

/// Far above what an honest second of audio takes.
fn limits() -> Limits {
    Limits {
        decoded_ms: 60_000,
        cpu_seconds: 5,
        wall_seconds: 60,
        memory_bytes: 128 << 20,
        ..Limits::default()
    }
}

/// A file to be answered.
enum Case {
    Given(String, Vec<u8>),
    Seed(u64),
}

fn cases(corpus: &Corpus) -> Vec<Case> {
    if let Some(seed) = std::env::var("HANSARD_SEED").ok().map(|text| text.parse().unwrap()) {
        return vec![Case::Seed(seed)];
    }
    let mut cases: Vec<Case> = absurd().into_iter().map(|(name, bytes)| Case::Given(name, bytes)).collect();
    cases.extend(crashes().into_iter().map(|file| {
        Case::Given(file.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(file).unwrap())
    }));
    for (name, bytes) in &corpus.files {
        let cut = |length: usize| Case::Given(format!("{length} bytes of {name}"), bytes[..length].to_vec());
        cases.extend((1_024..bytes.len()).step_by(1_024).map(cut));
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = u64::try_from(clock.as_micros()).unwrap();
    let full = std::env::var_os("HANSARD_TEST_FULL").is_some();
    let fresh = if full { FRESH_FULL } else { FRESH };
    cases.extend(ONCE_RED.into_iter().chain(first..first + fresh).map(Case::Seed));
    cases
}

/// The resident memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What all workers share.
struct Hunt {
    cases: Vec<Case>,
    corpus: Corpus,
    good: PathBuf,
    next: AtomicUsize,
    /// How often each answer was given.
    answers: Mutex<BTreeMap<String, u32>>,
    wrong: Mutex<Vec<String>>,
    warm_kib: AtomicUsize,
}

impl Hunt {
    /// Takes files until there are no more.
    fn work(&self, directory: &Path) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index == 100 {
                self.warm_kib.store(usize::try_from(resident_kib()).unwrap(), Ordering::Relaxed);
            }
            let Some(case) = self.cases.get(index) else { return };
            let (name, bytes) = match case {
                Case::Given(name, bytes) => (name.clone(), bytes.clone()),
                Case::Seed(seed) => self.corpus.damaged(*seed),
            };
            let path = directory.join("hostile");
            std::fs::write(&path, bytes).unwrap();
            let mut outcome = self.answer(&path);
            if outcome.is_ok() && (index.is_multiple_of(MERGED) || self.cases.len() == 1) {
                let copy = index.is_multiple_of(2 * MERGED);
                outcome = self.merge(&path, directory, if copy { Format::OPUS } else { Format::Wav });
            }
            if let Err(wrong) = outcome {
                self.wrong.lock().unwrap().push(format!("{name}: {wrong}"));
            }
        }
    }

    /// One file by itself.
    fn answer(&self, path: &Path) -> Result<(), String> {
        let answer = split_with(path, PlanMs::default(), limits());
        let key = match &answer {
            Ok((report, _)) if report.truncated => "decoded in part".to_owned(),
            Ok(_) => "decoded".to_owned(),
            Err(AudioError::DecodeCrashed { detail }) => format!("decode_crashed: {detail}"),
            Err(error) => error.code().to_owned(),
        };
        *self.answers.lock().unwrap().entry(key).or_default() += 1;
        match answer {
            Ok((report, _)) if report.duration_ms > limits().decoded_ms => Err(format!("{report:?}")),
            Ok(_) => Ok(()),
            Err(error) => is_answer(&error).then_some(()).ok_or_else(|| error.to_string()),
        }
    }

    /// The file between two good ones, which are merged whatever it is.
    fn merge(&self, path: &Path, directory: &Path, format: Format) -> Result<(), String> {
        let output = directory.join("merged");
        let inputs = [&self.good, path, &self.good];
        let report = merge(&inputs, &output, format).map_err(|error| format!("merging: {error}"))?;
        let good = |at: usize| {
            let input = &report.inputs[at];
            input.status == InputStatus::Merged && (475..=525).contains(&input.duration_ms)
        };
        if !good(0) || !good(2) {
            return Err(format!("the good are not merged: {report:?}"));
        }
        let heard = split_with(&output, PlanMs::default(), Limits::default()).map_err(|e| e.to_string())?.0;
        match heard.duration_ms.abs_diff(report.duration_ms) <= 1 && !heard.truncated {
            true => Ok(()),
            false => Err(format!("{report:?} is heard as {heard:?}")),
        }
    }
}

/// Whether an error answers for the file. A panic of another package, a signal, the clock, and a broken protocol do not.
fn is_answer(error: &AudioError) -> bool {
    match error {
        AudioError::DecodeCrashed { detail } => {
            detail.strip_prefix("panic at ").is_some_and(|at| PANIC.iter().any(|known| at.starts_with(known)))
        }
        AudioError::DecodeTimeout { .. } | AudioError::Io { .. } | AudioError::Protocol { .. } => false,
        _ => true,
    }
}

fn merge(inputs: &[&Path], output: &Path, format: Format) -> Result<MergeReport, AudioError> {
    merge_with(inputs, output, format, limits())
}

fn merge_with(
    inputs: &[&Path],
    output: &Path,
    format: Format,
    limits: Limits,
) -> Result<MergeReport, AudioError> {
    runtime().block_on(async {
        let decoder = Decoder::new(child(), limits);
        let output = output.to_owned();
        let mut merge = decoder.merge(MergeRequest { output, format, fill_gaps_ms: 0, lost_share_max: 0.9 });
        for (index, input) in inputs.iter().enumerate() {
            let (chunk_id, path) = (index.to_string(), input.to_path_buf());
            merge.add(MergeInput { chunk_id, path, header: None, offset_ms: 0 }).await?;
        }
        merge.finish().await
    })
}

/// In a process of its own: others' tests would be counted as growth.
#[test]
fn hostile_files_are_answered() {
    if std::env::var_os(APART).is_some() {
        return hunt();
    }
    let apart = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::hostile::hostile_files_are_answered", "--nocapture"])
        .env(APART, "1")
        .env("HANSARD_TEST_AUDIO_CHILD", child())
        .status()
        .unwrap();
    assert!(apart.success(), "hostile files were not answered as they should be: see above");
}

#[expect(clippy::print_stdout, reason = "the seeds and the answers are what a run is known by")]
fn hunt() {
    let directory = tempfile::tempdir().unwrap();
    let corpus = Corpus::make(directory.path());
    let good = directory.path().join("good.webm");
    ffmpeg(&directory.path().join("tone.wav"), &["-t", "0.5", "-c:a", "libopus"], &good);
    let cases = cases(&corpus);
    let seeds = cases.iter().filter_map(|case| if let Case::Seed(seed) = case { Some(*seed) } else { None });
    let (last, count) = (seeds.clone().max().unwrap_or_default(), seeds.count());
    println!("{} hostile files, {count} of them by seeds up to {last}", cases.len());
    let hunt = Hunt {
        cases,
        corpus,
        good,
        next: AtomicUsize::new(0),
        answers: Mutex::default(),
        wrong: Mutex::default(),
        warm_kib: AtomicUsize::new(usize::MAX),
    };
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (hunt, own) = (&hunt, directory.path().join(worker.to_string()));
            std::fs::create_dir(&own).unwrap();
            scope.spawn(move || hunt.work(&own));
        }
    });
    let answers = hunt.answers.lock().unwrap();
    println!("{answers:#?}");
    let all: u32 = answers.values().sum();
    let panics: u32 = answers
        .iter()
        .filter(|(answer, _)| answer.starts_with("decode_crashed"))
        .map(|(_, count)| count)
        .sum();
    assert!(panics <= all.div_ceil(PANIC_SHARE), "{panics} of {all} files end in a panic");
    let wrong = hunt.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{} files are answered wrongly:\n{}", wrong.len(), wrong.join("\n"));
    let warm = hunt.warm_kib.load(Ordering::Relaxed) as u64;
    let end = resident_kib();
    println!("the parent's memory: {warm} KiB after 100 files, {end} KiB at the end");
    assert!(end.saturating_sub(warm) < GROWTH_KIB_MAX, "from {warm} to {end} KiB");
}

#[test]
fn bombs_are_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (opus, flac, good) = (at("bomb.ogg"), at("bomb.flac"), at("good.webm"));
    std::fs::write(&opus, opus_bomb()).unwrap();
    // Without dither, which is noise.
    let silence =
        ["-D", "-n", "-r", "8000", "-c", "1", "-b", "16", flac.to_str().unwrap(), "trim", "0", "3600"];
    tool("sox", &silence);
    ffmpeg(&wav(), &["-t", "0.5", "-c:a", "libopus"], &good);
    let limit_ms = limits().decoded_ms;
    for bomb in [&opus, &flac] {
        let size = std::fs::metadata(bomb).unwrap().len();
        assert!(size < 150_000, "{size} bytes are no bomb");
        let refused = split_with(bomb, PlanMs::default(), limits()).unwrap_err();
        assert_eq!(refused, AudioError::TooLong { limit_ms });
        let merged = merge(&[&good, bomb, &good], &at("merged"), Format::OPUS).unwrap();
        assert_eq!(merged.inputs[1].code.as_deref(), Some("too_long"));
        assert!(merged.inputs[1].duration_ms <= limit_ms, "{merged:?}");
        assert_eq!(merged.inputs[2].status, InputStatus::Merged);
    }
}

/// Packets that are copied are counted as well.
#[test]
fn copied_packets_are_limited_at_their_edge() {
    let directory = tempfile::tempdir().unwrap();
    let (bomb, hour) = (directory.path().join("bomb.ogg"), 3_600_000);
    std::fs::write(&bomb, opus_bomb()).unwrap();
    let with = |decoded_ms| {
        let limits = Limits { decoded_ms, ..limits() };
        merge_with(&[&bomb], &directory.path().join("merged"), Format::OPUS, limits)
    };
    let merged = with(hour).unwrap();
    assert_eq!((merged.duration_ms, merged.inputs[0].code.as_deref()), (hour, None));
    let merged = with(hour - 1).unwrap();
    assert_eq!(merged.inputs[0].code.as_deref(), Some("too_long"));
    assert!(merged.duration_ms < hour, "{merged:?}");
}

/// The corpus is worth damaging only if it can be read.
#[test]
fn what_is_damaged_was_whole() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in Corpus::make(directory.path()).files {
        let path = directory.path().join("whole");
        std::fs::write(&path, bytes).unwrap();
        let report = split(&path).unwrap_or_else(|error| panic!("{name}: {error}")).0;
        assert!(!report.truncated && report.duration_ms.abs_diff(1_100) < 130, "{name}: {report:?}");
    }
}
