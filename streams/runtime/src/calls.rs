//! Tells one record's bad luck from a dependency that is down, by the last calls.

use std::collections::VecDeque;
use std::sync::Arc;

use hansard_core::id::{Millis, Timestamp};
use hansard_core::redelivery::{Answer, Attempt, Class, Policy};

use crate::outcome::{Ending, Outcome};

/// How many calls are remembered.
const CALLS: usize = 20;
/// From how many conversations the same answer must have come.
const CONVERSATIONS: usize = 3;
/// The answers of the last calls of one stage.
#[derive(Debug, Default)]
pub(crate) struct RecentCalls {
    calls: VecDeque<(Arc<[u8]>, Option<&'static str>)>,
    pauses: u32,
    /// When the last pause is over.
    paused_until: Option<Timestamp>,
}

/// What is to be done after a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Commit it.
    Commit(Ending),
    /// Put the record back and let its partition wait so long.
    Wait(Millis, String),
}

impl RecentCalls {
    /// Remembers an outcome. A retry turns into a wait where most of the last 20 calls, from at least three
    /// conversations, ended in the same transient answer; the log is not to be shovelled into retry topics. `alike` says of an
    /// answer's code whether it tells of a dependency that they share.
    pub(crate) fn judge(
        &mut self,
        conversation: &Arc<[u8]>,
        outcome: Outcome,
        policy: &Policy,
        now: Timestamp,
        alike: impl Fn(&str) -> bool,
    ) -> Verdict {
        let ending = match outcome {
            Outcome::Emit(ending) => ending,
            Outcome::Wait { cause, retry_after } => return self.wait(cause, retry_after, policy, now),
        };
        self.calls.push_back((Arc::clone(conversation), ending.transient));
        if self.calls.len() > CALLS {
            self.calls.pop_front();
        }
        match ending.transient {
            Some(code) if alike(code) && self.is_outage(code) => {
                self.wait(format!("most calls end in {code}"), None, policy, now)
            }
            Some(_) => Verdict::Commit(ending),
            None => {
                (self.pauses, self.paused_until) = (0, None);
                Verdict::Commit(ending)
            }
        }
    }

    /// Calls that were under way together fail together: all that end within a pause are one pause, so that many in
    /// flight do not make a short outage a long one.
    fn wait(
        &mut self,
        cause: String,
        retry_after: Option<Millis>,
        policy: &Policy,
        now: Timestamp,
    ) -> Verdict {
        let anew = self.paused_until.is_none_or(|until| until <= now);
        if anew {
            self.pauses = self.pauses.saturating_add(1);
        }
        let attempt = Attempt { class: Class::Unavailable, attempt: 1, retry_after, pauses: self.pauses - 1 };
        let delay = match policy.answer(attempt) {
            Answer::Pause { delay } => delay,
            _ => policy.pause_cap,
        };
        if anew {
            self.paused_until = Some(now + delay);
        }
        Verdict::Wait(delay, cause)
    }

    fn is_outage(&self, code: &str) -> bool {
        let same = || self.calls.iter().filter(|(_, answer)| *answer == Some(code));
        let mut conversations: Vec<&Arc<[u8]>> = same().map(|(conversation, _)| conversation).collect();
        let most = conversations.len() * 2 > CALLS;
        conversations.sort_unstable();
        conversations.dedup();
        most && conversations.len() >= CONVERSATIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(code: &'static str) -> Ending {
        Ending { records: Vec::new(), transient: Some(code) }
    }

    fn judge(calls: &mut RecentCalls, conversation: usize, ending: Ending) -> Verdict {
        let name = Arc::from(format!("c{conversation}").into_bytes());
        calls.judge(&name, Outcome::Emit(ending), &Policy::default(), Timestamp(0), |code| code != "alone")
    }

    fn wait(verdict: Verdict) -> Millis {
        match verdict {
            Verdict::Wait(delay, _) => delay,
            Verdict::Commit(ending) => panic!("{ending:?} was committed"),
        }
    }

    #[test]
    fn eleven_of_twenty_from_three_conversations_are_an_outage() {
        let mut calls = RecentCalls::default();
        for n in 0..10 {
            assert_eq!(
                judge(&mut calls, n % 3, retry("timeout")),
                Verdict::Commit(retry("timeout")),
                "call {n}"
            );
        }
        assert_eq!(wait(judge(&mut calls, 1, retry("timeout"))), Millis(1000));
        assert_eq!(wait(judge(&mut calls, 1, retry("timeout"))), Millis(1000), "the same pause");
        assert_eq!(judge(&mut calls, 1, retry("reset")), Verdict::Commit(retry("reset")), "another answer");
    }

    #[test]
    fn two_conversations_are_bad_luck() {
        let mut calls = RecentCalls::default();
        for n in 0..40 {
            assert_eq!(
                judge(&mut calls, n % 2, retry("timeout")),
                Verdict::Commit(retry("timeout")),
                "call {n}"
            );
        }
    }

    #[test]
    fn many_dependencies_are_no_outage() {
        let mut calls = RecentCalls::default();
        for n in 0..40 {
            let verdict = judge(&mut calls, n, retry("alone"));
            assert_eq!(verdict, Verdict::Commit(retry("alone")), "call {n}");
        }
    }

    #[test]
    fn the_wait_is_bounded_and_starts_anew_after_a_success() {
        let mut calls = RecentCalls::default();
        let policy = Policy::default();
        let name: Arc<[u8]> = Arc::from(b"c".to_vec());
        let down = || Outcome::Wait { cause: "down".to_owned(), retry_after: None };
        let mut now = Timestamp(0);
        let mut again = || {
            let delay = wait(calls.judge(&name, down(), &policy, now, |_| true));
            now = now + delay;
            delay
        };
        let waits: Vec<Millis> = (0..50).map(|_| again()).collect();
        assert_eq!(waits[..3], [policy.pause_base, Millis(2000), Millis(4000)]);
        assert_eq!(waits.iter().max(), Some(&policy.pause_cap));
        judge(&mut calls, 0, Ending::default());
        assert_eq!(wait(calls.judge(&name, down(), &policy, now, |_| true)), policy.pause_base);
    }

    #[test]
    fn calls_that_fail_together_are_one_pause() {
        let mut calls = RecentCalls::default();
        let policy = Policy::default();
        let name: Arc<[u8]> = Arc::from(b"c".to_vec());
        let mut down = |now: i64| {
            let outcome = Outcome::Wait { cause: "down".to_owned(), retry_after: None };
            wait(calls.judge(&name, outcome, &policy, Timestamp(now), |_| true))
        };
        assert!((0..16).all(|at| down(at) == Millis(1000)), "sixteen in flight");
        assert_eq!(down(999), Millis(1000));
        assert!((1000..1016).all(|at| down(at) == Millis(2000)), "sixteen again");
        assert_eq!(down(3000), Millis(4000));
    }
}
