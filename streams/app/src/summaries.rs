//! The writers of summaries that the configuration names.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hansard_jobs::ports::Summarizer;
use hansard_jobs::providers::ProviderMetrics;
use hansard_jobs::summaries::{Summarizers, SummaryMetrics, SummaryProvider};
use hansard_jobs::topology::JobSettings;
use hansard_runtime::pace::{Pace, PaceLimits};
use hansard_runtime::ports::Ports;
use hansard_schemas::Stage;
use hansard_summary::{Chat, Extractive};
use prometheus::Registry;

use crate::config::{Config, SummaryServer};

/// Excerpts of the transcript, which every deployment has and a rerun may ask for.
const LOCAL: &str = "local";

/// Who is asked for what, at what pace and price.
///
/// # Errors
/// A server's address that is none, or a metric's name that is taken.
pub(crate) fn summarizers(
    config: &Config,
    ports: &Ports,
    registry: &Registry,
    metrics: ProviderMetrics,
) -> Result<Summarizers> {
    let clock = &ports.clock;
    let provider = |summarizer: Arc<dyn Summarizer>, limits| SummaryProvider {
        summarizer,
        pace: Pace::new(limits, Arc::clone(clock)),
        price: None,
        passages_max: usize::MAX,
    };
    // It costs nothing but this machine, and takes a transcript whole.
    let unpaced = PaceLimits { per_second: 100_000.0, at_once: 10_000 };
    let mut by_name = BTreeMap::from([(LOCAL.to_owned(), provider(Arc::new(Extractive), unpaced))]);
    let mut default = LOCAL.to_owned();
    if let Some(server) = &config.summary.server {
        let SummaryServer { chat, pace, price, passages_max } = (**server).clone();
        default.clone_from(&chat.service.name);
        let chat = Arc::new(Chat::new(chat).context("the server of summaries cannot be set up")?);
        let server = SummaryProvider { price, passages_max, ..provider(chat, pace) };
        by_name.insert(default.clone(), server);
    }
    let job = config.jobs.get(&Stage::Summarize);
    let call_max = job.map_or_else(|| JobSettings::of(Stage::Summarize).call_max, |job| job.call_max);
    let metrics = SummaryMetrics::register(registry, metrics)?;
    Ok(Summarizers::new(by_name, &default, call_max, Arc::clone(clock), metrics))
}
