//! The deployment's providers of speech recognition: who is asked for a segment, at what pace, for what price, and whose
//! fault it is when no answer comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use hansard_core::id::{Millis, Partition, Timestamp};
use hansard_core::redelivery::Class;
use hansard_runtime::pace::{Pace, Permit};
use hansard_runtime::ports::clock::Clock;
use hansard_runtime::ports::{PortError, Ports};
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::asking::Asking;
use crate::budget::Budget;
use crate::ports::{JobState, Speech, SpeechReply, SpeechRequest, Submitted};

/// Bytes of a provider's job id, at most.
const JOB_BYTES_MAX: usize = 128;

/// One provider and what the deployment has agreed with it.
pub struct Provider {
    /// Its calls.
    pub speech: Arc<dyn Speech>,
    /// How fast they may come.
    pub pace: Pace,
    /// How long a job may take (default 30 min).
    pub deadline: Millis,
    /// How long beyond that a job is asked for of which nothing readable is told (default 12 h): it may be done, and is paid.
    pub give_up_after: Millis,
    /// What it asks.
    pub price: Option<Price>,
    /// How much audio a day it may be given.
    pub budget: Option<Budget>,
}

/// What a provider asks for audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Millionths of the currency for an hour of audio.
    pub micros_per_hour: i64,
    /// The currency's code.
    pub currency: String,
}

/// All of them.
pub struct Providers {
    by_name: BTreeMap<String, Provider>,
    /// Who is asked unless a conversation names another; then, where the first is exhausted, who is asked instead.
    order: Vec<String>,
    defaults: Options,
    asking: Asking,
}

/// A provider and its name.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    pub(crate) provider: &'a Provider,
    all: &'a Providers,
}

impl Providers {
    /// The job gives a call up after `call_max`.
    ///
    /// # Panics
    /// Where `order` is empty or names one that is not there.
    #[must_use]
    pub fn new(
        by_name: BTreeMap<String, Provider>,
        order: Vec<String>,
        call_max: Millis,
        clock: Arc<dyn Clock>,
        metrics: ProviderMetrics,
    ) -> Self {
        assert!(!order.is_empty() && order.iter().all(|name| by_name.contains_key(name)), "{order:?}");
        let asking = Asking::new(call_max, clock, metrics);
        Self { by_name, order, defaults: Options::default(), asking }
    }

    /// With what is asked for where a conversation leaves it open: language, keyterms, and whether speakers are told apart.
    #[must_use]
    pub fn with_defaults(self, defaults: Options) -> Self {
        Self { defaults, ..self }
    }

    /// A segment's options as its provider is asked. A choice of the deployment's own is none of the record's.
    pub(crate) fn completed(&self, own: &Options) -> Options {
        let Options { language, diarize, .. } = &self.defaults;
        let keyterms = if own.keyterms.is_empty() { &self.defaults.keyterms } else { &own.keyterms };
        Options {
            language: own.language.as_ref().or(language.as_ref()).cloned(),
            diarize: own.diarize.or(*diarize),
            keyterms: keyterms.clone(),
            provider: own.provider.clone().filter(|wanted| !self.is_default(wanted)),
            ..own.clone()
        }
    }

    /// Whom a segment may be given to, in the order in which they are asked. What a conversation wants stands alone.
    ///
    /// # Errors
    /// `unknown_provider`, permanent.
    pub(crate) fn chain(&self, options: &Options) -> Result<Vec<Named<'_>>, Failed> {
        match options.provider.as_deref().filter(|wanted| *wanted != self.order[0]) {
            Some(wanted) => Ok(vec![self.named(wanted)?]),
            None => self.order.iter().map(|name| self.named(name)).collect(),
        }
    }

    /// Whether this is the one that is asked where nobody names another.
    fn is_default(&self, name: &str) -> bool {
        self.order[0] == name
    }

    /// How many may be asked for one segment, at most.
    #[must_use]
    pub fn chain_max(&self) -> usize {
        self.order.len()
    }

    /// A provider by its name.
    ///
    /// # Errors
    /// `unknown_provider`, permanent.
    pub(crate) fn named(&self, name: &str) -> Result<Named<'_>, Failed> {
        let found = self.by_name.get_key_value(name);
        let (name, provider) = found.ok_or_else(|| {
            let known = self.by_name.keys().cloned().collect::<Vec<_>>().join(", ");
            let cause = format!("this deployment has no provider {name:?}; it has {known}");
            Failed::new(Class::Permanent, "unknown_provider", cause)
        })?;
        Ok(Named { name, provider, all: self })
    }

    /// The provider of a job that the journal names, and the provider's own id of it.
    ///
    /// # Errors
    /// As [`Providers::named`]'s.
    pub(crate) fn of_job<'j>(&self, job: &'j str) -> Result<(Named<'_>, &'j str), Failed> {
        let (name, id) = job.split_once('/').unwrap_or(("", job));
        Ok((self.named(name)?, id))
    }

    /// The job that the body of a provider's webhook tells of; nothing where it tells of none or nobody knows the provider.
    #[must_use]
    pub fn told(&self, provider: &str, body: &[u8]) -> Option<String> {
        self.by_name.get(provider)?.speech.told(body).filter(|id| is_job_id(id))
    }

    /// Has the provider stop a job and delete what it keeps of it.
    ///
    /// # Errors
    /// It is not confirmed.
    pub async fn forget(&self, job: &str) -> Result<(), Failed> {
        let (named, id) = self.of_job(job)?;
        let permit = named.provider.pace.permit().await;
        named.ask("forget", named.provider.speech.forget(id, &permit), &permit).await
    }

    /// This instance holds `held` of `of` partitions.
    pub(crate) fn share(&self, held: usize, of: usize) {
        for provider in self.by_name.values() {
            provider.pace.share(held, of);
            provider.budget.iter().for_each(Budget::forget);
        }
    }
}

