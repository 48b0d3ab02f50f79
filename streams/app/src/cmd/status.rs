//! `hansard status`: what is known of a conversation, or of all.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::client::progress;
use crate::config::ClientFlags;
use crate::output;

/// Shows what is known of a conversation; without an id, a line for each.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The conversation's id.
    id: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

impl Status {
    /// Asks and shows.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses.
    pub(crate) async fn run(self) -> Result<()> {
        let client = super::client(&self.flags)?;
        if let Some(id) = &self.id {
            let status = client.get(&super::of(id, "")).await?;
            return if self.json { output::json(&status) } else { show(&status) };
        }
        let mut cursor = String::new();
        loop {
            let page = client.get(&format!("/v1/conversations?limit=100{cursor}")).await?;
            for listed in page["conversations"].as_array().into_iter().flatten() {
                let line = format!("{}: {}", listed["id"].as_str().unwrap_or_default(), progress(listed));
                output::line(&if self.json { listed.to_string() } else { line })?;
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={}", super::segment(next)),
                None => return Ok(()),
            }
        }
    }
}

/// Shows one conversation to people.
pub(crate) fn show(status: &Value) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    output::line(&format!("{}: {}", text(&status["id"]), progress(status)))?;
    output::line(&format!("revision {}, outcome {}", status["revision"], text(&status["outcome"])))?;
    for (name, answer) in [("merge", &status["merge"]), ("summary", &status["summary"])] {
        let code = answer["code"].as_str().map(|code| format!(" ({code})")).unwrap_or_default();
        output::line(&format!("{name}: {}{code}", text(&answer["outcome"])))?;
    }
    for chunk in status["chunks"].as_array().into_iter().flatten() {
        let (id, state) = (text(&chunk["chunk_id"]), text(&chunk["status"]));
        let of = format!("{} of {} segments transcribed", chunk["transcribed"], chunk["segments_total"]);
        output::line(&format!("chunk {id}: {state}, {of}"))?;
    }
    for failed in status["failures"].as_array().into_iter().flatten() {
        let end = if failed["terminal"] == true { "for good" } else { "tried again" };
        output::line(&format!(
            "failure of {} in {}: {} after {} attempts, {end}: {}",
            text(&failed["chunk_id"]),
            text(&failed["stage"]),
            text(&failed["code"]),
            failed["attempts"],
            text(&failed["reason"]),
        ))?;
    }
    Ok(())
}
