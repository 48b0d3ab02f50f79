//! The deployment's writers of summaries: who is asked, at what pace, for what price; and the calls that one summary takes.
//!
//! A transcript that is longer than a writer's room is summarised passage by passage, and their summaries are summarised
//! together until one is left. Each of these calls is an effect of its own in the journal, under the digest of what it reads
//! and of how it is asked. So a crash costs the calls that were in flight and not the hours before them, a failure is tried
//! again alone, and a revision that adds to the end of a conversation pays for nothing but the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::StreamExt as _;
use hansard_core::document::Document;
use hansard_core::id::{Digest, Millis};
use hansard_core::passages::{Note, calls_max, groups, passages};
use hansard_core::redelivery::Class;
use hansard_runtime::effect::{self, Before, Called, Look};
use hansard_runtime::pace::{Pace, Permit};
use hansard_runtime::ports::clock::Clock;
use hansard_runtime::ports::journal::{JournalKey, SubmissionId};
use hansard_runtime::stage::{Failed, Input};
use hansard_schemas::{Options, Record, Summary, encode};
use prometheus::{IntCounterVec, Opts, Registry};
use sha2::{Digest as _, Sha256};

use crate::aggregate::hex;
use crate::asking::Asking;
use crate::effects::{Effect, result};
use crate::ports::{Material, Summarizer, SummarizerIdentity, SummaryReply, SummaryRequest};
use crate::providers::ProviderMetrics;
use crate::redaction::Redaction;

/// Calls of one summary that are under way at once, where the pace allows it.
const AT_ONCE: usize = 4;

/// One writer and what the deployment has agreed with it.
pub struct SummaryProvider {
    /// Its calls.
    pub summarizer: Arc<dyn Summarizer>,
    /// How fast they may come.
    pub pace: Pace,
    /// What it asks.
    pub price: Option<TokenPrice>,
    /// Passages of one transcript, at most; else `too_large`.
    pub passages_max: usize,
}

/// What a writer asks for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPrice {
    /// Millionths of the currency for a million tokens that are read.
    pub micros_in: i64,
    /// The same for those that are written.
    pub micros_out: i64,
    /// The currency's code.
    pub currency: String,
}

/// All of them.
pub struct Summarizers {
    by_name: BTreeMap<String, SummaryProvider>,
    default: String,
    asking: Asking,
    metrics: SummaryMetrics,
}

/// What is told of summaries to Prometheus, registered once a process.
#[derive(Clone)]
pub struct SummaryMetrics {
    providers: ProviderMetrics,
    tokens: IntCounterVec,
    cost_micros: IntCounterVec,
}

impl SummaryMetrics {
    /// Registers the metrics beside those of all providers.
    ///
    /// # Errors
    /// When the registry already has one of their names.
    pub fn register(registry: &Registry, providers: ProviderMetrics) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let all = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(all.clone())).map(|()| all)
        };
        Ok(Self {
            providers,
            tokens: counter(
                "hansard_summary_tokens_total",
                "Tokens that models have read (in) and written (out) for summaries.",
                &["provider", "direction"],
            )?,
            cost_micros: counter(
                "hansard_summary_cost_micros_total",
                "What they have cost by the configured prices, in millionths of the currency.",
                &["provider", "currency"],
            )?,
        })
    }
}

impl TokenPrice {
    fn of(&self, reply: &SummaryReply) -> i64 {
        let part = |tokens: Option<i64>, micros: i64| i128::from(tokens.unwrap_or(0)) * i128::from(micros);
        let micros = part(reply.tokens_in, self.micros_in) + part(reply.tokens_out, self.micros_out);
        i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX)
    }
}

impl Summarizers {
    /// The job gives a call up after `call_max`.
    ///
    /// # Panics
    /// Where `default` names one that is not there.
    #[must_use]
    pub fn new(
        by_name: BTreeMap<String, SummaryProvider>,
        default: &str,
        call_max: Millis,
        clock: Arc<dyn Clock>,
        metrics: SummaryMetrics,
    ) -> Self {
        assert!(by_name.contains_key(default), "{default}");
        let asking = Asking::new(call_max, clock, metrics.providers.clone());
        Self { by_name, default: default.to_owned(), asking, metrics }
    }

