//! Any server with OpenAI's transcription call, `POST {base_url}/v1/audio/transcriptions`. The fields of request
//! and answer are those of <https://platform.openai.com/docs/api-reference/audio/createTranscription>.

use async_trait::async_trait;
use bytes::Bytes;
use hansard_jobs::ports::{Speech, SpeechReply, SpeechRequest, Submitted};
use hansard_provider::{Account, Cause, Service, ServiceConfig, ServiceError};
use hansard_runtime::pace::Permit;
use hansard_runtime::stage::Failed;
use reqwest::Method;
use reqwest::multipart::{Form, Part};

use crate::answer;
use crate::wav::{decode_flac, encode_wav};

/// The longest hint of keyterms, in characters; servers read only the last 224 tokens.
const PROMPT_CHARS_MAX: usize = 800;

/// What the server is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioFormat {
    /// FLAC as it is: about half the bytes. Not every server takes it.
    Flac,
    /// WAV, which every server takes.
    Wav,
}

/// What the server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// `verbose_json` with times of words.
    Words,
    /// `json`: only the text, for models that know nothing else.
    Text,
}

/// What is sent to a server and asked of it; [`OpenAiConfig::new`] gives the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAiConfig {
    /// The server.
    pub service: ServiceConfig,
    /// The model that is used unless a request names another.
    pub model: String,
    /// The format of the audio (FLAC).
    pub format: AudioFormat,
    /// What is asked for (words).
    pub detail: Detail,
    /// Largest audio, in bytes as sent (25 MB, which is OpenAI's limit).
    pub audio_bytes_max: usize,
}

impl OpenAiConfig {
    /// The defaults for a server and a model.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            service: ServiceConfig::new("openai", base_url, "openai.ca"),
            model: model.into(),
            format: AudioFormat::Flac,
            detail: Detail::Words,
            audio_bytes_max: 25_000_000,
        }
    }
}

/// Speech recognition by a server.
#[derive(Debug)]
pub struct OpenAi {
    config: OpenAiConfig,
    service: Service,
}

impl OpenAi {
    /// Checks the configuration; connects to nothing yet.
    ///
    /// # Errors
    /// The server's address or key are none.
    pub fn new(config: OpenAiConfig) -> Result<Self, ServiceError> {
        let service = Service::new(config.service.clone())?;
        Ok(Self { config, service })
    }

    async fn audio(&self, flac: Bytes) -> Result<Part, Failed> {
        let limit = self.config.audio_bytes_max;
        let (bytes, name, mime) = match self.config.format {
            AudioFormat::Flac => (flac, "segment.flac", "audio/flac"),
            AudioFormat::Wav => {
                // A WAV within the limit lasts no longer than this.
                let ms_max = (limit / 32) as u64;
                let decoded = tokio::task::spawn_blocking(move || decode_flac(&flac, ms_max)).await;
                let samples = match decoded {
                    Ok(Ok(samples)) => samples,
                    Ok(Err(error)) => return Err(error.cause().failed(error.to_string())),
                    // Only a runtime that stops cancels it, and then nobody reads this answer.
                    Err(stopped) => return Err(Cause::ConnectionLost.failed(stopped.to_string())),
                };
                (encode_wav(&samples).into(), "segment.wav", "audio/wav")
            }
        };
        let length = bytes.len();
        if length > limit {
            let text = format!("segment of {length} bytes is over the provider's limit of {limit}");
            return Err(Cause::TooLarge.failed(text));
        }
        let part = Part::stream_with_length(bytes, length as u64).file_name(name);
        part.mime_str(mime).map_err(|error| self.service.lost(&error))
    }

    async fn form(&self, request: &SpeechRequest, model: &str) -> Result<Form, Failed> {
        let mut form = Form::new().text("model", model.to_owned());
        form = match self.config.detail {
            Detail::Text => form.text("response_format", "json"),
            Detail::Words => form
                .text("response_format", "verbose_json")
                .text("timestamp_granularities[]", "word")
                .text("timestamp_granularities[]", "segment"),
        };
        if let Some(language) = &request.options.language {
            // The call takes ISO 639-1, which is the first subtag.
            form =
                form.text("language", language.split(['-', '_']).next().unwrap_or_default().to_lowercase());
        }
        if !request.options.keyterms.is_empty() {
            let prompt: String = request.options.keyterms.join(", ").chars().take(PROMPT_CHARS_MAX).collect();
            form = form.text("prompt", prompt);
        }
        Ok(form.part("file", self.audio(request.audio.bytes().await?).await?))
    }
}

#[async_trait]
impl Speech for OpenAi {
    async fn submit(&self, request: &SpeechRequest, permit: &Permit<'_>) -> Result<Submitted, Failed> {
        let own_model = &self.config.model;
        let model = request.options.model.as_ref().unwrap_or(own_model);
        let own = model == own_model && request.options.provider.is_none();
        let account = if own { Account::Deployment } else { Account::Record };
        let form = self.form(request, model).await?;
        let mut call = self.service.call(Method::POST, "/v1/audio/transcriptions")?.multipart(form);
        if !request.idempotency_key.is_empty() {
            call = call.header("Idempotency-Key", &request.idempotency_key);
        }
        let response = self.service.send(call, account, permit).await?;
        let id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body = self.service.body(response).await?;
        let heard = answer::heard(&body, request.start_ms, request.end_ms).map_err(|error| {
            let name = self.service.name();
            Cause::BadResponse.failed(format!("{name} answered with no transcript: {error}"))
        })?;
        Ok(Submitted::Reply(SpeechReply {
            text: heard.text,
            words: heard.words,
            language: heard.language,
            language_confidence: None,
            model: model.clone(),
            audio_ms: heard.audio_ms,
            call_id: id,
        }))
    }

    /// Asks for the list of models. A server that has none answers 404, and has thereby answered.
    async fn probe(&self, permit: &Permit<'_>) -> Result<(), Failed> {
        let within = self.config.service.connect_within * 2;
        let call = self.service.call(Method::GET, "/v1/models")?.timeout(within);
        match self.service.send(call, Account::Deployment, permit).await {
            Err(failed) if matches!(failed.http_status, Some(404 | 405)) => Ok(()),
            answered => answered.map(drop),
        }
    }
}
