//! The contracts of the ports, on this engine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hansard_contract::{log, store};
use hansard_runtime::ports::dead_letters::DeadLetters;
use hansard_runtime::ports::facts::{Erasures, Facts};
use hansard_runtime::ports::journal::Journal;
use hansard_runtime::ports::log::{Log, TopicPartition};
use hansard_runtime::ports::windows::Windows;
use tempfile::TempDir;

use super::{open, small};
use crate::{Config, Engine};

struct Harness {
    dir: TempDir,
    config: Config,
    engine: Mutex<Option<Engine>>,
}

impl Harness {
    fn new(config: Config) -> Self {
        let dir = TempDir::new().expect("a directory");
        let engine = Mutex::new(Some(open(dir.path(), &config)));
        Self { dir, config, engine }
    }

    fn port<T>(&self, port: impl FnOnce(&Engine) -> T) -> T {
        port(self.engine.lock().expect("no panic before").as_ref().expect("an open engine"))
    }
}

#[async_trait]
impl store::Harness for Harness {
    fn facts(&self) -> Arc<dyn Facts> {
        self.port(Engine::facts)
    }

    fn erasures(&self) -> Arc<dyn Erasures> {
        self.port(Engine::erasures)
    }

    fn journal(&self) -> Arc<dyn Journal> {
        self.port(Engine::journal)
    }

    fn windows(&self) -> Arc<dyn Windows> {
        self.port(Engine::windows)
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        self.port(Engine::dead_letters)
    }

    async fn reopen(&self) {
        let mut engine = self.engine.lock().expect("no panic before");
        drop(engine.take());
        *engine = Some(open(self.dir.path(), &self.config));
    }
}

#[async_trait]
impl log::Harness for Harness {
    fn log(&self) -> Arc<dyn Log> {
        self.port(Engine::log)
    }

    async fn abort(&self, _to: TopicPartition) {
        // What does not commit here leaves nothing.
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

async fn store_harness() -> Harness {
    Harness::new(small())
}

async fn log_harness(partitions: u32) -> Harness {
    Harness::new(Config { partitions, release_within: Duration::from_secs(1), ..small() })
}

hansard_contract::store_contract!(store_harness);
hansard_contract::log_contract!(log_harness);
