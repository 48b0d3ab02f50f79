//! `hansard transcript`: the transcript in any form.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::config::ClientFlags;
use crate::output;

/// Writes the transcript of a conversation to standard output.
#[derive(Debug, Args)]
pub(crate) struct Transcript {
    /// The conversation's id.
    id: String,
    /// Its form.
    #[arg(long, value_enum, default_value = "txt")]
    format: Format,
    /// An earlier revision.
    #[arg(long)]
    revision: Option<u32>,
    #[command(flatten)]
    flags: ClientFlags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Txt,
    Json,
    Srt,
    Vtt,
}

impl Transcript {
    /// Asks and writes.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses; `not_finalized` before there is one.
    pub(crate) async fn run(self) -> Result<()> {
        let format = match self.format {
            Format::Txt => "txt",
            Format::Json => "json",
            Format::Srt => "srt",
            Format::Vtt => "vtt",
        };
        let revision = self.revision.map(|revision| format!("&revision={revision}")).unwrap_or_default();
        let path = super::of(&self.id, &format!("/transcript?format={format}{revision}"));
        output::write(&super::client(&self.flags)?.get_bytes(&path).await?)
    }
}
