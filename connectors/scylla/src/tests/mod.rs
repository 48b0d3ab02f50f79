//! Tests against a real database, whose address is in `HANSARD_TEST_CQL`.

mod connecting;
mod contract;
mod schema;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use async_trait::async_trait;
use hansard_contract::store::Harness;
use hansard_runtime::ports::dead_letters::DeadLetters;
use hansard_runtime::ports::facts::{Erasures, Facts};
use hansard_runtime::ports::journal::Journal;
use hansard_runtime::ports::windows::Windows;
use tokio::sync::OnceCell;

use crate::{ScyllaConfig, ScyllaStore, migrate};

pub(crate) const PARTITIONS: u32 = 12;

/// A deployment that is not yet there.
pub(crate) fn config(name: &str) -> ScyllaConfig {
    let node = std::env::var("HANSARD_TEST_CQL")
        .expect("HANSARD_TEST_CQL is not set; tests/run starts the services");
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let keyspace = format!("{name}_{}_{}", std::process::id(), since.as_micros());
    let mut config = ScyllaConfig::new(vec![node], keyspace, PARTITIONS);
    config.replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}".to_owned();
    config
}

/// A store that is connected.
pub(crate) async fn connected(config: &ScyllaConfig) -> Arc<ScyllaStore> {
    let store = ScyllaStore::new(config.clone());
    store.connect().await.expect("connected");
    Arc::new(store)
}

/// The store of this run: one keyspace, migrated once, and a connection for each test.
pub(crate) struct Store {
    config: ScyllaConfig,
    open: RwLock<Arc<ScyllaStore>>,
}

impl Store {
    pub(crate) async fn new() -> Self {
        static MIGRATED: OnceCell<ScyllaConfig> = OnceCell::const_new();
        let migrated = MIGRATED.get_or_init(|| async {
            let config = config("contract");
            migrate(&config).await.expect("migrated");
            config
        });
        let config = migrated.await.clone();
        let open = RwLock::new(connected(&config).await);
        Self { config, open }
    }

    pub(crate) fn open(&self) -> Arc<ScyllaStore> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Harness for Store {
    fn facts(&self) -> Arc<dyn Facts> {
        self.open()
    }

    fn erasures(&self) -> Arc<dyn Erasures> {
        self.open()
    }

    fn journal(&self) -> Arc<dyn Journal> {
        self.open()
    }

    fn windows(&self) -> Arc<dyn Windows> {
        self.open()
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        self.open()
    }

    async fn reopen(&self) {
        let new = connected(&self.config).await;
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}
