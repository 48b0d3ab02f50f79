//! Tests each limit on both sides of its edge, and that together they bound the size of a record.

use super::samples;
use crate::limits::{self, Problem};
use crate::{
    Encode, Finalize, FinalizeChunk, Finish, Gap, Invalid, Merge, MergeInput, Options, Record, RecordName,
    Split, SplitSegment, Upload, encode, validate,
};

fn refused(record: impl Into<Record>) -> (&'static str, &'static str) {
    let invalid = validate(&record.into()).unwrap_err();
    (invalid.field, invalid.code())
}

#[test]
fn samples_are_within_all_limits() {
    for sample in samples::all() {
        assert_eq!(validate(&sample), Ok(()), "{}", sample.name());
    }
}

/// The same upload with something changed.
fn upload(change: impl FnOnce(&mut Upload)) -> Record {
    let mut upload = samples::upload();
    change(&mut upload);
    upload.into()
}

#[test]
fn conversation_ids_are_what_a_url_and_a_key_can_hold() {
    let id =
        |id: &str| validate(&upload(|u| u.conversation_id = id.into())).map_err(|invalid| invalid.code());
    assert_eq!(id("a"), Ok(()));
    assert_eq!(id("Az09._-"), Ok(()));
    assert_eq!(id(&"a".repeat(128)), Ok(()));
    assert_eq!(id(&"a".repeat(129)), Err("too_long"));
    assert_eq!(id(""), Err("empty"));
    for bad in ["a b", "a/b", "é", "a\n", "a%", "a:b"] {
        assert_eq!(id(bad), Err("malformed"), "{bad:?}");
    }
}

#[test]
fn names_of_chunks_and_tracks_are_counted_in_bytes() {
    assert_eq!(validate(&upload(|u| u.chunk_id = "é".repeat(32))), Ok(()));
    assert_eq!(refused(upload(|u| u.chunk_id = "é".repeat(32) + "x")), ("chunk_id", "too_long"));
    assert_eq!(refused(upload(|u| u.chunk_id.clear())), ("chunk_id", "empty"));
    assert_eq!(validate(&upload(|u| u.track = "é".repeat(16))), Ok(()));
    assert_eq!(validate(&upload(|u| u.track.clear())), Ok(()));
    assert_eq!(refused(upload(|u| u.track = "é".repeat(16) + "x")), ("track", "too_long"));
}

#[test]
fn sequences_and_expected_counts_are_below_5000() {
    for (sequence, valid) in [(0, true), (4_999, true), (5_000, false), (-1, false), (i64::MIN, false)] {
        assert_eq!(validate(&upload(|u| u.sequence = Some(sequence))).is_ok(), valid, "{sequence}");
        let Ok(count) = i32::try_from(sequence) else { continue };
        let whole = Finish { expected_chunks: Some(count), ..samples::finish() };
        assert_eq!(validate(&whole.into()).is_ok(), valid, "{count}");
        let track = Finish { expected_by_track: [("a".into(), count)].into(), ..samples::finish() };
        assert_eq!(validate(&track.into()).is_ok(), valid, "{count}");
    }
    let tracks = |counts: [i32; 2]| {
        let expected = counts.iter().enumerate().map(|(track, count)| (track.to_string(), *count));
        Record::from(Finish { expected_by_track: expected.collect(), ..samples::finish() })
    };
    assert_eq!(validate(&tracks([4_000, 999])), Ok(()));
    assert_eq!(refused(tracks([4_000, 1_000])), ("expected_by_track", "out_of_range"));
}

#[test]
fn times_are_believed_within_ten_millennia() {
    let at = |at| validate(&upload(|u| u.recorded_at = at)).map_err(|invalid| invalid.code());
    assert_eq!(at(0), Ok(()));
    assert_eq!(at(limits::TIME_MS_MAX), Ok(()));
    assert_eq!(at(limits::TIME_MS_MAX + 1), Err("out_of_range"));
    assert_eq!(at(-1), Err("out_of_range"));
}

