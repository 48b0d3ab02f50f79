//! OpenAI's call against its stand-in: every form is taken, and every fault reaches the caller as its cause.

use std::time::Duration;

use hansard_core::redelivery::Class;
use hansard_jobs::ports::{Speech, SpeechRequest};
use hansard_provider::Secret;
use hansard_schemas::Options;
use sha2::{Digest, Sha256};

use super::fakes::{Fake, segment, text_of};
use super::permit;
use super::recordings::Answers;
use crate::{AudioFormat, Detail, OpenAi, OpenAiConfig};

fn config(fake: &Fake) -> OpenAiConfig {
    let mut config = OpenAiConfig::new(fake.url.as_str(), "fake");
    config.service.key = Some(Secret::new("sk-fake"));
    config.service.answer_within = Duration::from_secs(30);
    config
}

#[tokio::test]
async fn a_strict_server_takes_every_form() {
    let fake = Fake::start("fake_speech.py", &["--key", "sk-fake"]);
    let options =
        Options { language: Some("en".into()), keyterms: vec!["a\"b\r\nc".into()], ..Options::default() };
    let request = SpeechRequest { options, ..segment(1) };
    for (format, detail) in [
        (AudioFormat::Flac, Detail::Words),
        (AudioFormat::Wav, Detail::Words),
        (AudioFormat::Flac, Detail::Text),
    ] {
        let provider = OpenAi::new(OpenAiConfig { format, detail, ..config(&fake) }).expect("valid");
        provider.probe(&permit().await).await.expect("it answers");
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
    let mut wrong = config(&fake);
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
        ["--rate-limited", "0.15", "--retry-after-s", "3", "--server-error", "0.15", "--timeout", "0.1"];
    let fake = Fake::start(
        "fake_speech.py",
        &[
            &shares[..],
            &["--garbage", "0.1", "--empty", "0.1", "--huge", "0.1", "--wrong", "0.1", "--seed", "7"],
        ]
        .concat(),
    );
    let mut config = config(&fake);
    config.service.answer_within = Duration::from_secs(10);
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
            "garbage" | "empty" | "huge" | "wrong" => "bad_response",
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
