//! How fast and how many calls of one provider are made: evenly, and no more at once than allowed. An instance takes its
//! share of both by the partitions that it holds, so that all together keep the limit and nobody has to be asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hansard_core::id::{Millis, Timestamp};
use tokio::sync::Notify;

use crate::ports::clock::Clock;

/// On their way to a provider calls may draw nearer to each other: no more of them are sent in this time than may arrive in
/// a second.
const SECOND_NS: f64 = 1.05e9;
/// A call that is late by less than this moves none that follow.
const LATE_NS: u64 = 50_000_000;

/// The limits of one provider, of the whole deployment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaceLimits {
    /// Calls that reach the provider in a second, at most; a fraction where they are fewer.
    pub per_second: f64,
    /// Calls under way at once, at most.
    pub at_once: usize,
}

/// Lets calls begin. Whoever waits is served in turn.
pub struct Pace {
    limits: PaceLimits,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    freed: Notify,
    /// Of those that have room, the first waits until it may begin, and the others for it.
    line: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// Calls under way.
    running: usize,
    /// At once, for this instance.
    at_once: usize,
    /// Between the beginnings of two calls, in nanoseconds.
    interval_ns: u64,
    /// When pieces of work begin.
    begins: Schedule,
    /// When calls are sent.
    calls: Schedule,
    /// Who wait for the turn of a call.
    waiting: u32,
    /// The provider asked to be left alone until then.
    held_until: Timestamp,
}

/// Leave for one piece of work to call, as often as it has to, one call at a time; it is under way for as long as this lives.
pub struct Permit<'a>(&'a Pace);

impl Permit<'_> {
    /// Waits until a call may begin. Every call of the provider passes here right before it is sent: what was held up, or
    /// takes several calls, keeps the pace too.
    pub async fn turn(&self) {
        let Self(pace) = self;
        pace.state().waiting += 1;
        let _waiting = Waiting(pace);
        pace.wait(|state, now| state.calls.next(now, state.interval_ns)).await;
    }
}

/// The clock of who never waits.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

/// Somebody waits for a turn.
struct Waiting<'a>(&'a Pace);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// What happens evenly.
#[derive(Debug, Default)]
struct Schedule {
    /// When it may happen next, in nanoseconds since 1970.
    next_ns: u128,
}

impl Schedule {
    /// Until when it may not happen; or it does. What is late by less than an interval and [`LATE_NS`] moves nothing that
    /// follows, and what is later makes up for nothing.
    fn next(&mut self, now: Timestamp, interval_ns: u64) -> Option<Timestamp> {
        let until = self.after(0, interval_ns);
        if until > now {
            return Some(until);
        }
        let now_ns = u128::from(now.0.max(0).unsigned_abs()) * 1_000_000;
        let in_time = now_ns < self.next_ns + u128::from(interval_ns.min(LATE_NS));
        self.next_ns = if in_time { self.next_ns } else { now_ns } + u128::from(interval_ns);
        None
    }

    /// When it may happen after `others` have.
    fn after(&self, others: u32, interval_ns: u64) -> Timestamp {
        let ns = self.next_ns + u128::from(others) * u128::from(interval_ns);
        Timestamp(i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX))
    }
}

