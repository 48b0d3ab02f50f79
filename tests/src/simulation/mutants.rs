//! Known bugs put back in, one at a time: each must be found by a scenario that holds without it.

use hansard_core::rules::Mutant as CoreBug;
use hansard_runtime::mutants::{self, Mutant};

use super::deployment::Deployment;
use crate::scenarios;

/// Under so many seeds at most.
const SEEDS: u64 = 16;

/// Puts a bug into the configuration.
type SetUp = fn(&mut Deployment);

/// Whether the scenario shows something wrong under any seed. A bug may also make a task panic or go on for ever.
fn shows(scenario: &str, set_up: SetUp) -> bool {
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
    let all: [(SetUp, &str); 3] = [
        (|all| all.aggregate.rules.mutant = Some(CoreBug::FailureOverwritesSuccess), "N4"),
        (|all| all.aggregate.rules.mutant = Some(CoreBug::EarlyFinish), "1_2"),
        (|all| all.aggregate.rules.mutant = Some(CoreBug::LostLateUpload), "N1"),
    ];
    for (bug, scenario) in all {
        assert!(!shows(scenario, |_| {}), "{scenario} does not hold without a bug");
        assert!(shows(scenario, bug), "the bug that {scenario} is for is not found");
    }
}

#[test]
fn the_program_holds_no_bug_and_no_fake_world() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = std::process::Command::new(cargo)
        .args(["tree", "--offline", "-p", "hansard", "-e", "normal,features", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&tree.stdout);
    assert!(
        text.contains("hansard-runtime feature \"default\""),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    for feature in ["mutants", "driver"] {
        let of_ours = format!(" feature \"{feature}\"");
        let found = text.lines().find(|line| line.starts_with("hansard") && line.contains(&of_ours));
        assert_eq!(found, None, "the program is built with {feature}");
    }
}
