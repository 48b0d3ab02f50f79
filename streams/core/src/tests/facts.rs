//! Random facts of one small conversation, in which everything that can compete does.

use std::collections::BTreeMap;
use std::format;
use std::sync::Arc;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::digest;
use crate::fact::{Ending, Failure, Finalize, Finish, Open, Rerun, Split, Transcript, Upload};
use crate::{
    ChunkId, Digest, Fact, FinalizeDigest, Generation, Millis, Offset, Only, Outcome, Revision, Stage,
    Timestamp, Track,
};

fn chunk() -> impl Strategy<Value = ChunkId> {
    select(&["a", "b", "c"][..]).prop_map(|name| name.parse().expect("a chunk id"))
}

/// Mostly the first of two.
fn one_of_two(first: &'static str, second: &'static str) -> impl Strategy<Value = Digest> {
    prop_oneof![4 => Just(first), 1 => Just(second)].prop_map(digest)
}

fn track() -> impl Strategy<Value = Track> {
    select(&["", "mic"][..]).prop_map(|name| name.parse().expect("a track"))
}

/// A log time within half a day, in steps so that equal times occur.
fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![3 => 0..50_i64, 1 => 0..4_000_i64].prop_map(|step| Timestamp(step * 10_000))
}

fn generation() -> impl Strategy<Value = Generation> {
    prop_oneof![3 => Just(0), 2 => 1..30_i64].prop_map(Generation)
}

fn upload() -> impl Strategy<Value = Fact> {
    (time(), chunk(), one_of_two("first", "second")).prop_map(|(time, chunk, digest)| {
        let (offset, track, recorded_at) = (Offset(0), Track::default(), Timestamp(0));
        Fact::Upload(Upload { offset, time, chunk, digest, track, sequence: None, recorded_at })
    })
}

fn split() -> impl Strategy<Value = Fact> {
    (time(), chunk(), one_of_two("first", "second"), one_of_two("cut", "recut")).prop_map(
        |(time, chunk, upload_digest, digest)| {
            let (offset, segments, duration) = (Offset(0), 0, Millis(0));
            Fact::Split(Split { offset, time, chunk, upload_digest, digest, segments, duration })
        },
    )
}

fn transcript() -> impl Strategy<Value = Fact> {
    (
        time(),
        chunk(),
        one_of_two("first", "second"),
        one_of_two("cut", "recut"),
        0..4_u32,
        generation(),
        0..3_u8,
    )
        .prop_map(|(time, chunk, upload_digest, split_digest, segment, generation, text)| {
            let text_sha256 = digest(&format!("text {text}"));
            Fact::Transcript(Transcript {
                time,
                chunk,
                upload_digest,
                split_digest,
                segment,
                generation,
                text_sha256,
            })
        })
}

fn failure() -> impl Strategy<Value = Fact> {
    let stage = prop_oneof![1 => Just(Stage::Split), 3 => Just(Stage::Transcribe)];
    let place = (chunk(), one_of_two("first", "second"), one_of_two("cut", "recut"), 0..4_u32);
    (time(), stage, prop::bool::weighted(0.8), place, generation(), select(&["crash", "timeout"][..]))
        .prop_map(|(time, stage, terminal, (chunk, upload, split, segment), generation, code)| {
            let pieces = stage == Stage::Transcribe;
            Fact::Failure(Failure {
                time,
                stage,
                terminal,
                code: Arc::from(code),
                generation,
                chunk: Some(chunk),
                upload_digest: Some(upload),
                split_digest: pieces.then_some(split),
                segment: pieces.then_some(segment),
                finalize_digest: None,
            })
        })
}

fn finish() -> impl Strategy<Value = Fact> {
    let by_track = proptest::collection::btree_map(track(), 0..4_u32, 0..3);
    (time(), option::of(0..5_u32), by_track).prop_map(|(time, expected_chunks, expected_by_track)| {
        Fact::Finish(Finish { offset: Offset(0), time, expected_chunks, expected_by_track })
    })
}

fn rerun() -> impl Strategy<Value = Fact> {
    let stage = select(&[Stage::Transcribe, Stage::Transcribe, Stage::Merge][..]);
    (time(), 0..3_u8, stage, select(Only::ALL)).prop_map(|(time, event, stage, only)| {
        let event = Arc::from(format!("event {event}"));
        Fact::Rerun(Rerun { offset: Offset(0), time, event, stage, only, options: None })
    })
}

fn open() -> impl Strategy<Value = Fact> {
    let length = || option::of((0..100_i64).prop_map(Millis::seconds));
    (time(), length(), length()).prop_map(|(time, idle_after, missing_after)| {
        Fact::Open(Open { offset: Offset(0), time, idle_after, missing_after })
    })
}

/// What the digests stand for: the content of the Uploads and of the Splits.
#[derive(Debug, Clone)]
struct Contents {
    uploads: Vec<(Track, Option<u32>, Timestamp)>,
    splits: Vec<(u32, Millis)>,
}

