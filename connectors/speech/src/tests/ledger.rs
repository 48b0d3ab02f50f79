//! The provider over HTTP against the tests' fake provider: a foreign process with a strict reading of the form,
//! seeded faults, and a ledger of what it was asked.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hansard_core::redelivery::Class;
use hansard_jobs::ports::{Speech, SpeechRequest};
use hansard_provider::Secret;
use hansard_schemas::Options;
use sha2::{Digest, Sha256};

use super::recordings::{Answers, flac, request_of};
use crate::{AudioFormat, Detail, OpenAi, OpenAiConfig};

/// The running fake; stopped when dropped.
struct Fake {
    process: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Fake {
    fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/providers/fake_speech.py");
        let mut process = Command::new("python3")
            .arg(script)
            .arg("--ledger")
            .arg(folder.path().join("ledger"))
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need python3");
        let mut port = String::new();
        let stdout = process.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut port).expect("a port");
        Self { process, url: format!("http://127.0.0.1:{}", port.trim()), folder }
    }

    fn ledger(&self) -> Vec<serde_json::Value> {
        let ledger = std::fs::read_to_string(self.folder.path().join("ledger")).expect("a ledger");
        ledger.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
    }

    fn config(&self) -> OpenAiConfig {
        let mut config = OpenAiConfig::new(self.url.as_str(), "fake");
        config.service.key = Some(Secret::new("sk-fake"));
        config.service.answer_within = Duration::from_secs(30);
        config
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

/// One second of sound that no other `n` has.
fn segment(n: i16) -> SpeechRequest {
    let samples: Vec<i16> = (0..16_000).map(|at| at % 100 + n).collect();
    SpeechRequest { idempotency_key: format!("key-{n}"), ..request_of(flac(&samples, 16_000), 0, 1_000) }
}

/// The rule that the fake states.
fn text_of(sha256: &[u8]) -> String {
    let letter = |letters: &str, index: u8| letters.chars().nth(usize::from(index)).expect("within");
    let word = |byte: &u8| {
        let parts = [("bdfghjklmnprstvz", byte >> 4), ("aeiu", byte >> 2 & 3), ("lmnr", byte & 3)];
        parts.into_iter().map(|(letters, index)| letter(letters, index)).collect::<String>()
    };
    sha256[..8].iter().map(word).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_strict_server_takes_every_form() {
    let fake = Fake::start(&["--key", "sk-fake"]);
    let options =
        Options { language: Some("en".into()), keyterms: vec!["a\"b\r\nc".into()], ..Options::default() };
    let request = SpeechRequest { options, ..segment(1) };
    for (format, detail) in [
        (AudioFormat::Flac, Detail::Words),
        (AudioFormat::Wav, Detail::Words),
        (AudioFormat::Flac, Detail::Text),
    ] {
        let provider = OpenAi::new(OpenAiConfig { format, detail, ..fake.config() }).expect("valid");
        provider.probe().await.expect("it answers");
        let reply = provider.transcribe(request.clone()).await.expect("a transcript");
        assert_eq!(reply.audio_ms, 1_000);
        if format == AudioFormat::Flac {
            assert_eq!(reply.text, text_of(&Sha256::digest(request.audio.bytes().await.expect("at hand"))));
        }
        let last = reply.words.last().map(|word| word.end_ms);
        assert_eq!(
            (reply.words.len(), last),
            if detail == Detail::Words { (8, Some(1_000)) } else { (0, None) }
        );
    }
    let mut wrong = fake.config();
    wrong.service.key = Some(Secret::new("sk-other"));
    let error = OpenAi::new(wrong).expect("valid").transcribe(request).await.expect_err("a wrong key");
    assert_eq!((error.class, error.code), (Class::Unavailable, "authentication"), "{error}");
    let ledger = fake.ledger();
    let outcomes: Vec<_> = ledger.iter().map(|line| line["outcome"].as_str().expect("an outcome")).collect();
    assert_eq!(outcomes, ["ok", "ok", "ok", "invalid_api_key"]);
    assert!(ledger.iter().all(|line| line["idempotency_key"] == "key-1"), "{ledger:?}");
}

#[tokio::test]
async fn every_fault_reaches_the_caller_as_its_cause() {
    let shares =
        ["--rate-limited", "0.2", "--retry-after-s", "3", "--server-error", "0.2", "--timeout", "0.2"];
    let fake = Fake::start(&[&shares[..], &["--garbage", "0.2", "--delay-ms", "5", "--seed", "7"]].concat());
    let mut config = fake.config();
    config.service.answer_within = Duration::from_secs(5);
    let provider = OpenAi::new(config).expect("valid");
    let mut calls = tokio::task::JoinSet::new();
    let provider = std::sync::Arc::new(provider);
    for n in 0..60 {
        let provider = provider.clone();
        calls.spawn(async move {
            let request = segment(n);
            let text = text_of(&Sha256::digest(request.audio.bytes().await.expect("at hand")));
            (n, text, provider.transcribe(request).await)
        });
    }
    let mut seen = std::collections::BTreeMap::new();
    while let Some(call) = calls.join_next().await {
        let (n, text, reply) = call.expect("no panic");
        let outcome = match reply {
            Ok(reply) => {
                assert_eq!(reply.text, text);
                "ok"
            }
            Err(error) => {
                assert_eq!(error.class, Class::Transient, "{error}");
                let wait = (error.code == "rate_limited").then_some(Duration::from_secs(3));
                assert_eq!(error.retry_after, wait);
                error.code
            }
        };
        seen.insert(format!("key-{n}"), outcome);
    }
    let ledger = fake.ledger();
    assert_eq!(ledger.len(), 60, "one call each, none repeated");
    for line in ledger {
        let key = line["idempotency_key"].as_str().expect("a key");
        let caused = match line["outcome"].as_str().expect("an outcome") {
            "garbage" => "bad_response",
            other => other,
        };
        assert_eq!(seen[key], caused, "{line}");
    }
    let kinds: std::collections::BTreeSet<_> = seen.values().copied().collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["bad_response", "ok", "rate_limited", "server_error", "timeout"]
    );
}