    /// Whom a conversation's summary may be asked of, with the options that it is given: a choice of the deployment's own is
    /// none of the record's.
    ///
    /// # Errors
    /// `unknown_provider`, permanent.
    pub(crate) fn chosen(&self, mut options: Options) -> Result<(Writer<'_>, Options), Failed> {
        options.provider = options.provider.filter(|wanted| *wanted != self.default);
        let wanted = options.provider.as_ref().unwrap_or(&self.default);
        let Some((name, provider)) = self.by_name.get_key_value(wanted) else {
            let known = self.by_name.keys().cloned().collect::<Vec<_>>().join(", ");
            let cause = format!("this deployment has no writer of summaries {wanted:?}; it has {known}");
            return Err(Failed::new(Class::Permanent, "unknown_provider", cause));
        };
        Ok((Writer { name, provider, all: self }, options))
    }

    /// This instance holds `held` of `of` partitions.
    pub(crate) fn share(&self, held: usize, of: usize) {
        self.by_name.values().for_each(|provider| provider.pace.share(held, of));
    }
}

/// A writer and its name.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    name: &'a str,
    provider: &'a SummaryProvider,
    all: &'a Summarizers,
}

impl Writer<'_> {
    pub(crate) fn identity(self, options: &Options) -> SummarizerIdentity {
        self.provider.summarizer.identity(options)
    }

    async fn write(self, request: &SummaryRequest<'_>, permit: &Permit<'_>) -> Result<SummaryReply, Failed> {
        let Self { name, provider, all } = self;
        let SummaryProvider { summarizer, pace, price, .. } = provider;
        let call = (name, "summarize");
        let (writing, probe) = (summarizer.summarize(request, permit), summarizer.probe(permit));
        let reply = all.asking.ask(call, pace, writing, probe).await?;
        for (direction, tokens) in [("in", reply.tokens_in), ("out", reply.tokens_out)] {
            let tokens = tokens.unwrap_or(0).max(0).unsigned_abs();
            all.metrics.tokens.with_label_values(&[name, direction]).inc_by(tokens);
        }
        if let Some(price) = price {
            let micros = price.of(&reply).max(0).unsigned_abs();
            all.metrics.cost_micros.with_label_values(&[name, &price.currency]).inc_by(micros);
        }
        Ok(reply)
    }
}

/// What a summary has cost so far.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    tokens_in: Option<i64>,
    tokens_out: Option<i64>,
    cost_micros: Option<i64>,
}

impl Spent {
    fn of(summary: &Summary) -> Self {
        let Summary { tokens_in, tokens_out, cost_micros, .. } = *summary;
        Self { tokens_in, tokens_out, cost_micros }
    }

    fn and(self, other: Self) -> Self {
        let sum = |a: Option<i64>, b: Option<i64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        Self {
            tokens_in: sum(self.tokens_in, other.tokens_in),
            tokens_out: sum(self.tokens_out, other.tokens_out),
            cost_micros: sum(self.cost_micros, other.cost_micros),
        }
    }
}

/// The calls that one summary takes.
pub(crate) struct Calls<'a> {
    pub(crate) effect: &'a Effect,
    pub(crate) writer: Writer<'a>,
    pub(crate) options: &'a Options,
    pub(crate) redaction: &'a Redaction,
    pub(crate) document: &'a Document,
    pub(crate) input: &'a Input,
    /// The journal's key of the whole.
    pub(crate) key: &'a JournalKey,
}

/// What the texts of a level are.
#[derive(Clone, Copy)]
enum Kind {
    Passage,
    Notes,
}

impl Kind {
    fn material(self, text: &str) -> Material<'_> {
        match self {
            Self::Passage => Material::Passage(text),
            Self::Notes => Material::Notes(text),
        }
    }
}

/// What a call led to; `None` where it may be under way elsewhere.
type Made = Result<Option<Summary>, Failed>;

