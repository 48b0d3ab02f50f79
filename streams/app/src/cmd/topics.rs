//! `hansard topics`: the topics of a deployment, as the catalogue lists them.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hansard_kafka::{Change, TopicAdmin};

use crate::cmd::differences::{Names, StepFlags};
use crate::config::given;

/// Creates the topics of a deployment, or shows what differs from what the catalogue lists.
#[derive(Debug, Args)]
pub(crate) struct TopicsCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Creates what is missing and mends what differs. A partition count is never changed.
    Apply(StepFlags),
    /// Shows what `apply` would do, and ends with 1 unless that is nothing.
    Diff(StepFlags),
}

impl TopicsCommand {
    /// Compares, and applies if that was asked for.
    ///
    /// # Errors
    /// The brokers cannot be reached or refuse, a topic has another partition count, or something differs.
    pub(crate) async fn run(self) -> Result<()> {
        let (flags, apply) = match self.action {
            Action::Apply(flags) => (flags, true),
            Action::Diff(flags) => (flags, false),
        };
        let config = flags.cluster()?;
        let admin = TopicAdmin::new(&given(config.kafka)?, config.replication.into())?;
        let changes = admin.diff().await?;
        let names = Names { all: "changes", about: "topic", one: "change" };
        flags.print(&names, &changes, Change::topic)?;
        if apply {
            admin.apply(&changes).await?;
        } else if !changes.is_empty() {
            bail!("{} differences; `hansard topics apply` mends them", changes.len());
        }
        Ok(())
    }
}
