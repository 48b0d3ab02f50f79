//! What a member's polling thread has for its loop: control events in order, and fetched records up to a bound. It
//! is a queue of our own because a new assignment must void the records of the old one that were not yet taken.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hansard_runtime::ports::log::{Event, Fetched, LogError};
use tokio::sync::Notify;

pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    arrived: Notify,
    taken: Condvar,
    bytes_max: usize,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<(usize, Result<Event, LogError>)>,
    bytes: usize,
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { queue: Mutex::default(), arrived: Notify::new(), taken: Condvar::new(), bytes_max }
    }

    /// Adds records of `bytes` bytes. The bound is kept by asking for room before fetching more.
    pub(crate) fn fetched(&self, bytes: usize, fetched: Fetched) {
        let mut queue = self.lock();
        queue.bytes += bytes;
        queue.events.push_back((bytes, Ok(Event::Fetched(fetched))));
        drop(queue);
        self.arrived.notify_one();
    }

    /// Adds a change of the assignment; records that were not yet taken are void with it.
    pub(crate) fn control(&self, event: Result<Event, LogError>) {
        let mut queue = self.lock();
        queue.events.retain(|(_, event)| !matches!(event, Ok(Event::Fetched(_))));
        queue.bytes = 0;
        queue.events.push_back((0, event));
        drop(queue);
        self.taken.notify_all();
        self.arrived.notify_one();
    }

    /// No event follows those that are here.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.taken.notify_all();
        self.arrived.notify_one();
    }

    /// The next event, with or without records; cancel-safe, since it takes one only when it returns it.
    pub(crate) async fn next(&self, records: bool) -> Result<Event, LogError> {
        loop {
            // One loop takes, so a permit stored between the check and the wait is its own.
            if let Some(event) = self.take(records) {
                return event;
            }
            self.arrived.notified().await;
        }
    }

    fn take(&self, records: bool) -> Option<Result<Event, LogError>> {
        let mut queue = self.lock();
        // Changes are never behind records, since those are void with them.
        if !records && matches!(queue.events.front(), Some((_, Ok(Event::Fetched(_))))) {
            return queue.closed.then_some(Err(LogError::Closed));
        }
        let Some((bytes, event)) = queue.events.pop_front() else {
            return queue.closed.then_some(Err(LogError::Closed));
        };
        queue.bytes -= bytes;
        drop(queue);
        self.taken.notify_all();
        Some(event)
    }

    /// Whether more may be fetched.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().bytes < self.bytes_max
    }

    /// Waits up to `wait` until half of the bound is free again.
    pub(crate) fn wait_for_room(&self, wait: Duration) -> bool {
        let full = |queue: &mut Queue| queue.bytes > self.bytes_max / 2 && !queue.closed;
        let waited = self.taken.wait_timeout_while(self.lock(), wait, full);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
