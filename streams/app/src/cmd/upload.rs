//! `hansard upload`: files into a conversation.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::client::{Client, Recording};
use crate::config::ClientFlags;
use crate::{model, output, pieces};

/// Uploads recordings into a conversation, which is opened if it is not there. A file's name is its chunk's id, so the
/// same call again uploads only what is missing.
#[derive(Debug, Args)]
pub(crate) struct Upload {
    /// The recordings, in the order of the conversation.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The conversation's id.
    #[arg(long, value_name = "ID")]
    conversation: String,
    /// Say afterwards that no more chunks come.
    #[arg(long)]
    finish: bool,
    /// Wait until the conversation is delivered.
    #[arg(long)]
    wait: bool,
    /// The line of chunks that the files belong to, as one microphone's.
    #[arg(long, default_value = "")]
    track: String,
    /// The first file's number in its track.
    #[arg(long, default_value_t = 0)]
    sequence: u32,
    /// The language spoken, as `en`.
    #[arg(long)]
    language: Option<String>,
    /// A title, for a conversation that is opened by this.
    #[arg(long)]
    title: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ClientFlags,
}

impl Upload {
    /// Uploads.
    ///
    /// # Errors
    /// A file cannot be read, or the gateway refuses.
    pub(crate) async fn run(self) -> Result<()> {
        let recordings = self.recordings()?;
        let id = &self.conversation;
        let opening = json!({ "id": id, "language": self.language, "title": self.title });
        let client = super::client(&self.flags)?.open(&opening).await?;
        let known = client.status(id).await?.unwrap_or_default();
        let bar = bar(recordings.iter().map(|recording| recording.bytes).sum())?;
        for recording in &recordings {
            bar.set_message(recording.chunk_id.clone());
            if is_known(&known, recording)? {
                bar.inc(recording.bytes);
                continue;
            }
            let confirmation = client.send_recording(id, recording, &bar).await?;
            client.confirm(id, &recording.chunk_id, &confirmation).await?;
        }
        bar.finish_and_clear();
        if self.finish {
            client.finish(id, None).await?;
        }
        let chunks: Vec<String> = recordings.into_iter().map(|recording| recording.chunk_id).collect();
        self.tell(&client, &chunks).await
    }

    async fn tell(&self, client: &Client, chunks: &[String]) -> Result<()> {
        let id = &self.conversation;
        if self.wait {
            let bar = model::spinner("waiting");
            let status = client.delivered(id, chunks, &bar).await?;
            bar.finish_and_clear();
            return if self.json { output::json(&status) } else { super::status::show(&status) };
        }
        if self.json {
            return output::json(&json!({ "id": id, "chunks": chunks, "finished": self.finish }));
        }
        output::line(&format!("{id}: {} chunks uploaded", chunks.len()))
    }

    fn recordings(&self) -> Result<Vec<Recording>> {
        let mut recordings: Vec<Recording> = Vec::new();
        for (sequence, path) in (self.sequence..).zip(&self.files) {
            let name = path.file_name().and_then(|name| name.to_str()).context("a file has no name")?;
            let chunk_id = chunk_id(name);
            if recordings.iter().any(|recording| recording.chunk_id == chunk_id) {
                bail!("two files would become the chunk {chunk_id}; rename one");
            }
            let modified = std::fs::metadata(path).and_then(|found| found.modified()).ok();
            let since =
                modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            recordings.push(Recording {
                recorded_at: i64::try_from(since.as_millis())?,
                track: self.track.clone(),
                sequence: Some(sequence),
                ..pieces::recording(path, chunk_id)?
            });
        }
        Ok(recordings)
    }
}

/// The chunk's id that a file's name gives: what an id cannot hold becomes `-`.
fn chunk_id(name: &str) -> String {
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '-' };
    let id: String = name.chars().map(plain).collect();
    id[id.len().saturating_sub(64)..].to_owned()
}

/// Whether the recording is in the conversation already.
fn is_known(status: &Value, recording: &Recording) -> Result<bool> {
    let listed = status["chunks"].as_array().map(Vec::as_slice).unwrap_or_default();
    match listed.iter().find(|chunk| chunk["chunk_id"] == recording.chunk_id.as_str()) {
        None => Ok(false),
        Some(chunk) if chunk["bytes"].as_u64() == Some(recording.bytes) => Ok(true),
        Some(_) => bail!("the conversation has another chunk {}; rename the file", recording.chunk_id),
    }
}

fn bar(bytes: u64) -> Result<ProgressBar> {
    let bar = ProgressBar::new(bytes);
    let style = "{msg} {bar:30} {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec}";
    bar.set_style(ProgressStyle::with_template(style)?);
    Ok(bar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ids() {
        assert_eq!(chunk_id("Meeting 3 (ü).wav"), "Meeting-3----.wav");
        assert_eq!(chunk_id(&"x".repeat(70)).len(), 64);
    }
}
