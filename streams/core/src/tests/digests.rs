//! Digests that must never change: a changed rule is a new version, or every conversation gets a needless revision.

use std::string::ToString;
use std::vec::Vec;

use super::digest;
use crate::fact::{Finish, Split, Transcript, Upload};
use crate::manifest::{Cause, SegmentStatus, chunk_digest};
use crate::{
    Decision, Digest, Fact, FinalizeDigest, Generation, Manifest, Millis, Offset, Outcome, Rules, Timestamp,
    Track, Window, decide,
};

fn facts() -> Vec<Fact> {
    let upload = |offset, name: &str, sequence| {
        Fact::Upload(Upload {
            offset: Offset(offset),
            time: Timestamp(offset * 10),
            chunk: name.parse().expect("a chunk id"),
            digest: digest(name),
            track: "mic".parse().expect("a track"),
            sequence: Some(sequence),
            recorded_at: Timestamp(offset * 30_000),
        })
    };
    let split = |offset, name: &str, segments| {
        Fact::Split(Split {
            offset: Offset(offset),
            time: Timestamp(offset),
            chunk: name.parse().expect("a chunk id"),
            upload_digest: digest(name),
            digest: digest("split"),
            segments,
            duration: Millis(30_000),
        })
    };
    let text = Transcript {
        time: Timestamp(50),
        chunk: "a".parse().expect("a chunk id"),
        upload_digest: digest("a"),
        split_digest: digest("split"),
        segment: 0,
        generation: Generation(0),
        text_sha256: digest("hello"),
    };
    let by_track = (Track::default(), 0);
    let finish = Finish {
        offset: Offset(9),
        time: Timestamp(90),
        expected_chunks: Some(2),
        expected_by_track: [by_track].into_iter().collect(),
    };
    Vec::from([
        upload(0, "a", 0),
        upload(1, "b", 1),
        split(0, "a", 1),
        split(1, "b", 0),
        Fact::Transcript(text),
        Fact::Finish(finish),
    ])
}

fn manifest(facts: &[Fact]) -> Manifest {
    let mut window = Window::new();
    for fact in facts {
        window.apply(fact);
    }
    match decide(&window, &Rules::default(), Timestamp(100_000_000)) {
        Decision::Finalize(manifest) => manifest,
        Decision::Wait { look_at } => panic!("not due, look at {look_at:?}"),
    }
}

#[test]
fn the_digest_of_a_manifest_is_frozen() {
    let manifest = manifest(&facts());
    assert_eq!((manifest.outcome, manifest.cause), (Outcome::Complete, Cause::Finish));
    assert_eq!(
        manifest.digest.to_string(),
        "1:f177cafb5aa86478a986aab952b3126fa5f62588598866c775bd0edcaf8e0017"
    );
}

#[test]
fn the_digest_of_a_chunk_is_frozen() {
    let segments =
        [SegmentStatus::Transcribed(digest("hello")), SegmentStatus::Failed, SegmentStatus::Pending];
    assert_eq!(
        chunk_digest(segments).to_string(),
        "4c9c6ff28e8c0d02496ed693f99e2213082642c58dcec84b0a718c238abda16f"
    );
    assert_ne!(chunk_digest([SegmentStatus::Failed]), chunk_digest([SegmentStatus::Pending]));
    assert_ne!(chunk_digest([]), chunk_digest([SegmentStatus::Pending]));
    let chunk = &manifest(&facts()).chunks[0];
    assert_eq!(chunk.digest, chunk_digest([SegmentStatus::Transcribed(digest("hello"))]));
}

#[test]
fn times_and_empty_declarations_are_not_covered() {
    let mut others = facts();
    for fact in &mut others {
        match fact {
            Fact::Upload(upload) => upload.time = Timestamp(5),
            Fact::Split(split) => split.time = Timestamp(7),
            Fact::Finish(finish) => finish.expected_by_track.clear(),
            _ => {}
        }
    }
    assert_eq!(manifest(&others).digest, manifest(&facts()).digest);
}

#[test]
fn what_a_reader_would_see_differently_is_covered() {
    let whole = manifest(&facts()).digest;
    for changed in 0..facts().len() {
        let mut others = facts();
        match &mut others[changed] {
            Fact::Upload(upload) => upload.sequence = Some(7),
            Fact::Split(split) => split.segments += 1,
            Fact::Transcript(transcript) => transcript.text_sha256 = digest("other"),
            Fact::Finish(finish) => finish.expected_chunks = Some(1),
            _ => continue,
        }
        assert_ne!(manifest(&others).digest, whole, "{:?} is not covered", others[changed]);
    }
}

/// An upgrade makes no revisions as long as the old rule is known; a digest by an unknown rule makes one.
#[test]
fn digests_compare_under_the_version_of_the_last_finalize() {
    let (facts, manifest) = (facts(), manifest(&facts()));
    for (version, settled) in [(1, true), (2, false)] {
        let mut window = Window::new();
        facts.iter().for_each(|fact| assert!(window.apply(fact)));
        let mut last = manifest.to_fact(Timestamp(100), Digest::default());
        last.digest = FinalizeDigest { version, ..last.digest };
        window.apply(&Fact::Finalize(last));
        let decision = decide(&window, &Rules::default(), Timestamp(100_000_000));
        assert_eq!(decision == Decision::Wait { look_at: None }, settled, "version {version}");
    }
}
