//! A process of the world: what crashes, freezes and is cut off as one; and how it calls a port.

use std::sync::Arc;

use futures::future::BoxFuture;
use hansard_core::id::{Millis, Timestamp};
use hansard_schemas::Framing;

use super::faults::{Action, Refused};
use super::log::SimLog;
use super::objects::SimObjects;
use super::store::SimStore;
use super::traces::SimTraces;
use super::world::{State, World};
use crate::ports::Ports;
use crate::ports::clock::{Clock, Entropy};
use crate::ports::facts::Erasures;
use crate::ports::objects::PartUploads;
use crate::ports::traces::Traces;

/// Names a process for the life of its world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub(super) u64);

impl ProcessId {
    /// A number that no other process of the world has.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The brokers.
    pub(super) const BROKERS: Self = Self(0);
}

/// How a process is.
pub(super) struct Life {
    pub(super) name: Arc<str>,
    pub(super) alive: bool,
    pub(super) frozen_until: Timestamp,
    pub(super) cut_off_until: Timestamp,
    /// How far its clock is from the world's.
    skew: Millis,
}

impl Life {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            alive: true,
            frozen_until: Timestamp::MIN,
            cut_off_until: Timestamp::MIN,
            skew: Millis::ZERO,
        }
    }
}

/// A process.
#[derive(Clone)]
pub struct Process {
    pub(super) world: World,
    /// Its name in the world.
    pub id: ProcessId,
    /// What it is called in traces and traps.
    pub name: Arc<str>,
}

impl Process {
    /// All ports, as this process has them.
    #[must_use]
    pub fn ports(&self) -> Ports {
        let store = Arc::new(SimStore(self.clone()));
        let records = self.world.state().spans.is_some();
        Ports {
            log: Arc::new(SimLog(self.clone())),
            facts: store.clone(),
            windows: store.clone(),
            journal: store.clone(),
            dead_letters: store,
            objects: Arc::new(SimObjects(self.clone())),
            clock: Arc::new(self.clone()),
            entropy: Arc::new(self.clone()),
            framing: Arc::new(Framing::SingleObject),
            schemas: None,
            traces: records.then(|| Arc::new(SimTraces(self.world.clone())) as Arc<dyn Traces>),
        }
    }

    /// The markers of erasures, as this process has them.
    #[must_use]
    pub fn erasures(&self) -> Arc<dyn Erasures> {
        Arc::new(SimStore(self.clone()))
    }

    /// The multipart uploads, as this process has them.
    #[must_use]
    pub fn part_uploads(&self) -> Arc<dyn PartUploads> {
        Arc::new(SimObjects(self.clone()))
    }

    /// Sets its clock so far before (or, negative, behind) the world's.
    pub fn set_skew(&self, skew: Millis) {
        if let Some(life) = self.world.state().lives.get_mut(&self.id) {
            life.skew = skew;
        }
    }

    /// The world's time, which its own clock may not show.
    #[must_use]
    pub fn world_now(&self) -> Timestamp {
        self.world.now()
    }

    /// The world that it is in.
    #[must_use]
    pub fn world(&self) -> World {
        self.world.clone()
    }

    /// Whether it has not crashed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.world.state().lives.get(&self.id).is_some_and(|life| life.alive)
    }

    /// One call of something outside, `service.what`: here the world decides how it goes.
    ///
    /// # Errors
    /// [`Refused`] where the call fails; the effect may have happened all the same.
    pub async fn call<T>(&self, call: &str, effect: impl FnOnce(Timestamp) -> T) -> Result<T, Refused> {
        self.on(call, |state| effect(state.now)).await
    }

    /// As [`Self::call`], on the world's state.
    pub(super) async fn on<T>(&self, call: &str, effect: impl FnOnce(&mut State) -> T) -> Result<T, Refused> {
        self.gate(call, |_| effect(&mut self.world.state())).await
    }

    /// As [`Self::call`]; the effect is told what goes wrong with it.
    pub(super) async fn gate<T>(
        &self,
        call: &str,
        effect: impl FnOnce(Option<Action>) -> T,
    ) -> Result<T, Refused> {
        let fate = self.world.state().fate(self.id, &self.name, call);
        if fate.delay > Millis::ZERO {
            let until = self.world.now() + fate.delay;
            self.world.until(until).await;
        }
        let refused = || Refused(format!("{call} fails"));
        match fate.action {
            Some(Action::CrashBefore) => self.crash().await,
            Some(Action::Fail) => Err(refused()),
            Some(Action::Hang) => std::future::pending().await,
            Some(Action::LoseAnswer | Action::Tear) => {
                effect(fate.action);
                Err(refused())
            }
            Some(Action::CrashAfter) => {
                effect(fate.action);
                self.crash().await
            }
            Some(Action::Isolate(length)) => {
                let until = self.world.now() + length;
                self.world.isolate(self.id, until);
                Ok(effect(fate.action))
            }
            Some(Action::Delay(_)) | None => Ok(effect(fate.action)),
        }
    }

    /// Ends this process here.
    pub(super) async fn crash<T>(&self) -> T {
        self.world.state().crashed.push(self.id);
        self.world.kill(self.id);
        std::future::pending().await
    }
}

impl Clock for Process {
    fn now(&self) -> Timestamp {
        let state = self.world.state();
        state.now + state.lives.get(&self.id).map_or(Millis::ZERO, |life| life.skew)
    }

    fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()> {
        let own = self.clone();
        Box::pin(async move {
            // The clock may be moved while it waits.
            while own.now() < until {
                let left = (until - own.now()).0.min(Millis::hours(1).0);
                let world = own.world.now() + Millis(left);
                own.world.until(world).await;
            }
        })
    }
}

impl Entropy for Process {
    fn id(&self) -> [u8; 16] {
        let mut state = self.world.state();
        let (high, low) = (state.rng.bits(), state.rng.bits());
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        id
    }
}
