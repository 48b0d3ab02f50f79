//! A consumer of `finalizes` as anyone could write it: reads what is committed, and holds it against what was written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use hansard_schemas::{Counts, Framing, Record};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{FACTS, Place};
use crate::load::{Shape, failed_of, name};
use crate::world::PARTITIONS;

/// Finalizes as they came.
pub(crate) struct Finalizes {
    consumer: BaseConsumer,
    keys: HashSet<Vec<u8>>,
    seen: Vec<Seen>,
}

/// One of them.
struct Seen {
    /// When it was read, in ms since the Unix epoch, as is when the log took it in.
    at: i64,
    logged: i64,
    value: Vec<u8>,
}

/// A consumer that reads partitions of some topics from the beginning.
pub(crate) fn consumer(place: &Place, topics: &[&str]) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &place.brokers)
        .set("group.id", format!("{}reader", place.prefix))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100")
        .create()?;
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..i32::try_from(PARTITIONS)? {
            list.add_partition_offset(&format!("{}{topic}", place.prefix), partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

impl Finalizes {
    pub(crate) fn subscribe(place: &Place) -> Result<Self> {
        Ok(Self { consumer: consumer(place, &["finalizes"])?, keys: HashSet::new(), seen: Vec::new() })
    }

    /// Reads until so many conversations have one.
    pub(crate) fn read_until(&mut self, conversations: usize, deadline: Instant) -> Result<()> {
        while self.keys.len() < conversations {
            ensure!(
                Instant::now() < deadline,
                "{} of {conversations} conversations are finalized in time",
                self.keys.len()
            );
            self.read(Duration::from_millis(200))?;
        }
        Ok(())
    }

    fn read(&mut self, wait: Duration) -> Result<bool> {
        let Some(record) = self.consumer.poll(wait) else { return Ok(false) };
        let record = record?;
        let key = record.key().context("a Finalize without a key")?;
        if !self.keys.contains(key) {
            self.keys.insert(key.to_vec());
        }
        let value = record.payload().context("a Finalize without a value")?.to_vec();
        let logged = record.timestamp().to_millis().context("a Finalize without a time")?;
        self.seen.push(Seen { at: millis(SystemTime::now())?, logged, value });
        Ok(true)
    }

    /// Reads what is left, once nobody writes any more; then there is exactly one of each conversation, which counts
    /// what was written.
    pub(crate) fn verify(&mut self, shape: Shape) -> Result<()> {
        let Shape { conversations, chunks, .. } = shape;
        while self.read(Duration::from_secs(1))? {}
        let mut found = BTreeMap::new();
        for seen in &self.seen {
            let Record::Finalize(finalize) = Framing::SingleObject.decode(&seen.value)? else {
                bail!("something else than a Finalize");
            };
            let again = found.insert(finalize.conversation_id.clone(), finalize);
            ensure!(again.is_none(), "two Finalizes of {:?}", again.map(|one| one.conversation_id));
        }
        ensure!(found.len() == conversations, "{} conversations instead of {conversations}", found.len());
        for conversation in 0..conversations {
            let finalize = found.get(&name(conversation)).context("a conversation without a Finalize")?;
            let failed = i32::try_from(failed_of(conversation, chunks))?;
            let (chunks, segments) = (i32::try_from(chunks)?, i32::try_from(2 * chunks)?);
            let counts = Counts { chunks, segments, transcribed: segments - failed, failed, missing: 0 };
            let outcome = if failed == 0 { "complete" } else { "with_failures" };
            ensure!(
                finalize.counts == counts
                    && finalize.revision == 1
                    && finalize.outcome == outcome
                    && finalize.chunks.len() == usize::try_from(chunks)?,
                "{}: revision {}, {}, {:?} instead of {outcome}, {counts:?}",
                finalize.conversation_id,
                finalize.revision,
                finalize.outcome,
                finalize.counts
            );
        }
        Ok(())
    }

    /// How many ms after its conversation's last fact each was read.
    pub(crate) fn after(&self, facts: &HashMap<Vec<u8>, i64>) -> Result<Vec<i64>> {
        let wait = |seen: &Seen| {
            let record = Framing::SingleObject.decode(&seen.value)?;
            let last = facts.get(record.conversation_id().as_bytes()).context("a Finalize without facts")?;
            Ok(seen.at - last)
        };
        self.seen.iter().map(wait).collect()
    }

    /// How long after a time the first was read that the log took in later.
    pub(crate) fn first_logged_after(&self, time: SystemTime) -> Result<Duration> {
        let time = millis(time)?;
        let first = self.seen.iter().find(|seen| seen.logged > time).context("none came later")?;
        Ok(Duration::from_millis(u64::try_from(first.at - time)?))
    }
}

fn millis(time: SystemTime) -> Result<i64> {
    Ok(i64::try_from(time.duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// When the log took in each conversation's last fact, repetitions aside.
pub(crate) fn last_facts(place: &Place, records: usize) -> Result<HashMap<Vec<u8>, i64>> {
    let consumer = consumer(place, &FACTS)?;
    let mut before: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut last = HashMap::new();
    for read in 0..records {
        let record = consumer.poll(Duration::from_secs(10));
        let record = record.with_context(|| format!("{read} of {records} facts are in the log"))??;
        let key = record.key().context("a fact without a key")?.to_vec();
        let value = record.payload().unwrap_or_default().to_vec();
        let time = record.timestamp().to_millis().context("a fact without a time")?;
        if before.insert(key.clone(), value.clone()).as_ref() != Some(&value) {
            let last: &mut i64 = last.entry(key).or_default();
            *last = time.max(*last);
        }
    }
    Ok(last)
}
