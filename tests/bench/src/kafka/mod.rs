//! The aggregator on a real broker. It is a process of its own; this one starts the services, loads the log, and reads
//! the Finalizes as any consumer would.

mod aggregator;
mod reader;
mod services;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use hansard_kafka::{KafkaLog, TopicAdmin};

pub(crate) use aggregator::{Place, run};

use crate::load::{INTERLEAVED, Shape, append, facts_of, outgoing};
use crate::usage::{Usage, Used};
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
    /// 2,000 facts a second for a minute: from a conversation's last fact to its Finalize.
    Latency,
    /// kill -9 in the middle of preloaded facts, the store's directory kept: until Finalizes come again.
    Kill,
    /// One conversation of 5,000 chunks less one, and 10,000 conversations open at once.
    Large,
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
            Measure::Latency => bench.latency().await?,
            Measure::Kill => bench.kill(facts).await?,
            Measure::Large => bench.large().await?,
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
        let shape =
            Shape { conversations: facts / facts_of(CHUNKS), chunks: CHUNKS, interleaved: INTERLEAVED };
        let figures = self.preloaded(&place, &log, shape).await?;
        println!("{CHUNKS} chunks, {INTERLEAVED} interleaved: {figures}");
        Ok(())
    }

    async fn large(&self) -> Result<()> {
        // One below the limit of what a Finish may expect.
        let shapes = [
            ("one.", Shape { conversations: 1, chunks: 4_999, interleaved: 1 }),
            ("open.", Shape { conversations: 10_000, chunks: CHUNKS, interleaved: 10_000 }),
        ];
        for (prefix, shape) in shapes {
            let (place, log) = self.log(prefix).await?;
            let place = Place { directory: place.directory.join(prefix), ..place };
            let figures = self.preloaded(&place, &log, shape).await?;
            println!("{} open at once, of {} segments: {figures}", shape.interleaved, 2 * shape.chunks);
        }
        Ok(())
    }

    /// Loads, then measures until each conversation has its Finalize.
    async fn preloaded(&self, place: &Place, log: &KafkaLog, shape: Shape) -> Result<String> {
        ensure!(shape.conversations > 0, "so few facts are less than one conversation");
        append(log, outgoing(shape)).await?;
        let mut finalizes = Finalizes::subscribe(place)?;
        let broker = self.services.broker()?;
        let (aggregator, begun) = Aggregator::start(place)?;
        finalizes.read_until(shape.conversations, Instant::now() + PATIENCE)?;
        let used = begun.since()?;
        let broker = broker.as_ref().map(Usage::since).transpose()?;
        aggregator.stop()?;
        finalizes.verify(shape)?;
        Ok(figures(records(shape), &used, broker.as_ref()))
    }

    async fn latency(&self) -> Result<()> {
        let (place, log) = self.log("latency.").await?;
        let shape =
            Shape { conversations: 2_000 * 60 / facts_of(CHUNKS), chunks: CHUNKS, interleaved: INTERLEAVED };
        let mut finalizes = Finalizes::subscribe(&place)?;
        let (aggregator, begun) = Aggregator::start(&place)?;
        let load = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            let mut records = outgoing(shape).peekable();
            while records.peek().is_some() {
                tick.tick().await;
                append(&log, records.by_ref().take(20)).await?;
            }
            anyhow::Ok(())
        });
        finalizes.read_until(shape.conversations, Instant::now() + PATIENCE)?;
        let used = begun.since()?;
        load.await??;
        aggregator.stop()?;
        finalizes.verify(shape)?;
        let mut waits = finalizes.after(&reader::last_facts(&place, records(shape))?)?;
        waits.sort_unstable();
        let at = |share: usize| waits[(waits.len() - 1) * share / 100];
        println!(
            "2,000 facts a second: last fact to Finalize p50 {} ms, p99 {} ms, longest {} ms, of {}; {:.1} % of a CPU",
            at(50),
            at(99),
            at(100),
            waits.len(),
            100.0 * used.cpu_seconds / used.seconds
        );
        Ok(())
    }

    async fn kill(&self, facts: usize) -> Result<()> {
        let (place, log) = self.log("kill.").await?;
        let shape =
            Shape { conversations: facts / facts_of(CHUNKS), chunks: CHUNKS, interleaved: INTERLEAVED };
        append(&log, outgoing(shape)).await?;
        let mut finalizes = Finalizes::subscribe(&place)?;
        let (aggregator, _) = Aggregator::start(&place)?;
        finalizes.read_until(shape.conversations / 2, Instant::now() + PATIENCE)?;
        // Dropped, it is killed.
        drop(aggregator);
        let killed = SystemTime::now();
        let (aggregator, _) = Aggregator::start(&place)?;
        finalizes.read_until(shape.conversations, Instant::now() + PATIENCE)?;
        let caught_up = killed.elapsed()?;
        aggregator.stop()?;
        finalizes.verify(shape)?;
        println!(
            "killed half way, store kept, static membership: first new Finalize after {:.2} s, the other half after {:.2} s",
            finalizes.first_logged_after(killed)?.as_secs_f64(),
            caught_up.as_secs_f64()
        );
        Ok(())
    }
}

/// Records of so many conversations, repeated ones counted.
fn records(shape: Shape) -> usize {
    let facts = shape.conversations * facts_of(shape.chunks);
    facts + facts / 50
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn figures(records: usize, used: &Used, broker: Option<&Used>) -> String {
    let millions = records as f64 / 1e6;
    let broker = broker
        .map_or("not ours".to_owned(), |used| format!("{:.1} CPU s a million", used.cpu_seconds / millions));
    format!(
        "{records} records in {:.2} s, {:.0} a second, {:.2} CPU s a million, peak {:.0} MiB; broker {broker}",
        used.seconds,
        records as f64 / used.seconds,
        used.cpu_seconds / millions,
        used.peak_mib,
    )
}
