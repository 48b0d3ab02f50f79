//! The whole dataflow in a fake world: the production tasks over the driver's ports, with audio, speech and summaries
//! that are made up but behave as bad as real ones.
//!
//! `HANSARD_SEEDS=n` sets how many fresh histories are lived through, `HANSARD_SEED=x` replays one with its trace.

mod checks;
pub(crate) mod deployment;
pub(crate) mod fakes;
mod history;
mod keeping;
mod mutants;
pub(crate) mod producer;
pub(crate) mod speech;
mod summary;
mod telling;
mod timing;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use history::History;

/// Seeds of histories that once went wrong.
const ONCE_RED: [u64; 6] = [14, 61, 74, 1_795_455_622_124_307, 1_795_455_758_441_798, 1_795_456_391_667_157];
/// Fresh histories of one run by default.
const FRESH: u64 = 300;
/// No further history is begun after so long.
const SECONDS_MAX: u64 = 40;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Lives through one history; a panic in it is no better than a check that does not hold.
fn live(seed: u64) -> Result<(), String> {
    let lived = std::panic::catch_unwind(|| History::new(seed, |_| {}).live());
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "a panic".to_owned()))
    })
}

#[test]
#[expect(clippy::print_stdout, reason = "the seeds and the rate are what a run is known by")]
fn every_history_ends_well() {
    if let Some(seed) = number("HANSARD_SEED") {
        let outcome = live(seed);
        assert!(outcome.is_ok(), "seed {seed}:\n{}", outcome.err().unwrap_or_default());
        return;
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let first = u64::try_from(clock.as_micros()).expect("a clock before the year 580,000");
    let fresh = number("HANSARD_SEEDS").unwrap_or(FRESH);
    let begun = Instant::now();
    let (mut lived, mut red) = (0_u32, Vec::new());
    for seed in ONCE_RED.into_iter().chain(first..first + fresh) {
        if number("HANSARD_SEEDS").is_none() && begun.elapsed().as_secs() > SECONDS_MAX {
            break;
        }
        lived += 1;
        red.extend(live(seed).err().map(|wrong| (seed, wrong)));
    }
    let rate = f64::from(lived) / begun.elapsed().as_secs_f64();
    println!("{lived} histories from seed {first} on, {rate:.0} a second");
    let seeds: Vec<u64> = red.iter().map(|(seed, _)| *seed).collect();
    let one = red.first().map(|(_, wrong)| wrong.as_str()).unwrap_or_default();
    assert!(red.is_empty(), "{} of {lived} histories end badly: {seeds:?}; the first:\n{one}", red.len());
}

#[test]
fn a_seed_gives_one_history() {
    for seed in 0..3 {
        let lives = [(); 2].map(|()| {
            let history = History::new(seed, |_| {});
            let world = history.world();
            let outcome = history.live().is_ok();
            (outcome, world.now(), world.log())
        });
        assert!(lives[0] == lives[1], "seed {seed} gave two histories");
    }
}
