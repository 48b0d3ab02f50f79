//! The aggregator as a process of its own: Kafka's log beside the embedded store in a directory.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Result, ensure};
use hansard_embedded::{Config, Engine};
use hansard_jobs::aggregate::AggregateConfig;
use hansard_jobs::effects::Storage;
use hansard_jobs::topology::{Settings, aggregate};
use hansard_kafka::{KafkaConfig, KafkaLog};
use hansard_runtime::metrics::Families;
use hansard_runtime::ordered::OrderedConfig;
use hansard_schemas::Topics;
use prometheus::Registry;
use tokio::sync::watch;

use crate::usage::Usage;
use crate::world::{self, PARTITIONS};

/// Where a measurement takes place.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Place {
    /// The brokers.
    pub(crate) brokers: String,
    /// Before the names of its topics.
    pub(crate) prefix: String,
    /// For the store.
    pub(crate) directory: PathBuf,
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

/// Runs the aggregator until standard input ends. A line on standard output says that it begins.
pub(crate) async fn run(place: Place) -> Result<()> {
    let engine = Engine::open(&place.directory, Config { partitions: PARTITIONS, ..Config::default() })?;
    let ports = world::on(Arc::new(KafkaLog::new(place.config())?), &engine);
    let settings = Settings {
        instance: "bench".to_owned(),
        topics: Arc::new(Topics::default()),
        storage: Arc::new(Storage::new("bench")),
        jobs: BTreeMap::new(),
        aggregate: AggregateConfig::default(),
        ordered: OrderedConfig::default(),
    };
    let families = Families::register(&Registry::new())?;
    let (stop, stopping) = watch::channel(false);
    println!("begins");
    let job = tokio::spawn(async move { aggregate(ports, &settings, &families, stopping).await });
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    ensure!(!job.is_finished(), "the aggregator ended by itself");
    stop.send_replace(true);
    job.await??;
    Ok(())
}

/// The process, as its parent sees it.
pub(crate) struct Aggregator(Child);

impl Aggregator {
    /// Starts it; the usage counts from when it begins to join its group.
    pub(crate) fn start(place: &Place) -> Result<(Self, Usage)> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("kafka-run")
            .args([&place.brokers, &place.prefix])
            .arg(&place.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        ensure!(line.trim_end() == "begins", "the aggregator did not begin: {line:?}");
        let usage = Usage::of(&child.id().to_string())?;
        Ok((Self(child), usage))
    }

    /// Has it leave.
    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        ensure!(status.success(), "the aggregator ended with {status}");
        Ok(())
    }
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        // After `stop` there is nothing to be killed; after an error nobody asks how it ended.
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}
