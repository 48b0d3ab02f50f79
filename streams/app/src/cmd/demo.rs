//! `hansard demo`: everything at work over real recordings, by the calls that any producer makes.

use std::path::{Path, PathBuf};
use std::pin::pin;

use anyhow::{Context as _, Result};
use clap::Args;
use hansard_gateway::Keys;
use hansard_speech::ModelFiles;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::client::{Client, Recording};
use crate::cmd::up::stop;
use crate::config::{ClientConfig, Config, ServerFlags};
use crate::embedded::Embedded;
use crate::{logging, model, output, pieces, providers};

/// The conversation's id.
const ID: &str = "demo";
/// The recordings that are cut up, and the length of their pieces in seconds.
const RECORDINGS: [(&str, u32); 2] = [("two-cities", 15), ("endgame", 14)];
/// What is uploaded as the bad chunk: a login page that was saved under a recording's name, as it happens.
const NOT_AUDIO: &str = "<!doctype html><title>Sign in</title><p>Your session has expired.";

/// Shows everything at work over real recordings, in a temporary directory: they are fetched with the speech model, cut
/// into chunks, and uploaded out of order, one of them twice. Stays up afterwards for a look at the page.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End when the conversation is delivered.
    #[arg(long)]
    exit: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
    /// Add a chunk that is no audio.
    #[arg(long)]
    bad_chunk: bool,
    /// Where the merged audio goes; by default a file in the system's temporary directory.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    flags: ServerFlags,
}

impl Demo {
    /// Runs until delivered or until a signal.
    ///
    /// # Errors
    /// Whatever kept the conversation from being delivered.
    pub(crate) async fn run(self) -> Result<()> {
        let preset = [("listen", "127.0.0.1:0".to_owned()), ("log.filter", "warn".to_owned())];
        let mut config = Config::read(self.flags.values(&preset)?)?;
        logging::start(&config.log)?;
        let mut stop = pin!(stop()?);
        let temporary = tempfile::Builder::new().prefix("hansard-demo-").tempdir()?;
        config.data_dir = temporary.path().join("data");
        config.keys = Keys::default();
        let files = model::fetch(&config.cache, config.speech.model).await?;
        let speakers = providers::speakers(&config, true).await?;
        let running = Embedded::start(config, speakers).await?;
        let url = format!("http://{}", running.address);
        let exit = self.exit;
        let scenes = async {
            tokio::select! {
                () = &mut stop => Ok(()),
                played = self.play(&url, &files, temporary.path()) => {
                    if played.is_ok() && !exit {
                        stop.await;
                    }
                    played
                }
            }
        };
        running.run_until(scenes).await?
    }

    /// Uploads, waits, and shows what came of it.
    async fn play(&self, url: &str, files: &ModelFiles, directory: &Path) -> Result<()> {
        let say = |text: &str| if self.json { Ok(()) } else { output::line(text) };
        say(&format!("The page: {url}/"))?;
        let client = Client::new(ClientConfig { url: url.to_owned(), key: None })?;
        let recordings = recordings(files, directory, self.bad_chunk)?;
        say(&format!("Uploading {} chunks, out of order and one of them twice.", recordings.len()))?;
        let bar = model::spinner("uploading");
        upload(&client, &recordings, &bar).await?;
        let chunks: Vec<String> = recordings.iter().map(|recording| recording.chunk_id.clone()).collect();
        let status = client.delivered(ID, &chunks, &bar).await?;
        bar.finish_and_clear();
        let document = client.get(&super::of(ID, "/transcript?format=json")).await?;
        let summary = client.get(&super::of(ID, "/summary")).await?;
        let path = self.merged_file()?;
        let audio = client.audio(ID, &path).await?;
        if self.json {
            return output::json(&told(url, &status, &document, &summary, &audio, &path));
        }
        say(&format!(
            "\nDelivered: revision {}, outcome {}.",
            status["revision"],
            words(&status["outcome"])
        ))?;
        for failed in
            status["failures"].as_array().into_iter().flatten().filter(|failed| failed["terminal"] == true)
        {
            let (chunk, code, reason) = (&failed["chunk_id"], &failed["code"], &failed["reason"]);
            say(&format!("Failed: {} with {}: {}", words(chunk), words(code), words(reason)))?;
        }
        say(&format!("\nTranscript\n{}", transcript(&document)))?;
        say(&format!("\nSummary\n{}", words(&summary["text"])))?;
        say(&format!("\nMerged audio: {}", path.display()))?;
        if !self.exit {
            say(&format!("\nStill here: {url}/ (end with Ctrl-C)"))?;
        }
        Ok(())
    }

