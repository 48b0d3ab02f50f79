//! `hansard config`: the configuration checked or shown.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::config::{ClientConfig, Config, ServerFlags, to_json, to_toml};
use crate::output;

/// Checks or shows the configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Ends with 78 and a reason if something is wrong.
    Check(Check),
    /// Writes the effective configuration with where each value came from; secrets are masked.
    Print(Print),
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    flags: ServerFlags,
}

#[derive(Debug, Args)]
struct Print {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ServerFlags,
}

impl ConfigCommand {
    /// Checks, or checks and shows.
    ///
    /// # Errors
    /// Something is wrong with the configuration.
    pub(crate) fn run(self) -> Result<()> {
        let (flags, show) = match self.action {
            Action::Check(Check { flags }) => (flags, None),
            Action::Print(Print { json, flags }) => (flags, Some(json)),
        };
        let values = flags.values(&[])?;
        Config::read(values.clone())?;
        ClientConfig::read(values.clone())?;
        match show {
            None => Ok(()),
            Some(true) => output::json(&to_json(&values)),
            Some(false) => output::write(to_toml(&values).as_bytes()),
        }
    }
}