impl<'a> Named<'a> {
    /// What the journal calls a job of this provider.
    pub(crate) fn job(self, id: &str) -> String {
        format!("{}/{id}", self.name)
    }

    /// Whether the day's budget has room for so much audio, which is then spent.
    pub(crate) async fn may_spend(
        self,
        ports: &Ports,
        partition: Partition,
        audio: Millis,
    ) -> Result<bool, PortError> {
        let Some(budget) = &self.provider.budget else { return Ok(true) };
        let may = budget.take(ports, partition, audio).await?;
        if !may {
            self.all.asking.metrics.over_budget.with_label_values(&[self.name]).inc();
        }
        Ok(may)
    }

    /// Submits a segment.
    pub(crate) async fn submit(
        self,
        request: &SpeechRequest,
        permit: &Permit<'_>,
    ) -> Result<Submitted, Failed> {
        let submitted = self.ask("submit", self.provider.speech.submit(request, permit), permit).await?;
        match &submitted {
            Submitted::Job(id) if !is_job_id(id) => {
                let cause = format!("{} gave a job an id of no use", self.name);
                Err(Failed::new(Class::Transient, "bad_response", cause))
            }
            Submitted::Job(_) | Submitted::Reply(_) => Ok(submitted),
        }
    }

    /// Asks for a job, when its turn has come.
    pub(crate) async fn check(self, job: &str, request: &SpeechRequest) -> Result<JobState, Failed> {
        let permit = self.provider.pace.permit().await;
        self.ask("check", self.provider.speech.check(job, request, &permit), &permit).await
    }

    /// Looks for a job whose id never became known, when its turn has come.
    pub(crate) async fn find(
        self,
        request: &SpeechRequest,
        since: Timestamp,
    ) -> Result<Option<String>, Failed> {
        let permit = self.provider.pace.permit().await;
        let found = self.ask("find", self.provider.speech.find(request, since, &permit), &permit).await?;
        Ok(found.filter(|id| is_job_id(id)))
    }

    async fn ask<T>(
        self,
        call: &'static str,
        asking: impl Future<Output = Result<T, Failed>>,
        permit: &Permit<'_>,
    ) -> Result<T, Failed> {
        let Self { name, provider, all } = self;
        all.asking.ask((name, call), &provider.pace, asking, provider.speech.probe(permit)).await
    }

    /// What an answer has cost, and its telling.
    pub(crate) fn cost(self, reply: &SpeechReply) -> Option<(i64, &'a str)> {
        let audio_ms = reply.audio_ms.max(0);
        let metrics = &self.all.asking.metrics;
        metrics.audio_ms.with_label_values(&[self.name, &reply.model]).inc_by(audio_ms.unsigned_abs());
        let price = self.provider.price.as_ref()?;
        let micros = i128::from(audio_ms) * i128::from(price.micros_per_hour) / 3_600_000;
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        metrics
            .cost_micros
            .with_label_values(&[self.name, &price.currency])
            .inc_by(micros.max(0).unsigned_abs());
        Some((micros, &price.currency))
    }
}

/// Ids stand in paths of URLs and in the journal.
fn is_job_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    !id.is_empty() && id.len() <= JOB_BYTES_MAX && id.bytes().all(plain) && !id.starts_with('.')
}

/// What is told of providers to Prometheus, registered once a process.
#[derive(Clone)]
pub struct ProviderMetrics {
    pub(crate) calls: IntCounterVec,
    seconds: HistogramVec,
    audio_ms: IntCounterVec,
    cost_micros: IntCounterVec,
    over_budget: IntCounterVec,
}

impl ProviderMetrics {
    #[expect(clippy::cast_precision_loss, reason = "a histogram's buckets are coarser than a double")]
    pub(crate) fn took(&self, provider: &str, call: &str, length: Millis) {
        self.seconds.with_label_values(&[provider, call]).observe(length.0 as f64 / 1000.0);
    }

    /// Registers the metrics.
    ///
    /// # Errors
    /// When the registry already has one of their names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let all = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(all.clone())).map(|()| all)
        };
        let opts =
            HistogramOpts::new("hansard_provider_seconds", "Time that a provider's answer took, by call.")
                .buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0]);
        let seconds = HistogramVec::new(opts, &["provider", "call"])?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            calls: counter(
                "hansard_provider_calls_total",
                "Calls of providers by how they ended: ok, or a failure's code.",
                &["provider", "call", "result"],
            )?,
            seconds,
            audio_ms: counter(
                "hansard_provider_audio_milliseconds_total",
                "Audio that providers have transcribed.",
                &["provider", "model"],
            )?,
            cost_micros: counter(
                "hansard_provider_cost_micros_total",
                "What that has cost by the configured prices, in millionths of the currency.",
                &["provider", "currency"],
            )?,
            over_budget: counter(
                "hansard_provider_over_budget_total",
                "Times that a segment was put off, since the provider's budget of the day is spent.",
                &["provider"],
            )?,
        })
    }
}

#[cfg(test)]
mod tests;
