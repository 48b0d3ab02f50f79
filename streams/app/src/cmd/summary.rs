//! `hansard summary`: the summary of a conversation.

use anyhow::Result;
use clap::Args;

use crate::config::ClientFlags;
use crate::output;

/// Writes the summary of a conversation.
#[derive(Debug, Args)]
pub(crate) struct Summary {
    /// The conversation's id.
    id: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

impl Summary {
    /// Asks and writes.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses.
    pub(crate) async fn run(self) -> Result<()> {
        let summary = super::client(&self.flags)?.get(&super::of(&self.id, "/summary")).await?;
        if self.json {
            return output::json(&summary);
        }
        output::line(summary["text"].as_str().unwrap_or_default())
    }
}
