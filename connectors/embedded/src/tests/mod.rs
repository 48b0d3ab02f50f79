//! Tests of the engine: the contracts of its ports, and what only this engine promises.

mod contract;
mod crash;
mod keeping;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hansard_core::id::Timestamp;

use crate::{Config, Engine};

/// A clock that moves only when it is told to.
#[derive(Clone, Default)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn set(&self, at: i64) {
        self.0.store(at, Ordering::SeqCst);
    }

    fn clock(&self) -> crate::WallClock {
        let hands = Arc::clone(&self.0);
        Arc::new(move || Timestamp(hands.load(Ordering::SeqCst)))
    }
}

/// Small buffers, so that everything that happens with large ones happens, and no reserve, which the machine may lack.
fn small() -> Config {
    Config {
        partitions: 4,
        reserve_bytes: 0,
        tail_bytes: 64 << 10,
        fetch_bytes: 16 << 10,
        ..Config::default()
    }
}

fn open(dir: &Path, config: &Config) -> Engine {
    Engine::open(dir, config.clone()).expect("an engine")
}
