//! The program `hansard`: command line, configuration, wiring and the embedded mode. It never decides what belongs to a
//! job, and never tells a gateway anything that another producer could not.

mod adapters;
mod client;
mod cluster;
mod cmd;
mod config;
mod embedded;
mod journal;
mod logging;
mod model;
mod output;
mod parts;
mod pieces;
mod providers;
mod running;
mod summaries;
mod system;
mod traces;

use std::process::ExitCode;

use clap::Parser;

/// Facts are many small texts, which come and go in batches: the system's allocator took a quarter of the time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code of a wrong command line.
const USAGE: u8 = 2;
/// The exit code of a wrong configuration (`EX_CONFIG`).
const BAD_CONFIGURATION: u8 = 78;

/// Threads for short blocking work: files, the embedded store, Kafka's requests. Bursts of small reads would otherwise
/// begin hundreds, each with memory of its own.
const BLOCKING_THREADS_MAX: usize = 32;

fn main() -> ExitCode {
    // The children limit their own memory, and the threads of a runtime would take most of it: they come first.
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("audio-child") => return ExitCode::from(hansard_audio::child_main()),
        Some("speech-child") => return hansard_speech::child_main(),
        _ => {}
    }
    let arguments = match cmd::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors and go to standard output; if that is closed, nobody wants them.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let ended = runtime.block_on(arguments.run());
    // Blocking reads of terminals and pipes must not keep a finished program.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| failed(&error))
}

/// Says why, and gives the exit code of it.
fn failed(error: &anyhow::Error) -> ExitCode {
    output::complain(&format!("hansard: {error:#}"));
    match error.downcast_ref::<config::ConfigError>() {
        Some(config::ConfigError::Value { source_kind: config::Source::Flag, .. }) => ExitCode::from(USAGE),
        Some(_) => ExitCode::from(BAD_CONFIGURATION),
        None => ExitCode::FAILURE,
    }
}
