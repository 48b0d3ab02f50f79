//! Benchmarks by one command: each measures in a process of its own, so that CPU seconds and peak memory are its own.
//! They never decide whether a test passes: a figure depends on the machine.
#![allow(clippy::print_stdout, reason = "the figures are the output")]

mod aggregate;
mod load;
mod usage;
mod world;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
    /// One run of `aggregate` in a process of its own: preloads.
    #[command(hide = true)]
    Load { directory: PathBuf, facts: usize, chunks: usize },
    /// One run of `aggregate` in a process of its own: measures.
    #[command(hide = true)]
    Run { directory: PathBuf, conversations: usize },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().bench {
        Bench::Aggregate { facts, directory } => aggregate::compare(facts, directory),
        Bench::Load { directory, facts, chunks } => load::load(&directory, facts, chunks).await,
        Bench::Run { directory, conversations } => aggregate::run(&directory, conversations).await,
    }
}
