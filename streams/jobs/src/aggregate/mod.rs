//! The stage aggregate: joins all facts of a conversation and closes its window when nothing is missing any more, or
//! its deadline has passed.
//!
//! Consumes: `uploads`, `splits`, `transcripts`, `failures`, `finalizes`, `merges`, `summaries`. Emits: `Finalize`,
//! `Conversation` on change of status, `Segment`s of a rerun, `Failure` for a conflicting upload. Key: the conversation.
//! Effect: rows of facts, the index of open windows, an erasure. Bad input: dead letter; a window whose decision panics
//! is quarantined alone.

mod emit;
mod erase;
mod recall;
mod shard;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;
use futures::future;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hansard_core::fact::Fact;
use hansard_core::id::{Millis, Partition, Timestamp};
use hansard_core::redelivery::{Class, Policy};
use hansard_core::{Decision, Rules, Window, judge};
use hansard_runtime::metrics::Metrics;
use hansard_runtime::ordered::{Applied, Fold};
use hansard_runtime::ports::Ports;
use hansard_runtime::ports::facts::Row;
use hansard_runtime::ports::windows::OpenWindow;
use hansard_runtime::stage::{Failed, Input};
use hansard_runtime::trace::TraceParent;
use hansard_schemas::{Record, Topic};

use crate::convert;
use emit::Told;
pub use emit::{hex, segment};
use shard::{Kept, Shard};

/// How the aggregator behaves.
#[derive(Debug, Clone)]
pub struct AggregateConfig {
    /// The rules of closing, with their lengths of time.
    pub rules: Rules,
    /// Bytes of windows kept in memory, about, at most (default 256 MiB). Others are read back when a fact or their
    /// time comes.
    pub cache_bytes_max: usize,
    /// How far back open windows are looked for at a take-over (default 35 days): the longest retention.
    pub retention: Millis,
    /// Windows read back at once (default 16).
    pub reads_max: usize,
    /// Windows looked at by the clock in one transaction (default 256).
    pub looks_max: usize,
    /// How many offsets of a partition's statuses are read back at a take-over (default 10,000): an open window that was
    /// last told of before them is told of again.
    pub recall_max: i64,
    /// Retention's `Erase` is not carried out where a fact is no older than this at the Erase's log time: sweep may have
    /// looked long before. By default each is carried out.
    pub expire_after: Option<Millis>,
    /// The longest between two attempts while the store is down (default 10 s).
    pub pause_max: Millis,
}

impl Default for AggregateConfig {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            cache_bytes_max: 256 << 20,
            retention: Millis::hours(35 * 24),
            reads_max: 16,
            looks_max: 256,
            recall_max: 10_000,
            expire_after: None,
            pause_max: Policy::default().pause_cap,
        }
    }
}

/// The aggregator.
pub struct Aggregate {
    ports: Ports,
    config: AggregateConfig,
    metrics: Metrics,
    shards: BTreeMap<Partition, Shard>,
    /// Windows that changed, or whose time has come, and that are not decided about yet.
    touched: BTreeSet<Place>,
    /// Chunks whose segments a rerun asks for again, and what follows from facts beside decisions. Both outlast a failure
    /// on the way to their emission, since joining the same facts again would not bring them back.
    rework: BTreeMap<Place, emit::Rework>,
    follow: Vec<(Partition, Record)>,
    /// False during a take-over.
    deciding: bool,
    /// The log's clock is not known before something is emitted: until then a status is told of again.
    clockless: bool,
}

/// A fact with the row that keeps it.
pub struct Known {
    partition: Partition,
    row: Row,
    fact: Fact,
    trace: Option<TraceParent>,
}

/// Facts that are taken in together, conversation by conversation.
struct Taken {
    /// The conversations, each with the place of its first fact.
    places: Vec<(Place, usize)>,
    /// Where the newest fact of each stands in a trace, if one says so.
    traces: Vec<Option<TraceParent>>,
    rows: Vec<Row>,
    facts: Vec<Fact>,
}

/// A conversation in its partition.
type Place = (Partition, Arc<str>);

impl Aggregate {
    /// An aggregator with its ports.
    #[must_use]
    pub fn new(ports: Ports, config: AggregateConfig, metrics: Metrics) -> Self {
        Self {
            ports,
            config,
            metrics,
            shards: BTreeMap::new(),
            touched: BTreeSet::new(),
            rework: BTreeMap::new(),
            follow: Vec::new(),
            deciding: false,
            clockless: true,
        }
    }

