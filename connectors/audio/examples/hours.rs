//! Splits or merges by hand, to measure: `hours CHILD split FILE` or `hours CHILD merge OUTPUT TIMES FILE…`, where
//! CHILD is the program `hansard-audio-child`. Prints the result and the parent's peak of memory.
#![allow(clippy::print_stdout)] // It is a program for a terminal.

use std::error::Error;

use hansard_audio::{Decoder, Format, Limits, MergeInput, MergeRequest, PlanMs, SplitRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [child, "split", file] => split(child, file).await?,
        [child, "merge", output, times, files @ ..] => merge(child, output, times.parse()?, files).await?,
        _ => return Err("usage: hours CHILD split FILE | hours CHILD merge OUTPUT TIMES FILE…".into()),
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("parent {peak}");
    Ok(())
}

async fn split(child: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let decoder = Decoder::new(child, Limits::default());
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let request = SplitRequest { path: file.into(), plan: PlanMs::default() };
    let drain = async { while receiver.recv().await.is_some() {} };
    let (report, ()) = tokio::join!(decoder.split(request, sender), drain);
    let report = report?;
    let forced = report.segments.iter().filter(|segment| segment.forced_cut).count();
    let bytes: u64 = report.segments.iter().map(|segment| segment.bytes).sum();
    println!(
        "{} {}: {} ms, {} ms of it silent, {} segments ({forced} cut by force), {bytes} bytes, truncated {}",
        report.container,
        report.codec,
        report.duration_ms,
        report.silent_ms,
        report.segments.len(),
        report.truncated
    );
    Ok(())
}

async fn merge(child: &str, output: &str, times: usize, files: &[&str]) -> Result<(), Box<dyn Error>> {
    let decoder = Decoder::new(child, Limits::default());
    let format = match output.rsplit('.').next() {
        Some("flac") => Format::Flac,
        Some("wav") => Format::Wav,
        _ => Format::default(),
    };
    let output = output.into();
    let mut merge = decoder.merge(MergeRequest { output, format, fill_gaps_ms: 0, lost_share_max: 0.0 });
    for (index, file) in files.iter().cycle().take(files.len() * times).enumerate() {
        let (chunk_id, path) = (index.to_string(), (*file).into());
        merge.add(MergeInput { chunk_id, path, offset_ms: 0 }).await?;
    }
    let report = merge.finish().await?;
    println!("{} inputs: {} ms, {} bytes", report.inputs.len(), report.duration_ms, report.bytes);
    Ok(())
}
