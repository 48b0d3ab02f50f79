//! Text scenarios over the whole dataflow: `tests/scenarios/*.txt`, one event or one expected outcome a line.
//!
//! A line begins with its moment since the beginning (`0`, `1m30s`, `2h1ms`), then says what happens or what is to be
//! seen; `#` begins a comment. What can be said stands in `script.rs`, what can be seen in `seen.rs`. Nothing goes wrong
//! by chance, so the outcome must be the same however the tasks are interleaved: each is run under several seeds.

mod canaries;
mod script;
mod seen;
mod traces;

use std::collections::BTreeMap;
use std::path::Path;

use hansard_runtime::driver::WorldConfig;

use crate::simulation::deployment::{Deployment, START};
use crate::simulation::producer::Producer;
use script::Script;

/// Ways in which the tasks are interleaved.
const SEEDS: u64 = 4;

/// All scenarios by name.
fn scenarios() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(&folder).expect("the folder of the scenarios");
    let text = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).expect("a text"))
    };
    files.map(text).collect()
}

/// The text of one scenario.
pub(crate) fn text(name: &str) -> String {
    scenarios().remove(name).unwrap_or_else(|| panic!("no scenario {name:?}"))
}

/// Runs one scenario; the lines that did not hold, with the end of the trace.
pub(crate) fn run(text: &str, seed: u64, set_up: impl Fn(&mut Deployment)) -> Result<(), String> {
    let partitions = Script::partitions(text);
    let config = WorldConfig { seed, start: START, partitions, trace_max: 400 };
    let mut deployment = Deployment::new(&config);
    set_up(&mut deployment);
    let producer = Producer::new(deployment.world.clone(), partitions);
    let mut script = Script { deployment, producer, wrong: Vec::new(), started: false };
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            script.line(number, line);
        }
    }
    let left = script.deployment.world.traps_left();
    if left > 0 {
        script.wrong.push(format!("{left} traps have caught nothing"));
    }
    if script.wrong.is_empty() {
        return Ok(());
    }
    let trace = script.deployment.world.trace_tail(40);
    Err(format!("{}\n--- the end of the trace:\n{trace}", script.wrong.join("\n")))
}

#[test]
fn every_scenario_holds_under_every_seed() {
    let only = std::env::var("HANSARD_SCENARIO").ok();
    let mut red = Vec::new();
    let all = scenarios();
    assert!(!all.is_empty(), "there are no scenarios");
    for (name, text) in all.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == *name)) {
        let failed = (0..SEEDS).find_map(|seed| run(text, seed, |_| {}).err().map(|wrong| (seed, wrong)));
        red.extend(failed.map(|(seed, wrong)| format!("{name} under seed {seed}:\n{wrong}")));
    }
    assert!(red.is_empty(), "{} of {} scenarios do not hold:\n{}", red.len(), all.len(), red.join("\n"));
}

#[test]
fn jobs_tell_how_long_records_took() {
    let config = WorldConfig { seed: 0, start: START, partitions: 1, trace_max: 0 };
    let deployment = Deployment::new(&config);
    let producer = Producer::new(deployment.world.clone(), 1);
    let mut script = Script { deployment, producer, wrong: Vec::new(), started: false };
    let lines = ["0 speech c/a/0 hang", "0 upload c a segments=2", "30s expect c calls=2"];
    (1..).zip(lines).for_each(|(number, line)| script.line(number, line));
    assert_eq!(script.wrong, Vec::<String>::new());
    let told = script.deployment.metrics();
    for sample in [
        "hansard_end_to_end_seconds_count{job=\"transcribe\"} 1",
        "hansard_end_to_end_seconds_bucket{job=\"transcribe\",le=\"0.01\"} 1",
        "hansard_in_flight{job=\"transcribe\"} 1",
        "hansard_oldest_undone_seconds{job=\"split\"} 0",
    ] {
        assert!(told.lines().any(|line| line == sample), "{sample} is missing in\n{told}");
    }
}

#[test]
fn two_contents_of_a_revision_are_counted_once() {
    let config = WorldConfig { seed: 0, start: START, partitions: 1, trace_max: 0 };
    let deployment = Deployment::new(&config);
    let producer = Producer::new(deployment.world.clone(), 1);
    let mut script = Script { deployment, producer, wrong: Vec::new(), started: false };
    let lines = ["0 upload c a", "0 finish c", "2m torn-revision c", "10m expect c revisions=1,1,2"];
    (1..).zip(lines).for_each(|(number, line)| script.line(number, line));
    assert_eq!(script.wrong, Vec::<String>::new());
    let told = script.deployment.metrics();
    let sample = "hansard_revision_conflicts_total{job=\"aggregate\"} 1";
    assert!(told.lines().any(|line| line == sample), "{sample} is missing in\n{told}");
}