    /// Brings facts into the order of their conversations, so that what is done for each is done once.
    fn taken(&self, known: Vec<Known>) -> Taken {
        let mut taken = Taken {
            places: Vec::new(),
            traces: Vec::new(),
            rows: Vec::with_capacity(known.len()),
            facts: Vec::with_capacity(known.len()),
        };
        for known in by_conversation(known) {
            let id = known.row.record.conversation_id();
            let same = taken.places.last().is_some_and(|((p, c), _)| *p == known.partition && **c == *id);
            if !same {
                let kept = self.shards.get(&known.partition).and_then(|shard| shard.name(id));
                taken.places.push(((known.partition, kept.unwrap_or_else(|| id.into())), taken.rows.len()));
                taken.traces.push(None);
            }
            if let Some(newest) = taken.traces.last_mut() {
                *newest = known.trace.or(*newest);
            }
            taken.rows.push(known.row);
            taken.facts.push(known.fact);
        }
        taken
    }

    /// Joins facts to their windows, which are in memory.
    fn join(&mut self, taken: &Taken) {
        let ends = taken.places.iter().skip(1).map(|(_, start)| *start).chain([taken.rows.len()]);
        for (((place, start), end), trace) in taken.places.iter().zip(ends).zip(&taken.traces) {
            let kept = self.shards.entry(place.0).or_default().kept(&place.1);
            kept.trace = trace.or(kept.trace);
            let Some(window) = kept.window.as_mut() else { continue };
            for (row, fact) in taken.rows[*start..end].iter().zip(&taken.facts[*start..end]) {
                let stood = emit::standing(window, fact);
                let changed = window.apply(fact);
                if let Fact::Finalize(finalize) = fact {
                    if changed && window.contents_of_revision() > 1 {
                        let revision = finalize.revision.0;
                        self.metrics.revision_conflict();
                        tracing::error!(
                            conversation = &*place.1,
                            revision,
                            "two contents of one revision; another follows"
                        );
                    }
                    kept.unread = kept.unread.filter(|unread| *unread > finalize.revision);
                }
                kept.extras.learn(row);
                let conflict = emit::conflict(window, stood, fact, row);
                self.follow.extend(conflict.map(|record| (place.0, record)));
                if let Some(chunk) = emit::rework(window, fact) {
                    self.rework.entry(place.clone()).or_default().insert(chunk);
                }
            }
            // Also where nothing changed: a replayed fact whose row was written may never have been decided about.
            self.touched.insert(place.clone());
        }
    }

    fn kept(&mut self, place: &Place) -> &mut Kept {
        self.shards.entry(place.0).or_default().kept(&place.1)
    }

    /// Reads windows back that are not in memory.
    async fn load(&mut self, places: impl Iterator<Item = Place>) -> Result<(), Failed> {
        let absent: Vec<Place> = places.filter(|place| self.kept(place).window.is_none()).collect();
        let reads = absent.into_iter().map(|place| read(self.ports.clone(), place));
        let windows: Vec<(Place, Vec<Known>, bool)> =
            stream::iter(reads).buffered(self.config.reads_max).try_collect().await?;
        for (place, known, erased) in windows {
            let mut window = Window::new();
            if erased {
                window.apply(&Fact::Erase);
            }
            let kept = self.kept(&place);
            for known in known {
                window.apply(&known.fact);
                kept.extras.learn(&known.row);
            }
            kept.window = Some(window);
        }
        Ok(())
    }

    /// Decides about the touched windows. What can fail comes first, so that a failure leaves nothing half done: the
    /// same windows are decided about again.
    async fn decide(&mut self, applied: &mut Applied) -> Result<(), Failed> {
        let now = self.ports.clock.now();
        let touched: Vec<Place> = self.touched.iter().cloned().collect();
        let (mut decisions, mut needed) = (Vec::new(), Vec::new());
        for place in touched {
            let (judged, rules) = (self.shards.entry(place.0).or_default().judged, self.config.rules);
            let kept = self.kept(&place);
            let Some(window) = &kept.window else { continue };
            match catch_unwind(AssertUnwindSafe(|| judge(window, &rules, judged))) {
                Ok((decision, status)) => {
                    let told = Told::of(window, status);
                    let awaited = emit::awaited_revision(&told, &decision);
                    if let Some(revision) = awaited.filter(|r| kept.entries.iter().all(|e| e.revision < *r)) {
                        needed.push((place.clone(), entry(&place, revision, now)));
                    }
                    decisions.push((place, decision, told));
                }
                Err(_) => self.quarantine(&place),
            }
        }
        // Before the transaction: too many entries are harmless, too few never are.
        if !needed.is_empty() {
            let entries: Vec<OpenWindow> = needed.iter().map(|(_, entry)| entry.clone()).collect();
            self.ports.windows.insert(&entries).await?;
        }
        for (place, entry) in needed {
            self.kept(&place).entries.insert(entry);
        }
        for (place, decision, told) in decisions {
            self.carry_out(&place, decision, told, now, applied);
        }
        self.touched.clear();
        Ok(())
    }