impl Pace {
    /// The whole of the limits, until a share is told.
    #[must_use]
    pub fn new(limits: PaceLimits, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            running: 0,
            at_once: 1,
            interval_ns: 0,
            begins: Schedule::default(),
            calls: Schedule::default(),
            waiting: 0,
            held_until: Timestamp::MIN,
        };
        let pace = Self {
            limits,
            clock,
            state: Mutex::new(state),
            freed: Notify::new(),
            line: tokio::sync::Mutex::default(),
        };
        pace.share(1, 1);
        pace
    }

    /// No limit but what the caller has.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(PaceLimits { per_second: f64::INFINITY, at_once: usize::MAX }, Arc::new(Still))
    }

    /// This instance holds `held` of `of` partitions. With none it may make no more than one call at a time, at the pace of
    /// one partition: there is nothing that it would call for.
    pub fn share(&self, held: usize, of: usize) {
        let part = held.clamp(1, of.max(1));
        let mut state = self.state();
        state.at_once = (self.limits.at_once.saturating_mul(part) / of.max(1)).max(1);
        state.interval_ns = interval_ns(self.limits.per_second, part, of.max(1));
        drop(state);
        self.freed.notify_waiters();
    }

    /// No call begins for so long: the provider has asked for it.
    pub fn hold(&self, wait: Millis) {
        let until = self.clock.now() + wait;
        let mut state = self.state();
        state.held_until = state.held_until.max(until);
    }

    /// Waits until a piece of work may begin: no sooner than its first call may, so that it waits here and not half done.
    pub async fn permit(&self) -> Permit<'_> {
        let permit = self.room().await;
        let _first = self.line.lock().await;
        self.wait(|state, now| match state.waiting {
            0 => state.begins.next(now, state.interval_ns),
            others => Some(state.calls.after(others, state.interval_ns).max(now + Millis(1))),
        })
        .await;
        permit
    }

    /// Until nothing says until when not.
    async fn wait(&self, mut until: impl FnMut(&mut State, Timestamp) -> Option<Timestamp>) {
        loop {
            let now = self.clock.now();
            let next = {
                let state = &mut *self.state();
                if state.held_until > now { Some(state.held_until) } else { until(state, now) }
            };
            let Some(next) = next else { return };
            self.clock.sleep_until(next).await;
        }
    }

    async fn room(&self) -> Permit<'_> {
        loop {
            let freed = self.freed.notified();
            {
                let mut state = self.state();
                if state.running < state.at_once {
                    state.running += 1;
                    return Permit(self);
                }
            }
            freed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
        self.0.freed.notify_one();
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates"
)]
fn interval_ns(per_second: f64, part: usize, of: usize) -> u64 {
    (SECOND_NS / per_second * of as f64 / part as f64).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever sleeps moves the time.
    #[derive(Debug, Default)]
    struct Jumping(Mutex<i64>);

    impl Clock for Jumping {
        fn now(&self) -> Timestamp {
            Timestamp(*self.0.lock().expect("no test panics in here"))
        }

        fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()> {
            *self.0.lock().expect("no test panics in here") = until.0;
            std::future::ready(()).boxed()
        }
    }

    fn pace(per_second: f64, at_once: usize) -> Pace {
        Pace::new(PaceLimits { per_second, at_once }, Arc::new(Jumping::default()))
    }

    async fn begun_at(pace: &Pace, calls: usize) -> Vec<i64> {
        let mut begun = Vec::new();
        for _ in 0..calls {
            pace.permit().await.turn().await;
            begun.push(pace.clock.now().0);
        }
        begun
    }

    #[tokio::test]
    async fn calls_begin_evenly_and_never_above_the_rate() {
        assert_eq!(begun_at(&pace(10.0, 9), 4).await, [0, 105, 210, 315]);
        assert_eq!(begun_at(&pace(0.5, 9), 3).await, [0, 2_100, 4_200]);
        // What does not come out even does not add up.
        assert_eq!(begun_at(&pace(9.0, 9), 4).await, [0, 116, 233, 350]);
        // Two instances begin at the same moment, and 50 ms less for those that follow make no second too full.
        let arrive: Vec<i64> = begun_at(&pace(100.0, 9), 200)
            .await
            .into_iter()
            .chain(begun_at(&pace(100.0, 9), 200).await)
            .collect();
        for from in 0..900 {
            let most = arrive.iter().filter(|sent| (from..from + 1_050).contains(*sent)).count();
            assert!(most <= 200, "{most} from {from}");
        }
    }

    #[tokio::test]
    async fn what_takes_several_calls_keeps_the_pace_too() {
        let pace = pace(10.5, 9);
        let permit = pace.permit().await;
        for at in [0, 100, 200] {
            permit.turn().await;
            assert_eq!(pace.clock.now().0, at);
        }
        assert_eq!(begun_at(&pace, 2).await, [300, 400]);
    }

    #[tokio::test]
    async fn what_is_a_little_late_moves_nothing_and_what_is_later_all_that_follows() {
        for (late, next) in [(49, 400), (50, 450), (199, 599)] {
            let pace = pace(5.25, 9);
            assert_eq!(begun_at(&pace, 1).await, [0]);
            pace.clock.sleep_until(Timestamp(200 + late)).await;
            assert_eq!(begun_at(&pace, 3).await, [200 + late, next, next + 200]);
        }
    }

    #[tokio::test]
    async fn what_was_held_up_makes_up_for_nothing() {
        let pace = pace(10.5, 9);
        let permits: Vec<_> = (0..4).map(|_| pace.permit().now_or_never().expect("time moves")).collect();
        pace.clock.sleep_until(Timestamp(5_000)).await;
        let mut at = Vec::new();
        for permit in &permits {
            permit.turn().await;
            at.push(pace.clock.now().0);
        }
        assert_eq!(at, [5_000, 5_100, 5_200, 5_300]);
    }

    /// Whoever sleeps sleeps on.
    #[derive(Debug, Default)]
    struct Standing(Mutex<i64>);

    impl Clock for Standing {
        fn now(&self) -> Timestamp {
            Timestamp(*self.0.lock().expect("no test panics in here"))
        }

        fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
            std::future::pending().boxed()
        }
    }

    #[tokio::test]
    async fn nothing_begins_before_what_waits_for_its_next_call() {
        let clock = Arc::new(Standing::default());
        let pace = Pace::new(PaceLimits { per_second: 10.5, at_once: 9 }, clock.clone());
        let half_done = pace.permit().now_or_never().expect("nobody is before it");
        half_done.turn().now_or_never().expect("its first call");
        let mut second = Box::pin(half_done.turn());
        assert!((&mut second).now_or_never().is_none(), "too soon after the first");
        *clock.0.lock().expect("no test panics in here") = 100;
        assert!(pace.permit().now_or_never().is_none(), "its time has come, and it is not its turn");
        drop(second);
        assert!(pace.permit().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_share_is_that_of_the_partitions_held() {
        let pace = pace(10.5, 8);
        pace.share(1, 4);
        assert_eq!(begun_at(&pace, 3).await, [0, 400, 800]);
        let held: Vec<_> = (0..2).map(|_| pace.permit().now_or_never().expect("two of eight")).collect();
        assert!(pace.permit().now_or_never().is_none(), "a quarter of eight are under way");
        pace.share(2, 4);
        assert!(pace.permit().now_or_never().is_some(), "half of eight may be");
        drop(held);
        pace.share(0, 4);
        let one = pace.permit().now_or_never().expect("one is always allowed");
        assert!(pace.permit().now_or_never().is_some() && pace.state().at_once == 2);
        drop(one);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_goes_on_when_a_call_ends() {
        let pace = pace(1_000.0, 1);
        let first = pace.permit().await;
        let mut second = Box::pin(pace.permit());
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!((&mut second).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_provider_that_asks_for_it_is_left_alone() {
        let pace = pace(10.5, 9);
        drop(pace.permit().await);
        pace.hold(Millis(5_000));
        pace.hold(Millis(1_000));
        assert_eq!(begun_at(&pace, 2).await, [5_000, 5_100]);
    }
}
