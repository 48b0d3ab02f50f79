//! Hansard's store on ScyllaDB, or on Apache Cassandra, which answers alike. It never decides what a fact means, and it
//! never changes a row: no conditional writes, no counters, no read-modify-write; a repeated or late write is harmless.
//!
//! The tables are in `schema`; how facts stand in columns is in `records`.

mod cql;
mod dead_letters;
mod facts;
mod journal;
mod migrate;
mod records;
mod schema;
#[cfg(test)]
mod tests;
mod value;
mod windows;

use std::time::Duration;

use hansard_runtime::ports::PortError;

pub use migrate::migrate;

/// How to reach the store.
#[derive(Clone)]
pub struct ScyllaConfig {
    /// Nodes to begin with, as `host:port`.
    pub nodes: Vec<String>,
    /// The keyspace of the deployment.
    pub keyspace: String,
    /// The keyspace's replication as a CQL map, used when it is created.
    pub replication: String,
    /// The datacenter to stay in; without it, all nodes are taken for local.
    pub datacenter: Option<String>,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// The deployment's partition count, which must be the recorded one.
    pub partitions: u32,
    /// How long one request may take, before it is made again.
    pub request_timeout: Duration,
    /// Requests under way at the same time, of this whole process.
    pub concurrency: usize,
}

impl ScyllaConfig {
    /// The defaults for the given nodes.
    #[must_use]
    pub fn new(nodes: Vec<String>, keyspace: impl Into<String>, partitions: u32) -> Self {
        Self {
            nodes,
            keyspace: keyspace.into(),
            replication: "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}".to_owned(),
            datacenter: None,
            credentials: None,
            partitions,
            request_timeout: Duration::from_secs(5),
            concurrency: 128,
        }
    }
}

/// The store: facts, texts and erasures, the journal, open windows, and dead letters.
pub struct ScyllaStore {
    cql: cql::Cql,
    facts: facts::Statements,
    journal: journal::Statements,
    windows: windows::Statements,
    dead_letters: dead_letters::Statements,
}

impl ScyllaStore {
    /// Connects, and prepares every statement.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] when no node answers; [`PortError::Refused`] when the schema is missing or older, or
    /// the deployment has another partition count.
    pub async fn connect(config: &ScyllaConfig) -> Result<Self, PortError> {
        let cql = cql::Cql::connect(config).await?;
        migrate::check_partitions(&cql, config.partitions).await?;
        Ok(Self {
            facts: facts::Statements::prepare(&cql).await?,
            journal: journal::Statements::prepare(&cql).await?,
            windows: windows::Statements::prepare(&cql).await?,
            dead_letters: dead_letters::Statements::prepare(&cql).await?,
            cql,
        })
    }
}
