//! One measurement, in a process of its own: splits, merges, or runs another program, and says what that used.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use hansard_audio::{
    Decoder, Format, InputStatus, Limits, MergeInput, MergeRequest, PlanMs, SegmentAudio, SplitRequest,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::usage::{Usage, children};

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum Run {
    /// Splits a recording and writes its segments below a directory.
    Split { recording: PathBuf, into: PathBuf },
    /// Merges the first so many of some files, which are taken again from the start where there are too few.
    Merge {
        /// Into Ogg Opus, also where all are AAC.
        #[arg(long)]
        opus: bool,
        into: PathBuf,
        count: usize,
        files: Vec<PathBuf>,
    },
    /// Runs another program.
    #[command(trailing_var_arg = true)]
    Foreign {
        #[arg(allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// What a measurement found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) seconds: f64,
    /// Of parent and children, or of the foreign program.
    pub(super) cpu_seconds: f64,
    pub(super) parent_mib: f64,
    /// Of the largest child, or of the foreign program.
    pub(super) child_mib: f64,
    /// Duration of what was split or merged, counted in samples; 0 where that is not known.
    pub(super) audio_ms: u64,
    /// Segments or inputs.
    pub(super) pieces: usize,
    /// Bytes written.
    pub(super) bytes: u64,
}

/// Runs one measurement and prints its figures as JSON.
pub(crate) async fn run(run: Run) -> Result<()> {
    let begun = Usage::now()?;
    let (audio_ms, pieces, bytes) = match run {
        Run::Split { recording, into } => split(recording, &into).await?,
        Run::Merge { opus, into, count, files } => {
            let format = if opus { Format::OPUS } else { Format::Auto };
            merge(into, format, count, &files).await?
        }
        Run::Foreign { command } => foreign(&command)?,
    };
    let used = begun.since()?;
    let (children_cpu_seconds, child_mib) = children()?;
    let cpu_seconds = used.cpu_seconds + children_cpu_seconds;
    let parent_mib = used.peak_mib;
    let seconds = used.seconds;
    let figures = Figures { seconds, cpu_seconds, parent_mib, child_mib, audio_ms, pieces, bytes };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// Its children are the small program if `HANSARD_TEST_AUDIO_CHILD` names it, else this very one.
fn decoder() -> Result<Decoder> {
    let small = std::env::var_os("HANSARD_TEST_AUDIO_CHILD").map(PathBuf::from);
    Ok(Decoder::new(small.map_or_else(std::env::current_exe, Ok)?, Limits::default()))
}

async fn split(recording: PathBuf, into: &Path) -> Result<(u64, usize, u64)> {
    let (sender, mut receiver) = mpsc::channel::<SegmentAudio>(2);
    let write = async {
        while let Some(audio) = receiver.recv().await {
            let path = into.join(format!("{:05}.flac", audio.segment.index));
            tokio::fs::write(path, audio.flac).await?;
        }
        anyhow::Ok(())
    };
    let request = SplitRequest { path: recording, header: None, plan: PlanMs::default() };
    let decoder = decoder()?;
    let (report, written) = tokio::join!(decoder.split(request, sender), write);
    let report = report?;
    written?;
    ensure!(!report.truncated, "the recording was read only in part");
    let bytes = report.segments.iter().map(|segment| segment.bytes).sum();
    Ok((report.duration_ms, report.segments.len(), bytes))
}

async fn merge(into: PathBuf, format: Format, count: usize, files: &[PathBuf]) -> Result<(u64, usize, u64)> {
    let decoder = decoder()?;
    let request = MergeRequest { output: into, format, fill_gaps_ms: 0, lost_share_max: 0.0 };
    let mut merge = decoder.merge(request);
    for (index, path) in files.iter().cycle().take(count).enumerate() {
        let input =
            MergeInput { chunk_id: index.to_string(), path: path.clone(), header: None, offset_ms: 0 };
        let report = merge.add(input).await?;
        ensure!(report.status == InputStatus::Merged, "input {index} is {report:?}");
    }
    let report = merge.finish().await?;
    Ok((report.duration_ms, report.inputs.len(), report.bytes))
}

fn foreign(command: &[String]) -> Result<(u64, usize, u64)> {
    let (program, arguments) = command.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().with_context(|| format!("{program} is needed"))?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok((0, 0, 0))
}
