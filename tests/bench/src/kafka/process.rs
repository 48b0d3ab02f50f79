//! A measured process of its own: the aggregator with a store in a directory or in a database, or a bare loop.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use hansard_embedded::{Config, Engine};
use hansard_kafka::{KafkaConfig, KafkaLog};
use hansard_runtime::ports::Ports;
use hansard_scylla::{ScyllaConfig, ScyllaStore};
use tokio::sync::watch;

use super::bare;
use crate::usage::Usage;
use crate::world::{self, PARTITIONS};

/// The line with which its work begins.
const BEGINS: &str = "begins";

/// Where a measurement takes place.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Place {
    /// The brokers.
    pub(crate) brokers: String,
    /// Before the names of its topics.
    pub(crate) prefix: String,
}

impl Place {
    /// The log's.
    pub(crate) fn config(&self) -> KafkaConfig {
        let mut config = KafkaConfig::new(&self.brokers, &self.prefix, PARTITIONS);
        config.static_members = true;
        config.overrides.insert("producer.compression.codec".to_owned(), "lz4".to_owned());
        config
    }
}

/// Where the database is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Cql {
    /// A node.
    pub(crate) node: String,
    /// The keyspace, which is there.
    pub(crate) keyspace: String,
}

impl Cql {
    /// The store's.
    pub(crate) fn config(&self) -> ScyllaConfig {
        let mut config = ScyllaConfig::new(vec![self.node.clone()], self.keyspace.clone(), PARTITIONS);
        config.replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}".to_owned();
        config
    }

    /// Connects to it.
    pub(crate) async fn store(&self) -> Result<Arc<ScyllaStore>> {
        let store = ScyllaStore::new(self.config());
        store.connect().await?;
        Ok(Arc::new(store))
    }
}

/// What the process does.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Work {
    /// The aggregator, its store in a directory.
    Embedded { directory: PathBuf },
    /// The aggregator, its store in a database.
    Cql(Cql),
    /// So many records read, written to the same tables, and their offsets committed: nothing else.
    Bare {
        #[command(flatten)]
        cql: Cql,
        records: usize,
    },
}

impl Work {
    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Embedded { directory } => vec!["embedded".to_owned(), directory.display().to_string()],
            Self::Cql(cql) => vec!["cql".to_owned(), cql.node.clone(), cql.keyspace.clone()],
            Self::Bare { cql, records } => {
                vec!["bare".to_owned(), cql.node.clone(), cql.keyspace.clone(), records.to_string()]
            }
        }
    }
}

/// Does its work until standard input ends. A line on standard output says that it begins, and a bare loop's second one
/// that it is done.
pub(crate) async fn run(place: Place, work: Work) -> Result<()> {
    match work {
        Work::Embedded { directory } => {
            let config = Config { partitions: PARTITIONS, rows_synced: true, ..Config::default() };
            let engine = Engine::open(&directory, config)?;
            let log = Arc::new(KafkaLog::new(place.config())?);
            aggregate(world::on_engine(log, &engine)).await
        }
        Work::Cql(cql) => {
            let store = cql.store().await?;
            aggregate(world::on_cql(Arc::new(KafkaLog::new(place.config())?), &store)).await
        }
        Work::Bare { cql, records } => {
            let store = cql.store().await?;
            println!("{BEGINS}");
            bare::run(&place, store.as_ref(), records).await?;
            println!("done");
            input_ends().await
        }
    }
}

async fn aggregate(ports: Ports) -> Result<()> {
    let (stop, stopping) = watch::channel(false);
    println!("{BEGINS}");
    let job = tokio::spawn(world::aggregator(ports, stopping));
    input_ends().await?;
    ensure!(!job.is_finished(), "the aggregator ended by itself");
    stop.send_replace(true);
    job.await?
}

async fn input_ends() -> Result<()> {
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}

/// The process, as its parent sees it.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it; the usage counts from when it begins to join its group.
    pub(crate) fn start(place: &Place, work: &Work) -> Result<(Self, Usage)> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("kafka-run")
            .args([&place.brokers, &place.prefix])
            .args(work.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        let mut process = Self { child, lines: BufReader::new(output).lines() };
        process.wait_for(BEGINS)?;
        let usage = Usage::of(&process.child.id().to_string())?;
        Ok((process, usage))
    }

    /// Waits for its next line.
    pub(crate) fn wait_for(&mut self, wanted: &str) -> Result<()> {
        let line = self.lines.next().transpose()?;
        ensure!(line.as_deref() == Some(wanted), "the process said {line:?} instead of {wanted:?}");
        Ok(())
    }

    /// Has it leave.
    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the process ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After `stop` there is nothing to be killed; after an error nobody asks how it ended.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