    /// Emits what was decided, and the status where it changed. In memory a Finalize counts from here on.
    fn carry_out(
        &mut self,
        place: &Place,
        decision: Decision,
        mut told: Told,
        now: Timestamp,
        applied: &mut Applied,
    ) {
        let (judged, rules) = (self.shards.entry(place.0).or_default().judged, self.config.rules);
        let clockless = self.clockless;
        let kept = self.kept(place);
        let Some(window) = kept.window.as_mut() else { return };
        let look_at = match decision {
            Decision::Wait { look_at } => look_at,
            Decision::Finalize(manifest) => {
                let record = convert::finalize_record(&place.1, &manifest);
                let Ok(fact) = convert::finalize(&record, now) else { return self.quarantine(place) };
                window.apply(&Fact::Finalize(fact));
                kept.unread = Some(manifest.revision);
                applied.emissions.push((place.0, Record::Finalize(record)));
                let (next, status) = judge(window, &rules, judged);
                told = Told::of(window, status);
                match next {
                    Decision::Wait { look_at } => look_at,
                    // Only a conflict of contents forces a revision at once; the clock brings it.
                    Decision::Finalize(_) => Some(judged),
                }
            }
        };
        if told.is_at_rest() && look_at.is_none() {
            applied.settled.extend(std::mem::take(&mut kept.entries));
        }
        // What was not told of before a take-over may have waited since its last revision, or since it began.
        let since = if kept.told.is_some() { Some(now) } else { waiting_since(window) };
        let waits = since.filter(|_| !told.is_at_rest());
        if kept.told.as_ref() != Some(&told) {
            let record = kept.extras.conversation(&place.1, window, &told, now);
            let trace = kept.trace;
            kept.told = Some(told);
            if kept.recalled.take().as_ref() != Some(&record.event_id) || clockless {
                emit::tell_whole(&self.ports, trace, &record);
                applied.emissions.push((place.0, Record::Conversation(record)));
            }
        }
        self.clockless &= applied.emissions.is_empty();
        let shard = self.shards.entry(place.0).or_default();
        shard.look_at(&place.1, look_at);
        shard.waits(&place.1, waits);
    }

    fn quarantine(&mut self, place: &Place) {
        tracing::error!(
            conversation = &*place.1,
            partition = place.0.0,
            "window quarantined: its decision failed"
        );
        self.touched.remove(place);
        self.shards.entry(place.0).or_default().quarantine(&place.1);
    }

    /// The segments that a rerun covers, from the rows of their Splits and Uploads.
    async fn segments_again(
        &mut self,
        place: &Place,
        chunks: &emit::Rework,
    ) -> Result<Vec<(Partition, Record)>, Failed> {
        let rows = self.ports.facts.read(&place.1).await?;
        let kept = self.kept(place);
        let Some(window) = &kept.window else { return Ok(Vec::new()) };
        Ok(emit::segments(window, chunks, &rows).map(|segment| (place.0, Record::Segment(segment))).collect())
    }

    /// Keeps within the cache's bound, and tells how long the oldest window waits.
    fn evict(&mut self) {
        let share = self.config.cache_bytes_max / self.shards.len().max(1);
        self.shards.values_mut().for_each(|shard| shard.evict(share));
        let oldest = self.shards.values().filter_map(Shard::waiting_since).min();
        self.metrics.oldest_window(oldest, self.ports.clock.now());
    }
}

/// The facts of each conversation together, in their order; the conversations as they first come.
fn by_conversation(known: Vec<Known>) -> impl Iterator<Item = Known> {
    let mut numbers: HashMap<(Partition, &str), usize> = HashMap::new();
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(known.len());
    for (at, known) in known.iter().enumerate() {
        let next = numbers.len();
        let conversation = (known.partition, known.row.record.conversation_id());
        order.push((*numbers.entry(conversation).or_insert(next), at));
    }
    order.sort_unstable();
    let mut known: Vec<Option<Known>> = known.into_iter().map(Some).collect();
    order.into_iter().filter_map(move |(_, at)| known[at].take())
}

/// Since when a window waits of which nothing was told: its last revision, or its first fact.
fn waiting_since(window: &Window) -> Option<Timestamp> {
    window.last_finalize().map(|finalize| finalize.time).or(window.earliest())
}

/// Reads one conversation's rows and its erasure marker.
async fn read(ports: Ports, place: Place) -> Result<(Place, Vec<Known>, bool), Failed> {
    if ports.facts.erasure(&place.1).await?.is_some() {
        return Ok((place, Vec::new(), true));
    }
    let rows = ports.facts.read(&place.1).await?;
    let mut known = Vec::with_capacity(rows.len());
    for row in rows {
        let fact = convert::fact(&row).map_err(|error| {
            Failed::new(Class::Unavailable, "store_corrupt", format!("{}: {error}", place.1))
        })?;
        known.push(Known { partition: place.0, row, fact, trace: None });
    }
    Ok((place, known, false))
}

