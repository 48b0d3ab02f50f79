//! AssemblyAI against its stand-in: every order is taken, every fault reaches the caller as its cause, lost jobs are found, and
//! whatever becomes of a webhook, the job's text is had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use bytes::Bytes;
use hansard_core::id::Timestamp;
use hansard_core::redelivery::Class;
use hansard_jobs::ports::{JobState, SegmentAudio, Speech, SpeechReply, SpeechRequest, Submitted};
use hansard_provider::Secret;
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::fakes::{Fake, segment, text_of};
use super::permit;
use crate::{AssemblyAi, AssemblyAiConfig, AudioBy};

const SCRIPT: &str = "fake_assemblyai.py";

fn config(fake: &Fake) -> AssemblyAiConfig {
    let mut config = AssemblyAiConfig::new(fake.url.as_str());
    config.service.key = Some(Secret::new("aai-fake"));
    config.service.answer_within = Duration::from_secs(30);
    config
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn submitted(provider: &AssemblyAi, request: &SpeechRequest) -> String {
    match provider.submit(request, &permit().await).await {
        Ok(Submitted::Job(id)) => id,
        other => panic!("{other:?} instead of a job"),
    }
}

/// Asks until the job has ended.
async fn ended(provider: &AssemblyAi, job: &str, request: &SpeechRequest) -> Result<SpeechReply, Failed> {
    let mut every = tokio::time::interval(Duration::from_millis(20));
    loop {
        every.tick().await;
        match provider.check(job, request, &permit().await).await {
            Ok(JobState::UnderWay) => {}
            Ok(JobState::Done(reply)) => return Ok(reply),
            Ok(JobState::Ended(failed)) => return Err(failed),
            // A failure of asking says nothing of the job.
            Err(failed) => assert_ne!(failed.class, Class::Permanent, "{failed:?}"),
        }
    }
}

async fn text(request: &SpeechRequest) -> String {
    text_of(&Sha256::digest(request.audio.bytes().await.expect("at hand")))
}

#[tokio::test]
async fn a_strict_server_takes_every_order() {
    let fake = Fake::start(SCRIPT, &["--key", "aai-fake"]);
    let provider = AssemblyAi::new(config(&fake)).expect("valid");
    provider.probe(&permit().await).await.expect("it answers");
    let plain = segment(1);
    let options = Options {
        language: Some("nl-BE".into()),
        model: Some("universal-2".into()),
        diarize: Some(true),
        keyterms: (0..300).map(|n| format!("\"term\" {n} \u{1f600}\r\n")).collect(),
        ..Options::default()
    };
    let callback = Some("http://127.0.0.1:9/v1/callbacks/assemblyai/dG9rZW4".to_owned());
    let full = SpeechRequest { options, redact: true, callback, ..segment(2) };
    for (request, speakers) in [(plain, None), (full, Some(vec!["A", "B"]))] {
        let job = submitted(&provider, &request).await;
        let reply = ended(&provider, &job, &request).await.expect("a transcript");
        assert_eq!((reply.text, reply.audio_ms, reply.words.len()), (text(&request).await, 1_000, 8));
        let told: BTreeSet<_> = reply.words.iter().filter_map(|word| word.speaker.as_deref()).collect();
        assert_eq!(told.into_iter().collect::<Vec<_>>(), speakers.unwrap_or_default());
        provider.forget(&job, &permit().await).await.expect("it is deleted");
        let failed = ended(&provider, &job, &request).await.expect_err("it is deleted");
        assert_eq!(failed.code, "job_failed", "the words that stand for a deleted text are no text");
    }
    let mut wrong = config(&fake);
    wrong.service.key = Some(Secret::new("aai-other"));
    let failed = AssemblyAi::new(wrong)
        .expect("valid")
        .submit(&segment(3), &permit().await)
        .await
        .expect_err("a wrong key");
    assert_eq!((failed.class, failed.code), (Class::Unavailable, "authentication"), "{failed:?}");
    assert!(fake.ledger().iter().all(|line| line["outcome"] != "invalid"), "{:?}", fake.ledger());
}

#[tokio::test]
async fn every_fault_of_a_submission_reaches_the_caller_as_its_cause() {
    let shares = ["rate-limited", "server-error", "timeout", "garbage", "empty", "huge"];
    let mut options = vec!["--retry-after-s".to_owned(), "3".to_owned(), "--seed".to_owned(), "7".to_owned()];
    options.extend(shares.iter().flat_map(|fault| [format!("--{fault}"), "0.13".to_owned()]));
    let fake = Fake::start(SCRIPT, &options.iter().map(String::as_str).collect::<Vec<_>>());
    let mut config = config(&fake);
    config.service.answer_within = Duration::from_secs(10);
    let provider = Arc::new(AssemblyAi::new(config).expect("valid"));
    let mut calls = JoinSet::new();
    for n in 0..60 {
        let provider = provider.clone();
        calls.spawn(async move {
            let request = segment(n);
            let sha256 = hex::encode(Sha256::digest(request.audio.bytes().await.expect("at hand")));
            (sha256, provider.submit(&request, &permit().await).await)
        });
    }
    let mut seen = BTreeMap::new();
    while let Some(call) = calls.join_next().await {
        let (sha256, submitted) = call.expect("no panic");
        let outcome = submitted.map_or_else(
            |failed| {
                assert_eq!(failed.class, Class::Transient, "{failed:?}");
                let wait = (failed.code == "rate_limited").then_some(Duration::from_secs(3));
                assert_eq!(failed.retry_after, wait);
                failed.code
            },
            |_| "ok",
        );
        seen.insert(sha256, outcome);
    }
    let submissions = fake.ledger().into_iter().filter(|line| line["what"] == "submit").collect::<Vec<_>>();
    assert_eq!(submissions.len(), 60, "one submission each, none repeated");
    for line in submissions {
        let caused = match line["outcome"].as_str().expect("an outcome") {
            "garbage" | "empty" | "huge" => "bad_response",
            other => other,
        };
        assert_eq!(seen[line["sha256"].as_str().expect("a hash")], caused, "{line}");
    }
    let kinds: BTreeSet<_> = seen.values().copied().collect();
    let all = ["bad_response", "ok", "rate_limited", "server_error", "timeout"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}

#[tokio::test]
async fn no_fault_of_a_check_is_taken_for_the_jobs_end() {
    let shares = ["rate-limited", "server-error", "garbage", "empty", "huge", "wrong"];
    let mut options = vec!["--flips".to_owned(), "0.5".to_owned(), "--work-ms".to_owned(), "50".to_owned()];
    options.extend(shares.iter().flat_map(|fault| [format!("--check-{fault}"), "0.13".to_owned()]));
    let fake = Fake::start(SCRIPT, &options.iter().map(String::as_str).collect::<Vec<_>>());
    let provider = Arc::new(AssemblyAi::new(config(&fake)).expect("valid"));
    let mut jobs = JoinSet::new();
    for n in 0..24 {
        let provider = provider.clone();
        jobs.spawn(async move {
            let request = segment(n);
            let job = submitted(&provider, &request).await;
            assert_eq!(
                ended(&provider, &job, &request).await.expect("a transcript").text,
                text(&request).await
            );
        });
    }
    while let Some(job) = jobs.join_next().await {
        job.expect("each has its own text");
    }
    let outcomes: BTreeSet<_> = fake.ledger().iter().map(|line| line["outcome"].to_string()).collect();
    for fault in ["rate_limited", "server_error", "garbage", "empty", "huge", "wrong", "completed"] {
        assert!(outcomes.contains(&format!("{fault:?}")), "{fault} is missing in {outcomes:?}");
    }
}

#[tokio::test]
async fn jobs_end_as_their_audio_deserves() {
    let fake = Fake::start(SCRIPT, &["--silent", "1"]);
    let provider = AssemblyAi::new(config(&fake)).expect("valid");
    let heard = async |request: &SpeechRequest| {
        let job = submitted(&provider, request).await;
        ended(&provider, &job, request)
            .await
            .map(|reply| reply.text)
            .map_err(|failed| (failed.class, failed.code))
    };
    let detected = segment(1);
    let options = Options { language: Some("en".into()), ..Options::default() };
    let named = SpeechRequest { options, ..segment(2) };
    assert_eq!(heard(&detected).await, Ok(String::new()), "an error of the language's detection");
    assert_eq!(heard(&named).await, Ok(String::new()), "an empty text");
    let noise = super::recordings::request_of(Bytes::from_static(&[1; 4_096]), 0, 1_000);
    assert_eq!(heard(&noise).await, Err((Class::Permanent, "unsupported_audio")));
    let short = super::recordings::request(&[0; 1_600], 0);
    assert_eq!(heard(&short).await, Err((Class::Permanent, "too_short")));

    let fake = Fake::start(SCRIPT, &["--never", "1"]);
    let provider = AssemblyAi::new(config(&fake)).expect("valid");
    let job = submitted(&provider, &detected).await;
    assert_eq!(provider.check(&job, &detected, &permit().await).await, Ok(JobState::UnderWay));
    assert_eq!(provider.forget(&job, &permit().await).await.expect_err("it works on").code, "job_under_way");
    provider.forget("5552493-16d8-42d8", &permit().await).await.expect("nothing is kept of it");
}

/// Audio behind a link that is signed anew each time.
struct Linked {
    base: String,
    path: String,
}

#[async_trait]
impl SegmentAudio for Linked {
    async fn bytes(&self) -> Result<Bytes, Failed> {
        unreachable!("a link is enough")
    }

    async fn link(&self) -> Result<String, Failed> {
        let signed = std::time::Instant::now();
        Ok(format!("{}{}?X-Amz-Signature={signed:?}", self.base, self.path).replace(' ', ""))
    }
}

#[tokio::test]
async fn a_job_whose_id_was_lost_is_found_by_its_link_and_not_paid_twice() {
    let audio = segment(5).audio.bytes().await.expect("at hand");
    let (expected, served) = (text_of(&Sha256::digest(&audio)), audio.clone());
    let objects = serve(Router::new().route("/bucket/{key}", get(move || async move { served }))).await;
    let fake = Fake::start(SCRIPT, &["--timeout", "1", "--webhook-lost", "1"]);
    let mut config = AssemblyAiConfig { audio: AudioBy::Link, ..config(&fake) };
    config.service.answer_within = Duration::from_secs(2);
    let provider = AssemblyAi::new(config).expect("valid");
    let request = |key: &str, token: &str| SpeechRequest {
        audio: Arc::new(Linked { base: objects.clone(), path: format!("/bucket/{key}") }),
        callback: Some(format!("http://127.0.0.1:9/callbacks/{token}")),
        ..segment(0)
    };
    let (lost, other) = (request("a.flac", "lost"), request("a.flac", "other"));
    for request in [&lost, &other, &request("b.flac", "lost")] {
        assert_eq!(provider.submit(request, &permit().await).await.expect_err("no answer").code, "timeout");
    }
    let job =
        provider.find(&lost, Timestamp(0), &permit().await).await.expect("it answers").expect("it is found");
    assert_eq!(ended(&provider, &job, &lost).await.expect("a transcript").text, expected);
    let another =
        provider.find(&other, Timestamp(0), &permit().await).await.expect("it answers").expect("it is found");
    assert_ne!(job, another);
    assert_eq!(
        provider.check(&another, &lost, &permit().await).await.expect_err("of another submission").code,
        "bad_response"
    );
    assert_eq!(
        provider.find(&request("c.flac", "lost"), Timestamp(0), &permit().await).await,
        Ok(None),
        "never submitted"
    );
    assert_eq!(provider.find(&lost, Timestamp(i64::MAX), &permit().await).await, Ok(None), "begun before");

    let gone = SpeechRequest { callback: None, ..request("../nothing", "gone") };
    provider.submit(&gone, &permit().await).await.expect_err("no answer");
    let job = fake.ledger().last().expect("a line")["job"].as_str().expect("an id").to_owned();
    let failed = ended(&provider, &job, &gone).await.expect_err("no audio there");
    assert_eq!((failed.class, failed.code), (Class::Transient, "audio_unreachable"));
    assert!(!format!("{failed:?}").contains("127.0.0.1"), "{failed:?}");
}

#[tokio::test]
async fn whatever_becomes_of_a_webhook_the_text_is_had() {
    let (told, mut notices) = mpsc::unbounded_channel();
    let receive = move |Path(token): Path<String>, body: Bytes| async move {
        told.send((token, body)).expect("the test waits");
    };
    let callbacks = serve(Router::new().route("/callbacks/{token}", post(receive))).await;
    let kinds = ["lost", "doubled", "reordered", "early"];
    let mut options =
        vec!["--webhook-late-ms".to_owned(), "300".to_owned(), "--work-ms".to_owned(), "100".to_owned()];
    options.extend(kinds.iter().flat_map(|kind| [format!("--webhook-{kind}"), "0.2".to_owned()]));
    let fake = Fake::start(SCRIPT, &options.iter().map(String::as_str).collect::<Vec<_>>());
    let provider = AssemblyAi::new(config(&fake)).expect("valid");
    let mut jobs = BTreeMap::new();
    for n in 0..30 {
        let request = SpeechRequest { callback: Some(format!("{callbacks}/callbacks/{n}")), ..segment(n) };
        let job = submitted(&provider, &request).await;
        jobs.insert(n.to_string(), (job, request));
    }
    for (job, request) in jobs.values() {
        assert_eq!(ended(&provider, job, request).await.expect("a transcript").text, text(request).await);
    }
    let submissions = fake.ledger().into_iter().filter(|line| line["what"] == "submit").collect::<Vec<_>>();
    let count = |kind: &str| submissions.iter().filter(|line| line["notice"] == kind).count();
    assert!(kinds.iter().chain(&["ok"]).all(|kind| count(kind) > 0), "{submissions:?}");
    for _ in 0..30 - count("lost") + count("doubled") {
        let (token, body) = notices.recv().await.expect("a webhook");
        let id = provider.told(&body).expect("it names its job");
        assert_eq!(id, jobs[&token].0, "the token is that of the job's submission");
    }
}
