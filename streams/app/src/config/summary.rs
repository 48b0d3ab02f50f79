//! The settings of summaries: who writes them, and of a server where it is, what it may be sent at once, how fast and for
//! what price.

use hansard_jobs::summaries::TokenPrice;
use hansard_runtime::pace::PaceLimits;
use hansard_summary::{ChatConfig, Structure};

use super::layers::{ConfigError, Values};
use super::settings::Setting;
use super::speech::{pace, price, server};
use super::text::one_of;

/// Who writes summaries.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// Any server with OpenAI's chat call, unless excerpts of the transcript are enough.
    pub(crate) server: Option<Box<Server>>,
}

/// A server, and what is agreed with it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// How it is asked.
    pub(crate) chat: ChatConfig,
    /// How fast it may be called.
    pub(crate) pace: PaceLimits,
    /// What it asks.
    pub(crate) price: Option<TokenPrice>,
    /// Passages of one transcript, at most.
    pub(crate) passages_max: usize,
}

/// The settings.
pub(super) fn settings() -> Vec<Setting> {
    let defaults = ChatConfig::new("", "");
    let of =
        |name: &str, default: String, help: &str| Setting::new(&format!("summary.{name}"), default, help);
    let text = |name: &str, default: &str, help: &str| of(name, default.to_owned(), help);
    vec![
        text(
            "provider",
            "local",
            "local: sentences of the transcript; openai: any server with OpenAI's chat call.",
        )
        .common(),
        text("url", "https://api.openai.com", "The server's address.").common(),
        text("key", "", "The server's key.").common().secret(),
        text("ca", "", "A file of authorities' certificates (PEM), trusted beside the system's; for https."),
        text("model", "gpt-4o-mini", "The model, unless a rerun names another."),
        text(
            "structure",
            "schema",
            "schema: the server holds the model to the form of the answer; object: it knows only JSON, and max_tokens.",
        ),
        of(
            "tokens-max",
            defaults.tokens_max.to_string(),
            "Tokens of one request with its answer; a longer transcript is summarised in passages.",
        ),
        of("answer-tokens", defaults.answer_tokens_max.to_string(), "Of these for the answer."),
        text("passages-max", "200", "Passages of one transcript; a longer one has no summary."),
        text("answer-within", "2 min", "How long one call may take."),
        text("calls-per-second", "5", "Calls that reach it in a second, of the whole deployment, at most."),
        text("calls-at-once", "8", "Calls under way at once, of the whole deployment, at most."),
        text(
            "price-in",
            "",
            "What a million tokens that are read cost, for example 0.15; told in records and metrics.",
        ),
        text("price-out", "", "What a million tokens that are written cost."),
        text("currency", "USD", "The currency of both."),
    ]
}

/// Reads them.
pub(super) fn read(values: &mut Values) -> Result<Summary, ConfigError> {
    let local =
        values.take_by("summary.provider", |text| one_of(text, &[("local", true), ("openai", false)]))?;
    let mut chat =
        ChatConfig::new(values.take::<String>("summary.url")?, values.take::<String>("summary.model")?);
    let cause = "summary.ca is set, and summary.url is no https address";
    server(values, "summary", &mut chat.service, cause)?;
    const STRUCTURES: [(&str, Structure); 2] = [("schema", Structure::Schema), ("object", Structure::Object)];
    chat.structure = values.take_by("summary.structure", |text| one_of(text, &STRUCTURES))?;
    chat.tokens_max = values.take_within("summary.tokens-max", 1..=10_000_000, "1 to 10000000")?;
    chat.answer_tokens_max = values.take_within("summary.answer-tokens", 100..=100_000, "100 to 100000")?;
    chat.service.answer_within = values.take("summary.answer-within")?;
    if chat.tokens_max < chat.tokens_min() {
        return Err(ConfigError::Contradiction(
            "summary.tokens-max leaves no room for a transcript beside the instructions and summary.answer-tokens",
        ));
    }
    let passages_max = values.take_within("summary.passages-max", 1..=5_000, "1 to 5000")?;
    let (read, written) =
        (values.take_by("summary.price-in", price)?, values.take_by("summary.price-out", price)?);
    let currency: String = values.take("summary.currency")?;
    let price = (read.is_some() || written.is_some()).then(|| TokenPrice {
        micros_in: read.unwrap_or(0),
        micros_out: written.unwrap_or(0),
        currency,
    });
    let server = Server { chat, pace: pace(values, "summary")?, price, passages_max };
    Ok(Summary { server: (!local).then(|| Box::new(server)) })
}
