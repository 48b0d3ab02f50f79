//! The world: time, tasks and the executor that picks the next ready one by the seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;
use hansard_core::id::Timestamp;

use super::broker::Broker;
use super::faults::{Faults, Trap};
use super::objects::Shelf;
use super::process::{Life, Process, ProcessId};
use super::rng::Rng;
use super::rows::Rows;
use crate::ports::traces::Span;

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct WorldConfig {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// When it begins.
    pub start: Timestamp,
    /// Partitions of every topic.
    pub partitions: u32,
    /// How many lines of the trace are kept.
    pub trace_max: usize,
}

/// More polls than this between two events from outside are an endless loop.
const POLLS_MAX: u32 = 60_000;

type TaskId = u64;

/// A seeded world. Cloning gives another handle on the same one.
#[derive(Clone)]
pub struct World(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    ready: Arc<Mutex<BTreeSet<TaskId>>>,
}

struct Task {
    process: ProcessId,
    /// Nothing while it is being polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Waker,
}

/// Everything that the ports share.
pub(super) struct State {
    pub(super) now: Timestamp,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) traps: Vec<Trap>,
    pub(super) down: BTreeMap<String, Timestamp>,
    pub(super) lives: BTreeMap<ProcessId, Life>,
    pub(super) crashed: Vec<ProcessId>,
    pub(super) broker: Broker,
    pub(super) rows: Rows,
    pub(super) shelf: Shelf,
    /// What was told of work, where that is recorded.
    pub(super) spans: Option<Vec<Span>>,
    timers: BTreeMap<(Timestamp, u64), Waker>,
    tasks: BTreeMap<TaskId, Task>,
    last: u64,
    trace: VecDeque<String>,
    trace_max: usize,
}

struct TaskWaker {
    task: TaskId,
    ready: Arc<Mutex<BTreeSet<TaskId>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.ready).insert(self.task);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// A number that was never given before.
    pub(super) fn fresh(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Wakes `waker` at a time.
    pub(super) fn wake_at(&mut self, at: Timestamp, waker: Waker) -> (Timestamp, u64) {
        let key = (at, self.fresh());
        self.timers.insert(key, waker);
        key
    }

    /// Adds a line to the trace.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace_max > 0 {
            if self.trace.len() >= self.trace_max {
                self.trace.pop_front();
            }
            let line = format!("{:>12} {}", self.now.0, line());
            self.trace.push_back(line);
        }
    }
}

impl World {
    /// An empty world without faults.
    #[must_use]
    pub fn new(config: &WorldConfig) -> Self {
        let state = State {
            now: config.start,
            rng: Rng::new(config.seed),
            faults: Faults::NONE,
            traps: Vec::new(),
            down: BTreeMap::new(),
            lives: BTreeMap::new(),
            crashed: Vec::new(),
            broker: Broker::new(config.partitions),
            rows: Rows::default(),
            shelf: Shelf::default(),
            spans: None,
            timers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            last: 0,
            trace: VecDeque::new(),
            trace_max: config.trace_max,
        };
        let world = Self(Arc::new(Shared { state: Mutex::new(state), ready: Arc::default() }));
        // The brokers themselves, which finish what they have begun and never crash.
        world.state().lives.insert(ProcessId::BROKERS, Life::new("brokers"));
        world
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    /// The world's time, which is the log's.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.state().now
    }

    /// A number below `bound`, by the seed.
    #[must_use]
    pub fn draw(&self, bound: u64) -> u64 {
        self.state().rng.below(bound)
    }

    /// Sets what may go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Makes one call go wrong.
    pub fn set_trap(&self, trap: Trap) {
        self.state().traps.push(trap);
    }

    /// The traps that have not caught anything.
    #[must_use]
    pub fn traps_left(&self) -> usize {
        self.state().traps.len()
    }

    /// Calls whose names begin with `service` and a dot fail until then.
    pub fn take_down(&self, service: &str, until: Timestamp) {
        let mut state = self.state();
        state.note(|| format!("{service} is down until {}", until.0));
        state.down.insert(service.to_owned(), until);
    }

    /// A new process.
    #[must_use]
    pub fn boot(&self, name: &str) -> Process {
        let mut state = self.state();
        let id = ProcessId(state.fresh());
        state.lives.insert(id, Life::new(name));
        state.note(|| format!("{name} starts"));
        Process { world: self.clone(), id, name: name.into() }
    }

    /// Ends a process in the middle of whatever it does.
    pub fn kill(&self, process: ProcessId) {
        let mut dropped = Vec::new();
        {
            let mut state = self.state();
            let Some(life) = state.lives.get_mut(&process).filter(|life| life.alive) else { return };
            life.alive = false;
            let name = life.name.clone();
            state.note(|| format!("{name} crashes"));
            let own: Vec<TaskId> =
                state.tasks.iter().filter(|(_, task)| task.process == process).map(|(id, _)| *id).collect();
            dropped.extend(own.into_iter().filter_map(|id| state.tasks.remove(&id)));
        }
        // Outside of the lock, since what is dropped tells the world.
        drop(dropped);
    }

