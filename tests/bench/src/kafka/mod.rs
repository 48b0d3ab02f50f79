//! The aggregator on a real broker. It is a process of its own; this one starts the services, loads the log, and reads
//! the Finalizes as any consumer would.

mod aggregator;
mod reader;
mod services;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hansard_kafka::{KafkaLog, TopicAdmin};

pub(crate) use aggregator::{Place, run};

use crate::load::{append, facts_of, outgoing};
use crate::usage::Usage;
use aggregator::Aggregator;
use reader::Finalizes;
use services::Services;

/// Chunks of a conversation.
const CHUNKS: usize = 20;
/// A run that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Measure {
    /// Preloaded facts, with the embedded store.
    Rate,
}

/// Runs the chosen measurements on one broker, each with topics of its own.
pub(crate) async fn compare(measures: &[Measure], facts: usize, directory: Option<PathBuf>) -> Result<()> {
    let temporary = match directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    println!("load average before: {}", load_average()?);
    let services = Services::start(temporary.path(), &["kafka"])?;
    for measure in measures {
        let bench = Bench { services: &services, directory: temporary.path().join(format!("{measure:?}")) };
        match measure {
            Measure::Rate => bench.rate(facts).await?,
        }
    }
    println!("load average after: {}", load_average()?);
    Ok(())
}

fn load_average() -> Result<String> {
    let all = std::fs::read_to_string("/proc/loadavg")?;
    Ok(all.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

/// One measurement.
struct Bench<'a> {
    services: &'a Services,
    directory: PathBuf,
}

impl Bench<'_> {
    /// Topics of its own, and the log on them.
    async fn log(&self, prefix: &str) -> Result<(Place, KafkaLog)> {
        let place = Place {
            brokers: self.services.kafka.clone(),
            prefix: prefix.to_owned(),
            directory: self.directory.clone(),
        };
        let config = place.config();
        let admin = TopicAdmin::new(&config, 1)?;
        admin.apply(&admin.diff().await?).await?;
        Ok((place, KafkaLog::new(config)?))
    }

    async fn rate(&self, facts: usize) -> Result<()> {
        let (place, log) = self.log("rate.").await?;
        let conversations = facts / facts_of(CHUNKS);
        ensure!(conversations > 0, "{facts} facts are less than one conversation");
        let begun = Instant::now();
        append(&log, outgoing(conversations, CHUNKS)).await?;
        println!("loaded in {:.1} s", begun.elapsed().as_secs_f64());
        let records = outgoing_count(conversations);
        let mut finalizes = Finalizes::subscribe(&place)?;
        let broker = self.services.broker()?;
        let (aggregator, begun) = Aggregator::start(&place)?;
        finalizes.read_until(conversations, Instant::now() + PATIENCE)?;
        let used = begun.since()?;
        let broker = broker.as_ref().map(Usage::since).transpose()?;
        aggregator.stop()?;
        finalizes.verify(conversations, CHUNKS)?;
        print_rate(records, &used, broker.as_ref());
        Ok(())
    }
}

/// Records of so many conversations, repeated ones counted.
fn outgoing_count(conversations: usize) -> usize {
    let facts = conversations * facts_of(CHUNKS);
    facts + facts / 50
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn print_rate(records: usize, used: &crate::usage::Used, broker: Option<&crate::usage::Used>) {
    let millions = records as f64 / 1e6;
    println!(
        "{:>10} {:>10} {:>12} {:>14} {:>10} {:>18}",
        "records", "seconds", "records/s", "CPU s/million", "peak MiB", "broker CPU s/mill."
    );
    println!(
        "{records:>10} {:>10.2} {:>12.0} {:>14.2} {:>10.0} {:>18}",
        used.seconds,
        records as f64 / used.seconds,
        used.cpu_seconds / millions,
        used.peak_mib,
        broker.map_or("-".to_owned(), |used| format!("{:.2}", used.cpu_seconds / millions)),
    );
}
