//! The aggregator on a real broker. It is a process of its own; this one starts the services, loads the log, and reads
//! the Finalizes as any consumer would.

mod bare;
mod process;
mod reader;
mod services;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use hansard_kafka::{KafkaLog, TopicAdmin};
use hansard_scylla::migrate;

pub(crate) use process::{Place, Work, run};

use crate::load::{INTERLEAVED, Shape, append, facts_of, outgoing};
use crate::usage::{Usage, Used};
use process::{Cql, Process};
use reader::Finalizes;
use services::Services;

/// Chunks of a conversation.
const CHUNKS: usize = 20;
/// The topics of facts.
const FACTS: [&str; 4] = ["uploads", "splits", "transcripts", "failures"];
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
    /// Preloaded facts with the store in the database, beside a bare loop that writes the same rows; twice in turn.
    Cql,
}

/// Runs the chosen measurements on one broker, each with topics of its own.
pub(crate) async fn compare(measures: &[Measure], facts: usize, directory: Option<PathBuf>) -> Result<()> {
    let temporary = match directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    println!("load average before: {}", load_average()?);
    let mut names = vec!["kafka"];
    names.extend(measures.contains(&Measure::Cql).then_some("cassandra"));
    let services = Services::start(temporary.path(), &names)?;
    for measure in measures {
        let directory = temporary.path().join(format!("{measure:?}"));
        let bench = Bench { services: &services, directory, run: std::process::id() };
        match measure {
            Measure::Rate => bench.rate(facts).await?,
            Measure::Latency => bench.latency().await?,
            Measure::Kill => bench.kill(facts).await?,
            Measure::Large => bench.large().await?,
            Measure::Cql => bench.cql(facts).await?,
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
    /// Begins the names of its topics and tables, since a broker that runs already may have those of another run.
    run: u32,
}

impl Bench<'_> {
    /// Topics of its own, and the log on them.
    async fn log(&self, prefix: &str) -> Result<(Place, KafkaLog)> {
        let prefix = format!("bench{}.{prefix}", self.run);
        let place = Place { brokers: self.services.kafka.clone(), prefix };
        let config = place.config();
        let admin = TopicAdmin::new(&config, 1)?;
        admin.apply(&admin.diff().await?).await?;
        Ok((place, KafkaLog::new(config)?))
    }

    /// The aggregator with the embedded store, in a directory that none has had.
    fn embedded(&self, name: &str) -> Work {
        Work::Embedded { directory: self.directory.join(name) }
    }

    async fn rate(&self, facts: usize) -> Result<()> {
        let (place, log) = self.log("rate.").await?;
        let shape =
            Shape { conversations: facts / facts_of(CHUNKS), chunks: CHUNKS, interleaved: INTERLEAVED };
        append(&log, outgoing(shape)).await?;
        let figures = self.preloaded(&place, &self.embedded("store"), shape)?;
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
            append(&log, outgoing(shape)).await?;
            let figures = self.preloaded(&place, &self.embedded(prefix), shape)?;
            println!("{} open at once, of {} segments: {figures}", shape.interleaved, 2 * shape.chunks);
        }
        Ok(())
    }

    async fn cql(&self, facts: usize) -> Result<()> {
        let node = self.services.cql.clone().context("no address of the database")?;
        let shape =
            Shape { conversations: facts / facts_of(CHUNKS), chunks: CHUNKS, interleaved: INTERLEAVED };
        for round in 1..=2 {
            let (place, log) = self.log(&format!("cql{round}.")).await?;
            append(&log, outgoing(shape)).await?;
            let [bare, aggregator] = ["bare", "aggregator"]
                .map(|name| Cql { node: node.clone(), keyspace: format!("{name}{}_{round}", self.run) });
            migrate(&bare.config()).await?;
            println!("round {round}, bare loop:  {}", self.bare(&place, bare, records(shape))?);
            migrate(&aggregator.config()).await?;
            println!("round {round}, aggregator: {}", self.preloaded(&place, &Work::Cql(aggregator), shape)?);
        }
        Ok(())
    }

    /// Measures the bare loop on what is loaded.
    fn bare(&self, place: &Place, cql: Cql, records: usize) -> Result<String> {
        let services = self.services.begun()?;
        let (mut bare, begun) = Process::start(place, &Work::Bare { cql, records })?;
        bare.wait_for("done")?;
        let figures = figures(records, &begun.since()?, &services)?;
        bare.stop()?;
        Ok(figures)
    }

    /// Measures on what is loaded, until each conversation has its Finalize.
    fn preloaded(&self, place: &Place, work: &Work, shape: Shape) -> Result<String> {
        ensure!(shape.conversations > 0, "so few facts are less than one conversation");
        let mut finalizes = Finalizes::subscribe(place)?;
        let services = self.services.begun()?;
        let (aggregator, begun) = Process::start(place, work)?;
        finalizes.read_until(shape.conversations, Instant::now() + PATIENCE)?;
        let figures = figures(records(shape), &begun.since()?, &services)?;
        aggregator.stop()?;
        finalizes.verify(shape)?;
        Ok(figures)
    }

    async fn latency(&self) -> Result<()> {
        let (place, log) = self.log("latency.").await?;
        let shape =
            Shape { conversations: 2_000 * 60 / facts_of(CHUNKS), chunks: CHUNKS, interleaved: INTERLEAVED };
        let mut finalizes = Finalizes::subscribe(&place)?;
        let (aggregator, begun) = Process::start(&place, &self.embedded("store"))?;
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
        let (aggregator, _) = Process::start(&place, &self.embedded("store"))?;
        finalizes.read_until(shape.conversations / 2, Instant::now() + PATIENCE)?;
        // Dropped, it is killed.
        drop(aggregator);
        let killed = SystemTime::now();
        let (aggregator, _) = Process::start(&place, &self.embedded("store"))?;
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

/// A line of figures: the process's own, and the CPU seconds of the services that are ours.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn figures(records: usize, used: &Used, services: &[(&str, Usage)]) -> Result<String> {
    let millions = records as f64 / 1e6;
    let mut line = format!(
        "{records} records in {:.2} s, {:.0} a second, {:.2} CPU s a million, peak {:.0} MiB",
        used.seconds,
        records as f64 / used.seconds,
        used.cpu_seconds / millions,
        used.peak_mib,
    );
    for (name, begun) in services {
        let seconds = begun.since()?.cpu_seconds / millions;
        write!(line, "; {name} {seconds:.1} CPU s a million")?;
    }
    Ok(line)
}
