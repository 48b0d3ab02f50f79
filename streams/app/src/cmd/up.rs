//! `hansard up`: everything in one process.

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, ServerFlags};
use crate::embedded::Embedded;
use crate::{logging, output, providers};

/// Runs everything in one process, durable in a data directory. One line on standard output says that calls are taken;
/// SIGTERM or SIGINT drains and ends.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Print that line as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ServerFlags,
}

impl Up {
    /// Runs until a signal.
    ///
    /// # Errors
    /// Whatever keeps it from starting, or ended it.
    pub(crate) async fn run(self) -> Result<()> {
        let config = Config::read(self.flags.values(&[])?)?;
        logging::start(&config.log)?;
        let stop = stop()?;
        let data_dir = config.data_dir.clone();
        let speakers = providers::speakers(&config, true).await?;
        let running = Embedded::start(config, speakers).await?;
        let url = format!("http://{}", running.address);
        if self.json {
            output::line(&json!({ "url": url, "data_dir": data_dir }).to_string())?;
        } else {
            output::line(&format!("Hansard listens on {url}, data in {}", data_dir.display()))?;
        }
        running.run_until(stop).await
    }
}

/// Ends at the first SIGTERM or SIGINT.
///
/// # Errors
/// Signals cannot be received.
pub(crate) fn stop() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot receive signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot receive signals")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
