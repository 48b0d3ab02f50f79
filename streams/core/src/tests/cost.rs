//! What a fact costs: the same however long the conversation is, counted in elementary steps, and exact at the limits.

use std::format;
use std::vec::Vec;

use super::digest;
use crate::fact::{Failure, Finish, Rerun, Split, Transcript, Upload};
use crate::window::STEPS;
use crate::{
    ChunkId, Decision, Fact, Generation, Millis, Offset, Only, Outcome, Rules, Stage, Timestamp, Track,
    Window, decide,
};

fn chunk(number: u32) -> ChunkId {
    format!("chunk-{number:04}").parse().expect("a chunk id")
}

fn upload(number: u32) -> Fact {
    Fact::Upload(Upload {
        offset: Offset(i64::from(number)),
        time: Timestamp(i64::from(number) * 30_000),
        chunk: chunk(number),
        digest: digest("upload"),
        track: Track::default(),
        sequence: Some(number),
        recorded_at: Timestamp(i64::from(number) * 30_000),
    })
}

fn split(number: u32, segments: u32) -> Fact {
    Fact::Split(Split {
        offset: Offset(i64::from(number)),
        time: Timestamp(i64::from(number) * 30_000 + 1),
        chunk: chunk(number),
        upload_digest: digest("upload"),
        digest: digest("split"),
        segments,
        duration: Millis(30_000),
    })
}

fn text(number: u32, segment: u32) -> Fact {
    Fact::Transcript(Transcript {
        time: Timestamp(i64::from(number) * 30_000 + 2),
        chunk: chunk(number),
        upload_digest: digest("upload"),
        split_digest: digest("split"),
        segment,
        generation: Generation(0),
        text_sha256: digest("hello"),
    })
}

fn failure(number: u32, segment: u32) -> Fact {
    Fact::Failure(Failure {
        time: Timestamp(0),
        stage: Stage::Transcribe,
        terminal: true,
        code: "timeout".into(),
        generation: Generation(0),
        chunk: Some(chunk(number)),
        upload_digest: Some(digest("upload")),
        split_digest: Some(digest("split")),
        segment: Some(segment),
        finalize_digest: None,
    })
}

fn finish(chunks: u32) -> Fact {
    let by_track = [(Track::default(), chunks)].into_iter().collect();
    Fact::Finish(Finish {
        offset: Offset(1 << 40),
        time: Timestamp(0),
        expected_chunks: Some(chunks),
        expected_by_track: by_track,
    })
}

fn rerun(time: Timestamp) -> Fact {
    let (offset, event) = (Offset(1 << 41), "rerun".into());
    Fact::Rerun(Rerun { offset, time, event, stage: Stage::Transcribe, only: Only::All, options: None })
}

