//! The whole dataflow on one screen: which job reads what, on which loop, with which bounds.
//!
//! What each topic holds, who writes it and who reads it stands in the catalogue of `hansard-schemas`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hansard_core::id::Millis;
use hansard_core::redelivery::Policy;
use hansard_runtime::effect::CallBounds;
use hansard_runtime::effects::{Effects, EffectsConfig};
use hansard_runtime::metrics::Families;
use hansard_runtime::ordered::{Ordered, OrderedConfig};
use hansard_runtime::ports::Ports;
use hansard_runtime::ports::log::{Group, LogError};
use hansard_runtime::redeliver::Redeliver;
use hansard_runtime::stage::Stage as Effectful;
use hansard_schemas::{Stage, Topics};
use tokio::sync::watch;

use crate::aggregate::{Aggregate, AggregateConfig};
use crate::callback::CallbackUrls;
use crate::effects::{Effect, Storage};
use crate::merge::Merge;
use crate::notify::Notify;
use crate::ports::{Audio, Webhook};
use crate::providers::Providers;
use crate::redaction::Redaction;
use crate::split::Split;
use crate::summaries::Summarizers;
use crate::summarize::Summarize;
use crate::transcribe::{Links, Transcribe};

/// The jobs that run a loop on the log, in the order of the dataflow.
pub const JOBS: [Stage; 6] =
    [Stage::Split, Stage::Transcribe, Stage::Aggregate, Stage::Merge, Stage::Summarize, Stage::Notify];

/// What the stages need beside the shared ports.
#[derive(Clone)]
pub struct Connectors {
    /// For split and merge.
    pub audio: Arc<dyn Audio>,
    /// For transcribe: who recognises speech.
    pub providers: Arc<Providers>,
    /// For transcribe: how its providers read an object.
    pub links: Arc<dyn Links>,
    /// For transcribe: how its providers tell that a job has ended, if they can reach the gateway.
    pub callbacks: Option<CallbackUrls>,
    /// For summarize: who writes summaries.
    pub summarizers: Arc<Summarizers>,
    /// For notify.
    pub webhook: Arc<dyn Webhook>,
}

/// How one effect job runs.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// Its retry tiers and attempts.
    pub policy: Policy,
    /// Its loop.
    pub effects: EffectsConfig,
    /// The longest that one of its effects may take.
    pub call_max: Millis,
}

/// How the jobs of one process run.
#[derive(Clone)]
pub struct Settings {
    /// Unique among the processes of the deployment.
    pub instance: String,
    /// The names of topics.
    pub topics: Arc<Topics>,
    /// Where objects lie.
    pub storage: Arc<Storage>,
    /// Of each effect job.
    pub jobs: BTreeMap<Stage, JobSettings>,
    /// Of transcribe.
    pub redaction: Redaction,
    /// Of the aggregator.
    pub aggregate: AggregateConfig,
    /// Of its loop.
    pub ordered: OrderedConfig,
}

impl JobSettings {
    /// The defaults of a job: recordings take long and are few, segments are many and short; a receiver of webhooks may be
    /// away for an hour, and is told of one conversation's changes one after the other.
    #[must_use]
    pub fn of(stage: Stage) -> Self {
        let (in_flight_max, per_conversation, call_max) = match stage {
            Stage::Split => (2, 2, Millis::hours(1)),
            Stage::Merge => (2, 1, Millis::hours(2)),
            Stage::Transcribe => (64, 8, Millis::minutes(2)),
            Stage::Summarize | Stage::Aggregate => (16, 2, Millis::minutes(5)),
            Stage::Notify => (64, 1, Millis::seconds(30)),
        };
        let mut effects = EffectsConfig::default();
        effects.bounds.in_flight_max = in_flight_max;
        effects.bounds.in_flight_per_conversation_max = per_conversation;
        let mut policy = Policy::default();
        if stage == Stage::Notify {
            policy.attempts = 10;
        }
        Self { policy, effects, call_max }
    }
}

/// The group of a job: its name, and the topics that it reads.
#[must_use]
pub fn group(job: Stage, settings: &Settings) -> Group {
    Group { name: job.as_str().to_owned(), instance: settings.instance.clone(), topics: job.reads() }
}

/// Runs one job until `shutdown` turns true.
///
/// # Errors
/// When the log fails; the caller decides whether to begin again.
pub async fn run(
    job: Stage,
    ports: Ports,
    connectors: Connectors,
    settings: &Settings,
    families: &Families,
    shutdown: watch::Receiver<bool>,
) -> Result<(), LogError> {
    if job == Stage::Aggregate {
        return aggregate(ports, settings, families, shutdown).await;
    }
    let member = ports.log.join(group(job, settings)).await?;
    let own = settings.jobs.get(&job).cloned().unwrap_or_else(|| JobSettings::of(job));
    let metrics = families.job(job.as_str());
    let mut policy = own.policy;
    let bounds = CallBounds { time_max: own.call_max, attempts_max: policy.attempts };
    let effect = Effect::new(ports.clone(), metrics.clone(), Arc::clone(&settings.storage), bounds);
    let stage: Arc<dyn Effectful> = match job {
        Stage::Split => Arc::new(Split::new(effect, connectors.audio)),
        Stage::Transcribe => {
            let Connectors { providers, links, callbacks, .. } = connectors;
            policy.attempts =
                policy.attempts.saturating_mul(u32::try_from(providers.chain_max()).unwrap_or(1));
            Arc::new(Transcribe::new(effect, providers, links, callbacks, settings.redaction.clone()))
        }
        Stage::Merge => Arc::new(Merge::new(effect, connectors.audio)),
        Stage::Summarize => {
            Arc::new(Summarize::new(effect, connectors.summarizers, settings.redaction.clone()))
        }
        Stage::Notify => Arc::new(Notify::new(effect, connectors.webhook)),
        Stage::Aggregate => unreachable!("it runs on a loop of its own"),
    };
    let redeliver = redeliver(job, policy, &ports, settings);
    Effects::new(stage, ports, redeliver, own.effects, metrics).run(member, shutdown).await
}

/// Runs the aggregator until `shutdown` turns true; it needs no connector but the shared ports.
///
/// # Errors
/// When the log fails; the caller decides whether to begin again.
pub async fn aggregate(
    ports: Ports,
    settings: &Settings,
    families: &Families,
    shutdown: watch::Receiver<bool>,
) -> Result<(), LogError> {
    let member = ports.log.join(group(Stage::Aggregate, settings)).await?;
    let pause_cap = settings.aggregate.pause_max;
    let policy = Policy { in_place: true, pause_cap, ..Policy::default() };
    let redeliver = redeliver(Stage::Aggregate, policy, &ports, settings);
    let metrics = families.job(Stage::Aggregate.as_str());
    let fold = Aggregate::new(ports.clone(), settings.aggregate.clone(), metrics.clone());
    Ordered::new(fold, ports, redeliver, settings.ordered.clone(), metrics, shutdown).run(member).await
}

fn redeliver(job: Stage, policy: Policy, ports: &Ports, settings: &Settings) -> Redeliver {
    Redeliver {
        stage: job,
        policy,
        framing: Arc::clone(&ports.framing),
        topics: Arc::clone(&settings.topics),
        source: format!("{}/{}", job.as_str(), settings.instance).into(),
    }
}
