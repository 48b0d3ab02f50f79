//! Any server with OpenAI's chat call, `POST {base_url}/v1/chat/completions`. The fields of request and answer are those of
//! <https://platform.openai.com/docs/api-reference/chat/create>; the form of the answer is that of
//! <https://platform.openai.com/docs/guides/structured-outputs>.

use async_trait::async_trait;
use hansard_core::passages::ROOM_MIN;
use hansard_jobs::ports::{Summarizer, SummarizerIdentity, SummaryReply, SummaryRequest};
use hansard_provider::{Account, Cause, Service, ServiceConfig, ServiceError, Told};
use hansard_runtime::pace::Permit;
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;
use reqwest::Method;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::answer;
use crate::prompts::{PROMPT_VERSION, SCHEMA, frame_tokens, messages};

/// How a server is asked for an answer in form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// `json_schema`, strict: the server lets the model write nothing else. The answer's limit is `max_completion_tokens`.
    Schema,
    /// `json_object`, for servers that know no more: the form stands in the instructions alone. The limit is `max_tokens`, the
    /// field's older name.
    Object,
}

/// A server and how it is asked; [`ChatConfig::new`] gives the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatConfig {
    /// The server.
    pub service: ServiceConfig,
    /// The model that is used unless a request names another.
    pub model: String,
    /// How an answer is asked for (schema).
    pub structure: Structure,
    /// Tokens of one request and its answer together, at most (32,000): what the model's context holds, or less.
    pub tokens_max: usize,
    /// Of these for the answer (4,000); a model that thinks before it writes does so within them.
    pub answer_tokens_max: usize,
}

impl ChatConfig {
    /// The defaults for a server and a model.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        let mut service = ServiceConfig::new("openai", base_url, "summary.ca");
        service.answer_bytes_max = 1 << 20;
        Self {
            service,
            model: model.into(),
            structure: Structure::Schema,
            tokens_max: 32_000,
            answer_tokens_max: 4_000,
        }
    }

    /// The least that `tokens_max` may be.
    #[must_use]
    pub fn tokens_min(&self) -> usize {
        self.answer_tokens_max.saturating_add(frame_tokens() + ROOM_MIN)
    }
}

/// Why a server cannot be asked as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Nothing of a transcript would fit.
    #[error(
        "{tokens_max} tokens leave no room for a transcript beside instructions and answer; {least} are the least"
    )]
    TooFewTokens {
        /// What is configured.
        tokens_max: usize,
        /// What would do.
        least: usize,
    },
}

/// Summaries by a server.
#[derive(Debug)]
pub struct Chat {
    config: ChatConfig,
    service: Service,
    schema: Box<RawValue>,
    room: usize,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: [Turn<'a>; 2],
    response_format: Format<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<usize>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    JsonSchema { json_schema: Named<'a> },
    JsonObject,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'static str,
    strict: bool,
    schema: &'a RawValue,
}

impl Chat {
    /// Checks the configuration; connects to nothing yet.
    ///
    /// # Errors
    /// The server's address or key are none, or the budget is too small.
    pub fn new(config: ChatConfig) -> Result<Self, ChatError> {
        let (tokens_max, least) = (config.tokens_max, config.tokens_min());
        let Some(room) = tokens_max.checked_sub(least) else {
            return Err(ChatError::TooFewTokens { tokens_max, least });
        };
        let service = Service::new(config.service.clone())?;
        let schema = RawValue::from_string(SCHEMA.to_owned()).unwrap_or_else(|_| RawValue::TRUE.to_owned());
        Ok(Self { config, service, schema, room: room + ROOM_MIN })
    }

    fn model<'a>(&'a self, options: &'a Options) -> &'a str {
        options.model.as_deref().unwrap_or(&self.config.model)
    }
}

#[async_trait]
impl Summarizer for Chat {
    fn identity(&self, options: &Options) -> SummarizerIdentity {
        SummarizerIdentity {
            provider: self.service.name().to_owned(),
            model: self.model(options).to_owned(),
            prompt_version: PROMPT_VERSION.to_owned(),
        }
    }

    fn room(&self) -> Option<usize> {
        Some(self.room)
    }

    async fn summarize(
        &self,
        request: &SummaryRequest<'_>,
        permit: &Permit<'_>,
    ) -> Result<SummaryReply, Failed> {
        let name = self.service.name();
        let model = self.model(request.options);
        let own = model == self.config.model && request.options.provider.is_none();
        let account = if own { Account::Deployment } else { Account::Record };
        let messages = messages(request)
            .ok_or_else(|| Cause::TooLarge.failed(format!("{name} is asked to take a transcript whole")))?;
        let limit = Some(self.config.answer_tokens_max);
        let (response_format, max_completion_tokens, max_tokens) = match self.config.structure {
            Structure::Schema => {
                let json_schema = Named { name: "minutes", strict: true, schema: &self.schema };
                (Format::JsonSchema { json_schema }, limit, None)
            }
            Structure::Object => (Format::JsonObject, None, limit),
        };
        let body = Body {
            model,
            messages: [
                Turn { role: "system", content: &messages.instructions },
                Turn { role: "user", content: &messages.data },
            ],
            response_format,
            max_completion_tokens,
            max_tokens,
        };
        let mut call = self.service.call(Method::POST, "/v1/chat/completions")?.json(&body);
        if !request.idempotency_key.is_empty() {
            call = call.header("Idempotency-Key", &request.idempotency_key);
        }
        let response =
            self.service.send(call, account, permit).await.map_err(|failed| no_such(failed, account))?;
        let body = self.service.body(response).await?;
        answer::read(&body).map_err(|(cause, why)| cause.failed(format!("{name} gave {why}")))
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

/// The path is the same for all: what an API has not there is the model. Not all of them say so.
fn no_such(failed: Failed, account: Account) -> Failed {
    match (failed.http_status, failed.code) {
        (Some(404), "rejected") => {
            Cause::Status { status: 404, account, told: Told::NoSuchModel }.failed(failed.cause)
        }
        _ => failed,
    }
}
