//! `hansard store`: the database's tables.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::config::{Config, ServerFlags, given};
use crate::output;

/// Brings the database's tables up to this version.
#[derive(Debug, Args)]
pub(crate) struct StoreCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Creates the keyspace and the tables where they are missing, adds missing columns, and records the partition
    /// count. It can be run at any time, again.
    Migrate(Migrate),
}

#[derive(Debug, Args)]
struct Migrate {
    #[command(flatten)]
    flags: ServerFlags,
}

impl StoreCommand {
    /// Migrates.
    ///
    /// # Errors
    /// The database cannot be reached or refuses, or the deployment has another partition count.
    pub(crate) async fn run(self) -> Result<()> {
        let Action::Migrate(Migrate { flags }) = self.action;
        let config = Config::read(flags.values(&[])?)?;
        let store = given(config.cluster.store)?;
        hansard_scylla::migrate(&store).await.context("the store cannot be migrated")?;
        output::line(&format!("{} is up to date", store.keyspace))
    }
}
