//! Any server with OpenAI's transcription call, `POST {base_url}/v1/audio/transcriptions`. The fields of request
//! and answer are those of <https://platform.openai.com/docs/api-reference/audio/createTranscription>.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hansard_tls::Authorities;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::multipart::{Form, Part};
use reqwest::{Certificate, Client, RequestBuilder, Response, Url, redirect};

use crate::answer;
use crate::cause::{Account, Cause};
use crate::port::{Reply, Request, Speech, SpeechError};
use crate::wav::{decode_flac, encode_wav};

/// The longest hint of keyterms, in characters; servers read only the last 224 tokens.
const PROMPT_CHARS_MAX: usize = 800;
/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A key that is never printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("***")
    }
}

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

/// One server and the deployment's account there; [`OpenAiConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct OpenAiConfig {
    /// What `Reply::provider` says (`openai`).
    pub name: String,
    /// The address below which `/v1/audio/transcriptions` lies.
    pub base_url: String,
    /// Sent as a bearer token, where the server wants one.
    pub key: Option<Secret>,
    /// Whose certificates are accepted, where the address is an https one (the system's authorities').
    pub authorities: Authorities,
    /// The model that is used unless a request names another.
    pub model: String,
    /// The format of the audio (FLAC).
    pub format: AudioFormat,
    /// What is asked for (words).
    pub detail: Detail,
    /// Time to connect (10 s).
    pub connect_within: Duration,
    /// Time for the whole call (5 min).
    pub answer_within: Duration,
    /// Largest audio, in bytes as sent (25 MB, which is OpenAI's limit).
    pub audio_bytes_max: usize,
    /// Largest answer, in bytes (8 MiB).
    pub answer_bytes_max: usize,
}

impl OpenAiConfig {
    /// The defaults for a server and a model.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            name: "openai".to_owned(),
            base_url: base_url.into(),
            key: None,
            authorities: Authorities::default(),
            model: model.into(),
            format: AudioFormat::Flac,
            detail: Detail::Words,
            connect_within: Duration::from_secs(10),
            answer_within: Duration::from_secs(300),
            audio_bytes_max: 25_000_000,
            answer_bytes_max: 8 << 20,
        }
    }
}

/// Why the provider cannot be made from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiConfigError {
    /// The base URL is none, or holds what would show in logs. It is not repeated for that reason.
    #[error(
        "the base url is no plain http or https address; give one like https://host, without user and query"
    )]
    BaseUrl,
    /// The key cannot be sent in a header.
    #[error("the provider's key holds characters that cannot be sent; check for a line break in it")]
    Key,
    /// TLS could not be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[source] reqwest::Error),
}

/// Speech recognition by a server. One connection pool; as many calls at once as the caller makes.
#[derive(Debug)]
pub struct OpenAi {
    config: OpenAiConfig,
    client: Client,
    transcriptions: Url,
    models: Url,
}

impl OpenAi {
    /// Checks the configuration; connects to nothing yet.
    pub fn new(config: OpenAiConfig) -> Result<Self, OpenAiConfigError> {
        let base = base_url(&config.base_url)?;
        let url =
            |path: &str| Url::parse(&format!("{base}/v1/{path}")).map_err(|_| OpenAiConfigError::BaseUrl);
        let (transcriptions, models) = (url("audio/transcriptions")?, url("models")?);
        if config.key.as_ref().is_some_and(|key| !key.0.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(OpenAiConfigError::Key);
        }
        let named = Certificate::from_pem_bundle(config.authorities.pem());
        let client = Client::builder()
            .tls_certs_merge(named.map_err(OpenAiConfigError::Client)?)
            .redirect(redirect::Policy::none())
            .connect_timeout(config.connect_within)
            .timeout(config.answer_within)
            .build()
            .map_err(OpenAiConfigError::Client)?;
        Ok(Self { config, client, transcriptions, models })
    }

    fn authorized(&self, call: RequestBuilder) -> RequestBuilder {
        match &self.config.key {
            Some(key) => call.bearer_auth(&key.0),
            None => call,
        }
    }

    async fn audio(&self, flac: Bytes) -> Result<Part, SpeechError> {
        let limit = self.config.audio_bytes_max;
        let (bytes, name, mime) = match self.config.format {
            AudioFormat::Flac => (flac, "segment.flac", "audio/flac"),
            AudioFormat::Wav => {
                // A WAV within the limit lasts no longer than this.
                let ms_max = (limit / 32) as u64;
                let decoded = tokio::task::spawn_blocking(move || decode_flac(&flac, ms_max)).await;
                let samples = match decoded {
                    Ok(Ok(samples)) => samples,
                    Ok(Err(error)) => return Err(error.cause().error(error.to_string())),
                    // Only a runtime that stops cancels it, and then nobody reads this answer.
                    Err(stopped) => return Err(Cause::ConnectionLost.error(stopped.to_string())),
                };
                (encode_wav(&samples).into(), "segment.wav", "audio/wav")
            }
        };
        let length = bytes.len();
        if length > limit {
            let text = format!("segment of {length} bytes is over the provider's limit of {limit}");
            return Err(Cause::TooLarge.error(text));
        }
        let part = Part::stream_with_length(bytes, length as u64).file_name(name);
        part.mime_str(mime).map_err(|error| self.failed(&error))
    }

