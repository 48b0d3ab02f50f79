//! `hansard check`: whether a running Hansard and what it needs can be reached.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::client::Refused;
use crate::config::ClientFlags;
use crate::output;

/// Checks that a running Hansard and what it needs can be reached.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

impl Check {
    /// Asks each.
    ///
    /// # Errors
    /// The gateway cannot be reached, or something that it needs cannot.
    pub(crate) async fn run(self) -> Result<()> {
        let client = super::client(&self.flags)?;
        client.get_bytes("/healthz").await?;
        let ready = match client.get("/readyz").await {
            Err(error) if error.downcast_ref::<Refused>().is_some() => json!({ "ready": false }),
            answer => answer?,
        };
        if self.json {
            output::json(&ready)?;
        } else {
            output::line("gateway: yes")?;
            for (name, answers) in
                ready.as_object().into_iter().flatten().filter(|(name, _)| *name != "ready")
            {
                output::line(&format!("{name}: {}", if *answers == true { "yes" } else { "no" }))?;
            }
        }
        if ready["ready"] != Value::Bool(true) {
            bail!("Hansard is not ready");
        }
        Ok(())
    }
}
