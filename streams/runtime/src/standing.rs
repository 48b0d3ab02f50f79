//! How a job stands: whether the group has given it partitions, how far it is in them, and what it waits for. Probes and
//! the lag are told from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hansard_core::id::{Millis, Offset};
use hansard_schemas::Stage;
use tokio::sync::watch;

use crate::metrics::Families;
use crate::ports::Ports;
use crate::ports::log::{Log, LogError, TopicPartition};

/// How often the ends of the log and the dead letters are asked for.
const TOLD_EVERY: Millis = Millis(10_000);

/// How a job stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The partitions that it holds, each with the first offset that is not done; nothing before the group has given it
    /// any, or none.
    pub positions: Option<BTreeMap<TopicPartition, Offset>>,
    /// What it waits for, while a dependency is down.
    pub waits_for: Option<String>,
}

impl Standing {
    /// Why the job does not work, where it does not.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        match (&self.waits_for, &self.positions) {
            (Some(cause), _) => Some(format!("waits: {cause}")),
            (None, None) => Some("no partitions are assigned yet".to_owned()),
            (None, Some(_)) => None,
        }
    }
}

/// The standing of one job, shared by its loop and by who asks.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Standing>>);

impl Shared {
    pub(crate) fn get(&self) -> Standing {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Tells of every job of this process, until `stopping` turns true, what its loop does not know: how many offsets lie
/// between the first record that is not done and the end, of the partitions that it holds, and how many dead letters rest.
pub async fn watch(families: &Families, ports: &Ports, mut stopping: watch::Receiver<bool>) {
    let telling = async {
        loop {
            tell(families, ports).await;
            ports.clock.sleep_until(ports.clock.now() + TOLD_EVERY).await;
        }
    };
    // Asking takes long where brokers are down, and a stop does not wait for it.
    tokio::select! {
        _ = stopping.wait_for(|stop| *stop) => {}
        () = telling => {}
    }
}

async fn tell(families: &Families, ports: &Ports) {
    match lag(families, ports.log.as_ref()).await {
        Ok(lags) => families.lag(&lags),
        Err(error) => tracing::debug!(%error, "the lag is not known"),
    }
    for stage in families.standings().keys().filter_map(|job| job.parse::<Stage>().ok()) {
        match ports.dead_letters.depth(stage).await {
            Ok(depth) => families.dead_letters(stage, depth),
            Err(error) => tracing::debug!(%error, "the dead letters are not counted"),
        }
    }
}

/// The lag by job and topic, of the jobs that hold partitions.
async fn lag(families: &Families, log: &dyn Log) -> Result<BTreeMap<(&'static str, String), i64>, LogError> {
    let mut lags = BTreeMap::new();
    for (job, standing) in families.standings() {
        let positions: Vec<_> = standing.positions.into_iter().flatten().collect();
        let places: Vec<TopicPartition> = positions.iter().map(|(from, _)| *from).collect();
        let ends = log.ends(&places).await?;
        for ((from, position), range) in positions.into_iter().zip(ends) {
            let behind = range.end.0 - position.0.max(range.start.0);
            *lags.entry((job, from.topic.to_string())).or_default() += behind.max(0);
        }
    }
    Ok(lags)
}

#[cfg(test)]
#[path = "tests/standing.rs"]
mod tests;
