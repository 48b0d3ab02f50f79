//! One conversation is one trace: what its records carry, and what the jobs tell of their work.

use std::collections::{BTreeMap, BTreeSet};

use hansard_runtime::driver::{Stored, WorldConfig};
use hansard_runtime::ports::traces::Span;
use hansard_runtime::trace::TraceParent;
use hansard_schemas::{Stage, Topic};

use super::Script;
use crate::simulation::deployment::{Deployment, START};
use crate::simulation::producer::Producer;

/// What a caller's own tracing gives.
const GIVEN: TraceParent = TraceParent { trace: [5; 16], span: [6; 8], sampled: true };

/// What was left of some lines: the log, and the spans.
fn live(lines: &[&str], recorded: bool, given: Option<TraceParent>) -> (Vec<Stored>, Vec<Span>) {
    let config = WorldConfig { seed: 0, start: START, partitions: 1, trace_max: 0 };
    let deployment = Deployment::new(&config);
    if recorded {
        deployment.world.record_spans();
    }
    let mut producer = Producer::new(deployment.world.clone(), 1);
    producer.trace = given;
    let mut script = Script { deployment, producer, wrong: Vec::new(), started: false };
    (1..).zip(lines).for_each(|(number, line)| script.line(number, line));
    assert_eq!(script.wrong, Vec::<String>::new());
    (script.deployment.world.log(), script.deployment.world.spans())
}

const RETRIED: [&str; 4] = [
    "0 speech c/a/0 transient",
    "0 upload c a segments=2",
    "0 finish c",
    "1m expect c revision=1 outcome=complete calls=3",
];

/// Where each record that a job wrote stands.
fn places(log: &[Stored]) -> Vec<(Topic, TraceParent)> {
    let written = log.iter().filter(|stored| stored.from.topic != Topic::Uploads);
    let place = |stored: &Stored| {
        let place = TraceParent::read(&stored.record.headers);
        (stored.from.topic, place.unwrap_or_else(|| panic!("{stored:?} stands nowhere")))
    };
    written.map(place).collect()
}

fn names(spans: &[Span]) -> BTreeSet<&str> {
    spans.iter().map(|span| span.what.name.as_str()).collect()
}

/// The span that another follows from.
fn parent<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let parent = spans.iter().find(|span| span.what.name == name).expect(name).parent;
    spans.iter().find(|span| Some(span.place.span) == parent).expect("a parent that was told")
}

#[test]
fn all_that_happens_to_a_conversation_is_one_trace() {
    let (log, spans) = live(&RETRIED, true, None);
    let root = TraceParent { sampled: true, ..TraceParent::of_conversation("c") };
    for (topic, place) in places(&log) {
        assert_eq!((place.trace, place.sampled), (root.trace, true), "{topic}");
    }
    let ids: BTreeMap<[u8; 8], &Span> = spans.iter().map(|span| (span.place.span, span)).collect();
    assert_eq!(ids.len(), spans.len(), "every span has an id of its own");
    for span in &spans {
        assert_eq!(span.place.trace, root.trace, "{span:?}");
        assert!(span.parent.is_none_or(|parent| ids.contains_key(&parent)), "{span:?} follows from nothing");
        assert!(span.begun <= span.ended, "{span:?}");
    }
    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent.is_none()).collect();
    assert_eq!(roots.iter().map(|span| span.place).collect::<Vec<_>>(), [root], "told once, at the delivery");
    assert_eq!((roots[0].begun, roots[0].what.name.as_str()), (START, "conversation"));
    let expected = [
        "aggregate Conversation",
        "aggregate Finalize",
        "conversation",
        "merge Finalize",
        "split Upload",
        "summarize Finalize",
        "transcribe Segment",
    ];
    assert_eq!(names(&spans), BTreeSet::from(expected));
    for (name, follows) in [
        ("transcribe Segment", "split Upload"),
        ("aggregate Finalize", "transcribe Segment"),
        ("merge Finalize", "aggregate Finalize"),
        ("summarize Finalize", "aggregate Finalize"),
    ] {
        assert_eq!(parent(&spans, name).what.name, follows, "{name}");
    }
}

#[test]
fn a_retry_keeps_its_place() {
    let (log, spans) = live(&RETRIED, true, None);
    let attempts: Vec<&Span> = spans.iter().filter(|span| span.what.job == "transcribe").collect();
    let codes: Vec<_> = attempts.iter().filter_map(|span| span.what.failed).collect();
    assert_eq!((attempts.len(), codes), (3, vec!["http_500"]));
    assert!(attempts.iter().all(|span| span.parent == attempts[0].parent), "{attempts:?}");
    let of = |topic: Topic| places(&log).into_iter().find(|(own, _)| *own == topic).expect("a record").1;
    assert_eq!(of(Topic::Retry(Stage::Transcribe, 1)), of(Topic::Segments));
    let failed = attempts.iter().find(|span| span.what.failed.is_some()).expect("the failed attempt");
    assert_eq!(of(Topic::Failures), failed.place);
}

#[test]
fn a_dead_letter_and_its_redrive_keep_their_place() {
    let lines = [
        "0 speech c/a/0 permanent:http_400 ok",
        "0 upload c a",
        "0 finish c",
        "1m redrive transcribe",
        "2m expect c outcome=complete",
    ];
    let (log, _) = live(&lines, true, Some(GIVEN));
    let of = |topic: Topic| places(&log).into_iter().find(|(own, _)| *own == topic).expect("a record").1;
    let segment = of(Topic::Segments);
    assert_eq!(segment.trace, GIVEN.trace);
    assert_eq!(of(Topic::DeadLetter(Stage::Transcribe)), segment);
    assert_eq!(of(Topic::Retry(Stage::Transcribe, 1)), segment);
}

#[test]
fn a_trace_that_was_given_goes_on() {
    let (log, spans) = live(&RETRIED, true, Some(GIVEN));
    assert!(places(&log).iter().all(|(_, place)| place.trace == GIVEN.trace));
    assert!(spans.iter().all(|span| span.place.trace == GIVEN.trace), "{spans:?}");
    let split = spans.iter().find(|span| span.what.job == "split").expect("split's");
    assert_eq!(split.parent, Some(GIVEN.span));
    assert!(!names(&spans).contains("conversation"), "its root is the caller's");
}

#[test]
fn what_nobody_records_travels_all_the_same() {
    let unrecorded = TraceParent { sampled: false, ..GIVEN };
    for (recorded, given) in [(true, Some(unrecorded)), (false, Some(GIVEN)), (false, None)] {
        let (log, spans) = live(&RETRIED, recorded, given);
        assert_eq!(spans, []);
        let expected = given.unwrap_or(TraceParent::of_conversation("c"));
        assert!(places(&log).iter().all(|(_, place)| *place == expected), "{:?}", places(&log));
    }
}

#[test]
fn after_a_take_over_nothing_is_remembered_and_the_trace_goes_on() {
    let lines = ["0 upload c a", "10s kill a", "20s finish c", "1m expect c revision=1 outcome=complete"];
    let (log, spans) = live(&lines, true, None);
    let root = TraceParent::of_conversation("c").trace;
    assert!(places(&log).iter().all(|(_, place)| place.trace == root));
    assert!(names(&spans).contains("conversation"));
}
