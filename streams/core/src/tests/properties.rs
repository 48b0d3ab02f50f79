//! What must hold for every conversation: the order of facts does not matter, nothing is early, nothing is stuck, and
//! every revision says exactly what was known.

use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::digest;
use super::facts::{facts, shuffled, shuffled_with_revisions};
use super::plain::Plain;
use crate::manifest::{GAPS_LISTED, GapStatus};
use crate::{Decision, Fact, Manifest, Millis, Rules, Status, Timestamp, Window, decide, explain, status};

fn join(facts: &[Fact]) -> Window {
    let mut window = Window::new();
    for fact in facts {
        window.apply(fact);
    }
    window
}

/// A conversation as aggregate treats it: facts are applied, decisions asked for, and revisions read back.
struct Aggregate {
    rules: Rules,
    window: Window,
    facts: Vec<Fact>,
    last: Option<Manifest>,
    now: Timestamp,
}

impl Aggregate {
    fn new(rules: Rules) -> Self {
        Self { rules, window: Window::new(), facts: Vec::new(), last: None, now: Timestamp(0) }
    }

    fn tell(&mut self, fact: &Fact) {
        self.window.apply(fact);
        self.facts.push(fact.clone());
    }

    /// Asks once at the present moment; says when to look again.
    fn ask(&mut self) -> Result<Option<Timestamp>, TestCaseError> {
        let may = Plain(&self.facts).may_finalize(&self.rules, self.now, self.window.last_finalize());
        match decide(&self.window, &self.rules, self.now) {
            Decision::Wait { look_at } => {
                if let Some(look_at) = look_at {
                    prop_assert!(look_at > self.now, "asks to look at {look_at:?}, at {:?}", self.now);
                }
                if self.last.is_none() {
                    prop_assert!(!may, "it may be finalized and is not");
                }
                Ok(look_at)
            }
            Decision::Finalize(manifest) => {
                prop_assert!(may, "finalized before its time: {manifest:#?}");
                self.check(&manifest)?;
                let content = digest(&format!("{manifest:?}"));
                self.window.apply(&Fact::Finalize(manifest.to_fact(self.now, content)));
                prop_assert_ne!(status(&self.window, &self.rules, self.now), Status::Closing);
                self.last = Some(manifest);
                self.ask()
            }
        }
    }

    /// The revision says exactly what the facts say.
    fn check(&self, manifest: &Manifest) -> Result<(), TestCaseError> {
        let counts = Plain(&self.facts).counts();
        prop_assert_eq!(manifest.counts, counts);
        prop_assert_eq!(manifest.chunks.len() as u64, counts.chunks);
        prop_assert_eq!(
            manifest.chunks.iter().map(|chunk| u64::from(chunk.segments)).sum::<u64>(),
            counts.segments
        );
        let gaps = counts.failed + counts.missing;
        prop_assert_eq!(manifest.gaps.len() as u64, gaps.min(GAPS_LISTED as u64));
        let failed = manifest.gaps.iter().filter(|gap| gap.status == GapStatus::Failed).count();
        prop_assert_eq!(failed as u64, counts.failed);
        prop_assert!(manifest.chunks.is_sorted_by_key(|chunk| chunk.offset));
        prop_assert!(manifest.chunks.iter().all(|chunk| chunk.offset >= Millis::ZERO));
        let last = self.last.as_ref();
        prop_assert_eq!(manifest.revision.0, last.map_or(0, |last| last.revision.0) + 1);
        prop_assert!(last.is_none_or(|last| last.digest != manifest.digest), "the same revision twice");
        Ok(())
    }

