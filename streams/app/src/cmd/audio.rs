//! `hansard audio`: the merged audio of a conversation.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::config::ClientFlags;
use crate::output;

/// Fetches the merged audio of a conversation into a file.
#[derive(Debug, Args)]
pub(crate) struct Audio {
    /// The conversation's id.
    id: String,
    /// The file.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

impl Audio {
    /// Fetches.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses, or the file cannot be written.
    pub(crate) async fn run(self) -> Result<()> {
        let link = super::client(&self.flags)?.audio(&self.id, &self.output).await?;
        if self.json {
            let inputs = &link["inputs"];
            let (format, bytes, duration) = (&link["format"], &link["bytes"], &link["duration_ms"]);
            return output::json(&json!({
                "path": self.output, "format": format, "bytes": bytes, "duration_ms": duration, "inputs": inputs,
            }));
        }
        output::line(&format!("{}: {} bytes", self.output.display(), link["bytes"]))
    }
}
