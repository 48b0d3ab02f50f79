//! Benchmarks by one command: each measures in a process of its own, so that CPU seconds and peak memory are its own.
//! They never decide whether a test passes: a figure depends on the machine.
#![allow(clippy::print_stdout, reason = "the figures are the output")]

mod aggregate;
mod audio;
mod kafka;
mod load;
mod usage;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The benchmarks of Hansard.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Facts through the aggregator on the embedded engine: conversations of 20 and of 4,999 chunks, side by side.
    Aggregate {
        /// Facts of each run, about.
        #[arg(long, default_value_t = 1_000_000)]
        facts: usize,
        /// Where the data goes; removed afterwards.
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// Splitting and merging speech, beside ffmpeg doing the same to the same files; prints tables for the README.
    Audio {
        /// The long recording whose memory is compared with ten minutes', in hours.
        #[arg(long, default_value_t = 10)]
        hours: u32,
        /// Only our memory for long recordings, without ffmpeg's and without figures of speed.
        #[arg(long)]
        memory: bool,
        /// Only what cutting costs in words, by the local speech model.
        #[arg(long, conflicts_with_all = ["memory", "json"])]
        words: bool,
        /// One JSON object a measurement instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// The aggregator on a real broker, by the services of the tests or at `HANSARD_TEST_KAFKA`.
    Kafka {
        /// What is measured.
        #[arg(value_enum, default_values_t = [kafka::Measure::Rate])]
        measures: Vec<kafka::Measure>,
        /// Facts that are preloaded, about.
        #[arg(long, default_value_t = 1_000_000)]
        facts: usize,
        /// Where the data goes; removed afterwards.
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// One measurement of `kafka` in a process of its own.
    #[command(hide = true)]
    KafkaRun {
        #[command(flatten)]
        place: kafka::Place,
        #[command(subcommand)]
        work: kafka::Work,
    },
    /// One measurement of `audio` in a process of its own.
    #[command(hide = true, subcommand)]
    AudioRun(audio::Run),
    /// One run of `aggregate` in a process of its own: preloads.
    #[command(hide = true)]
    Load { directory: PathBuf, facts: usize, chunks: usize },
    /// One run of `aggregate` in a process of its own: measures.
    #[command(hide = true)]
    Run { directory: PathBuf, conversations: usize },
}

fn main() -> Result<ExitCode> {
    // They limit their whole process, so they come before any thread.
    match std::env::args().nth(1).as_deref() {
        Some("audio-child") => return Ok(hansard_audio::child_main().into()),
        Some("speech-child") => return Ok(hansard_speech::child_main()),
        _ => {}
    }
    let bench = Arguments::parse().bench;
    // As the program's.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().max_blocking_threads(32).build()?.block_on(run(bench)).map(|()| ExitCode::SUCCESS)
}

async fn run(bench: Bench) -> Result<()> {
    match bench {
        Bench::Aggregate { facts, directory } => aggregate::compare(facts, directory),
        Bench::Kafka { measures, facts, directory } => kafka::compare(&measures, facts, directory).await,
        Bench::KafkaRun { place, work } => kafka::run(place, work).await,
        Bench::Audio { words: true, .. } => audio::words().await,
        Bench::Audio { hours, memory, json, .. } => audio::compare(hours, memory, json),
        Bench::AudioRun(run) => audio::run(run).await,
        Bench::Load { directory, facts, chunks } => load::load(&directory, facts, chunks).await,
        Bench::Run { directory, conversations } => aggregate::run(&directory, conversations).await,
    }
}
