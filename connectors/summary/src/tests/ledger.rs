//! The chat server over HTTP against the tests' fake: a foreign process with a strict reading of the request, seeded faults,
//! a context of its own count, and a ledger of what it was asked.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hansard_core::document::{Document, Line};
use hansard_core::passages::{Note, calls_max, groups, passages};
use hansard_core::redelivery::Class;
use hansard_jobs::ports::Summarizer as _;
use serde_json::Value;

use super::*;
use crate::Structure;

/// The running fake; stopped when dropped.
struct Fake {
    process: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Fake {
    fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/providers/fake_chat.py");
        let mut process = Command::new("python3")
            .arg("-B")
            .arg(script)
            .arg("--ledger")
            .arg(folder.path().join("ledger"))
            .args(["--key", KEY, "--model", "fake"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need python3");
        let mut port = String::new();
        let stdout = process.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut port).expect("a port");
        Self { process, url: format!("http://127.0.0.1:{}", port.trim()), folder }
    }

    fn ledger(&self) -> Vec<Value> {
        let ledger = std::fs::read_to_string(self.folder.path().join("ledger")).expect("a ledger");
        ledger.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let id = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        let stopped = id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::TERM));
        assert_eq!(stopped, Some(Ok(())));
        assert!(self.process.wait().is_ok_and(|status| status.success()), "it stops on SIGTERM");
    }
}

