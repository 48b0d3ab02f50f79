//! Whether a conversation is finalized now, and if not, when to look again.
//!
//! Everything but the last comparison with the time is a function of the window alone: given no further fact, from which
//! moment on it is closing, and from which moment on it may be finalized. So every deadline is exact.

use crate::draft::{Draft, is_settled};
use crate::fact::Finalize;
use crate::id::{Millis, Timestamp};
use crate::manifest::{Cause, Manifest, Outcome};
use crate::rules::Rules;
use crate::window::Window;

/// What is to be done with a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Emit this revision.
    Finalize(Manifest),
    /// Nothing yet. Ask again after the next fact, and once the log is read to ends fetched at `look_at` or later.
    Wait {
        /// The next moment at which time alone may change the answer; nothing where only a fact can.
        look_at: Option<Timestamp>,
    },
}

/// Decides by the facts joined so far. Pure and total.
///
/// `judged` is the greatest moment T such that the log was read to ends that were fetched at or after T: no rule of the
/// clock looks beyond it, so nothing that waits in the log is ever overlooked.
#[must_use]
pub fn decide(window: &Window, rules: &Rules, judged: Timestamp) -> Decision {
    decision(window, rules, judged, is_settled(window, rules))
}

/// The decision, where it is known whether the last finalize says what the window says now.
pub(crate) fn decision(window: &Window, rules: &Rules, judged: Timestamp, settled: bool) -> Decision {
    let plan = Plan::of(window, rules).filter(|_| !settled);
    let Some(plan) = plan else { return Decision::Wait { look_at: None } };
    if judged < plan.closing {
        return Decision::Wait { look_at: Some(plan.closing) };
    }
    if judged < plan.ready {
        return Decision::Wait { look_at: Some(plan.ready.max(plan.paced)) };
    }
    if judged < plan.paced {
        return Decision::Wait { look_at: Some(plan.paced) };
    }
    Decision::Finalize(Draft::of(window, rules).finish(plan.cause))
}

/// What becomes of a window without further facts, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// From here on it is closing; [`Timestamp::MIN`] where a Finish made it so.
    pub(crate) closing: Timestamp,
    /// From here on it may be finalized.
    pub(crate) ready: Timestamp,
    /// No sooner than this after the last revision.
    pub(crate) paced: Timestamp,
    /// Log time at which closing began, or will begin.
    pub(crate) began: Timestamp,
    /// Why it would be.
    cause: Cause,
}

/// From when on a window is closing, and what made it so.
struct Closing {
    by: By,
    /// [`Timestamp::MIN`] where no clock is needed.
    from: Timestamp,
    /// Log time at which closing began.
    began: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Finish,
    Idle,
    Abandonment,
}

impl Plan {
    /// The plan; nothing for a window that is never finalized: erased, or without any fact.
    pub(crate) fn of(window: &Window, rules: &Rules) -> Option<Self> {
        if window.is_erased() {
            return None;
        }
        let rules = rules.of(window);
        let last = window.last_finalize();
        #[cfg(feature = "mutants")]
        if rules.mutant == Some(crate::rules::Mutant::LostLateUpload) && last.is_some() {
            return None;
        }
        let closing = Closing::of(window, &rules, last)?;
        let (ready, in_time) = closing.ready(window, &rules, last);
        let rerun = last.is_some_and(|last| window.generations() != last.generations);
        let paced = last.filter(|_| !rerun).map_or(Timestamp::MIN, |last| last.time + rules.pace(last));
        let cause = match closing.by {
            _ if !in_time => Cause::Deadline,
            _ if rerun => Cause::Rerun,
            _ if last.is_some() => Cause::Late,
            By::Finish => Cause::Finish,
            By::Idle => Cause::Idle,
            By::Abandonment => Cause::Deadline,
        };
        Some(Self { closing: closing.from, ready, paced, began: closing.began, cause })
    }
}

impl Closing {
    fn of(window: &Window, rules: &Rules, last: Option<&Finalize>) -> Option<Self> {
        let newest = window.tally().confirmed.greatest();
        // What arrives after a finalize has to be closed anew.
        let reopened = last.filter(|last| newest.is_some_and(|newest| newest > last.time));
        let finish =
            window.finish_fact().filter(|finish| reopened.is_none_or(|last| finish.time > last.time));
        let idle = newest.map(|newest| newest + rules.idle_after);
        Some(match (finish, idle) {
            (Some(finish), idle) => {
                let began = idle.map_or(finish.time, |idle| finish.time.min(idle));
                Self { by: By::Finish, from: Timestamp::MIN, began }
            }
            (None, Some(idle)) => Self { by: By::Idle, from: idle, began: idle },
            (None, None) => {
                let abandoned = window.began()? + rules.abandon_after;
                Self { by: By::Abandonment, from: abandoned, began: abandoned }
            }
        })
    }

    /// From when on the window may be finalized, and whether that is because it is due rather than out of time.
    fn ready(&self, window: &Window, rules: &Rules, last: Option<&Finalize>) -> (Timestamp, bool) {
        #[cfg(feature = "mutants")]
        if rules.mutant == Some(crate::rules::Mutant::EarlyFinish) && self.by == By::Finish {
            return (self.from, true);
        }
        let tally = window.tally();
        let newest = tally.confirmed.greatest();
        if self.by == By::Abandonment {
            return (self.from, true);
        }
        let stages_wait = tally.unsplit > 0 || tally.pieces.waiting > 0;
        let missing = window.missing() > 0;
        // Once a window was finalized without its missing chunks, it is not held up for them again until the producer is
        // heard of.
        let given_up = last.is_some_and(|last| {
            let heard = newest.max(window.finish_fact().map(|finish| finish.time));
            last.outcome == Outcome::Incomplete && heard.is_none_or(|heard| heard <= last.time)
        });
        if !stages_wait && (!missing || given_up) {
            // Uploads may be on their way: no conversation is empty at once.
            let empty = !missing && newest.is_none();
            let ready = if empty { self.began + rules.idle_after } else { self.from };
            return (ready, true);
        }
        let newest_facts = newest.max(tally.cut.greatest()).max(window.newest_rerun());
        let base = self.began.max(newest_facts.max(last.map(|last| last.time)).unwrap_or(Timestamp::MIN));
        let patience: Millis = if stages_wait { rules.stalled_after } else { rules.missing_after };
        (base + patience, false)
    }
}
