//! What the deployment steps share: their flags, and how they show what differs from what the catalogue lists.

use std::fmt::Display;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::config::{Cluster, Config, ServerFlags};
use crate::output;

/// The flags of a step.
#[derive(Debug, Args)]
pub(crate) struct StepFlags {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ServerFlags,
}

/// How a step's differences are named in JSON.
pub(crate) struct Names {
    /// All of them.
    pub(crate) all: &'static str,
    /// What one is about.
    pub(crate) about: &'static str,
    /// One itself.
    pub(crate) one: &'static str,
}

impl StepFlags {
    /// The services that the step is for.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub(crate) fn cluster(&self) -> Result<Cluster> {
        Ok(Config::read(self.flags.values(&[])?)?.cluster)
    }

    /// Prints the differences, each with what `about` says it is about.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) fn print<D: Display>(
        &self,
        names: &Names,
        differences: &[D],
        about: impl Fn(&D) -> &str,
    ) -> Result<()> {
        if self.json {
            let shown = |one: &D| json!({ names.about: about(one), names.one: one.to_string() });
            return output::json(
                &json!({ names.all: differences.iter().map(shown).collect::<Vec<Value>>() }),
            );
        }
        differences.iter().try_for_each(|one| output::line(&one.to_string()))
    }
}
