//! The ports of the driver keep the contracts of the real ones: what is proven in its world is proven of no fiction.
//!
//! One task lets the world's time go on while the checks run, faster than ours.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_contract::{log, log_contract, store, store_contract};
use hansard_core::id::{Millis, Offset};
use hansard_runtime::driver::{Action, Process, Trap, World, WorldConfig};
use hansard_runtime::ports::dead_letters::DeadLetters;
use hansard_runtime::ports::facts::{Erasures, Facts};
use hansard_runtime::ports::journal::Journal;
use hansard_runtime::ports::log::{Committed, Event, Group, Log, Outgoing, TopicPartition, Transaction};
use hansard_runtime::ports::windows::Windows;

use crate::simulation::deployment::START;

/// How often the world's time moves, and how far.
const STEP: Duration = Duration::from_millis(2);
const MOVE: Millis = Millis(20);

/// A process of a world.
struct Harness(Process);

fn world(partitions: u32) -> World {
    World::new(&WorldConfig { seed: 1, start: START, partitions, trace_max: 0 })
}

/// A world whose time goes on by itself.
async fn running(partitions: u32) -> Harness {
    let world = world(partitions);
    let process = world.boot("contract");
    tokio::spawn(async move {
        let mut steps = tokio::time::interval(STEP);
        loop {
            steps.tick().await;
            world.run_until(world.now() + MOVE);
        }
    });
    Harness(process)
}

/// A world without waiting: the store answers at once.
async fn still() -> Harness {
    Harness(world(1).boot("contract"))
}

#[async_trait]
impl log::Harness for Harness {
    fn log(&self) -> Arc<dyn Log> {
        self.0.ports().log
    }

    async fn abort(&self, to: TopicPartition) {
        let world = &self.0.world();
        let process = world.boot("aborts");
        let trap =
            Trap { process: "aborts".into(), call: "log.txn.offsets".into(), skip: 0, action: Action::Fail };
        world.set_trap(trap);
        let group = Group { name: "aborts".into(), instance: "one".into(), topics: vec![to.topic] };
        let mut member = process.ports().log.join(group).await.expect("joined");
        let Event::Assigned(assignment) = member.next().await.expect("an event") else {
            panic!("no assignment comes first");
        };
        let out = Outgoing {
            to,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"aborted")),
            headers: Vec::new(),
        };
        let offsets = vec![Committed { from: to, offset: Offset(0), metadata: String::new() }];
        let transaction = Transaction { epoch: assignment.epoch, records: vec![out], offsets };
        member.transact(transaction).await.expect_err("it is aborted");
        member.leave().await;
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

#[async_trait]
impl store::Harness for Harness {
    fn facts(&self) -> Arc<dyn Facts> {
        self.0.ports().facts
    }

    fn erasures(&self) -> Arc<dyn Erasures> {
        self.0.erasures()
    }

    fn journal(&self) -> Arc<dyn Journal> {
        self.0.ports().journal
    }

    fn windows(&self) -> Arc<dyn Windows> {
        self.0.ports().windows
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        self.0.ports().dead_letters
    }

    async fn reopen(&self) {
        // The store is no process of the world: it outlasts all of them.
    }
}

mod of_the_log {
    use super::*;

    log_contract!(running, tokio::test);
}

mod of_the_store {
    use super::*;

    store_contract!(still);
}
