//! Logs on standard error: text for people, JSON for collectors.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::Log;

/// Starts logging for the rest of the process.
///
/// # Errors
/// A filter that cannot be read, or logging that was started before.
pub(crate) fn start(log: &Log) -> Result<()> {
    let Log { filter, json } = log;
    let filter: Targets = filter.parse().context("log.filter cannot be read")?;
    let terminal = std::io::stderr().is_terminal();
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let layer = if json.unwrap_or(!terminal) { layer.json().boxed() } else { layer.boxed() };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().context("cannot start logging")
}
