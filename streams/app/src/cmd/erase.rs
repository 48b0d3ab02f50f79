//! `hansard erase`: a conversation gone for good.

use anyhow::{Result, bail};
use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::config::ClientFlags;
use crate::output;

/// Erases a conversation for good: recordings, texts, rows, and the copies of providers.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// The conversation's id.
    id: String,
    /// Why; kept with the marker of the erasure.
    #[arg(long)]
    reason: Option<String>,
    /// Really.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

impl Erase {
    /// Asks for it.
    ///
    /// # Errors
    /// It is not confirmed, or the gateway cannot be reached, or refuses.
    pub(crate) async fn run(self) -> Result<()> {
        if !self.yes {
            bail!("this cannot be undone; add --yes");
        }
        let client = super::client(&self.flags)?;
        let asked = json!({ "reason": self.reason });
        let receipt = client.call(Method::DELETE, &super::of(&self.id, ""), &asked).await?;
        if self.json {
            return output::json(&receipt);
        }
        output::line(&format!("{}: the erasure is accepted at offset {}", self.id, receipt["offset"]))
    }
}
