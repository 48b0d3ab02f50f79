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

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hansard_runtime::ports::PortError;
use hansard_tls::Authorities;
use tokio::sync::watch;

pub use migrate::migrate;

/// The wait before the next try to connect; meanwhile every call fails as the last try did.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);

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
    /// Over TLS, whose certificates are accepted; by default connections are open. A node is called by its address, and
    /// so its certificate has to name that.
    pub tls: Option<Authorities>,
    /// The deployment's partition count, which must be the recorded one.
    pub partitions: u32,
    /// How long one request may take, before it is made again.
    pub request_timeout: Duration,
    /// How long connecting may take. The driver bounds only the connection itself: a peer that accepts it and is silent
    /// would be waited for without end.
    pub connect_within: Duration,
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
            tls: None,
            partitions,
            request_timeout: Duration::from_secs(5),
            connect_within: Duration::from_secs(20),
            concurrency: 128,
        }
    }
}

/// The store: facts, texts and erasures, the journal, open windows, and dead letters. It connects by itself from its first
/// use on, and tries again where that fails, so that the database may come later than those who need it.
pub struct ScyllaStore {
    config: ScyllaConfig,
    connected: Arc<OnceLock<Connected>>,
    /// The last failure to connect, while a task of its own tries.
    connecting: OnceLock<watch::Receiver<Option<PortError>>>,
}

/// The connection, with every statement prepared.
struct Connected {
    cql: cql::Cql,
    facts: facts::Statements,
    journal: journal::Statements,
    windows: windows::Statements,
    dead_letters: dead_letters::Statements,
}

impl ScyllaStore {
    /// A store that is not connected yet.
    #[must_use]
    pub fn new(config: ScyllaConfig) -> Self {
        Self { config, connected: Arc::default(), connecting: OnceLock::new() }
    }

    /// Connects now, where it is not connected yet.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] when no node answers; [`PortError::Refused`] when the schema is missing or older, or
    /// the deployment has another partition count. Every other call gives the same while that is so.
    pub async fn connect(&self) -> Result<(), PortError> {
        self.connected().await.map(drop)
    }

    async fn connected(&self) -> Result<&Connected, PortError> {
        if let Some(connected) = self.connected.get() {
            return Ok(connected);
        }
        let mut failed = self.connecting.get_or_init(|| self.connect_for_ever()).clone();
        let failed = failed.wait_for(Option::is_some).await.map(|error| error.clone());
        match (self.connected.get(), failed) {
            (Some(connected), _) => Ok(connected),
            (None, Ok(Some(error))) => Err(error),
            // Only a runtime that shuts down ends the task before it has connected.
            (None, _) => Err(PortError::Unavailable {
                service: cql::SERVICE,
                cause: "nobody connects any more".to_owned(),
            }),
        }
    }

    /// Tries until it is connected, or the store is dropped. Callers give up sooner than a slow connection needs, so no
    /// try belongs to any of them.
    fn connect_for_ever(&self) -> watch::Receiver<Option<PortError>> {
        let (failed, told) = watch::channel(None);
        let (config, connected) = (self.config.clone(), Arc::clone(&self.connected));
        tokio::spawn(async move {
            let connect = async {
                loop {
                    match Connected::new(&config).await {
                        Ok(connection) => break drop(connected.set(connection)),
                        Err(error) => drop(failed.send_replace(Some(error))),
                    }
                    tokio::time::sleep(CONNECT_AGAIN).await;
                }
            };
            tokio::select! {
                () = connect => {}
                () = failed.closed() => {}
            }
        });
        told
    }
}

impl Connected {
    async fn new(config: &ScyllaConfig) -> Result<Self, PortError> {
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
