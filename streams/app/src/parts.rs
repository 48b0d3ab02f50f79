//! What the embedded mode and a process of a cluster are made of alike: stages, sweep and gateway over the ports of
//! either.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hansard_audio::{AudioPath, Decoder, PlanMs};
use hansard_core::id::Millis;
use hansard_gateway::{Gateway, SigningKey, Told, UrlCheck};
use hansard_jobs::effects::Storage;
use hansard_jobs::providers::ProviderMetrics;
use hansard_jobs::sweep::{Reach, Sweep, SweepConfig, SweepMetrics};
use hansard_jobs::topology::{Connectors, JobSettings, Settings};
use hansard_runtime::metrics::Families;
use hansard_runtime::ordered::OrderedConfig;
use hansard_runtime::ports::Ports;
use hansard_runtime::ports::facts::Erasures;
use hansard_s3::S3Objects;
use hansard_schemas::{Stage, Topics};
use hansard_webhook::Webhooks;
use prometheus::Registry;

use crate::adapters::{S3Links, SweepPort};
use crate::config::{Audio, Config, Kind, Speech};
use crate::providers::{self, Speakers};
use crate::{summaries, traces};

/// What the two have of their own.
pub(crate) struct Basis {
    /// The log, the store and the objects.
    pub(crate) ports: Ports,
    /// What sends traces, if anything does.
    pub(crate) traces: traces::Sender,
    /// The objects once more, as the client of S3.
    pub(crate) objects: S3Objects,
    /// The markers of erasures.
    pub(crate) erasures: Arc<dyn Erasures>,
    /// Who recognises speech.
    pub(crate) speakers: Speakers,
    /// The bucket of all objects.
    pub(crate) bucket: String,
    /// Unique among the processes of the deployment.
    pub(crate) instance: String,
    /// The names of topics.
    pub(crate) topics: Topics,
    /// For temporary files of this process only.
    pub(crate) temporary: PathBuf,
    /// Signs upload tokens.
    pub(crate) signing_key: SigningKey,
}

/// What runs, or is called.
pub(crate) struct Parts {
    /// Of all stages.
    pub(crate) ports: Ports,
    /// Of all stages.
    pub(crate) connectors: Connectors,
    /// Starts the children that decode.
    pub(crate) decoder: Decoder,
    /// Of all stages.
    pub(crate) settings: Arc<Settings>,
    /// The metrics of all stages.
    pub(crate) families: Families,
    /// The job sweep.
    pub(crate) sweep: Arc<Sweep>,
    /// The gateway.
    pub(crate) gateway: Arc<Gateway>,
}