impl Calls<'_> {
    /// The summary, paid for only as far as the journal has it not.
    pub(crate) async fn made(&self) -> Made {
        let Some(_busy) = self.effect.take(self.key) else { return Ok(None) };
        let before = match effect::look(&self.effect.ports, self.key).await? {
            Look::Result(bytes) => return summary_of(&bytes).map(Some),
            Look::UnderWay | Look::Job { .. } => return Ok(None),
            Look::Free(before) => before,
        };
        let Some(room) = self.writer.provider.summarizer.room() else {
            let material = Material::Transcript(self.document);
            return self.pay(self.key, &before, material, Spent::default()).await.map(Some);
        };
        let mut texts = passages(self.document, room);
        self.bounded(texts.len())?;
        let mut spent = Spent::default();
        let mut kind = Kind::Passage;
        while texts.len() > 1 {
            let Some(made) = self.level(&texts, kind).await? else { return Ok(None) };
            spent = made.iter().map(Spent::of).fold(spent, Spent::and);
            let notes: Vec<Note> = made.into_iter().map(note).collect();
            (texts, kind) = (groups(&notes, room), Kind::Notes);
        }
        // Of nothing that was said nobody is asked.
        let Some(last) = texts.first() else {
            return summary_of(&self.kept(SummaryReply::default(), spent)).map(Some);
        };
        let material = match kind {
            Kind::Passage => Material::Whole(last),
            Kind::Notes => Material::Notes(last),
        };
        self.pay(self.key, &before, material, spent).await.map(Some)
    }

    fn bounded(&self, passages: usize) -> Result<(), Failed> {
        let (most, conversation) = (self.writer.provider.passages_max, &self.document.conversation);
        if passages > most {
            let cause = format!(
                "the transcript makes {passages} passages, of at most {most}; raise the tokens or the passages of a summary"
            );
            return Err(Failed::new(Class::Permanent, "too_large", cause));
        }
        if passages > 1 {
            let calls_max = calls_max(passages);
            tracing::info!(conversation, passages, calls_max, "a transcript is summarised in passages");
        }
        Ok(())
    }

    /// The summaries of all texts of a level, a few at a time. Where one fails for itself the others go on, so that the next
    /// attempt has less to do; where the failure is everyone's, no other begins, and those under way are waited for: they are
    /// paid.
    async fn level(&self, texts: &[String], kind: Kind) -> Result<Option<Vec<Summary>>, Failed> {
        let stopped = AtomicBool::new(false);
        let calls: Vec<_> = texts.iter().map(|text| self.unless(&stopped, kind.material(text))).collect();
        let mut made: Vec<Made> = futures::stream::iter(calls).buffered(AT_ONCE).collect().await;
        // What concerns everyone is told before what concerns one, and either before what is under way elsewhere.
        made.sort_by_key(|made| match made {
            Err(failed) if failed.class != Class::Transient => 0,
            Err(_) => 1,
            Ok(_) => 2,
        });
        made.into_iter().collect()
    }

    async fn unless(&self, stopped: &AtomicBool, material: Material<'_>) -> Made {
        if stopped.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let made = self.part(material).await;
        if made.as_ref().is_err_and(|failed| failed.class != Class::Transient || failed.retry_after.is_some())
        {
            stopped.store(true, Ordering::Relaxed);
        }
        made
    }

    async fn part(&self, material: Material<'_>) -> Made {
        let identity = self.writer.identity(self.options);
        let (kind, text) = match material {
            Material::Transcript(_) => ("transcript", ""),
            Material::Whole(text) => ("whole", text),
            Material::Passage(text) => ("passage", text),
            Material::Notes(text) => ("notes", text),
        };
        let language = self.language().unwrap_or_default();
        let input = digest_of(&[kind, text, language], &identity, self.options);
        let key = JournalKey { input, ..self.key.clone() };
        // Two revisions may share a passage.
        let Some(_busy) = self.effect.take(&key) else { return Ok(None) };
        match effect::look(&self.effect.ports, &key).await? {
            Look::Result(bytes) => summary_of(&bytes).map(Some),
            Look::UnderWay | Look::Job { .. } => Ok(None),
            Look::Free(before) => self.pay(&key, &before, material, Spent::default()).await.map(Some),
        }
    }

    /// Makes a call when its turn has come, and keeps what it gave, together with what was spent before.
    async fn pay(
        &self,
        key: &JournalKey,
        before: &Before,
        material: Material<'_>,
        spent: Spent,
    ) -> Result<Summary, Failed> {
        let Effect { ports, metrics, bounds, .. } = self.effect;
        let made = before.attempts(self.input.history.as_ref(), bounds.attempts_max)?;
        let permit = self.writer.provider.pace.permit().await;
        let call = async |id: SubmissionId| {
            let (language, options, idempotency_key) = (self.language(), self.options, hex(&id.0));
            let request = SummaryRequest { material, language, options, idempotency_key };
            let reply = self.writer.write(&request, &permit).await?;
            Ok(Called::Result(self.kept(reply, spent)))
        };
        match effect::submit(ports, metrics, key, before, (made, bounds.time_max), call).await? {
            Called::Result(bytes) => summary_of(&bytes),
            Called::Job(job) => {
                let cause = format!("a summary is no job, and {:?} is one", job.id);
                Err(Failed::new(Class::Defect, "not_a_job", cause))
            }
        }
    }

    fn language(&self) -> Option<&str> {
        self.options.language.as_deref().or(self.document.language.as_deref())
    }

    /// What is kept of an answer: the record that is emitted, or for a passage one of its kind.
    fn kept(&self, reply: SummaryReply, before: Spent) -> Bytes {
        let identity = self.writer.identity(self.options);
        let price = self.writer.provider.price.as_ref();
        let (tokens_in, tokens_out) = (reply.tokens_in, reply.tokens_out);
        let told = tokens_in.is_some() || tokens_out.is_some();
        let cost_micros = price.filter(|_| told).map(|price| price.of(&reply));
        let spent = before.and(Spent { tokens_in, tokens_out, cost_micros });
        let reply = self.redaction.written(cleaned(reply), self.options);
        encode(&Summary {
            conversation_id: self.document.conversation.clone(),
            outcome: "done".to_owned(),
            text: Some(reply.text),
            title: reply.title,
            language: reply.language.or_else(|| self.document.language.clone()),
            provider: Some(identity.provider),
            model: Some(reply.model.unwrap_or(identity.model)),
            prompt_version: Some(identity.prompt_version),
            key_points: reply.key_points,
            action_items: reply.action_items,
            tokens_in: spent.tokens_in,
            tokens_out: spent.tokens_out,
            cost_micros: spent.cost_micros,
            currency: spent.cost_micros.and(price).map(|price| price.currency.clone()),
            ..Default::default()
        })
    }
}

