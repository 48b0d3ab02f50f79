//! The settings of speech recognition: who is asked, and of each provider where it is, what it is sent, how fast and for
//! what price.

use std::collections::BTreeSet;
use std::time::Duration;

use hansard_core::id::Millis;
use hansard_jobs::providers::Price;
use hansard_provider::{Secret, ServiceConfig};
use hansard_runtime::pace::PaceLimits;
use hansard_schemas::{Open, Options, Record, validate};
use hansard_speech::{AssemblyAiConfig, AudioBy, AudioFormat, Detail, LocalModel, OpenAiConfig};

use super::layers::{ConfigError, Values};
use super::settings::Setting;
use super::text::{Text, address, authorities, flag, is_https, one_of};

/// Who recognises speech.
#[derive(Debug, Clone)]
pub(crate) struct Speech {
    /// Who is asked, then who is asked where that one is exhausted.
    pub(crate) order: Vec<Kind>,
    /// Whom else conversations may name.
    pub(crate) also: BTreeSet<Kind>,
    /// How long one call may take.
    pub(crate) answer_within: Duration,
    /// How long a provider's job may take.
    pub(crate) deadline: Millis,
    /// How long beyond that one is asked for of which nothing readable is told.
    pub(crate) give_up_after: Millis,
    /// What is asked for where a conversation leaves it open.
    pub(crate) defaults: Options,
    /// Where providers reach the gateway, if they do.
    pub(crate) callback_url: Option<String>,
    /// The local model.
    pub(crate) model: LocalModel,
    /// Processes with it.
    pub(crate) children: usize,
    /// Any server with OpenAI's call.
    pub(crate) openai: OpenAiConfig,
    /// Pace and price of it.
    pub(crate) openai_terms: Terms,
    /// AssemblyAI.
    pub(crate) assemblyai: AssemblyAiConfig,
    /// Pace and price of it.
    pub(crate) assemblyai_terms: Terms,
}

/// A provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A model on this machine.
    Local,
    /// A server with OpenAI's call.
    OpenAi,
    /// AssemblyAI.
    AssemblyAi,
}

/// What is agreed with a provider.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Terms {
    /// How fast it may be called.
    pub(crate) pace: PaceLimits,
    /// What it asks.
    pub(crate) price: Option<Price>,
    /// How much audio a day it may be given.
    pub(crate) budget: Option<Millis>,
}

const MODELS: [(&str, LocalModel); 2] = [("tiny", LocalModel::Tiny), ("base", LocalModel::Base)];
const KINDS: [(&str, Kind); 3] =
    [("local", Kind::Local), ("openai", Kind::OpenAi), ("assemblyai", Kind::AssemblyAi)];

