//! What is personal stays nowhere: two conversations hear the same, one asks for redaction, and everything that the
//! deployment keeps of either is searched.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use hansard_jobs::redaction::Redaction;
use hansard_runtime::driver::WorldConfig;
use hansard_runtime::ports::objects::ObjectName;

use super::script::Script;
use crate::simulation::deployment::{Deployment, START};
use crate::simulation::fakes::Answer;
use crate::simulation::producer::Producer;

const SAID: &str = "Mail kanarie@zanger.nl or call +31 6 5792 1386, card 4012 8888 8888 1881, account NL91 ABNA 0417 1643 00, \
                    from 172.23.91.7 by https://vogel:kooi77@e.org/x?token=geheim77 now";
/// What must not be left, as it was said or as one of its words.
const CANARIES: [&str; 9] =
    ["kanarie", "zanger", "5792", "8888", "1881", "0417", "172.23", "kooi77", "geheim77"];

/// A deployment that has heard them in `d`, which asks for redaction, and in `u`, which does not; a summary says them again.
fn heard(floor: bool) -> Script {
    told(floor, &Answer::Says(SAID.to_owned()), 1)
}

/// The same, whatever comes of the summary, with so many dead letters each.
fn told(floor: bool, summary: &Answer, dead: usize) -> Script {
    let config = WorldConfig { seed: 0, start: START, partitions: 1, trace_max: 10_000 };
    let mut deployment = Deployment::new(&config);
    deployment.redaction = deployment.redaction.clone().with_floor(floor);
    let producer = Producer::new(deployment.world.clone(), 1);
    let mut script = Script { deployment, producer, wrong: Vec::new(), started: false };
    for conversation in ["d", "u"] {
        let ledger = &script.deployment.ledger;
        ledger.script(&format!("{conversation}/a/0"), [Answer::Says(SAID.to_owned())]);
        ledger.script(&format!("{conversation}/a/1"), [Answer::Refuses(format!("cannot take {SAID:?}"))]);
        ledger.script(&format!("summary of {conversation}"), [summary.clone()]);
    }
    let lines = [
        "0 upload d a redact segments=2".to_owned(),
        "0 upload u a segments=2".to_owned(),
        "0 finish d chunks=1".to_owned(),
        "0 finish u chunks=1".to_owned(),
        format!("1m expect d outcome=with_failures dead={dead}"),
        format!("1m expect u outcome=with_failures dead={dead}"),
    ];
    (1..).zip(&lines).for_each(|(number, line)| script.line(number, line));
    assert_eq!(script.wrong, Vec::<String>::new());
    script
}

/// The objects of a conversation, as its processes read them.
fn objects(script: &Script, conversation: &str) -> String {
    let world = &script.deployment.world;
    let ports = world.boot("reader").ports();
    let keys: Vec<String> =
        world.object_keys("").into_iter().filter(|key| key.contains(&format!("/{conversation}/"))).collect();
    let found = Arc::new(Mutex::new(String::new()));
    let out = Arc::clone(&found);
    let process = world.boot("reading");
    let task = async move {
        for key in keys {
            let name = ObjectName { bucket: "b".to_owned(), key };
            let mut body = ports.objects.get(&name, None).await.expect("an object");
            while let Some(part) = body.next().await {
                let part = part.expect("a part");
                out.lock().expect("no panic before").push_str(&String::from_utf8_lossy(&part));
            }
        }
    };
    world.spawn(process.id, Box::pin(task));
    world.run_until(world.now());
    found.lock().expect("no panic before").clone()
}

/// Everything that is kept of a conversation, by where it is kept.
fn kept(script: &Script, conversation: &str) -> [(&'static str, String); 5] {
    let world = &script.deployment.world;
    let mut log = String::new();
    for stored in world.log() {
        if stored.record.key.as_deref() == Some(conversation.as_bytes()) {
            let value = stored.record.value.unwrap_or_default();
            let _ = write!(log, "{} {:?} ", String::from_utf8_lossy(&value), stored.record.headers);
        }
    }
    let rows = format!("{:?}", world.rows(conversation));
    let mut journal = String::new();
    for (key, submissions) in world.submissions() {
        if key.conversation == conversation {
            for submission in submissions {
                let _ = write!(journal, "{:?}", submission.steps);
            }
        }
    }
    let letters: Vec<_> =
        world.dead_letters().into_iter().filter(|letter| letter.conversation == conversation).collect();
    [
        ("log", log),
        ("rows", rows),
        ("journal", journal),
        ("dead letters", format!("{letters:?}")),
        ("objects", objects(script, conversation)),
    ]
}

fn found(script: &Script, conversation: &str) -> Vec<(&'static str, &'static str)> {
    let all = kept(script, conversation);
    let within = |(place, text): &(&'static str, String)| {
        let canaries = CANARIES.into_iter().filter(|canary| text.contains(canary));
        canaries.map(|canary| (*place, canary)).collect::<Vec<_>>()
    };
    all.iter().flat_map(within).collect()
}

#[test]
fn nothing_personal_is_kept_of_who_asks_for_that() {
    let script = heard(false);
    assert_eq!(found(&script, "d"), []);
    // The search finds them where nobody asked, everywhere.
    let open = found(&script, "u");
    for place in ["log", "rows", "journal", "dead letters", "objects"] {
        assert!(open.iter().filter(|(found, _)| *found == place).count() >= 8, "{place}: {open:?}");
    }
    let tail = script.deployment.world.trace_tail(10_000);
    assert!(CANARIES.iter().filter(|canary| tail.contains(*canary)).count() == 0, "{tail}");
}

#[test]
fn a_writer_tells_nothing_personal_of_who_asks_for_that() {
    let script = heard(false);
    let summary = |conversation| {
        let rows = &kept(&script, conversation)[1].1;
        rows[rows.find("key_points").expect("a summary")..].to_owned()
    };
    assert_eq!(summary("d").matches("[EMAIL]").count(), 2, "{}", summary("d"));
    assert_eq!(summary("u").matches("kanarie@zanger.nl").count(), 2, "{}", summary("u"));
}

#[test]
fn a_writers_refusal_tells_nothing_personal_either() {
    let script = told(false, &Answer::Refuses(format!("cannot take {SAID:?}")), 2);
    let letters = |conversation| kept(&script, conversation)[3].1.clone();
    assert!(CANARIES.iter().all(|canary| !letters("d").contains(canary)), "{}", letters("d"));
    assert!(letters("u").contains("kanarie"), "{}", letters("u"));
}

#[test]
fn under_a_floor_nothing_personal_is_kept_of_anybody() {
    let script = heard(true);
    assert_eq!((found(&script, "d"), found(&script, "u")), (vec![], vec![]));
    let labels = kept(&script, "u")[1].1.matches("[EMAIL]").count();
    assert!(labels > 0, "the rows tell what was there");
    assert!(Redaction::built_in().is_ok());
}