    /// Processes that a fault has crashed since the last call.
    #[must_use]
    pub fn take_crashed(&self) -> Vec<ProcessId> {
        std::mem::take(&mut self.state().crashed)
    }

    /// Stops polling a process for a while: its clock goes on, and others take it for dead.
    pub fn freeze(&self, process: ProcessId, until: Timestamp) {
        self.isolate(process, until);
        let mut state = self.state();
        if let Some(life) = state.lives.get_mut(&process) {
            life.frozen_until = until;
        }
        // Its tasks must be looked at again then.
        let own = state.tasks.values().filter(|task| task.process == process);
        let wakers: Vec<Waker> = own.map(|task| task.waker.clone()).collect();
        for waker in wakers {
            state.wake_at(until, waker);
        }
    }

    /// Cuts a process off from the group's coordinator for a while: it goes on working on what it holds, as a zombie.
    pub fn isolate(&self, process: ProcessId, until: Timestamp) {
        {
            let mut state = self.state();
            let Some(life) = state.lives.get_mut(&process) else { return };
            life.cut_off_until = until;
            let name = life.name.clone();
            state.note(|| format!("{name} is cut off until {}", until.0));
        }
        super::group::miss(self, process);
    }

    /// Runs a task as part of a process.
    pub fn spawn(&self, process: ProcessId, future: BoxFuture<'static, ()>) {
        let mut state = self.state();
        if state.lives.get(&process).is_some_and(|life| life.alive) {
            let id = state.fresh();
            let waker = Waker::from(Arc::new(TaskWaker { task: id, ready: Arc::clone(&self.0.ready) }));
            state.tasks.insert(id, Task { process, future: Some(future), waker });
            lock(&self.0.ready).insert(id);
        }
    }

    /// Ends once the world's time has come to `until`.
    pub(super) fn until(&self, until: Timestamp) -> Until {
        Until { world: self.clone(), until, timer: None }
    }

    /// Moves the time to `at` without polling anything.
    pub fn pass_to(&self, at: Timestamp) {
        while self.advance(at) {}
    }

    /// Polls ready tasks, and moves the time to the next one that waits for it, until `until` or until a fault has
    /// crashed a process.
    ///
    /// # Panics
    /// When tasks go on for ever.
    pub fn run_until(&self, until: Timestamp) {
        let mut polls = 0;
        loop {
            if !self.state().crashed.is_empty() {
                return;
            }
            if let Some(task) = self.pick() {
                polls += 1;
                assert!(polls < POLLS_MAX, "an endless loop:\n{}", self.trace_tail(60));
                self.poll(task);
            } else if !self.advance(until) {
                return;
            }
        }
    }

    fn pick(&self) -> Option<TaskId> {
        let mut state = self.state();
        let mut ready = lock(&self.0.ready);
        let now = state.now;
        let runs = |state: &State, id: &TaskId| {
            let life = state.tasks.get(id).and_then(|task| state.lives.get(&task.process));
            life.is_some_and(|life| life.frozen_until <= now)
        };
        ready.retain(|id| runs(&state, id));
        let place = state.rng.index(ready.len());
        let picked = ready.iter().nth(place).copied()?;
        ready.remove(&picked);
        Some(picked)
    }

    fn poll(&self, id: TaskId) {
        let taken =
            self.state().tasks.get_mut(&id).and_then(|task| Some((task.future.take()?, task.waker.clone())));
        let Some((mut future, waker)) = taken else { return };
        let pending = future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending();
        let mut state = self.state();
        match state.tasks.get_mut(&id) {
            Some(task) if pending => task.future = Some(future),
            _ => {
                state.tasks.remove(&id);
                drop(state);
                drop(future);
            }
        }
    }

    /// Moves the time on; false when nothing is left before `until`.
    fn advance(&self, until: Timestamp) -> bool {
        let mut state = self.state();
        let next = state.timers.first_key_value().map(|((at, _), _)| *at);
        let Some(next) = next.filter(|at| *at <= until) else {
            state.now = state.now.max(until);
            return false;
        };
        state.now = state.now.max(next);
        let now = state.now;
        while let Some(entry) = state.timers.first_entry()
            && entry.key().0 <= now
        {
            entry.remove().wake();
        }
        true
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: &str) {
        self.state().note(|| line.to_owned());
    }

    /// The last lines of the trace.
    #[must_use]
    pub fn trace_tail(&self, lines: usize) -> String {
        let state = self.state();
        let skip = state.trace.len().saturating_sub(lines);
        state.trace.iter().skip(skip).fold(String::new(), |text, line| text + line + "\n")
    }
}

/// See [`World::until`].
pub(super) struct Until {
    world: World,
    until: Timestamp,
    timer: Option<(Timestamp, u64)>,
}

impl Future for Until {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let world = self.world.clone();
        let mut state = world.state();
        if let Some(timer) = self.timer.take() {
            state.timers.remove(&timer);
        }
        if state.now >= self.until {
            return Poll::Ready(());
        }
        self.timer = Some(state.wake_at(self.until, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.world.state().timers.remove(&timer);
        }
    }
}
