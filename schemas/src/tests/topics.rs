//! Holds the catalogue of topics together, and the partitioner to Kafka's.

use std::collections::BTreeSet;

use crate::partition::murmur2;
use crate::{
    CATALOGUE, Keep, Party, RecordName, Stage, TEXT_RETENTION_DAYS_MAX, Topic, Topics, UnknownName,
    partition_for, topic_of,
};

#[test]
fn every_record_stands_in_exactly_one_topic() {
    for record in RecordName::ALL {
        let topics = CATALOGUE.iter().filter(|spec| spec.records.contains(record)).map(|spec| spec.topic);
        assert_eq!(topics.collect::<Vec<_>>(), [topic_of(*record)], "{record}");
    }
}

#[test]
fn what_carries_text_is_kept_for_a_week_at_most() {
    let with_text: Vec<_> = Topic::all().filter(|topic| topic.carries_text()).collect();
    for topic in &with_text {
        assert!(matches!(topic.keep(), Keep::Days(1..=TEXT_RETENTION_DAYS_MAX)), "{topic}");
    }
    for record in [RecordName::Transcript, RecordName::Summary, RecordName::Callback] {
        let carrying = Topic::all().filter(|topic| topic.records().contains(&record));
        assert!(carrying.into_iter().all(|topic| with_text.contains(&topic)), "{record}");
    }
    assert!(!with_text.contains(&Topic::Segments));
    assert!(with_text.contains(&Topic::DeadLetter(Stage::Transcribe)));
    assert_eq!(Topic::DeadLetter(Stage::Split).keep(), Keep::Days(30));
}

#[test]
fn stages_read_what_the_dataflow_says() {
    use Topic as T;
    let inputs = |stage: Stage| stage.inputs().collect::<Vec<_>>();
    assert_eq!(inputs(Stage::Split), [T::Uploads]);
    assert_eq!(inputs(Stage::Transcribe), [T::Segments, T::Callbacks]);
    let facts = [T::Uploads, T::Splits, T::Transcripts, T::Failures, T::Finalizes, T::Merges, T::Summaries];
    assert_eq!(inputs(Stage::Aggregate), facts);
    assert_eq!(inputs(Stage::Merge), [T::Finalizes]);
    assert_eq!(inputs(Stage::Summarize), [T::Finalizes]);
    assert_eq!(inputs(Stage::Notify), [T::Conversations]);
    let retries = [1, 2, 3].map(|tier| T::Retry(Stage::Merge, tier));
    assert_eq!(
        Stage::Merge.reads(),
        [[T::Finalizes].as_slice(), &retries, &[T::DeadLetter(Stage::Merge)]].concat()
    );
    let every = T::all().filter(|topic| topic.read_by().is_empty() || topic.written_by().is_empty());
    assert_eq!(every.collect::<Vec<_>>(), []);
    assert_eq!(T::Retry(Stage::Merge, 1).written_by(), [Party::Stage(Stage::Merge), Party::Redrive]);
    assert_eq!(T::DeadLetter(Stage::Merge).records(), [RecordName::Finalize]);
}

#[test]
fn names_are_parsed_back_under_any_prefix() {
    for prefix in ["hansard.", "", "team_a.eu-"] {
        let topics = Topics::new(prefix).unwrap();
        let names: BTreeSet<_> = Topic::all().map(|topic| topics.name(topic)).collect();
        assert_eq!(names.len(), CATALOGUE.len() + Stage::ALL.len() * 4);
        assert!(Topic::all().all(|topic| topics.parse(&topics.name(topic)) == Ok(topic)));
    }
    let topics = Topics::default();
    assert_eq!(topics.name(Topic::Retry(Stage::Transcribe, 2)), "hansard.transcribe.retry.2");
    assert_eq!(topics.name(Topic::DeadLetter(Stage::Notify)), "hansard.notify.dead-letter");
    for name in ["uploads", "hansard.upload", "hansard.split.retry.0", "hansard.split.retry.4", "hansard."] {
        assert_eq!(
            topics.parse(name),
            Err(UnknownName(name.strip_prefix("hansard.").unwrap_or(name).to_owned()))
        );
    }
}

#[test]
fn prefixes_are_what_kafka_allows() {
    assert!(Topics::new(&"a".repeat(200)).is_ok());
    for prefix in ["a".repeat(201).as_str(), "a b", "a/", "ä"] {
        assert!(Topics::new(prefix).is_err(), "{prefix}");
    }
}

#[test]
fn configuration_follows_the_catalogue() {
    let time = ("message.timestamp.type", "LogAppendTime".to_owned());
    let compacted = vec![time.clone(), ("cleanup.policy", "compact".to_owned())];
    assert_eq!(Topic::Conversations.config(), compacted);
    let deleted =
        vec![time, ("cleanup.policy", "delete".to_owned()), ("retention.ms", "604800000".to_owned())];
    assert_eq!(Topic::Transcripts.config(), deleted);
}

#[test]
fn subjects_name_the_record_only_where_a_topic_has_several() {
    let subjects = Topics::default().subjects();
    assert_eq!(subjects.len(), RecordName::ALL.len());
    assert!(subjects.contains(&("hansard.uploads-hansard.Finish".into(), RecordName::Finish)));
    assert!(subjects.contains(&("hansard.splits-value".into(), RecordName::Split)));
}

/// The values are those of Kafka's own test, `UtilsTest.testMurmur2`.
#[test]
fn keys_are_hashed_as_kafka_does() {
    let cases: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    for (key, hash) in cases {
        assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
    }
}

#[test]
fn partitions_drop_the_sign_and_stay_in_range() {
    assert_eq!(partition_for(b"abc", 24), 479_470_107 % 24);
    assert_eq!(partition_for(b"21", 24), (-973_932_308 & i32::MAX) % 24);
    assert_eq!(partition_for(b"anything", 1), 0);
    assert!((0..1000_u32).all(|n| (0..7).contains(&partition_for(&n.to_le_bytes(), 7))));
}
