//! Known bugs put back in, one at a time: each must be found by a scenario that holds without it.

use std::panic::AssertUnwindSafe;

use hansard_core::rules::Mutant as CoreBug;
use hansard_runtime::mutants::{self, Mutant};

use super::deployment::Deployment;
use super::history::History;
use crate::scenarios;

/// Under so many seeds at most.
const SEEDS: u64 = 16;
/// Random histories for each bug, at most.
const HISTORIES: u64 = 200;

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

/// A known bug, and where it shows.
struct Bug {
    name: String,
    set_up: SetUp,
    mutant: Option<Mutant>,
    scenario: &'static str,
    /// Whether random histories must find it within their budget; else they may, and the scenario is what is relied on.
    random: bool,
}

impl Bug {
    /// What `run` gives with the bug in.
    fn with<T>(&self, run: impl FnOnce(SetUp) -> T) -> T {
        mutants::put_in(self.mutant);
        let given = run(self.set_up);
        mutants::put_in(None);
        given
    }

    /// How many random histories are lived through until one ends badly.
    fn histories(&self) -> Option<u64> {
        (1..=HISTORIES).find(|seed| {
            let lived = self.with(|set_up| {
                std::panic::catch_unwind(AssertUnwindSafe(|| History::new(*seed, set_up).live()))
            });
            !matches!(lived, Ok(Ok(())))
        })
    }
}

fn bugs() -> Vec<Bug> {
    let runtime = [
        (Mutant::CommitBeforeEffect, "hole", true),
        (Mutant::DecideBeforeOwn, "own_finalizes", true),
        (Mutant::IdleUnread, "idle_unread", false),
        (Mutant::OffsetPastHole, "hole", true),
        (Mutant::OutputsWithRetry, "provider_down", true),
        (Mutant::PayWithoutLook, "paid_once", true),
        (Mutant::LeaseUnrenewed, "lease_held", false),
        (Mutant::LostUnsought, "job_lost", false),
        (Mutant::GivenUpUnasked, "job_unasked", false),
        (Mutant::CrashesUncounted, "1_5", false),
        (Mutant::AbortForgotten, "aborted", true),
        (Mutant::GenerationAskedLate, "late_generation", false),
        (Mutant::ZombieWriteWins, "zombie_write", true),
        (Mutant::SweepUnread, "sweep_unread", true),
        (Mutant::SweepWithoutMark, "2_6", false),
        (Mutant::SweepByYoungMark, "sweep_twice", false),
    ];
    let decisions: [(CoreBug, SetUp, &str, bool); 3] = [
        (
            CoreBug::FailureOverwritesSuccess,
            |all| all.aggregate.rules.mutant = Some(CoreBug::FailureOverwritesSuccess),
            "N4",
            true,
        ),
        (CoreBug::EarlyFinish, |all| all.aggregate.rules.mutant = Some(CoreBug::EarlyFinish), "1_2", false),
        (
            CoreBug::LostLateUpload,
            |all| all.aggregate.rules.mutant = Some(CoreBug::LostLateUpload),
            "N1",
            true,
        ),
    ];
    let runtime = runtime.into_iter().map(|(mutant, scenario, random)| Bug {
        name: format!("{mutant:?}"),
        set_up: |_| {},
        mutant: Some(mutant),
        scenario,
        random,
    });
    let decisions = decisions.into_iter().map(|(bug, set_up, scenario, random)| Bug {
        name: format!("{bug:?}"),
        set_up,
        mutant: None,
        scenario,
        random,
    });
    runtime.chain(decisions).collect()
}

#[test]
fn each_bug_is_found_by_its_scenario() {
    for bug in bugs() {
        let scenario = bug.scenario;
        assert!(!shows(scenario, |_| {}), "{scenario} does not hold without {}", bug.name);
        assert!(bug.with(|set_up| shows(scenario, set_up)), "{} is not found by {scenario}", bug.name);
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "how soon each bug is found is what the simulation is worth")]
fn random_histories_find_the_bugs() {
    let mut missed = Vec::new();
    for bug in bugs() {
        let histories = bug.histories();
        let Bug { name, scenario, random, .. } = bug;
        match histories {
            Some(histories) => println!("{name}: found by random history {histories}"),
            None => println!("{name}: not found by {HISTORIES} random histories, only by {scenario}"),
        }
        missed.extend((random && histories.is_none()).then_some(name));
    }
    assert!(missed.is_empty(), "{HISTORIES} random histories do not find {missed:?}");
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