/// All facts of a conversation, interleaved by a fixed stride so that nothing comes in order.
fn conversation(chunks: u32, segments: u32) -> Vec<Fact> {
    let mut facts = Vec::from([finish(chunks)]);
    for number in 0..chunks {
        facts.extend([upload(number), split(number, segments)]);
        facts.extend((0..segments).map(|segment| text(number, segment)));
    }
    let total = facts.len();
    let stride = (total / 3 * 2..).find(|stride| gcd(*stride, total) == 1).expect("a stride");
    (0..total).map(|place| facts[place * stride % total].clone()).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn join(facts: &[Fact]) -> Window {
    let mut window = Window::new();
    facts.iter().for_each(|fact| assert!(window.apply(fact), "{fact:?} changes nothing"));
    window
}

/// Elementary steps of applying one fact.
fn steps(window: &mut Window, fact: &Fact) -> u64 {
    STEPS.set(0);
    assert!(window.apply(fact), "{fact:?} changes nothing");
    STEPS.get()
}

#[test]
fn the_cost_of_a_fact_does_not_grow() {
    let mut costs = Vec::new();
    for chunks in [2, 20, 2_000] {
        let mut window = join(&conversation(chunks, 5));
        let mut cost = Vec::new();
        for fact in [text(chunks, 0), upload(chunks), split(chunks, 5), failure(chunks, 1), text(chunks, 2)] {
            cost.push(steps(&mut window, &fact));
        }
        // A Finish looks at the tracks that it names, a rerun at what it may cover.
        let more = Finish {
            offset: Offset(1 << 42),
            time: Timestamp(5),
            expected_chunks: None,
            expected_by_track: Default::default(),
        };
        cost.push(steps(&mut window, &Fact::Finish(more)));
        costs.push(cost);
        let covered = steps(&mut window, &rerun(Timestamp::MAX));
        assert!(covered >= u64::from(chunks) * 5, "a rerun looks at every segment, not at {covered}");
    }
    assert_eq!(costs[0], costs[1]);
    assert_eq!(costs[0], costs[2]);
    assert_eq!(costs[0], [0, 0, 1, 0, 0, 1], "only a Split looks at the segments that it already knows");
}

#[test]
fn asking_whether_anything_pends_looks_at_nothing() {
    let window = join(&conversation(2_000, 5));
    STEPS.set(0);
    assert!(!window.is_pending());
    assert_eq!(window.counts().transcribed, 10_000);
    assert_eq!(STEPS.get(), 0);
}

#[test]
fn asking_for_one_chunks_rerun_looks_at_no_other() {
    let window = join(&conversation(2_000, 5));
    let looked = |only: Option<&ChunkId>| {
        STEPS.set(0);
        assert_eq!(window.rerun_work(only).count(), 0);
        STEPS.get()
    };
    assert_eq!((looked(Some(&chunk(1_999))), looked(None)), (1, 2_000));
}

/// Ten thousand segments, as many chunks as there may be, and as many segments of one chunk as there may be.
#[test]
fn long_conversations_are_exact() {
    for (chunks, segments) in [(2_000, 5), (5_000, 2), (2, 5_000)] {
        let facts = conversation(chunks, segments);
        let (last, before) = facts.split_last().expect("facts");
        let mut window = join(before);
        assert!(window.is_pending(), "{last:?} is still to come");
        let early = decide(&window, &Rules::default(), Timestamp::MIN);
        assert!(matches!(early, Decision::Wait { .. }), "finalized without {last:?}");
        window.apply(last);
        let Decision::Finalize(manifest) = decide(&window, &Rules::default(), Timestamp::MIN) else {
            panic!("{chunks} chunks of {segments} segments are not due")
        };
        assert_eq!(manifest.outcome, Outcome::Complete);
        assert_eq!((manifest.counts.segments, manifest.counts.transcribed), (10_000, 10_000));
        assert_eq!(manifest.chunks.len() as u64, u64::from(chunks));
        let last = manifest.chunks.last().expect("chunks");
        assert_eq!(
            (last.chunk.clone(), last.offset),
            (chunk(chunks - 1), Millis(i64::from(chunks - 1) * 30_000))
        );
        assert!(manifest.gaps.is_empty() && !manifest.gaps_truncated);
    }
}

#[test]
fn at_most_500_gaps_are_listed() {
    for (chunks, listed, truncated) in [(500, 500, false), (501, 500, true), (4_999, 500, true)] {
        let window = join(&[finish(chunks)]);
        let Decision::Finalize(manifest) = decide(&window, &Rules::default(), Timestamp::MAX) else {
            panic!("not out of time")
        };
        assert_eq!(
            (manifest.gaps.len(), manifest.gaps_truncated),
            (listed, truncated),
            "{chunks} missing chunks"
        );
        assert_eq!(manifest.counts.missing, u64::from(chunks));
    }
    // The highest number that there is costs no more than another.
    let Fact::Upload(mut last) = upload(0) else { panic!("an upload") };
    last.sequence = Some(u32::MAX);
    let window = join(&[Fact::Upload(last)]);
    assert_eq!(window.missing(), u64::from(u32::MAX));
    let Decision::Finalize(manifest) = decide(&window, &Rules::default(), Timestamp::MAX) else {
        panic!("not out of time")
    };
    assert_eq!((manifest.gaps.len(), manifest.gaps_truncated), (500, true));
}

#[test]
fn many_windows_fit_in_little_memory() {
    // The longest conversation, and ten thousand of five minutes.
    let long = join(&conversation(2_000, 5)).approximate_bytes();
    assert!(long < 4 << 20, "{long} bytes for 10,000 segments");
    let short = join(&conversation(10, 4)).approximate_bytes();
    assert!(short < 16 << 10, "{short} bytes for 40 segments");
    assert!(short * 10_000 + long < 256 << 20);
}
