//! `hansard rerun`: a stage of a conversation again.

use anyhow::Result;
use clap::{Args, ValueEnum};
use reqwest::Method;
use serde_json::json;

use crate::config::ClientFlags;
use crate::output;

/// Runs a stage of a conversation again; what comes of it makes a new revision only if it differs.
#[derive(Debug, Args)]
pub(crate) struct Rerun {
    /// The conversation's id.
    id: String,
    /// The stage.
    #[arg(long, value_enum)]
    stage: Stage,
    /// Of it, what.
    #[arg(long, value_enum, default_value = "failed")]
    only: Only,
    /// Who is to do it, of those that the deployment has.
    #[arg(long)]
    provider: Option<String>,
    /// With which model.
    #[arg(long)]
    model: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stage {
    Transcribe,
    Merge,
    Summarize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Only {
    /// What failed.
    Failed,
    /// Everything.
    All,
}

impl Rerun {
    /// Asks for it.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses.
    pub(crate) async fn run(self) -> Result<()> {
        let stage = match self.stage {
            Stage::Transcribe => "transcribe",
            Stage::Merge => "merge",
            Stage::Summarize => "summarize",
        };
        let only = match self.only {
            Only::Failed => "failed",
            Only::All => "all",
        };
        let mut options = serde_json::Map::new();
        for (name, wanted) in [("provider", self.provider), ("model", self.model)] {
            options.extend(wanted.map(|wanted| (name.to_owned(), json!(wanted))));
        }
        let mut asked = json!({ "stage": stage, "only": only });
        if !options.is_empty() {
            asked["options"] = options.into();
        }
        let client = super::client(&self.flags)?;
        let accepted = client.call(Method::POST, &super::of(&self.id, "/rerun"), &asked).await?;
        if self.json {
            return output::json(&accepted);
        }
        output::line(&format!("{}: {stage} runs again as generation {}", self.id, accepted["generation"]))
    }
}
