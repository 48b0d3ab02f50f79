//! `hansard schemas`: the subjects of a deployment in its schema registry.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hansard_registry::{Difference, SchemaRegistry};

use crate::cmd::differences::{Names, StepFlags};
use crate::config::given;

/// Registers the schemas of all records, or shows what differs from what the catalogue lists.
#[derive(Debug, Args)]
pub(crate) struct SchemasCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Registers what is missing, and demands of later versions that they go with all before. It can be run at any
    /// time, again; what is incompatible is refused.
    Register(StepFlags),
    /// Shows what `register` would do, and ends with 1 unless that is nothing.
    Check(StepFlags),
}

impl SchemasCommand {
    /// Compares, and registers if that was asked for.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses, a schema is incompatible, or something differs.
    pub(crate) async fn run(self) -> Result<()> {
        let (flags, register) = match self.action {
            Action::Register(flags) => (flags, true),
            Action::Check(flags) => (flags, false),
        };
        let config = flags.cluster()?;
        let registry = SchemaRegistry::new(given(config.registry.ok_or("registry.url"))?)?;
        let differences = registry.diff(&config.topics).await?;
        let names = Names { all: "differences", about: "subject", one: "difference" };
        flags.print(&names, &differences, Difference::subject)?;
        if register {
            registry.apply(&differences).await?;
        } else if !differences.is_empty() {
            bail!("{} differences; `hansard schemas register` mends what can be mended", differences.len());
        }
        Ok(())
    }
}