fn contents() -> impl Strategy<Value = Contents> {
    let upload = (track(), option::of(0..3_u32), time());
    let split = (0..4_u32, (0..30_i64).prop_map(Millis::seconds));
    (vec(upload, 8), vec(split, 16)).prop_map(|(uploads, splits)| Contents { uploads, splits })
}

/// Gives every record the content that its digest stands for, and its own offset: those of one topic in a random order,
/// as redriven ones keep their origin's.
fn complete(facts: &mut [Fact], contents: &Contents, order: &[usize]) {
    let place =
        |chunk: &ChunkId, digest: Digest| usize::from(chunk.as_str().as_bytes()[0] & 3) * 2 + first(digest);
    let mut offsets: BTreeMap<bool, i64> = BTreeMap::new();
    for index in order {
        let (in_uploads, offset) = match &mut facts[*index] {
            Fact::Open(open) => (true, &mut open.offset),
            Fact::Upload(upload) => {
                let content = contents.uploads[place(&upload.chunk, upload.digest)].clone();
                (upload.track, upload.sequence, upload.recorded_at) = content;
                (true, &mut upload.offset)
            }
            Fact::Finish(finish) => (true, &mut finish.offset),
            Fact::Rerun(rerun) => (true, &mut rerun.offset),
            Fact::Split(split) => {
                let content =
                    contents.splits[place(&split.chunk, split.upload_digest) * 2 + first(split.digest)];
                (split.segments, split.duration) = content;
                (false, &mut split.offset)
            }
            _ => continue,
        };
        let next = offsets.entry(in_uploads).or_default();
        *offset = Offset(*next);
        *next += 1;
    }
}

/// 1 for the digests that occur most, 0 for the others.
fn first(digest: Digest) -> usize {
    usize::from(digest == super::digest("first") || digest == super::digest("cut"))
}

fn revision() -> impl Strategy<Value = Fact> {
    (time(), 1..4_i32, one_of_two("content", "torn"), select(Outcome::ALL)).prop_map(
        |(time, revision, content, outcome)| {
            let (generations, counts) = Default::default();
            let (revision, digest) = (Revision(revision), FinalizeDigest { version: 1, digest: content });
            Fact::Finalize(Finalize { time, revision, digest, content, outcome, generations, counts })
        },
    )
}

fn ending() -> impl Strategy<Value = Fact> {
    let code = option::of(select(&["crash", "timeout"][..]).prop_map(Arc::from));
    (time(), prop::bool::ANY, one_of_two("content", "torn"), generation(), code, prop::bool::ANY).prop_map(
        |(time, merge, digest, generation, failed, record)| {
            let finalize_digest = FinalizeDigest { version: 1, digest };
            let stage = if merge { Stage::Merge } else { Stage::Summarize };
            let (place, of) = ((None, None, None, None), Some(finalize_digest));
            let (chunk, upload_digest, split_digest, segment) = place;
            match failed {
                // A failed merge is told by its own record or by a failure.
                Some(code) if !record => Fact::Failure(Failure {
                    time,
                    stage,
                    terminal: true,
                    code,
                    generation,
                    chunk,
                    upload_digest,
                    split_digest,
                    segment,
                    finalize_digest: of,
                }),
                failed if merge => Fact::Merge(Ending { time, finalize_digest, generation, failed }),
                failed => Fact::Summary(Ending { time, finalize_digest, generation, failed }),
            }
        },
    )
}

/// Facts as [`shuffled`], and what became of some revisions.
pub(super) fn shuffled_with_revisions() -> impl Strategy<Value = (Vec<Fact>, Vec<Fact>)> {
    let more = vec(prop_oneof![revision(), ending()], 0..12);
    (shuffled(), more).prop_flat_map(|((facts, others), more)| {
        let all = |facts: Vec<Fact>| facts.into_iter().chain(more.clone()).collect::<Vec<_>>();
        (Just(all(facts)), Just(all(others)).prop_shuffle())
    })
}

/// Up to forty facts, each with its own offset.
pub(super) fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let fact = prop_oneof![
        1 => open(),
        6 => upload(),
        6 => split(),
        12 => transcript(),
        6 => failure(),
        2 => finish(),
        3 => rerun(),
    ];
    (vec(fact, 1..40), contents())
        .prop_flat_map(|(facts, contents)| {
            let order: Vec<usize> = (0..facts.len()).collect();
            (Just(facts), Just(contents), Just(order).prop_shuffle())
        })
        .prop_map(|(mut facts, contents, order)| {
            complete(&mut facts, &contents, &order);
            facts
        })
}

/// The same facts twice: once each, and in another order with repetitions.
pub(super) fn shuffled() -> impl Strategy<Value = (Vec<Fact>, Vec<Fact>)> {
    facts().prop_flat_map(|facts| {
        let repeated = vec(select(facts.clone()), 0..10);
        let other = repeated.prop_flat_map({
            let facts = facts.clone();
            move |repeated| {
                let all: Vec<Fact> = facts.iter().cloned().chain(repeated).collect();
                Just(all).prop_shuffle()
            }
        });
        (Just(facts), other)
    })
}