impl Parts {
    /// Puts them together.
    ///
    /// # Errors
    /// This program's own file cannot be found, or a server's address is none.
    pub(crate) fn new(config: Config, basis: Basis) -> Result<Self> {
        let Basis { ports, traces, objects, erasures, speakers, .. } = basis;
        let Basis { bucket, instance, topics, temporary, signing_key, .. } = basis;
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        traces.iter().try_for_each(|traces| traces.register(&registry))?;
        let ports = Ports { traces: traces::port(&traces), ..ports };
        let callbacks = providers::callbacks(&config, &signing_key);
        let metrics = ProviderMetrics::register(&registry)?;
        let providers = Arc::new(providers::providers(&config, speakers, &ports, metrics.clone()));
        let summarizers = Arc::new(summaries::summarizers(&config, &ports, &registry, metrics)?);
        let Config { keys, cors_origins, aggregate, limits, speech, audio, .. } = config;
        let Config { jobs, sweep, cluster, webhook, redaction, .. } = config;
        let mut gateway = hansard_gateway::Config::new(&bucket, signing_key);
        (gateway.keys, gateway.cors_origins, gateway.rules, gateway.limits) =
            (keys, cors_origins, aggregate.rules, limits);
        let teller = Arc::clone(&providers);
        gateway.told = Some(Told::new(move |provider, body| teller.told(provider, body)));
        gateway.objects_gone_within = gone_within(&sweep);
        // In a cluster the secret is another process's.
        if cluster.kafka.is_ok() || !webhook.secrets.is_empty() {
            let rules = webhook.rules.clone();
            let check = move |url: &str| rules.check(url).map(drop).map_err(|error| error.to_string());
            gateway.webhooks = Some(UrlCheck::new(check));
        }
        let mut storage = Storage::new(&bucket);
        storage.allowed.extend(cluster.upload_prefixes);
        storage.upload_bytes_max = i64::try_from(limits.upload_bytes).unwrap_or(i64::MAX);
        let storage = Arc::new(storage);
        let reach =
            Reach { erasures, part_uploads: Arc::new(objects.clone()), providers: Arc::clone(&providers) };
        let metrics = SweepMetrics::register(&registry)?;
        let sweep = Arc::new(Sweep::new(ports.clone(), reach, Arc::clone(&storage), sweep, metrics));
        let audio = audio_path(audio, temporary, limits.upload_bytes)?;
        let decoder = audio.decoder.clone();
        let connectors = Connectors {
            audio: Arc::new(audio),
            providers,
            links: Arc::new(S3Links(objects.clone())),
            callbacks,
            summarizers,
            webhook: Arc::new(Webhooks::new(webhook)?),
        };
        let settings = Arc::new(Settings {
            instance,
            topics: Arc::new(topics),
            storage,
            jobs: in_line(jobs, &speech),
            redaction,
            aggregate,
            ordered: OrderedConfig::default(),
        });
        let (links, sweeper) = (Arc::new(S3Links(objects)), Arc::new(SweepPort(Arc::clone(&sweep))));
        let gateway = Arc::new(Gateway::new(ports.clone(), links, sweeper, families.clone(), gateway)?);
        Ok(Self { ports, connectors, decoder, settings, families, sweep, gateway })
    }

    /// Tells in the log, once, what the kernel does not keep from the children that decode.
    pub(crate) fn tell_containment(&self) {
        let decoder = self.decoder.clone();
        tokio::spawn(async move {
            match decoder.uncontained().await {
                Ok(allowed) if allowed.is_empty() => {}
                Ok(allowed) => tracing::warn!(
                    ?allowed,
                    "decoders are held by limits only: the kernel lacks landlock or seccomp, or they are not permitted"
                ),
                Err(error) => tracing::warn!(%error, "decoders do not start"),
            }
        });
    }
}

/// An erasure's objects are gone after two runs at the latest: the marker may come while one is under way.
fn gone_within(sweep: &SweepConfig) -> Option<Millis> {
    (!sweep.dry_run).then_some(Millis(sweep.every.0.saturating_mul(2)))
}

fn audio_path(audio: Audio, directory: PathBuf, recording_bytes_max: u64) -> Result<AudioPath> {
    let Audio { child, limits, format, lost_share_max, fill_gaps_ms } = audio;
    let own = || std::env::current_exe().context("cannot find this program's own file");
    let program = child.map_or_else(own, Ok)?;
    let (decoder, plan) = (Decoder::new(program, limits), PlanMs::default());
    Ok(AudioPath { decoder, plan, format, fill_gaps_ms, lost_share_max, directory, recording_bytes_max })
}

/// A call to the local model waits for a free process, and its time limit goes on meanwhile: no more wait than are soon
/// served.
fn in_line(mut jobs: BTreeMap<Stage, JobSettings>, speech: &Speech) -> BTreeMap<Stage, JobSettings> {
    if let ([Kind::Local], Some(job)) = (&speech.order[..], jobs.get_mut(&Stage::Transcribe)) {
        let bounds = &mut job.effects.bounds;
        bounds.in_flight_max = bounds.in_flight_max.min(speech.children * 4);
    }
    jobs
}
