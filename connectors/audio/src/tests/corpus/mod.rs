//! A corpus of files of every kind, fetched and made at test time, against the table in `corpus.txt`: each row is decoded to as
//! many samples as ffmpeg counts, split without a lost or doubled sample, and merged; or it has the code that it names.

mod fetch;
mod make;
mod table;

use std::path::{Path, PathBuf};

use self::make::Corpus;
use self::table::{Expected, Row};
use super::merge::merge_all;
use super::split::assert_is_whole;
use super::{decoded, split_with};
use crate::decode::{Media, Wish};
use crate::slice::Recording;
use crate::{AudioError, Format, InputReport, InputStatus, Limits, PlanMs};

/// Rate and channels of the merged file, which are those of its first input.
const MERGED: (u32, u8) = (48_000, 2);

/// Cuts and leaves out even in recordings of two seconds.
const PLAN: PlanMs =
    PlanMs { min_ms: 400, max_ms: 1_000, pause_ms: 64, pad_ms: 48, silence_ms: 250, voice_score: 0.4 };

/// The least effort: what is heard is not of interest here.
const OPUS: Format = Format::Opus { bits_per_second: 32_000, complexity: 0 };

/// What is copied into Ogg Opus ends where packets do, which last up to 120 ms and begin with up to 80 ms of delay.
const COPIED_WITHIN_MS: u64 = 200;

#[test]
fn each_row_of_the_table_holds() {
    let corpus = Corpus::make(&table::rows());
    let share = corpus.rows.len().div_ceil(2);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let halves: Vec<_> = corpus.rows.chunks(share).collect();
        let threads: Vec<_> = halves.into_iter().map(|rows| scope.spawn(|| check(&corpus, rows))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} rows fail:\n{}", failures.len(), failures.join("\n"));
}

/// Checks rows each by itself, then merged into one file; gives what does not hold.
fn check(corpus: &Corpus, rows: &[Row]) -> Vec<String> {
    let mut failures: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let told = alone(corpus, row).err()?;
            Some(format!("{}: {told}", row.file))
        })
        .collect();
    failures.extend(merged(corpus, rows));
    failures
}

fn alone(corpus: &Corpus, row: &Row) -> Result<(), String> {
    let path = corpus.path(&row.file);
    match (&row.expected, split_with(&path, PLAN, Limits::default())) {
        (Expected::Refused { code, naming }, Err(error)) => {
            let told = format!("{}: {error}", error.code());
            let fits = error.code() == code && naming.as_deref().is_none_or(|name| told.contains(name));
            if fits { Ok(()) } else { Err(told) }
        }
        (Expected::Decoded { source, cut_short, frames }, Ok((report, segments))) => {
            let found = format!("{}/{}", report.container, report.codec);
            if found != *source || report.truncated != *cut_short {
                return Err(format!("is {found}, {}", if report.truncated { "cut" } else { "whole" }));
            }
            let (counted, expected) =
                (count(&path).map_err(|error| error.to_string())?, corpus.frames(row, *frames));
            if counted.abs_diff(expected) > frames.within() {
                return Err(format!("{counted} frames, not {expected}"));
            }
            let whole = || assert_is_whole(&path, &report, &segments);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(whole))
                .map_err(|_| "its segments are not the whole".to_owned())
        }
        (_, Ok((report, _))) => Err(format!("decodes as {}/{}", report.container, report.codec)),
        (_, Err(error)) => Err(format!("{}: {error}", error.code())),
    }
}

/// Samples per channel at the recording's own rate.
fn count(path: &Path) -> Result<u64, AudioError> {
    let mut media = Media::open(&Recording::whole(path), Wish { rate: None, channels: None })?;
    let (channels, mut samples) = (usize::from(media.channels()), 0);
    while let Some(block) = media.read()? {
        samples += block.samples.len() / channels;
    }
    Ok(samples as u64)
}

/// Merges all rows behind a recording of a known shape: into WAV, whose samples are those of the inputs one after the other,
/// and into Ogg Opus.
fn merged(corpus: &Corpus, rows: &[Row]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let first = corpus.source();
    let paths = rows.iter().map(|row| corpus.path(&row.file));
    let paths: Vec<PathBuf> = std::iter::once(first).chain(paths).collect();
    let alone = |path: &PathBuf| decoded(path, MERGED.0, MERGED.1).unwrap_or_default();
    let alone: Vec<Vec<i16>> = paths.iter().map(alone).collect();
    let mut failures = Vec::new();
    for format in [Format::Wav, OPUS] {
        let output = directory.path().join(format.extension());
        let report = merge_all(&paths, &output, format).unwrap();
        let merged = decoded(&output, MERGED.0, MERGED.1).unwrap();
        if duration_ms(&merged) != report.duration_ms {
            failures.push(format!(
                "{format:?} lasts {} ms, not {}",
                duration_ms(&merged),
                report.duration_ms
            ));
        }
        if format == Format::Wav && merged != alone.concat() {
            failures.push("the WAV file's samples are not those of its inputs".to_owned());
        }
        let within_ms = if format == Format::Wav { 1 } else { COPIED_WITHIN_MS };
        for ((row, samples), input) in rows.iter().zip(&alone[1..]).zip(&report.inputs[1..]) {
            let lasts_ms = duration_ms(samples);
            if lasts_ms.abs_diff(input.duration_ms) > within_ms || !is_reported(row, input) {
                failures.push(format!("{}: of {lasts_ms} ms, in {format:?} as {input:?}", row.file));
            }
        }
    }
    failures
}

fn duration_ms(samples: &[i16]) -> u64 {
    (samples.len() as u64 / u64::from(MERGED.1) * 1_000).div_ceil(u64::from(MERGED.0))
}

fn is_reported(row: &Row, input: &InputReport) -> bool {
    match &row.expected {
        Expected::Refused { code, .. } => {
            input.status == InputStatus::Skipped && input.code.as_deref() == Some(code)
        }
        Expected::Decoded { cut_short, .. } => {
            let status = if *cut_short { InputStatus::Truncated } else { InputStatus::Merged };
            input.status == status && (input.code.is_none() || *cut_short)
        }
    }
}
