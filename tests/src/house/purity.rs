//! Rules about what the inner crates never touch: clock, randomness, environment, waiting, transactions.

use super::tokens::{Run, is, is_word, line, places, runs};
use super::tree::{File, Findings, hold};

/// Where production code has one of the rows of tokens, in files that `within` picks.
fn never(within: impl Fn(&File) -> bool, rows: &[&[&str]], why: &str) -> impl Fn(&File) -> Findings {
    move |file| {
        if !file.is_rust() || file.test || !within(file) {
            return Vec::new();
        }
        let in_run = |run: &Run| -> Findings {
            let lines = rows.iter().flat_map(|row| places(run, row));
            lines.map(|line| (line, why.to_owned())).collect()
        };
        let mut found: Findings = runs(&file.text).iter().filter(|run| !run.test).flat_map(in_run).collect();
        found.sort();
        found
    }
}

fn below(folders: &'static [&'static str]) -> impl Fn(&File) -> bool {
    move |file| folders.iter().any(|folder| file.path.starts_with(folder))
}

#[test]
fn core_is_proven_pure_by_the_build() {
    let rule = |file: &File| {
        let opens = || file.text.lines().find(|line| !line.starts_with("//") && !line.is_empty());
        if file.path == "streams/core/src/lib.rs" && opens() != Some("#![no_std]") {
            return vec![(1, "core does not begin with `#![no_std]`".to_owned())];
        }
        let std = never(below(&["streams/core/"]), &[&["extern", "crate", "std"]], "core takes in std");
        std(file)
    };
    let lib = "streams/core/src/lib.rs";
    hold(
        rule,
        &[
            (lib, "//! Core.\n#![cfg_attr(not(test), no_std)]\n"),
            (lib, "//! Core.\n#![no_std]\nextern crate std;"),
            ("streams/core/src/a.rs", "extern crate std;"),
        ],
        &[(lib, "//! Core.\n#![no_std]\nextern crate alloc;\n#[cfg(test)]\nextern crate std;")],
    );
}

#[test]
fn core_never_waits() {
    let rule = never(below(&["streams/core/"]), &[&["async"], &["await"]], "core decides and never waits");
    hold(
        rule,
        &[("streams/core/src/a.rs", "async fn a() {}")],
        &[("streams/core/src/a.rs", "// async\nfn a() {}"), ("streams/jobs/src/a.rs", "async fn a() {}")],
    );
}

#[test]
fn time_comes_through_the_clock_port() {
    let rows: &[&[&str]] =
        &[&["SystemTime", ":", ":", "now"], &["Instant", ":", ":", "now"], &["Utc", ":", ":", "now"]];
    let rule = never(
        below(&["streams/core/", "streams/runtime/", "streams/jobs/", "schemas/"]),
        rows,
        "time is a value that the clock port gives",
    );
    hold(
        rule,
        &[
            ("streams/jobs/src/a.rs", "fn a() { let b = std::time::SystemTime::now(); }"),
            ("streams/runtime/src/a.rs", "fn a() { select! { _ = b(Instant::now()) => c } }"),
        ],
        &[
            ("streams/app/src/a.rs", "fn a() { let b = SystemTime::now(); }"),
            (
                "streams/jobs/src/a.rs",
                "fn a(now: Timestamp) {}\n#[cfg(test)] mod tests { fn b() { Instant::now(); } }",
            ),
        ],
    );
}

#[test]
fn chance_comes_from_outside() {
    let rule = never(
        below(&["streams/core/", "streams/runtime/", "streams/jobs/", "schemas/"]),
        &[&["rand", ":", ":"], &["Uuid", ":", ":", "new_v4"], &["Uuid", ":", ":", "now_v7"]],
        "randomness makes a run that cannot be repeated",
    );
    hold(
        rule,
        &[
            ("streams/core/src/a.rs", "use rand::random;"),
            ("streams/runtime/src/a.rs", "fn a() -> Uuid { Uuid::new_v4() }"),
        ],
        &[("streams/runtime/src/a.rs", "fn a(seed: u64) {}"), ("connectors/a/src/b.rs", "use rand::random;")],
    );
}

#[test]
fn the_environment_is_read_by_the_program_alone() {
    let rule = never(
        below(&["streams/core/", "streams/runtime/", "streams/jobs/", "schemas/"]),
        &[&["env", ":", ":", "var"], &["env", ":", ":", "var_os"], &["env", ":", ":", "vars"]],
        "configuration is handed in by the program",
    );
    hold(
        rule,
        &[("streams/jobs/src/a.rs", "fn a() { std::env::var(b); }")],
        &[("streams/app/src/a.rs", "fn a() { std::env::var(b); }")],
    );
}

#[test]
fn only_the_commit_module_commits() {
    let outside = |file: &File| {
        // Connectors and the driver give the port; a part of them may pass a call on to another.
        let gives = ["connectors/", "streams/runtime/src/driver/"];
        let commits = ["streams/runtime/src/commit.rs", "streams/runtime/src/commit/"];
        !gives.iter().chain(&commits).any(|place| file.path.starts_with(place))
    };
    let rule = never(outside, &[&[".", "transact", "()"]], "only the runtime's commit module transacts");
    hold(
        rule,
        &[("streams/jobs/src/a.rs", "async fn a(b: B) { b.transact(c).await }")],
        &[
            ("streams/runtime/src/commit.rs", "async fn a(b: B) { b.transact(c).await }"),
            ("connectors/kafka/src/a.rs", "async fn a(b: B) { b.transact(c).await }"),
            ("streams/runtime/src/ports/log.rs", "trait B { async fn transact(&self); }"),
        ],
    );
}

#[test]
fn connectors_see_no_stage() {
    let rule = |file: &File| {
        let mut found = Findings::new();
        // Tests may run a job as it ships, where else there would be a mock.
        if !file.is_rust() || !file.path.starts_with("connectors/") || file.path.contains("/src/tests/") {
            return found;
        }
        for run in runs(&file.text) {
            for path in run.trees.windows(4) {
                if is_word(&path[0], "hansard_jobs") && is(&path[1], ':') && !is_word(&path[3], "ports") {
                    found.push((line(&path[0]), "a connector takes ports from jobs only".to_owned()));
                }
            }
        }
        found
    };
    hold(
        rule,
        &[
            ("connectors/audio/src/a.rs", "use hansard_jobs::split::Split;"),
            ("connectors/audio/src/a.rs", "use hansard_jobs::{ports::Audio, split};"),
            ("connectors/audio/src/a.rs", "fn a(b: hansard_jobs::ports::A, c: hansard_jobs::D) {}"),
        ],
        &[
            ("connectors/audio/src/a.rs", "use hansard_jobs::ports::Audio;"),
            ("connectors/gateway/src/tests/a.rs", "use hansard_jobs::sweep::Sweep;"),
            ("streams/app/src/a.rs", "use hansard_jobs::a;"),
        ],
    );
}
