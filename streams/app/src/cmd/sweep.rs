//! `hansard sweep`: a run of sweep now, or what it would do.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::config::ClientFlags;
use crate::output;

/// Sweeps once: carries erasures out, deletes what nothing has referred to for `sweep.every` or longer, and marks what
/// nothing refers to.
#[derive(Debug, Args)]
pub(crate) struct Sweep {
    /// Change nothing, and show what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

impl Sweep {
    /// Asks for it, and waits for the report.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses; a dependency of the run is down.
    pub(crate) async fn run(self) -> Result<()> {
        let client = super::client(&self.flags)?;
        let report = client.call_long(&format!("/v1/sweep?dry_run={}", self.dry_run), &json!({})).await?;
        if self.json {
            return output::json(&report);
        }
        for found in report["found"].as_array().into_iter().flatten() {
            let text = |name: &str| found[name].as_str().unwrap_or_default();
            output::line(&format!("{} {} ({} bytes)", text("fate"), text("key"), found["bytes"]))?;
        }
        output::line(&told(&report))
    }
}

/// The report in a sentence or two.
fn told(report: &Value) -> String {
    let count = |name: &str| &report[name];
    let would = if report["dry_run"] == true { "would be " } else { "" };
    let unread = if report["log_read"] == true {
        ""
    } else {
        "; aggregate has not read the log yet, so nothing was called unreferenced"
    };
    format!(
        "{} objects looked at, {} {would}deleted ({} bytes), {} {would}marked, {} \
         marked before and waiting, {} multipart uploads {would}aborted, \
         {} conversations {would}erased by retention, {} provider jobs waiting{unread}",
        count("objects"),
        count("deleted"),
        count("deleted_bytes"),
        count("marked"),
        count("waiting"),
        count("aborted"),
        count("expired"),
        count("jobs_waiting"),
    )
}
