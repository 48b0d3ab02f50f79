//! `hansard tail`: the records of a topic as they enter the log.

use anyhow::{Context as _, Result};
use clap::Args;
use futures::StreamExt as _;
use reqwest::Method;

use crate::config::ClientFlags;
use crate::output;

/// Writes the records of a topic as JSON lines, from now on.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The topic without its prefix, as `transcripts`.
    topic: String,
    /// From the beginning of the log, not from now on.
    #[arg(long)]
    from_beginning: bool,
    /// End when the present end of the log is reached.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

impl Tail {
    /// Reads until interrupted, or until the end if it was asked to.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses.
    pub(crate) async fn run(self) -> Result<()> {
        let client = super::client(&self.flags)?;
        let topic = super::segment(&self.topic);
        let query = format!("from_beginning={}&once={}", self.from_beginning, self.once);
        let answer = client.send(client.request(Method::GET, &format!("/v1/topics/{topic}?{query}"))).await?;
        let mut body = answer.bytes_stream();
        while let Some(bytes) = body.next().await {
            output::write(&bytes.context("the stream broke off")?)?;
        }
        Ok(())
    }
}