#[test]
fn patience_is_positive_and_at_most_30_days() {
    for (patience, valid) in [(0, false), (1, true), (30 * 86_400_000, true), (30 * 86_400_000 + 1, false)] {
        let mut open = samples::open();
        open.idle_after_ms = Some(patience);
        assert_eq!(validate(&open.clone().into()).is_ok(), valid, "{patience}");
        open.idle_after_ms = None;
        open.missing_after_ms = Some(patience);
        assert_eq!(validate(&open.into()).is_ok(), valid, "{patience}");
    }
}

#[test]
fn what_can_be_written_freely_is_bounded_in_bytes_and_entries() {
    let keyterms =
        |terms: Vec<String>| upload(|u| u.options = Some(Options { keyterms: terms, ..Options::default() }));
    assert_eq!(validate(&keyterms(vec!["x".repeat(4_096)])), Ok(()));
    assert_eq!(refused(keyterms(vec!["x".repeat(4_097)])), ("options.keyterms", "too_long"));
    assert_eq!(validate(&keyterms(vec![String::new(); 500])), Ok(()));
    assert_eq!(refused(keyterms(vec![String::new(); 501])), ("options.keyterms", "too_long"));
    let attributes = |bytes: usize| upload(|u| u.attributes = [("k".into(), "v".repeat(bytes - 1))].into());
    assert_eq!(validate(&attributes(4_096)), Ok(()));
    assert_eq!(refused(attributes(4_097)), ("attributes", "too_long"));
}

#[test]
fn a_conversation_has_at_most_8_webhooks() {
    let open = |count: usize| {
        let webhook_urls = vec!["https://example.org/hook".to_owned(); count];
        Record::from(crate::Open { webhook_urls, ..samples::open() })
    };
    assert_eq!(validate(&open(8)), Ok(()));
    assert_eq!(refused(open(9)), ("webhook_urls", "too_long"));
}

#[test]
fn words_outside_their_vocabulary_are_refused() {
    let mut rerun = samples::rerun();
    rerun.stage = "split".into();
    assert_eq!(refused(rerun), ("stage", "malformed"));
    let mut rerun = samples::rerun();
    rerun.only = "some".into();
    assert_eq!(refused(rerun), ("only", "malformed"));
    let mut failure = samples::failure();
    failure.class = "odd".into();
    assert_eq!(refused(failure), ("class", "malformed"));
}

#[test]
fn digests_are_lower_case_hex() {
    let mut segment = samples::segment();
    segment.upload_digest = segment.upload_digest.to_uppercase();
    assert_eq!(refused(segment), ("upload_digest", "malformed"));
    let whole = samples::merge().finalize_digest;
    for bad in ["", ":", "1:", &whole[2..], "x1:00", &whole.replace("1:", ":"), &whole.to_uppercase()] {
        let merge = Merge { finalize_digest: bad.to_owned(), ..samples::merge() };
        assert_eq!(refused(merge), ("finalize_digest", "malformed"), "{bad}");
    }
}

#[test]
fn segments_lie_within_their_chunk_and_number() {
    let segment = |change: fn(&mut crate::Segment)| {
        let mut segment = samples::segment();
        change(&mut segment);
        validate(&segment.into()).map_err(|Invalid { field, .. }| field)
    };
    assert_eq!(segment(|s| (s.segment, s.of) = (4_999, 5_000)), Ok(()));
    assert_eq!(segment(|s| (s.segment, s.of) = (4_999, 5_001)), Err("of"));
    assert_eq!(segment(|s| (s.segment, s.of) = (2, 2)), Err("segment"));
    assert_eq!(segment(|s| (s.segment, s.of) = (0, 0)), Err("of"));
    assert_eq!(segment(|s| s.end_ms = s.start_ms), Ok(()));
    assert_eq!(segment(|s| s.end_ms = s.start_ms - 1), Err("end_ms"));
    assert_eq!(segment(|s| s.generation = -1), Err("generation"));
    let mut split = samples::split();
    split.segments.swap(0, 1);
    assert_eq!(refused(split), ("segments.index", "malformed"));
    let mut transcript = samples::transcript();
    transcript.redactions[0].end = 99;
    assert_eq!(refused(transcript), ("redactions.end", "out_of_range"));
}

