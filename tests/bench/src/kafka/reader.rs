//! A consumer of `finalizes` as anyone could write it: reads what is committed, and holds it against what was written.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use hansard_schemas::{Counts, Framing, Record};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::aggregator::Place;
use crate::load::{failed_of, name};
use crate::world::PARTITIONS;

/// Finalizes as they came.
pub(crate) struct Finalizes {
    consumer: BaseConsumer,
    keys: HashSet<Vec<u8>>,
    seen: Vec<Seen>,
}

/// One of them.
pub(crate) struct Seen {
    /// When it was read.
    pub(crate) at: SystemTime,
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
        self.seen.push(Seen { at: SystemTime::now(), value });
        Ok(true)
    }

    /// Reads what is left, once nobody writes any more; then there is exactly one of each conversation, which counts
    /// what was written.
    pub(crate) fn verify(&mut self, conversations: usize, chunks: usize) -> Result<()> {
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
}
