//! `hansard explain`: what a conversation waits for.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use indicatif::HumanDuration;
use serde_json::Value;

use crate::config::ClientFlags;
use crate::output;

/// Shows what a conversation waits for, since when, and who owes it.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The conversation's id.
    id: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

impl Explain {
    /// Asks and shows.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses.
    pub(crate) async fn run(self) -> Result<()> {
        let told = super::client(&self.flags)?.get(&super::of(&self.id, "/explain")).await?;
        if self.json {
            return output::json(&told);
        }
        let judged = told["judged_at"].as_i64().unwrap_or_default();
        let apart =
            |at: &Value| at.as_i64().map(|at| HumanDuration(Duration::from_millis(at.abs_diff(judged))));
        let status = told["status"].as_str().unwrap_or("unknown");
        output::line(&format!("{}: {status}, {} awaited", self.id, told["awaited_total"]))?;
        for (what, at) in [("closing", &told["closing_at"]), ("looked at", &told["look_at"])] {
            if let Some(time) = apart(at) {
                let due = at.as_i64() >= Some(judged);
                let line =
                    if due { format!("{what} in {time}") } else { format!("{what}: overdue by {time}") };
                output::line(&line)?;
            }
        }
        for owed in told["awaited"].as_array().into_iter().flatten() {
            let mut line = format!("{} owes", owed["owner"].as_str().unwrap_or("somebody"));
            for name in ["track", "chunk_id", "sequence", "segment"] {
                let value = &owed[name];
                if !value.is_null() && value != "" {
                    line.push_str(&format!(
                        " {name} {}",
                        value.as_str().map_or(value.to_string(), str::to_owned)
                    ));
                }
            }
            if let Some(time) = apart(&owed["since"]) {
                line.push_str(&format!(", for {time}"));
            }
            if let Some(code) = owed["last_failure"]["code"].as_str() {
                line.push_str(&format!(
                    ", last failure {code}, attempt {}",
                    owed["last_failure"]["attempts"]
                ));
            }
            output::line(&line)?;
        }
        Ok(())
    }
}