#[test]
fn errors_say_what_is_allowed() {
    let invalid = validate(&upload(|u| u.sequence = Some(5_000))).unwrap_err();
    assert_eq!(invalid.to_string(), "sequence is 5000, from 0 to 4999 is allowed");
    let invalid = Invalid { field: "track", problem: Problem::TooLong { length: 33, max: 32 } };
    assert_eq!(invalid.to_string(), "track has length 33, at most 32 is allowed");
    assert_eq!(limits::check_record_bytes(900_000), Ok(()));
    assert_eq!(limits::check_record_bytes(900_001).unwrap_err().code(), "too_long");
}

/// The greatest options.
fn greatest_options() -> Options {
    let name = Some("x".repeat(limits::OPTION_BYTES_MAX));
    let keyterms = vec!["x".repeat(limits::FREE_BYTES_MAX / limits::FREE_ITEMS_MAX); limits::FREE_ITEMS_MAX];
    Options {
        language: name.clone(),
        provider: name.clone(),
        model: name,
        redact_pii: Some(true),
        diarize: Some(true),
        keyterms,
    }
}

/// The greatest finalize: names and numbers are as long as the limits allow.
fn greatest_finalize() -> Finalize {
    let chunk = FinalizeChunk {
        chunk_id: "x".repeat(limits::CHUNK_ID_BYTES_MAX),
        track: "x".repeat(limits::TRACK_BYTES_MAX),
        status: "with_failures".into(),
        digest: vec![0; 32],
        sequence: Some(4_999),
        offset_ms: limits::TIME_MS_MAX,
        duration_ms: limits::CHUNK_MS_MAX,
        segments: 10,
    };
    let gap = Gap {
        track: "x".repeat(limits::TRACK_BYTES_MAX),
        status: "pending".into(),
        code: "x".repeat(limits::CODE_BYTES_MAX),
        chunk_id: Some("x".repeat(limits::CHUNK_ID_BYTES_MAX)),
        segment: Some(4_999),
        sequence: Some(4_999),
    };
    let stages = ["transcribe", "merge", "summarize"];
    Finalize {
        conversation_id: "x".repeat(limits::CONVERSATION_ID_BYTES_MAX),
        generations: stages.map(|stage| (stage.to_owned(), i64::MAX)).into(),
        options: stages.map(|stage| (stage.to_owned(), greatest_options())).into(),
        chunks: vec![chunk; limits::CHUNKS_MAX],
        gaps: vec![gap; limits::GAPS_MAX],
        attributes: Default::default(),
        ..samples::finalize()
    }
}

/// Every name and number of the greatest records is at its limit.
#[test]
fn limits_bound_the_size_of_every_manifest() {
    let split = Split {
        segments: (0..5_000)
            .map(|index| SplitSegment {
                index,
                start_ms: limits::CHUNK_MS_MAX,
                end_ms: limits::CHUNK_MS_MAX,
                bytes: i64::from(i32::MAX),
                sha256: vec![0; 32],
                forced_cut: true,
            })
            .collect(),
        ..samples::split()
    };
    let input = MergeInput {
        chunk_id: "x".repeat(limits::CHUNK_ID_BYTES_MAX),
        status: "x".repeat(limits::STATUS_BYTES_MAX),
        code: Some("x".repeat(limits::CODE_BYTES_MAX)),
        offset_ms: limits::TIME_MS_MAX,
        duration_ms: limits::CHUNK_MS_MAX,
    };
    let merge = Merge { inputs: vec![input; limits::CHUNKS_MAX], ..samples::merge() };
    let tracks = (0..4_999).map(|track| (format!("{track:032}"), 1));
    let finish = Finish { expected_by_track: tracks.collect(), ..samples::finish() };
    let greatest = [Record::from(greatest_finalize()), split.into(), merge.into(), finish.into()];
    for record in greatest {
        assert_eq!(validate(&record), Ok(()), "{}", record.record_name());
        assert_eq!(limits::check_record_bytes(encode(&record).len()), Ok(()), "{}", record.record_name());
    }
    let record = Record::from(Finalize {
        chunks: vec![greatest_finalize().chunks[0].clone(); limits::CHUNKS_MAX + 1],
        ..greatest_finalize()
    });
    assert_eq!(record.name(), RecordName::Finalize);
    assert_eq!(refused(record), ("chunks", "too_long"));
}