impl Kind {
    /// Its name in records, metrics and settings.
    pub(crate) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl Speech {
    /// All providers that this deployment has.
    pub(crate) fn all(&self) -> BTreeSet<Kind> {
        self.order.iter().chain(&self.also).copied().collect()
    }
}

/// The settings.
pub(super) fn settings() -> Vec<Setting> {
    let mut all = vec![
        Setting::new(
            "speech.provider",
            "local",
            "local: a model on this machine; openai: any server with OpenAI's call; assemblyai.",
        )
        .common(),
        Setting::new(
            "speech.fallback",
            "",
            "Who is asked for a segment that the provider has refused or failed for good.",
        ),
        Setting::new("speech.also", "", "Further providers that a conversation may name, by commas."),
        Setting::new("speech.answer-within", "1 min", "How long one call may take."),
        Setting::new("speech.deadline", "30 min", "How long a provider may work on one job."),
        Setting::new(
            "speech.give-up-after",
            "12 h",
            "How long beyond that a job is asked for of which its provider tells nothing readable: it may be done, and is paid.",
        ),
        Setting::new(
            "speech.callback-url",
            "",
            "The gateway's address as providers reach it, where they tell that a job has ended; without it they are asked.",
        ),
        Setting::new(
            "speech.redact",
            "false",
            "true: what is personal is taken out of every transcript, also where a conversation asks for less; false: where one asks for it.",
        ),
        Setting::new(
            "speech.redaction-rules",
            "",
            "A file with further rules of what is personal (TOML), which come before those of the build or replace them.",
        ),
        Setting::new("speech.currency", "USD", "The currency of prices."),
    ];
    all.extend(of_conversations());
    all.extend(of_local());
    all.push(Setting::new("openai.url", "https://api.openai.com", "The server's address.").common());
    all.extend(of_server("openai", ("50", "64")));
    all.extend([
        Setting::new("openai.model", "whisper-1", "The model, unless a conversation names another."),
        Setting::new("openai.detail", "words", "words: times of words are asked for; text: only the text."),
        Setting::new("openai.format", "flac", "flac or wav: how the audio is sent."),
        Setting::new(
            "assemblyai.url",
            "https://api.assemblyai.com",
            "The server's address, which chooses the region.",
        ),
    ]);
    all.extend(of_server("assemblyai", ("50", "64")));
    let usual = AssemblyAiConfig::new("");
    all.extend([
        Setting::new("assemblyai.models", usual.models.join(","), "The models by preference, by commas."),
        Setting::new(
            "assemblyai.audio",
            "upload",
            "upload: the audio is sent; link: it is fetched by a link to the object, which must be reachable from there.",
        ),
        Setting::new(
            "assemblyai.redact",
            usual.redact_policies.join(","),
            "What is redacted there where a conversation asks for it, by the provider's names; empty for nothing.",
        ),
    ]);
    all
}

/// What holds where a conversation says nothing.
fn of_conversations() -> [Setting; 3] {
    [
        Setting::new(
            "speech.language",
            "",
            "The language of conversations that name none, as de or pt-BR; without it the provider detects it.",
        ),
        Setting::new(
            "speech.keyterms",
            "",
            "Words that a provider is told of, by commas, where a conversation names none.",
        ),
        Setting::new(
            "speech.diarize",
            "",
            "true: speakers are told apart where a conversation says nothing of it and the provider can.",
        ),
    ]
}

/// What the local model has.
fn of_local() -> [Setting; 2] {
    [
        Setting::new(
            "local.model",
            "tiny",
            "tiny or base: the local model; base makes fewer errors and takes four times as long.",
        ),
        Setting::new(
            "local.children",
            "1",
            "Processes with the local model; each takes a core and 400 MB, with the base model 900 MB.",
        ),
    ]
}

/// What every server has.
fn of_server(name: &str, (per_second, at_once): (&str, &str)) -> Vec<Setting> {
    let of = |key: &str, default: &str, help: &str| Setting::new(&format!("{name}.{key}"), default, help);
    vec![
        of("key", "", "The server's key.").common().secret(),
        of("ca", "", "A file of authorities' certificates (PEM), trusted beside the system's; for https."),
        of(
            "calls-per-second",
            per_second,
            "Calls that reach it in a second, of the whole deployment, at most.",
        ),
        of("calls-at-once", at_once, "Calls under way at once, of the whole deployment, at most."),
        of(
            "budget",
            "",
            "Audio a day (UTC), for example 600 min, above which segments wait; each partition has its share.",
        ),
        of("price", "", "What an hour of audio costs, for example 0.36; told in records and metrics."),
    ]
}

/// Reads them.
pub(super) fn read(values: &mut Values) -> Result<Speech, ConfigError> {
    let order = vec![values.take_by("speech.provider", |text| one_of(text, &KINDS))?];
    let fallback = values.take_by("speech.fallback", |text| match text {
        "" => Ok(None),
        text => one_of(text, &KINDS).map(Some),
    })?;
    if fallback.is_some_and(|fallback| order.contains(&fallback)) {
        return Err(ConfigError::Contradiction("speech.fallback is speech.provider; name another, or none"));
    }
    let also = values.take_by("speech.also", |text| {
        Vec::<String>::read(text)?.iter().map(|name| one_of(name, &KINDS)).collect()
    })?;
    let currency: String = values.take("speech.currency")?;
    let defaults = defaults(values)?;
    let answer_within = values.take("speech.answer-within")?;
    let mut openai =
        OpenAiConfig::new(values.take::<String>("openai.url")?, values.take::<String>("openai.model")?);
    let cause = "openai.ca is set, and openai.url is no https address";
    server(values, "openai", &mut openai.service, cause)?;
    openai.service.answer_within = answer_within;
    const DETAILS: [(&str, Detail); 2] = [("words", Detail::Words), ("text", Detail::Text)];
    openai.detail = values.take_by("openai.detail", |text| one_of(text, &DETAILS))?;
    const FORMATS: [(&str, AudioFormat); 2] = [("flac", AudioFormat::Flac), ("wav", AudioFormat::Wav)];
    openai.format = values.take_by("openai.format", |text| one_of(text, &FORMATS))?;
    let (assemblyai, assemblyai_terms) = assemblyai(values, answer_within, &currency)?;
    Ok(Speech {
        order: order.into_iter().chain(fallback).collect(),
        also,
        defaults,
        answer_within,
        deadline: values.take("speech.deadline")?,
        give_up_after: values.take("speech.give-up-after")?,
        callback_url: values.take_by("speech.callback-url", address)?,
        model: values.take_by("local.model", |text| one_of(text, &MODELS))?,
        children: values.take_within("local.children", 1..=64, "1 to 64")?,
        openai,
        openai_terms: terms(values, "openai", &currency)?,
        assemblyai,
        assemblyai_terms,
    })
}

/// What holds where a conversation says nothing, within the limits that hold for conversations.
fn defaults(values: &mut Values) -> Result<Options, ConfigError> {
    let sound = |options: Options| {
        let (conversation_id, event_id) = ("c".to_owned(), "e".to_owned());
        let open = Open { conversation_id, event_id, options: Some(options.clone()), ..Open::default() };
        validate(&Record::Open(open)).map(|()| options).map_err(|invalid| invalid.to_string())
    };
    let language = values.take_by("speech.language", |text| {
        sound(Options { language: Option::read(text)?, ..Options::default() }).map(|options| options.language)
    })?;
    let keyterms = values.take_by("speech.keyterms", |text| {
        sound(Options { keyterms: Vec::read(text)?, ..Options::default() }).map(|options| options.keyterms)
    })?;
    let diarize = values.take_by("speech.diarize", |text| match text {
        "" => Ok(None),
        text => flag(text).map(Some),
    })?;
    Ok(Options { language, keyterms, diarize, ..Options::default() })
}

fn assemblyai(
    values: &mut Values,
    answer_within: Duration,
    currency: &str,
) -> Result<(AssemblyAiConfig, Terms), ConfigError> {
    let mut config = AssemblyAiConfig::new(values.take::<String>("assemblyai.url")?);
    let cause = "assemblyai.ca is set, and assemblyai.url is no https address";
    server(values, "assemblyai", &mut config.service, cause)?;
    config.service.answer_within = answer_within;
    config.models = values.take_by("assemblyai.models", |text| match Vec::<String>::read(text)? {
        models if models.is_empty() => Err("a model is wanted".to_owned()),
        models => Ok(models),
    })?;
    const WAYS: [(&str, AudioBy); 2] = [("upload", AudioBy::Upload), ("link", AudioBy::Link)];
    config.audio = values.take_by("assemblyai.audio", |text| one_of(text, &WAYS))?;
    config.redact_policies = values.take("assemblyai.redact")?;
    Ok((config, terms(values, "assemblyai", currency)?))
}

/// Key and authorities of a server.
pub(super) fn server(
    values: &mut Values,
    name: &str,
    service: &mut ServiceConfig,
    in_vain: &'static str,
) -> Result<(), ConfigError> {
    service.key = values.take::<Option<String>>(&format!("{name}.key"))?.map(Secret::new);
    let named = values.take_by(&format!("{name}.ca"), authorities)?;
    if named.is_some() && !is_https(&service.base_url) {
        return Err(ConfigError::Contradiction(in_vain));
    }
    service.authorities = named.unwrap_or_default();
    Ok(())
}

/// How fast a server may be called.
pub(super) fn pace(values: &mut Values, name: &str) -> Result<PaceLimits, ConfigError> {
    let per_second =
        values.take_by(&format!("{name}.calls-per-second"), |text| match text.parse::<f64>() {
            Ok(rate) if (0.001..=100_000.0).contains(&rate) => Ok(rate),
            _ => Err(format!("{text:?} is no rate; 0.001 to 100000 calls a second are wanted")),
        })?;
    let key = format!("{name}.calls-at-once");
    let at_once = values.take_within(&key, 1..=10_000, "1 to 10000")?;
    Ok(PaceLimits { per_second, at_once })
}

fn terms(values: &mut Values, name: &str, currency: &str) -> Result<Terms, ConfigError> {
    let pace = pace(values, name)?;
    let micros = values.take_by(&format!("{name}.price"), price)?;
    let price = micros.map(|micros_per_hour| Price { micros_per_hour, currency: currency.to_owned() });
    let budget = values.take_by(&format!("{name}.budget"), |text| match text {
        "" => Ok(None),
        text => Millis::read(text).map(Some),
    })?;
    Ok(Terms { pace, price, budget })
}

/// A price in millionths, read without rounding.
pub(super) fn price(text: &str) -> Result<Option<i64>, String> {
    let wrong =
        || format!("{text:?} is no price; give one like 0.36, with at most six digits after the point");
    if text.is_empty() {
        return Ok(None);
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || part.len() > 6 || !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    format!("{whole}{part:0<6}").parse().map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_read_exactly() {
        let table = [("", None), ("0", Some(0)), ("0.36", Some(360_000)), ("1.000001", Some(1_000_001))];
        for (text, micros) in table {
            assert_eq!(price(text), Ok(micros), "{text}");
        }
        for text in [".5", "-1", "1.0000001", "1e3", "0,36", "1234567890"] {
            assert!(price(text).is_err_and(|told| told.contains("0.36")), "{text}");
        }
    }
}