    fn merged_file(&self) -> Result<PathBuf> {
        if let Some(path) = &self.output {
            return Ok(path.clone());
        }
        let file = tempfile::Builder::new().prefix("hansard-demo-").suffix(".ogg").tempfile()?;
        let (_, path) = file.keep().context("cannot keep the merged file")?;
        Ok(path)
    }
}

/// The chunks in the order of the conversation.
fn recordings(files: &ModelFiles, directory: &Path, bad_chunk: bool) -> Result<Vec<Recording>> {
    let known = files.recordings();
    let mut chunks = Vec::new();
    let mut at = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0));
    for (name, seconds) in RECORDINGS {
        let recording =
            known.iter().find(|recording| recording.name == name).context("a recording is missing")?;
        for (number, piece) in pieces::cut(&recording.path, seconds, directory, name)?.into_iter().enumerate()
        {
            let chunk = pieces::recording(&piece.path, format!("{name}-{}", number + 1))?;
            chunks.push(Recording { recorded_at: at, ..chunk });
            at += piece.duration_ms;
        }
    }
    if bad_chunk {
        let path = directory.join("not-audio.webm");
        std::fs::write(&path, NOT_AUDIO)?;
        chunks.push(Recording { recorded_at: at, ..pieces::recording(&path, "not-audio".to_owned())? });
    }
    for (sequence, chunk) in (0..).zip(&mut chunks) {
        chunk.sequence = Some(sequence);
    }
    Ok(chunks)
}

/// Brings the chunks in as a bad network would: the last first, the odd before the even, the first one twice, and
/// the end announced while one is still to come.
async fn upload(client: &Client, recordings: &[Recording], bar: &ProgressBar) -> Result<()> {
    let client = client.open(&json!({ "id": ID, "title": "A demonstration" })).await?;
    let (odd, even): (Vec<_>, Vec<_>) = recordings.iter().rev().enumerate().partition(|(at, _)| at % 2 == 1);
    let mut order: Vec<&Recording> = odd.into_iter().chain(even).map(|(_, recording)| recording).collect();
    let last = order.pop().context("there are no recordings")?;
    for recording in order {
        let confirmation = client.send_recording(ID, recording, bar).await?;
        client.confirm(ID, &recording.chunk_id, &confirmation).await?;
        if recording.sequence == Some(1) {
            client.confirm(ID, &recording.chunk_id, &confirmation).await?;
        }
    }
    client.finish(ID, Some(recordings.len())).await?;
    let confirmation = client.send_recording(ID, last, bar).await?;
    client.confirm(ID, &last.chunk_id, &confirmation).await?;
    Ok(())
}

/// The transcript's lines.
fn transcript(document: &Value) -> String {
    let lines = document["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.iter().map(|line| words(&line["text"])).collect::<Vec<_>>().join("\n")
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or("none")
}

/// Everything in one object.
fn told(url: &str, status: &Value, document: &Value, summary: &Value, audio: &Value, path: &Path) -> Value {
    let lines = document["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut chunks = status["chunks"].clone();
    if let Some(chunks) = chunks.as_array_mut() {
        chunks.sort_by_key(|chunk| chunk["sequence"].as_i64());
    }
    for chunk in chunks.as_array_mut().into_iter().flatten() {
        let id = chunk["chunk_id"].clone();
        for segment in chunk["segments"].as_array_mut().into_iter().flatten() {
            let line =
                lines.iter().find(|line| line["chunk_id"] == id && line["segment"] == segment["index"]);
            segment["text"] = line.map_or(Value::Null, |line| line["text"].clone());
        }
    }
    json!({
        "id": status["id"],
        "url": url,
        "status": status["status"],
        "revision": status["revision"],
        "outcome": status["outcome"],
        "counts": status["progress"],
        "chunks": chunks,
        "failures": status["failures"],
        "transcript": transcript(document),
        "summary": summary["text"],
        "audio": {
            "path": path, "format": audio["format"], "bytes": audio["bytes"], "duration_ms": audio["duration_ms"],
            "inputs": audio["inputs"],
        },
    })
}