    /// Lets time pass, from one moment to look at to the next, until only a fact could change anything.
    fn rest(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..20 {
            let Some(look_at) = self.ask()? else {
                let last = self.window.last_finalize();
                prop_assert!(last.is_some(), "stuck for ever without a revision");
                prop_assert_ne!(status(&self.window, &self.rules, self.now), Status::Closing);
                return Ok(());
            };
            let before = Timestamp(look_at.0 - 1);
            if before > self.now {
                let early = decide(&self.window, &self.rules, before);
                prop_assert!(matches!(early, Decision::Wait { .. }), "finalized a millisecond early");
            }
            self.now = look_at;
        }
        Err(TestCaseError::fail("it asks again and again"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

    /// Joining is commutative and idempotent, and says what it changed.
    #[test]
    fn the_order_of_facts_does_not_matter((facts, others) in shuffled_with_revisions()) {
        let mut window = Window::new();
        for fact in &facts {
            let before = window.clone();
            let changed = window.apply(fact);
            prop_assert_eq!(changed, before != window);
            prop_assert!(!window.apply(fact));
        }
        prop_assert_eq!(&window, &join(&others));
        prop_assert_eq!(window.approximate_bytes(), join(&others).approximate_bytes());
        prop_assert_eq!(window.counts(), Plain(&facts).counts());
        prop_assert_eq!(window.is_pending(), window.counts().missing > 0);
        let mut erased = window.clone();
        erased.apply(&Fact::Erase);
        prop_assert_eq!(join(&others[..1]).apply(&Fact::Erase), true);
        for fact in &others {
            prop_assert!(!erased.apply(fact));
        }
    }

    /// Whatever comes when, and however often it is asked meanwhile: in the end the last revision says the same.
    #[test]
    fn every_interleaving_ends_with_the_same_revision((facts, others) in shuffled(), steps in 0..400_i64) {
        let mut ends = Vec::new();
        for order in [&facts, &others] {
            let mut aggregate = Aggregate::new(Rules::default());
            for fact in order {
                aggregate.tell(fact);
                aggregate.ask()?;
                aggregate.now.0 += steps * 1_000;
            }
            aggregate.now = aggregate.now.max(Timestamp(50_000_000));
            aggregate.rest()?;
            let last = aggregate.last.expect("a revision");
            // The code of an error is not covered: a redrive that fails otherwise makes no revision.
            let gaps = last.gaps.into_iter().map(|gap| (gap.status, gap.track, gap.chunk, gap.segment, gap.sequence));
            let gaps: Vec<_> = gaps.collect();
            ends.push((last.digest, last.outcome, last.counts, last.chunks, gaps, last.generations));
        }
        prop_assert_eq!(&ends[0], &ends[1]);
    }

    /// Facts come in the order of the log, and the window is looked at whenever it asks to be: every revision is due, none
    /// is late, each is exact for the facts then known, and in the end there is one.
    #[test]
    fn nothing_is_early_and_nothing_is_stuck(mut facts in facts()) {
        facts.sort_by_key(Fact::time);
        let mut aggregate = Aggregate::new(Rules::default());
        for fact in &facts {
            let time = fact.time().unwrap_or_default();
            // All looks that fall before this fact come before it.
            while let Some(look_at) = aggregate.ask()?.filter(|look_at| *look_at < time) {
                aggregate.now = look_at;
            }
            aggregate.now = time.max(aggregate.now);
            aggregate.tell(fact);
        }
        aggregate.rest()?;
    }

    /// Without the clock, that is with a log that was never read to its end, only a Finish can close a window.
    #[test]
    fn the_clock_rules_only_what_was_read(facts in facts()) {
        let window = join(&facts);
        let finished = facts.iter().any(|fact| matches!(fact, Fact::Finish(_)));
        let decision = decide(&window, &Rules::default(), Timestamp::MIN);
        if let Decision::Finalize(manifest) = decision {
            prop_assert!(finished);
            prop_assert_eq!(manifest.counts.missing, 0);
        }
    }

    /// Explaining is total, names as much as is awaited, and looks at the same moment as the decision.
    #[test]
    fn explanations_agree_with_decisions(facts in facts(), minutes in 0..3_000_i64) {
        let (window, rules, now) = (join(&facts), Rules::default(), Timestamp(minutes * 60_000));
        let explanation = explain(&window, &rules, now);
        prop_assert_eq!(explanation.awaited.len() as u64, explanation.awaited_total);
        // Somebody always owes something until there is a revision: at least the producer, or aggregate.
        let next = u64::from(!window.is_pending());
        prop_assert_eq!(explanation.awaited_total, window.counts().missing + next);
        match decide(&window, &rules, now) {
            Decision::Wait { look_at } => prop_assert_eq!(explanation.look_at, look_at),
            Decision::Finalize(_) => prop_assert_eq!(explanation.look_at, Some(now)),
        }
    }

    /// What a rerun asks for is exactly what waits for it.
    #[test]
    fn rerun_work_is_what_waits(facts in facts()) {
        let window = join(&facts);
        let work: Vec<String> = window.rerun_work(None).map(|work| format!("{work:?}")).collect();
        let mut each = Vec::new();
        for chunk in ["a", "b", "c"].map(|name| name.parse().expect("a chunk id")) {
            each.extend(window.rerun_work(Some(&chunk)).map(|work| format!("{work:?}")));
        }
        prop_assert_eq!(&work, &each);
        let mut answered = window.clone();
        for work in window.rerun_work(None) {
            answered.apply(&Fact::Transcript(crate::fact::Transcript {
                time: Timestamp(0),
                chunk: work.chunk,
                upload_digest: work.upload_digest,
                split_digest: work.split_digest,
                segment: work.segment,
                generation: work.generation,
                text_sha256: digest("answer"),
            }));
        }
        prop_assert_eq!(answered.rerun_work(None).count(), 0);
        prop_assert!(window.counts().missing - answered.counts().missing == work.len() as u64);
    }
}