/// What a writer has written, of a passage or of all, without what no text has.
fn cleaned(reply: SummaryReply) -> SummaryReply {
    let clean = |text: String| {
        let kept = |character: &char| !character.is_control() || *character == '\n';
        text.chars().filter(kept).collect::<String>().trim().to_owned()
    };
    let list = |texts: Vec<String>| texts.into_iter().map(clean).filter(|text| !text.is_empty()).collect();
    SummaryReply {
        text: clean(reply.text),
        title: reply.title.map(clean).filter(|title| !title.is_empty()),
        key_points: list(reply.key_points),
        action_items: list(reply.action_items),
        ..reply
    }
}

fn note(summary: Summary) -> Note {
    let Summary { title, text, key_points, action_items, .. } = summary;
    Note { title, text: text.unwrap_or_default(), key_points, action_items }
}

fn summary_of(bytes: &Bytes) -> Result<Summary, Failed> {
    match result(bytes)? {
        Record::Summary(summary) => Ok(summary),
        _ => Err(Failed::new(Class::Defect, "journal_corrupt", "the result of a summary is none")),
    }
}

/// The journal's name of a call: what is summarised, by whom, and every option that the writer is told or that changes what
/// is kept.
pub(crate) fn digest_of(read: &[&str], identity: &SummarizerIdentity, options: &Options) -> Digest {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    read.iter().copied().for_each(&mut part);
    let SummarizerIdentity { provider, model, prompt_version } = identity;
    [provider, model, prompt_version].into_iter().for_each(|text| part(text));
    // Whether speakers were told apart is seen in what was said.
    let Options { language, provider, model, redact_pii, diarize: _, keyterms } = options;
    for option in [language, provider, model] {
        part(option.as_deref().unwrap_or_default());
    }
    part(if redact_pii.unwrap_or(false) { "redacted" } else { "" });
    keyterms.iter().for_each(|term| part(term));
    Digest(hash.finalize().into())
}
