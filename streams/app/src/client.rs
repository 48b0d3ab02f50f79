//! A client of the gateway: the calls that any producer makes, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use indicatif::ProgressBar;
use reqwest::header::{CONTENT_LENGTH, ETAG, HOST};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::config::ClientConfig;

/// How long a call waits for its answer, apart from uploads and streams.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Times between two looks while waiting, first and last.
const LOOKS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// A gateway that answered with an error.
#[derive(Debug, thiserror::Error)]
#[error("{detail} ({code}, HTTP {status})")]
pub(crate) struct Refused {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The stable code.
    pub(crate) code: String,
    /// In words.
    pub(crate) detail: String,
}

/// A gateway.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    config: ClientConfig,
}

/// A recording that is to be uploaded.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    /// Its chunk's id.
    pub(crate) chunk_id: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// Its media type.
    pub(crate) content_type: String,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// When it began, milliseconds since 1970 UTC.
    pub(crate) recorded_at: i64,
    /// Its track.
    pub(crate) track: String,
    /// Its number in the track.
    pub(crate) sequence: Option<u32>,
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new(config: ClientConfig) -> Result<Self> {
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).build()?;
        Ok(Self { http, config })
    }

    /// A call of a path below the gateway's address.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.config.url));
        match &self.config.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request, and turns a refusal into [`Refused`].
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let unreachable = || format!("cannot reach {}; is it running, and is --url right?", self.config.url);
        let response = request.send().await.with_context(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem: Value = response.json().await.unwrap_or_default();
        let text = |name: &str| problem[name].as_str().map(str::to_owned);
        let reason = text("reason").map(|reason| format!(" ({reason})")).unwrap_or_default();
        let detail = text("detail").unwrap_or_else(|| "the answer has no explanation".to_owned());
        Err(Refused {
            status: status.as_u16(),
            code: text("code").unwrap_or_else(|| "none".to_owned()),
            detail: format!("{detail}{reason}"),
        }
        .into())
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// See [`Client::send`]; or the answer is not JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.send(self.request(Method::GET, path).timeout(ANSWER_WITHIN)).await?;
        Ok(answer.json().await?)
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub(crate) async fn get_bytes(&self, path: &str) -> Result<Vec<u8>> {
        let answer = self.send(self.request(Method::GET, path).timeout(ANSWER_WITHIN)).await?;
        Ok(answer.bytes().await?.to_vec())
    }

    /// Sends JSON to a call that answers when its work is done, however long that takes.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub(crate) async fn call_long(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.send(self.request(Method::POST, path).json(body)).await?;
        Ok(answer.json().await?)
    }

    /// Sends JSON with any method and reads the answer.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub(crate) async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let answer = self.send(self.request(method, path).timeout(ANSWER_WITHIN).json(body)).await?;
        Ok(answer.json().await?)
    }

    /// Opens a conversation, unless it is open already, and gives the client that may bring recordings into it.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub(crate) async fn open(&self, opening: &Value) -> Result<Self> {
        let mut opened = self.clone();
        match self.call(Method::POST, "/v1/conversations", opening).await {
            Err(error) if refusal(&error) == Some("conversation_exists") => {}
            answer => opened.config.key = answer?["upload_token"].as_str().map(str::to_owned),
        }
        Ok(opened)
    }

    /// Uploads one recording: declares it, sends its bytes where it is told to, and gives what confirms it.
    ///
    /// # Errors
    /// The gateway or the store refuses, or the file cannot be read.
    pub(crate) async fn send_recording(
        &self,
        id: &str,
        recording: &Recording,
        bar: &ProgressBar,
    ) -> Result<Value> {
        let Recording { chunk_id, path, content_type, bytes, sha256, recorded_at, track, sequence } =
            recording;
        let declared = json!({
            "chunk_id": chunk_id, "content_type": content_type, "bytes": bytes, "sha256": sha256,
            "recorded_at": recorded_at, "track": track, "sequence": sequence,
        });
        let invited = self.call(Method::POST, &format!("/v1/conversations/{id}/chunks"), &declared).await?;
        let mut done = Vec::new();
        if let Some(put) = invited.get("put") {
            self.put(put, path, 0, *bytes, bar).await?;
        }
        let mut from = 0;
        for part in invited["parts"].as_array().into_iter().flatten() {
            let length = part["bytes"].as_u64().context("a part has no size")?;
            let etag = self.put(part, path, from, length, bar).await?;
            done.push(json!({ "number": part["number"], "etag": etag }));
            from += length;
        }
        Ok(json!({ "upload": invited["upload"], "parts": done }))
    }

    /// Sends a stretch of a file by a link that the gateway gave, and gives the object's ETag.
    async fn put(
        &self,
        link: &Value,
        path: &PathBuf,
        from: u64,
        bytes: u64,
        bar: &ProgressBar,
    ) -> Result<String> {
        let url = link["url"].as_str().context("a link has no url")?;
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(std::io::SeekFrom::Start(from)).await?;
        let bar = bar.clone();
        let body = ReaderStream::new(file.take(bytes)).inspect(move |part| {
            bar.inc(part.as_ref().map_or(0, |part| part.len() as u64));
        });
        let mut request = self.http.put(url).header(CONTENT_LENGTH, bytes);
        for (name, value) in link["headers"].as_object().into_iter().flatten() {
            let own = [HOST.as_str(), CONTENT_LENGTH.as_str()].contains(&name.as_str());
            if let Some(value) = value.as_str().filter(|_| !own) {
                request = request.header(name, value);
            }
        }
        let answer =
            request.body(reqwest::Body::wrap_stream(body)).send().await.context("the upload broke off")?;
        if !answer.status().is_success() {
            bail!("the object store refused {}: HTTP {}", path.display(), answer.status());
        }
        let etag = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        Ok(etag.unwrap_or_default().to_owned())
    }

    /// Confirms an upload with what [`Client::send_recording`] gave.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub(crate) async fn confirm(&self, id: &str, chunk_id: &str, confirmation: &Value) -> Result<Value> {
        let path = format!("/v1/conversations/{id}/chunks/{chunk_id}/confirm");
        self.call(Method::POST, &path, confirmation).await
    }

    /// Says that no more chunks come.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub(crate) async fn finish(&self, id: &str, expected_chunks: Option<usize>) -> Result<Value> {
        let path = format!("/v1/conversations/{id}/finish");
        self.call(Method::POST, &path, &json!({ "expected_chunks": expected_chunks })).await
    }

    /// The status of a conversation, `None` where nothing is known of it yet.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub(crate) async fn status(&self, id: &str) -> Result<Option<Value>> {
        match self.get(&format!("/v1/conversations/{id}")).await {
            Err(error) if refusal(&error) == Some("unknown_conversation") => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Waits until the conversation is delivered with all these chunks in it, and shows what happens meanwhile.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub(crate) async fn delivered(&self, id: &str, chunks: &[String], bar: &ProgressBar) -> Result<Value> {
        let [mut wait, last] = LOOKS;
        loop {
            if let Some(status) = self.status(id).await? {
                bar.set_message(progress(&status));
                let listed = status["chunks"].as_array().map(Vec::as_slice).unwrap_or_default();
                let known = |chunk: &String| listed.iter().any(|listed| listed["chunk_id"] == chunk.as_str());
                if status["status"] == "delivered" && chunks.iter().all(known) {
                    return Ok(status);
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(last);
        }
    }

    /// Fetches the merged audio into a file.
    ///
    /// # Errors
    /// See [`Client::get`]; or the file cannot be written.
    pub(crate) async fn audio(&self, id: &str, path: &std::path::Path) -> Result<Value> {
        let link = self.get(&format!("/v1/conversations/{id}/audio")).await?;
        let url = link["url"].as_str().context("the answer has no url")?;
        let answer = self.http.get(url).send().await?.error_for_status()?;
        let cannot = || format!("cannot write {}", path.display());
        let mut file = tokio::fs::File::create(path).await.with_context(cannot)?;
        let mut body = answer.bytes_stream();
        while let Some(bytes) = body.next().await {
            tokio::io::AsyncWriteExt::write_all(&mut file, &bytes?).await.with_context(cannot)?;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await.with_context(cannot)?;
        Ok(link)
    }
}

/// The stable code of a gateway's refusal, if the error is one.
pub(crate) fn refusal(error: &anyhow::Error) -> Option<&str> {
    error.downcast_ref::<Refused>().map(|refused| refused.code.as_str())
}

/// How far a conversation is, in one line.
pub(crate) fn progress(status: &Value) -> String {
    let progress = &status["progress"];
    let state = status["status"].as_str().unwrap_or("unknown");
    format!(
        "{state}: {} of {} chunks split, {} of {} segments transcribed, {} failed, {} missing",
        progress["split"],
        progress["chunks"],
        progress["transcribed"],
        progress["segments"],
        progress["failed"],
        progress["missing"],
    )
}
