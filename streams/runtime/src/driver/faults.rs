//! What may go wrong: chances that a simulation draws by, and traps that a scenario sets for one call.

use hansard_core::id::{Millis, Timestamp};

use super::process::ProcessId;
use super::world::State;

/// Chances in 10,000 for each call of a port, and the greatest lengths of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// The process crashes before or after the effect.
    pub crash: u32,
    /// The call fails, and nothing happened.
    pub fail: u32,
    /// The call fails, and it happened.
    pub lose_answer: u32,
    /// The call takes very long and then fails; half of the time it happened.
    pub hang: u32,
    /// How long that is, at most.
    pub hang_max: Millis,
    /// The call takes a while.
    pub delay: u32,
    /// How long that is, at most.
    pub delay_max: Millis,
    /// A transaction's markers reach a partition late.
    pub marker_lag: u32,
    /// A transaction that is not committed leaves a part of itself visible.
    pub tear: u32,
    /// A partition's records reach a reader late.
    pub fetch_lag: u32,
}

impl Faults {
    /// Nothing goes wrong and nothing takes time.
    pub const NONE: Self = Self {
        crash: 0,
        fail: 0,
        lose_answer: 0,
        hang: 0,
        hang_max: Millis(0),
        delay: 0,
        delay_max: Millis(0),
        marker_lag: 0,
        tear: 0,
        fetch_lag: 0,
    };
}

/// What happens to a call that is caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process crashes before the effect.
    CrashBefore,
    /// The process crashes after the effect.
    CrashAfter,
    /// It fails, and nothing happened.
    Fail,
    /// It fails, and it happened.
    LoseAnswer,
    /// It never ends, and nothing happened.
    Hang,
    /// It happens after so long.
    Delay(Millis),
    /// The process is cut off for so long, as a zombie, and goes on.
    Isolate(Millis),
    /// Of a transaction's end: its records become visible, its offsets do not, and the process is told that it failed.
    Tear,
}

/// Catches one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trap {
    /// Of a process whose name begins so.
    pub process: String,
    /// The call's name.
    pub call: String,
    /// How many such calls pass before it.
    pub skip: u32,
    /// What happens.
    pub action: Action,
}

/// A call of a port that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) delay: Millis,
    pub(super) action: Option<Action>,
}

impl State {
    /// Draws how a call goes.
    pub(super) fn fate(&mut self, process: ProcessId, name: &str, call: &str) -> Fate {
        if let Some(action) = self.sprung(name, call) {
            self.note(|| format!("{name} {call}: {action:?}"));
            return match action {
                Action::Delay(delay) => Fate { delay, action: None },
                other => Fate { delay: Millis::ZERO, action: Some(other) },
            };
        }
        let service = call.split('.').next().unwrap_or(call);
        if self.down.get(service).is_some_and(|until| self.now < *until) {
            return Fate { delay: Millis(1), action: Some(Action::Fail) };
        }
        if process == ProcessId::BROKERS || self.faults == Faults::NONE {
            return Fate { delay: Millis::ZERO, action: None };
        }
        self.drawn(name, call)
    }

    fn sprung(&mut self, name: &str, call: &str) -> Option<Action> {
        let place =
            self.traps.iter().position(|trap| name.starts_with(&trap.process) && trap.call == call)?;
        if self.traps[place].skip > 0 {
            self.traps[place].skip -= 1;
            return None;
        }
        Some(self.traps.remove(place).action)
    }

    fn drawn(&mut self, name: &str, call: &str) -> Fate {
        let (faults, rng) = (self.faults, &mut self.rng);
        let mut delay = Millis::ZERO;
        if rng.chance(faults.delay) {
            delay = Millis(rng.millis(faults.delay_max.0));
        }
        let action = if rng.chance(faults.crash) {
            Some(if rng.chance(5000) { Action::CrashBefore } else { Action::CrashAfter })
        } else if rng.chance(faults.fail) {
            Some(Action::Fail)
        } else if rng.chance(faults.lose_answer) {
            Some(Action::LoseAnswer)
        } else if rng.chance(faults.hang) {
            delay = Millis(rng.millis(faults.hang_max.0));
            Some(if rng.chance(5000) { Action::Fail } else { Action::LoseAnswer })
        } else {
            None
        };
        if let Some(action) = action {
            self.note(|| format!("{name} {call}: {action:?} after {} ms", delay.0));
        }
        Fate { delay, action }
    }

    /// A late time for something that is usually at once.
    pub(super) fn late(&mut self, chance: u32) -> Option<Timestamp> {
        let max = self.faults.delay_max.0.max(1);
        let late = self.rng.chance(chance);
        late.then(|| self.now + Millis(1 + self.rng.millis(max)))
    }
}