    async fn form(&self, request: &Request, model: &str) -> Result<Form, SpeechError> {
        let mut form = Form::new().text("model", model.to_owned());
        form = match self.config.detail {
            Detail::Text => form.text("response_format", "json"),
            Detail::Words => form
                .text("response_format", "verbose_json")
                .text("timestamp_granularities[]", "word")
                .text("timestamp_granularities[]", "segment"),
        };
        if let Some(language) = &request.language {
            // The call takes ISO 639-1, which is the first subtag.
            form =
                form.text("language", language.split(['-', '_']).next().unwrap_or_default().to_lowercase());
        }
        if !request.keyterms.is_empty() {
            let prompt: String = request.keyterms.join(", ").chars().take(PROMPT_CHARS_MAX).collect();
            form = form.text("prompt", prompt);
        }
        Ok(form.part("file", self.audio(request.audio.clone()).await?))
    }

    /// The error of a call that got no whole answer.
    fn failed(&self, error: &reqwest::Error) -> SpeechError {
        let cause = match error {
            error if error.is_connect() => Cause::Unreachable,
            error if error.is_timeout() => Cause::TimedOut,
            _ => Cause::ConnectionLost,
        };
        let mut text = format!("{}: ", self.config.name);
        if let Some(refusal) = hansard_tls::refusal(error, "speech.ca") {
            return cause.error(text + &refusal);
        }
        let mut at: Option<&dyn Error> = error.source();
        match at {
            None if cause == Cause::TimedOut => text.push_str("no answer in time"),
            None => text.push_str("the connection failed"),
            Some(_) => {}
        }
        // The outermost text would repeat the URL.
        while let Some(source) = at {
            text.push_str(&source.to_string().to_lowercase());
            at = source.source();
            text.push_str(if at.is_some() { ": " } else { "" });
        }
        cause.error(text)
    }

    /// Reads an answer's body, up to a limit; `None` where it is longer.
    async fn body(&self, mut response: Response, bytes_max: usize) -> Result<Option<Bytes>, SpeechError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > bytes_max {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body.freeze()))
    }

    async fn refused(&self, response: Response, account: Account) -> SpeechError {
        let status = response.status().as_u16();
        let wait = retry_after(response.headers());
        // The status decides also where the body breaks off.
        let body = self.body(response, 1 << 16).await.ok().flatten().unwrap_or_default();
        let refusal = answer::refusal(&body);
        let quota = refusal.is_quota();
        let mut text = format!("{} answered {status}", self.config.name);
        if let Some(said) = refusal.text() {
            // A server may repeat the key that it refuses.
            let said = match &self.config.key {
                Some(key) if !key.0.is_empty() => said.replace(&key.0, "***"),
                _ => said,
            };
            text = format!("{text}: {said}");
        }
        Cause::Status { status, account, quota }.error_after(text, wait)
    }
}

#[async_trait]
impl Speech for OpenAi {
    async fn transcribe(&self, request: Request) -> Result<Reply, SpeechError> {
        let began = Instant::now();
        let own_model = &self.config.model;
        let (model, account) = match &request.model {
            Some(model) if model != own_model => (model.clone(), Account::Record),
            _ => (own_model.clone(), Account::Deployment),
        };
        let form = self.form(&request, &model).await?;
        let mut call = self.authorized(self.client.post(self.transcriptions.clone())).multipart(form);
        if !request.idempotency_key.is_empty() {
            call = call.header("Idempotency-Key", &request.idempotency_key);
        }
        let response = call.send().await.map_err(|error| self.failed(&error))?;
        if response.status() != 200 {
            return Err(self.refused(response, account).await);
        }
        let job = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let limit = self.config.answer_bytes_max;
        let Some(body) = self.body(response, limit).await? else {
            let text = format!("{} answered with more than {limit} bytes", self.config.name);
            return Err(Cause::BadResponse.error(text));
        };
        let heard = answer::heard(&body, &request).map_err(|error| {
            let place = answer::place(&error);
            Cause::BadResponse.error(format!("{} answered 200 with no transcript: {place}", self.config.name))
        })?;
        Ok(Reply {
            text: heard.text,
            words: heard.words,
            language: heard.language,
            language_confidence: None,
            provider: self.config.name.clone(),
            model,
            latency_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
            audio_ms: heard.audio_ms,
            provider_job_id: job,
        })
    }

    /// Asks for the list of models. A server that has none answers 404, and has thereby answered.
    async fn probe(&self) -> Result<(), SpeechError> {
        let call =
            self.authorized(self.client.get(self.models.clone())).timeout(self.config.connect_within * 2);
        let response = call.send().await.map_err(|error| self.failed(&error))?;
        match response.status().as_u16() {
            200..=299 | 404 | 405 => Ok(()),
            _ => Err(self.refused(response, Account::Deployment).await),
        }
    }
}

/// The address below which `/v1` lies, without a slash at its end; many write the `/v1` too.
fn base_url(text: &str) -> Result<&str, OpenAiConfigError> {
    let base = text.trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base);
    let url = Url::parse(base).map_err(|_| OpenAiConfigError::BaseUrl)?;
    let is_http = ["http", "https"].contains(&url.scheme()) && url.has_host();
    let is_plain = url.username().is_empty() && url.password().is_none();
    if !is_http || !is_plain || url.query().is_some() || url.fragment().is_some() {
        return Err(OpenAiConfigError::BaseUrl);
    }
    Ok(base)
}

/// `Retry-After` as seconds or as a date; a date counts from the server's own clock, where it tells it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok());
    let asked = text(RETRY_AFTER)?.trim();
    let wait = match asked.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(asked).ok()?;
            let now = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
            until.duration_since(now.unwrap_or_else(SystemTime::now)).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}
