//! The providers of speech recognition that the configuration names.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use hansard_core::redelivery::Class;
use hansard_gateway::{SigningKey, callback_token};
use hansard_jobs::budget::Budget;
use hansard_jobs::callback::CallbackUrls;
use hansard_jobs::ports::{Speech, SpeechRequest, Submitted};
use hansard_jobs::providers::{Provider, ProviderMetrics, Providers};
use hansard_jobs::topology::JobSettings;
use hansard_runtime::pace::{Pace, Permit};
use hansard_runtime::ports::Ports;
use hansard_runtime::stage::Failed;
use hansard_schemas::Stage;
use hansard_speech::{AssemblyAi, Local, LocalConfig, OpenAi};

use crate::config::{self, Config, Kind, Terms};
use crate::model;

/// The connectors of all that a deployment has.
pub(crate) type Speakers = BTreeMap<Kind, Arc<dyn Speech>>;

/// Makes them. A process that does not transcribe needs no model.
///
/// # Errors
/// A model that cannot be fetched, or a server's address that is none.
pub(crate) async fn speakers(config: &Config, transcribes: bool) -> Result<Speakers> {
    let mut speakers = Speakers::new();
    for kind in config.speech.all() {
        let speaker: Arc<dyn Speech> = match kind {
            Kind::OpenAi => {
                let server = OpenAi::new(config.speech.openai.clone());
                Arc::new(server.context("openai cannot be set up")?)
            }
            Kind::AssemblyAi => {
                let server = AssemblyAi::new(config.speech.assemblyai.clone());
                Arc::new(server.context("assemblyai cannot be set up")?)
            }
            Kind::Local if !transcribes => Arc::new(Elsewhere),
            Kind::Local => {
                let files = model::fetch(&config.cache, config.speech.model).await?;
                let program = std::env::current_exe().context("cannot find this program's own file")?;
                let local = LocalConfig::new(program, vec!["speech-child".into()], files);
                let config::Speech { model, children, answer_within, .. } = config.speech;
                Arc::new(Local::new(LocalConfig { model, children, answer_within, ..local }))
            }
        };
        speakers.insert(kind, speaker);
    }
    Ok(speakers)
}

/// Who is asked for what, at what pace and price.
pub(crate) fn providers(
    config: &Config,
    speakers: Speakers,
    ports: &Ports,
    metrics: ProviderMetrics,
) -> Providers {
    let transcribe = config.jobs.get(&Stage::Transcribe);
    let call_max = transcribe.map_or_else(|| JobSettings::of(Stage::Transcribe).call_max, |job| job.call_max);
    let named = speakers.into_iter().map(|(kind, speech)| {
        let terms = match kind {
            Kind::OpenAi => Some(config.speech.openai_terms.clone()),
            Kind::AssemblyAi => Some(config.speech.assemblyai_terms.clone()),
            // Its own queue and the job's slots bound it; it costs nothing but this machine.
            Kind::Local => None,
        };
        let (pace, price, budget) = match terms {
            Some(Terms { pace, price, budget }) => (Pace::new(pace, Arc::clone(&ports.clock)), price, budget),
            None => (Pace::unlimited(), None, None),
        };
        let config::Speech { deadline, give_up_after, .. } = config.speech;
        let budget = budget.map(|day_max| Budget::new(kind.name(), day_max));
        (kind.name().to_owned(), Provider { speech, pace, deadline, give_up_after, price, budget })
    });
    let order = config.speech.order.iter().map(|kind| kind.name().to_owned()).collect();
    let providers = Providers::new(named.collect(), order, call_max, Arc::clone(&ports.clock), metrics);
    providers.with_defaults(config.speech.defaults.clone())
}

/// The URLs that providers call back, where they can reach the gateway.
pub(crate) fn callbacks(config: &Config, key: &SigningKey) -> Option<CallbackUrls> {
    let (base, key) = (config.speech.callback_url.clone()?, key.clone());
    Some(CallbackUrls::new(move |provider, effect| {
        format!("{base}/v1/callbacks/{provider}/{}", callback_token(&key, effect))
    }))
}

/// The local model in a process that does not transcribe: it needs none, and the model keeps nothing to be erased.
struct Elsewhere;

#[async_trait]
impl Speech for Elsewhere {
    async fn submit(&self, _: &SpeechRequest, _: &Permit<'_>) -> Result<Submitted, Failed> {
        Err(Failed::new(Class::Unavailable, "no_model", "this process does not transcribe"))
    }

    async fn probe(&self, _: &Permit<'_>) -> Result<(), Failed> {
        Ok(())
    }
}