#[tokio::test]
async fn a_strict_server_takes_every_request() {
    let fake = Fake::start(&[]);
    let options =
        Options { language: Some("en".into()), keyterms: vec!["a\"b\r\nc".into()], ..Options::default() };
    for structure in [Structure::Schema, Structure::Object] {
        let chat = Chat::new(ChatConfig { structure, ..config(fake.url.clone()) }).expect("valid");
        chat.probe(&permit().await).await.expect("it answers");
        for material in [Material::Whole(PASSAGE), Material::Passage(PASSAGE)] {
            let reply = asked(&chat, material, &options).await.expect("a summary");
            assert_eq!(
                (&*reply.action_items, reply.model.as_deref()),
                (&["promise1".to_owned()][..], Some("fake"))
            );
            assert_eq!(reply.text.split(' ').count(), 8);
            assert!(reply.tokens_in > Some(100) && reply.tokens_out > Some(20), "{reply:?}");
        }
        asked(&chat, Material::Notes(r#"[{"summary":"s"}]"#), &options).await.expect("a summary");
    }
    let other = Options { model: Some("other".into()), ..Options::default() };
    let error = failure(&chat(fake.url.clone()), &other).await;
    assert_eq!((error.class, error.code), (Class::Permanent, "unsupported_model"), "{error}");
    let ledger = fake.ledger();
    let outcomes: Vec<_> = ledger.iter().filter_map(|line| line["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["ok", "ok", "ok", "ok", "ok", "ok", "model_not_found"]);
    assert!(ledger.iter().all(|line| line["roles"] == serde_json::json!(["system", "user"])), "{ledger:?}");
    assert!(ledger.iter().all(|line| line["idempotency_key"] == "8f3a"), "{ledger:?}");
}

#[tokio::test]
async fn every_fault_reaches_the_caller_as_its_cause() {
    let faults = [
        "rate-limited",
        "server-error",
        "timeout",
        "garbage",
        "empty",
        "huge",
        "unfit",
        "length",
        "refused",
        "other-model",
    ];
    let options: Vec<String> =
        faults.iter().flat_map(|fault| [format!("--{fault}"), "0.09".to_owned()]).collect();
    let options: Vec<&str> =
        options.iter().map(String::as_str).chain(["--retry-after-s", "3", "--seed", "5"]).collect();
    let fake = Fake::start(&options);
    let mut config = config(fake.url.clone());
    config.service.answer_within = Duration::from_secs(5);
    let chat = std::sync::Arc::new(Chat::new(config).expect("valid"));
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..80 {
        let chat = chat.clone();
        calls.spawn(async move {
            let (passage, options) = (format!(r#"[["A","promise{n}"]]"#), Options::default());
            let (material, idempotency_key) = (Material::Whole(&passage), n.to_string());
            let request = SummaryRequest { material, language: None, options: &options, idempotency_key };
            (n, chat.summarize(&request, &permit().await).await)
        });
    }
    let mut seen = std::collections::BTreeMap::new();
    while let Some(call) = calls.join_next().await {
        let (n, reply) = call.expect("no panic");
        let outcome = match reply {
            Ok(reply) => {
                assert_eq!(reply.action_items, [format!("promise{n}")]);
                if reply.model.as_deref() == Some("another-model") { "other_model" } else { "ok" }
            }
            Err(error) => {
                let class = if error.code == "content_refused" { Class::Permanent } else { Class::Transient };
                assert_eq!(error.class, class, "{error}");
                let wait = (error.code == "rate_limited").then_some(Duration::from_secs(3));
                assert_eq!(error.retry_after, wait);
                error.code
            }
        };
        seen.insert(n.to_string(), outcome);
    }
    let ledger = fake.ledger();
    assert_eq!(ledger.len(), 80, "one call each, none repeated");
    let mut kinds = std::collections::BTreeSet::new();
    for line in ledger {
        let outcome = line["outcome"].as_str().expect("an outcome").to_owned();
        let caused = match &*outcome {
            "garbage" | "empty" | "huge" | "unfit" => "bad_response",
            "length" => "answer_truncated",
            "refused" => "content_refused",
            other => other,
        };
        assert_eq!(seen[line["idempotency_key"].as_str().expect("a key")], caused, "{line}");
        kinds.insert(outcome);
    }
    assert_eq!(kinds.len(), faults.len() + 1, "{kinds:?}");
}

/// Ten hours of talk at the pace of a meeting, one promise each minute.
fn ten_hours() -> Document {
    let words = [
        "the",
        "budget",
        "for",
        "Überfahrt",
        "was",
        "agreed",
        "with",
        "42",
        "boats,",
        "said",
        "Bärbel.",
        "Yes!",
    ];
    let line = |minute: usize| {
        let said: Vec<&str> = (0..150).map(|n| words[(minute * 7 + n * 5) % words.len()]).collect();
        Line {
            speaker: Some(["Anna", "Bärbel"][minute % 2].to_owned()),
            text: format!("{} promise{minute}", said.join(" ")),
            ..Line::default()
        }
    };
    Document { lines: (0..600).map(line).collect(), ..Document::default() }
}

fn material(text: &str, is_notes: bool) -> Material<'_> {
    if is_notes { Material::Notes(text) } else { Material::Passage(text) }
}

#[tokio::test]
async fn ten_hours_stay_within_the_budget_of_every_request() {
    // What the fake counts is not what the plan counts, and it refuses what is above this.
    let (document, context) = (ten_hours(), 8_000);
    let fake = Fake::start(&["--context", "8000"]);
    let mut config = config(fake.url.clone());
    (config.tokens_max, config.answer_tokens_max) = (context, 1_500);
    let chat = Chat::new(config).expect("valid");
    let options = Options::default();
    let texts = passages(&document, chat.room().expect("a room"));
    let (count, bound) = (texts.len(), calls_max(texts.len()));
    let (mut level, mut are_notes) = (texts, false);
    let mut kept = Vec::new();
    while level.len() > 1 {
        let mut notes = Vec::new();
        for text in &level {
            let reply = asked(&chat, material(text, are_notes), &options).await.expect("a summary");
            kept.extend(reply.action_items.clone());
            let SummaryReply { title, text, key_points, action_items, .. } = reply;
            notes.push(Note { title, text, key_points, action_items });
        }
        (level, are_notes) = (groups(&notes, chat.room().expect("a room")), true);
    }
    asked(&chat, material(&level[0], are_notes), &options).await.expect("a summary");
    let ledger = fake.ledger();
    let over = ledger.iter().filter(|line| line["tokens"].as_u64() > Some(context as u64 - 1_500)).count();
    let most = ledger.iter().filter_map(|line| line["tokens"].as_u64()).max();
    assert!(ledger.iter().all(|line| line["outcome"] == "ok") && over == 0, "{most:?}");
    assert!(count > 20 && ledger.len() <= bound, "{count} passages, {} calls of {bound}", ledger.len());
    // Nothing that was said is in no passage.
    assert!((0..600).all(|minute| kept.contains(&format!("promise{minute}"))));
}
