//! The least that any program does that keeps facts: it reads them, writes the rows by conversation, and commits what
//! it has read. It joins nothing, decides nothing, and writes nothing to the log.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hansard_core::id::{Offset, Timestamp};
use hansard_runtime::ports::facts::{Facts, Row};
use hansard_schemas::Framing;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;

use super::{FACTS, PATIENCE, Place};

/// Records of one batch, as the aggregator's.
const BATCH: usize = 8_000;
/// A batch ends when nothing comes for so long.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs until so many records are written and committed.
pub(crate) async fn run(place: &Place, facts: &dyn Facts, records: usize) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &place.brokers)
        .set("group.id", format!("{}bare", place.prefix))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()?;
    let topics = FACTS.map(|topic| format!("{}{topic}", place.prefix));
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    let until = Instant::now() + PATIENCE;
    let mut written = 0;
    while written < records {
        ensure!(Instant::now() < until, "{written} of {records} records are written in time");
        let rows = tokio::task::block_in_place(|| read(&consumer))?;
        if rows.is_empty() {
            continue;
        }
        facts.write(&rows).await?;
        tokio::task::block_in_place(|| consumer.commit_consumer_state(CommitMode::Sync))?;
        written += rows.len();
    }
    Ok(())
}

/// A batch of what is there.
fn read(consumer: &BaseConsumer) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(BATCH);
    while rows.len() < BATCH
        && let Some(record) = consumer.poll(PAUSE)
    {
        let record = record?;
        let value = record.payload().context("a fact without a value")?;
        let time = record.timestamp().to_millis().context("a fact without a time")?;
        let (offset, time) = (Offset(record.offset()), Timestamp(time));
        rows.push(Row { offset, time, record: Box::new(Framing::SingleObject.decode(value)?) });
    }
    Ok(rows)
}
