//! Known bugs put back in, one at a time: each must be found by a scenario that holds without it.

use hansard_core::rules::Mutant as CoreBug;
use hansard_runtime::mutants::{self, Mutant};

use super::deployment::Deployment;
use crate::scenarios;

/// Under so many seeds at most.
const SEEDS: u64 = 16;

/// Whether the scenario shows something wrong under any seed. A bug may also make a task panic or go on for ever.
fn shows(scenario: &str, set_up: fn(&mut Deployment)) -> bool {
    let text = scenarios::text(scenario);
    (0..SEEDS).any(|seed| {
        let run = std::panic::catch_unwind(|| scenarios::run(&text, seed, set_up));
        !matches!(run, Ok(Ok(())))
    })
}

#[test]
fn each_bug_of_the_runtime_is_found() {
    for (mutant, scenario) in [
        (Mutant::CommitBeforeEffect, "hole"),
        (Mutant::DecideBeforeOwn, "own_finalizes"),
        (Mutant::IdleUnread, "idle_unread"),
        (Mutant::OffsetPastHole, "hole"),
        (Mutant::OutputsWithRetry, "provider_down"),
        (Mutant::PayWithoutLook, "paid_once"),
        (Mutant::CrashesUncounted, "1_5"),
        (Mutant::AbortForgotten, "aborted"),
    ] {
        assert!(!shows(scenario, |_| {}), "{scenario} does not hold without {mutant:?}");
        mutants::put_in(Some(mutant));
        let found = shows(scenario, |_| {});
        mutants::put_in(None);
        assert!(found, "{mutant:?} is not found by {scenario}");
    }
}

#[test]
fn each_bug_of_the_decisions_is_found() {
    let all: [(fn(&mut Deployment), &str); 3] = [
        (|all| all.aggregate.rules.mutant = Some(CoreBug::FailureOverwritesSuccess), "N4"),
        (|all| all.aggregate.rules.mutant = Some(CoreBug::EarlyFinish), "1_2"),
        (|all| all.aggregate.rules.mutant = Some(CoreBug::LostLateUpload), "N1"),
    ];
    for (bug, scenario) in all {
        assert!(!shows(scenario, |_| {}), "{scenario} does not hold without a bug");
        assert!(shows(scenario, bug), "the bug that {scenario} is for is not found");
    }
}
