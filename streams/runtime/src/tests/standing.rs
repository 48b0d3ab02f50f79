//! What a job says that it waits for: what its loop said last, and nothing from before.

use hansard_core::id::Partition;
use hansard_schemas::Topic;
use prometheus::Registry;

use super::*;

#[test]
fn a_job_waits_for_what_its_loop_said_last() {
    let families = Families::register(&Registry::new()).expect("registers");
    let metrics = families.job("split");
    let why = || families.standings().remove("split").expect("a job").why_not();
    let at = [(TopicPartition { topic: Topic::Uploads, partition: Partition(0) }, Offset(1))];
    assert_eq!(why(), Some("no partitions are assigned yet".to_owned()));
    metrics.reached(at.into_iter(), Some("the store"));
    // Waits and records of other partitions in between change nothing.
    metrics.unavailable("the objects");
    assert_eq!(why(), Some("waits: the store".to_owned()));
    metrics.reached(at.into_iter(), None);
    assert_eq!(why(), None);
    metrics.unassigned(Some("the log".to_owned()));
    assert_eq!(why(), Some("waits: the log".to_owned()));
    metrics.reached(at.into_iter(), None);
    assert_eq!(why(), None, "what an earlier membership waited for is forgotten");
}