#[async_trait]
impl Fold for Aggregate {
    type Fact = Known;

    fn fact(&self, input: Input) -> Result<Known, Failed> {
        let row = Row { offset: input.origin, time: input.time, record: input.record };
        let fact = convert::fact(&row)
            .map_err(|error| Failed::new(Class::Permanent, "invalid", error.to_string()))?;
        Ok(Known { partition: input.from.partition, row, fact, trace: input.trace })
    }

    fn facts(&self) -> &'static [Topic] {
        &FACTS
    }

    fn own(&self) -> Topic {
        Topic::Finalizes
    }

    fn assigned(&mut self) {
        self.shards.clear();
        self.touched.clear();
        self.rework.clear();
        self.follow.clear();
        self.deciding = false;
    }

    async fn taken_over(&mut self, partitions: &[Partition], clocked: bool) -> Result<(), Failed> {
        let since = day(Timestamp(self.ports.clock.now().0.saturating_sub(self.config.retention.0)));
        let looks = partitions.iter().copied().map(|partition| {
            recall::open_windows(self.ports.clone(), partition, since, self.config.recall_max)
        });
        let open: Vec<_> = stream::iter(looks).buffered(self.config.reads_max).try_concat().await?;
        for (entry, told) in open {
            let shard = self.shards.entry(entry.partition).or_default();
            let conversation: Arc<str> = entry.conversation.as_str().into();
            let kept = shard.kept(&conversation);
            kept.entries.insert(entry);
            kept.recalled = told;
            shard.look_at(&conversation, Some(Timestamp::MIN));
        }
        self.deciding = true;
        self.clockless = !clocked;
        Ok(())
    }

    async fn apply(&mut self, facts: Vec<Known>) -> Result<Applied, Failed> {
        let facts = self.spare(facts).await?;
        let taken = self.taken(facts);
        self.load(taken.places.iter().map(|(place, _)| place.clone())).await?;
        // The windows are joined while the rows are written. After a failure they are joined again, which changes nothing;
        // only a conflict may then be told of twice, under one event id.
        let store = Arc::clone(&self.ports.facts);
        let (written, ()) = future::join(store.write(&taken.rows), async { self.join(&taken) }).await;
        written?;
        self.erase(&taken.rows).await?;
        while let Some((place, chunks)) = self.rework.first_key_value() {
            let segments = self.segments_again(&place.clone(), &chunks.clone()).await?;
            self.rework.pop_first();
            self.follow.extend(segments);
        }
        let mut applied = Applied::default();
        if self.deciding {
            self.decide(&mut applied).await?;
        } else {
            for (partition, conversation) in std::mem::take(&mut self.touched) {
                self.shards.entry(partition).or_default().look_at(&conversation, Some(Timestamp::MIN));
            }
        }
        self.follow.append(&mut applied.emissions);
        applied.emissions = std::mem::take(&mut self.follow);
        self.evict();
        Ok(applied)
    }

    fn trace(&self, partition: Partition, conversation: &str) -> Option<TraceParent> {
        self.shards.get(&partition)?.trace(conversation)
    }

    fn look_at(&self, partition: Partition) -> Option<Timestamp> {
        self.shards.get(&partition)?.next_look()
    }

    async fn look(&mut self, partition: Partition, judged: Timestamp) -> Result<Applied, Failed> {
        // Without a clock one is enough, to have it known.
        let looks_max = if judged == Timestamp::MIN { 1 } else { self.config.looks_max };
        let shard = self.shards.entry(partition).or_default();
        shard.judged = shard.judged.max(judged);
        let due = shard.due(judged, looks_max);
        self.touched.extend(due.into_iter().map(|conversation| (partition, conversation)));
        let mut applied = Applied::default();
        let touched: Vec<Place> = self.touched.iter().cloned().collect();
        self.load(touched.into_iter()).await?;
        self.decide(&mut applied).await?;
        self.evict();
        Ok(applied)
    }
}

/// The topics whose records are facts.
pub(crate) const FACTS: [Topic; 7] = [
    Topic::Uploads,
    Topic::Splits,
    Topic::Transcripts,
    Topic::Failures,
    Topic::Finalizes,
    Topic::Merges,
    Topic::Summaries,
];

/// The UTC day of a time, in days since the Unix epoch.
fn day(time: Timestamp) -> i32 {
    i32::try_from(time.0.div_euclid(86_400_000)).unwrap_or(0)
}

/// An entry of the index.
fn entry(place: &Place, revision: i32, now: Timestamp) -> OpenWindow {
    OpenWindow { partition: place.0, day: day(now), conversation: place.1.to_string(), revision }
}
