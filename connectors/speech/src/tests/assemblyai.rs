//! AssemblyAI's calls against a real server on a free port that says what each test needs: what is sent, what is read, and
//! what is refused.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::routing::any;
use bytes::Bytes;
use hansard_core::id::Timestamp;
use hansard_core::redelivery::Class;
use hansard_jobs::ports::{JobState, SegmentAudio, Speech, SpeechReply, SpeechRequest, Submitted};
use hansard_provider::Secret;
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::permit;
use super::recordings::{flac, request_of};
use crate::{AssemblyAi, AssemblyAiConfig, AudioBy, Substitute};

const KEY: &str = "aai-7f1c";
const CALLBACK: &str = "https://hansard.test/v1/callbacks/assemblyai/dG9rZW4.c2ln";
const LINK: &str = "https://s3.test/bucket/segments/5ec2e7.flac?X-Amz-Signature=topsecret";

/// What a call was.
#[derive(Debug, Clone)]
struct Call {
    what: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What a path is answered: a status and a body.
type Answers = dyn Fn(&str) -> (u16, String) + Send + Sync;

/// A server whose answers a function gives, and which remembers what it was asked.
#[derive(Clone)]
struct Server {
    answer: Arc<Answers>,
    calls: Arc<Mutex<Vec<Call>>>,
}

async fn taken(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let what = format!("{method} {uri}");
    let (status, answer) = (server.answer)(&what);
    server.calls.lock().expect("no panic").push(Call { what, headers, body });
    (StatusCode::from_u16(status).expect("a status"), answer)
}

impl Server {
    async fn start(
        answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
    ) -> (Self, AssemblyAiConfig) {
        let server = Self { answer: Arc::new(answer), calls: Arc::default() };
        let router = Router::new().fallback(any(taken)).with_state(server.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut config = AssemblyAiConfig::new(format!("http://{address}"));
        config.service.key = Some(Secret::new(KEY));
        config.service.answer_within = Duration::from_secs(20);
        (server, config)
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no panic").clone()
    }
}

/// A provider whose every answer is this.
async fn answering(status: u16, body: impl ToString) -> AssemblyAi {
    let body = body.to_string();
    let (_, config) = Server::start(move |_| (status, body.clone())).await;
    AssemblyAi::new(config).expect("valid")
}

/// Audio of which only a link is to be had.
struct Linked;

#[async_trait]
impl SegmentAudio for Linked {
    async fn bytes(&self) -> Result<Bytes, Failed> {
        unreachable!("a link is enough")
    }

    async fn link(&self) -> Result<String, Failed> {
        Ok(LINK.to_owned())
    }
}

fn segment() -> SpeechRequest {
    let request = request_of(flac(&[7; 16_000], 16_000), 30_000, 31_000);
    SpeechRequest { callback: Some(CALLBACK.to_owned()), ..request }
}

fn linked() -> SpeechRequest {
    SpeechRequest { audio: Arc::new(Linked), ..segment() }
}

fn completed(more: &Value) -> Value {
    let mut job = json!({"id": "job-1", "status": "completed", "text": "Ever tried.", "words": [],
        "audio_url": "https://cdn.test/1", "webhook_url": CALLBACK});
    job.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    job
}

async fn check(status: u16, body: impl ToString) -> Result<JobState, Failed> {
    answering(status, body).await.check("job-1", &segment(), &permit().await).await
}

async fn done(body: &Value) -> SpeechReply {
    match check(200, body).await {
        Ok(JobState::Done(reply)) => reply,
        other => panic!("{other:?} for {body}"),
    }
}

#[tokio::test]
async fn a_segment_is_uploaded_and_a_job_begun() {
    let (server, config) = Server::start(|what| match what {
        "POST /v2/upload" => (200, json!({"upload_url": "https://cdn.test/upload/9"}).to_string()),
        _ => (200, json!({"id": "job-1", "status": "queued", "webhook_url": CALLBACK}).to_string()),
    })
    .await;
    let provider = AssemblyAi::new(config).expect("valid");
    let request = segment();
    assert_eq!(provider.submit(&request, &permit().await).await, Ok(Submitted::Job("job-1".to_owned())));
    let [upload, order] = &server.calls()[..] else { panic!("{:?}", server.calls()) };
    assert_eq!(upload.what, "POST /v2/upload");
    assert_eq!(upload.headers["content-type"], "application/octet-stream");
    assert_eq!(upload.body, request.audio.bytes().await.expect("at hand"));
    assert_eq!(order.what, "POST /v2/transcript");
    assert_eq!(
        (&order.headers["content-type"], &order.headers["authorization"]),
        (&"application/json".parse().expect("a value"), &KEY.parse().expect("a value"))
    );
    let sent: Value = serde_json::from_slice(&order.body).expect("JSON");
    let expected = json!({"audio_url": "https://cdn.test/upload/9", "language_detection": true,
        "speech_models": ["universal-3-5-pro", "universal-2"], "webhook_url": CALLBACK});
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn what_is_asked_follows_the_request() {
    let (server, config) =
        Server::start(|_| (200, json!({"id": "job-1", "status": "processing"}).to_string())).await;
    let config = AssemblyAiConfig {
        audio: AudioBy::Link,
        redact_policies: vec!["person_name".to_owned()],
        redact_substitute: Substitute::Hash,
        ..config
    };
    let provider = AssemblyAi::new(config).expect("valid");
    let terms = ["Hansard", " ", "one two three four five six", "one two three four five six seven"];
    let options = Options {
        language: Some("en-GB".into()),
        model: Some("universal-2".into()),
        diarize: Some(true),
        keyterms: terms.iter().map(|term| (*term).to_owned()).collect(),
        ..Options::default()
    };
    let request = SpeechRequest { options, redact: true, callback: None, ..linked() };
    provider.submit(&request, &permit().await).await.expect("a job");
    let [order] = &server.calls()[..] else { panic!("{:?}", server.calls()) };
    let sent: Value = serde_json::from_slice(&order.body).expect("JSON");
    let expected = json!({"audio_url": LINK, "language_code": "en_uk", "speech_models": ["universal-2"],
        "speaker_labels": true, "keyterms_prompt": ["Hansard", "one two three four five six"],
        "redact_pii": true, "redact_pii_policies": ["person_name"], "redact_pii_sub": "hash"});
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn languages_and_keyterms_are_what_the_provider_takes() {
    let (server, config) =
        Server::start(|_| (200, json!({"id": "job-1", "status": "processing"}).to_string())).await;
    let provider = AssemblyAi::new(AssemblyAiConfig { audio: AudioBy::Link, ..config }).expect("valid");
    let many: Vec<String> = (0..1_500).map(|n| format!("term {n}")).collect();
    let table = [
        ("nl-BE", "nl", None, 200),
        ("EN", "en", None, 200),
        ("en-US", "en_us", None, 200),
        ("de-Latn-CH", "de_ch", Some("universal-3-5-pro"), 1_000),
        ("zh-Hant", "zh", Some("universal-2"), 200),
        ("fil", "fil", Some("assemblyai-stt-3-7"), 1_000),
    ];
    for (language, code, model, terms) in table {
        let options = Options {
            language: Some(language.to_owned()),
            keyterms: many.clone(),
            model: model.map(str::to_owned),
            ..Options::default()
        };
        provider.submit(&SpeechRequest { options, ..linked() }, &permit().await).await.expect("a job");
        let sent = server.calls().last().expect("a call").body.clone();
        let sent: Value = serde_json::from_slice(&sent).expect("JSON");
        assert_eq!(sent["language_code"], code);
        assert_eq!(sent["keyterms_prompt"].as_array().map(Vec::len), Some(terms), "{model:?}");
    }
}

#[tokio::test]
async fn a_result_is_read_with_its_times_in_the_chunk() {
    let reply = done(&completed(&json!({"language_code": "en_us", "language_confidence": 0.93,
        "audio_duration": 1, "speech_model_used": "universal-2", "confidence": 0.9, "utterances": null,
        "words": [{"text": "Ever", "start": 100, "end": 400, "confidence": 0.5, "speaker": "A"},
                  {"text": "tried.", "start": 400, "end": 900, "confidence": 0.75, "speaker": null}]})))
    .await;
    let words: Vec<_> = reply
        .words
        .iter()
        .map(|word| {
            (word.text.as_str(), word.start_ms, word.end_ms, word.confidence, word.speaker.as_deref())
        })
        .collect();
    let expected =
        [("Ever", 30_100, 30_400, Some(0.5), Some("A")), ("tried.", 30_400, 30_900, Some(0.75), None)];
    assert_eq!(words, expected);
    assert_eq!((reply.text.as_str(), reply.language.as_deref()), ("Ever tried.", Some("en_us")));
    assert_eq!((reply.language_confidence, reply.model.as_str()), (Some(0.93), "universal-2"));
    assert_eq!((reply.audio_ms, reply.call_id.as_deref()), (1_000, Some("job-1")));
}

#[tokio::test]
async fn times_that_cannot_be_are_brought_into_the_segment_and_into_order() {
    let word =
        |text: &str, start: f64, end: f64| json!({"text": text, "start": start, "end": end, "confidence": 9});
    let words = [word("b", 500.0, 20.0), word("a", -5.0, -1e300), word("c", 1e300, 0.5), word(" ", 1.0, 2.0)];
    let reply =
        done(&completed(&json!({"words": words, "language_confidence": -1e300, "audio_duration": 1e300})))
            .await;
    let words: Vec<_> =
        reply.words.iter().map(|word| (word.text.as_str(), word.start_ms, word.end_ms)).collect();
    assert_eq!(words, [("a", 30_000, 30_000), ("b", 30_500, 30_500), ("c", 31_000, 31_000)]);
    assert!(reply.words.iter().all(|word| word.confidence == Some(1.0)));
    assert_eq!((reply.language_confidence, reply.audio_ms), (Some(0.0), 1_000));
}

#[tokio::test]
async fn nothing_said_is_a_success_with_an_empty_text() {
    let silence = "language_detection cannot be performed on files with no spoken audio.";
    let bodies = [
        completed(&json!({"text": ""})),
        completed(&json!({"text": null, "words": null})),
        completed(&json!({"text": null, "status": "error", "error": silence})),
    ];
    for body in bodies {
        let reply = done(&body).await;
        assert_eq!((reply.text.as_str(), reply.words.len(), reply.audio_ms), ("", 0, 1_000), "{body}");
        assert_eq!((reply.model.as_str(), reply.call_id.as_deref()), ("universal-3-5-pro", Some("job-1")));
    }
}

#[tokio::test]
async fn what_the_text_does_not_hold_is_masked_where_it_is_redacted() {
    let body = completed(&json!({"text": "I am [PERSON_NAME] Zoë", "words": [
        {"text": "I", "start": 0, "end": 1}, {"text": "Jané", "start": 1, "end": 2}, {"text": "Zoë", "start": 2, "end": 3}]}));
    for (redact, second) in [(true, "####"), (false, "Jané")] {
        let request = SpeechRequest { redact, ..segment() };
        let Ok(JobState::Done(reply)) =
            answering(200, &body).await.check("job-1", &request, &permit().await).await
        else {
            panic!("no result")
        };
        assert_eq!(
            reply.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>(),
            ["I", second, "Zoë"]
        );
    }
}

#[tokio::test]
async fn a_job_is_under_way_until_it_says_otherwise() {
    for status in ["queued", "processing"] {
        let body = json!({"id": "job-1", "status": status, "webhook_url": CALLBACK});
        assert_eq!(check(200, &body).await, Ok(JobState::UnderWay));
    }
}

#[tokio::test]
async fn an_answer_that_is_none_says_nothing_of_the_job() {
    let bodies = [
        String::new(),
        "{}".to_owned(),
        "<html>Please sign in</html>".to_owned(),
        completed(&json!({"id": "job-2"})).to_string(),
        completed(&json!({"status": "dreaming"})).to_string(),
        completed(&json!({"webhook_url": "https://hansard.test/v1/callbacks/assemblyai/b3RoZXI.c2ln"}))
            .to_string(),
        completed(&json!({"webhook_url": "https://hansard.test/"})).to_string(),
        completed(&json!({"webhook_url": format!("{CALLBACK}?more")})).to_string(),
        completed(&json!({"webhook_url": "none"})).to_string(),
        completed(&json!({"text": null, "words": [{"text": "secret", "start": 0, "end": 1}]})).to_string(),
        completed(&json!({"text": "secret ".repeat(50_000)})).to_string(),
        json!({"id": "job-1", "status": "completed"}).to_string(),
        r#"{"id":"job-1","status":"completed","text":"secret","text":"other"}"#.to_owned(),
    ];
    for body in bodies {
        let failed = check(200, &body).await.expect_err("no answer");
        assert_eq!((failed.class, failed.code), (Class::Transient, "bad_response"), "{body:.200}");
        let shown = format!("{failed:?}");
        assert!(["secret", "callbacks", "c2ln"].iter().all(|part| !shown.contains(part)), "{shown}");
    }
    let moved = CALLBACK.replace("https://hansard.test", "https://new.test:8443/base");
    done(&completed(&json!({"webhook_url": moved}))).await;
    done(&completed(&json!({"webhook_url": null}))).await;
}

#[tokio::test]
async fn a_job_that_failed_has_ended_with_its_cause() {
    use Class::{Permanent, Transient, Unavailable};
    let table = [
        ("Audio duration is too short.", Permanent, "too_short"),
        (
            "File does not appear to contain audio. File type is application/zip.",
            Permanent,
            "unsupported_audio",
        ),
        ("Transcoding failed. File may be corrupted.", Permanent, "unsupported_audio"),
        ("Your current account balance is negative. Please top up.", Unavailable, "quota"),
        ("Server error, developers have been alerted.", Transient, "job_failed"),
        (
            &format!("Download error, unable to download {LINK}. Please make sure"),
            Transient,
            "audio_unreachable",
        ),
    ];
    for (error, class, code) in table {
        let body = completed(&json!({"status": "error", "text": null, "error": error}));
        let Ok(JobState::Ended(failed)) = check(200, &body).await else { panic!("{error}") };
        assert_eq!((failed.class, failed.code), (class, code));
        assert!(!format!("{failed:?}").contains("s3.test"), "{failed:?}");
    }
    let deleted = "http://deleted_by_user";
    let body = completed(&json!({"text": "Deleted by user.", "audio_url": deleted, "webhook_url": deleted}));
    let Ok(JobState::Ended(failed)) = check(200, &body).await else {
        panic!("a deleted job is no transcript")
    };
    assert_eq!((failed.class, failed.code), (Transient, "job_failed"));
}

#[tokio::test]
async fn a_submission_that_is_answered_with_anothers_job_is_none() {
    for body in [
        json!({"id": "../x", "status": "queued"}),
        completed(&json!({"webhook_url": "https://x.test/other"})),
    ] {
        let (_, config) = Server::start(move |_| (200, body.to_string())).await;
        let provider = AssemblyAi::new(AssemblyAiConfig { audio: AudioBy::Link, ..config }).expect("valid");
        assert_eq!(
            provider.submit(&linked(), &permit().await).await.expect_err("not ours").code,
            "bad_response"
        );
    }
}

/// A list of jobs, 200 a page, that all have the audio of `LINK` under another signature; the `n`th newest began `n` s
/// before the first.
fn listed(what: &str, jobs: usize, callback_of: usize) -> (u16, String) {
    if let Some(id) = what.strip_prefix("GET /v2/transcript/job-") {
        let mine = id.parse() == Ok(callback_of);
        let webhook_url = if mine { CALLBACK } else { "https://hansard.test/other" };
        return (200, completed(&json!({"id": format!("job-{id}"), "webhook_url": webhook_url})).to_string());
    }
    let after =
        what.split_once("&before_id=job-").map_or(0, |(_, id)| id.parse::<usize>().expect("a number") + 1);
    let job = |n: usize| {
        let path = if n.is_multiple_of(100) { "/bucket/segments/5ec2e7.flac" } else { "/bucket/other" };
        let created = format!("2026-10-21T{:02}:{:02}:{:02}.5", 9 - n / 3600, 59 - n / 60 % 60, 59 - n % 60);
        json!({"id": format!("job-{n}"), "status": "processing", "created": created, "resource_url": "",
            "audio_url": format!("https://s3.test{path}?X-Amz-Signature=another"), "completed": null, "error": null})
    };
    let transcripts: Vec<_> = (after..jobs.min(after + 200)).map(job).collect();
    (200, json!({"page_details": {}, "transcripts": transcripts}).to_string())
}

#[tokio::test]
async fn a_lost_job_is_found_by_its_audio_and_its_webhook() {
    // 2026-10-21T09:59:59.
    const NEWEST: i64 = 1_792_576_799_000;
    let find = async |request: SpeechRequest, since_s: i64, pages: usize| {
        let (server, config) = Server::start(|what| listed(what, 1_000, 300)).await;
        let config = AssemblyAiConfig { audio: AudioBy::Link, find_pages_max: pages, ..config };
        let provider = AssemblyAi::new(config).expect("valid");
        let found = provider.find(&request, Timestamp(NEWEST - since_s * 1_000), &permit().await).await;
        let pages = server.calls().iter().filter(|call| call.what.contains("?limit=200")).count();
        (found.expect("it can be asked"), pages)
    };
    assert_eq!(find(linked(), 600, 50).await, (Some("job-300".to_owned()), 4), "no page too many");
    assert_eq!(find(linked(), 600, 1).await, (None, 1), "beyond the pages that are read");
    assert_eq!(find(linked(), 100, 50).await, (None, 2), "begun too long ago");
    let untold = SpeechRequest { callback: None, ..linked() };
    assert_eq!(
        find(untold, 600, 50).await,
        (Some("job-0".to_owned()), 4),
        "the newest, where only audio tells"
    );

    let (server, config) = Server::start(|what| listed(what, 1_000, 300)).await;
    let uploads = AssemblyAi::new(config).expect("valid");
    assert_eq!(
        uploads.find(&segment(), Timestamp(0), &permit().await).await,
        Ok(None),
        "an upload's link is not known"
    );
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn deletion_is_confirmed_only_when_nothing_is_kept() {
    let not_found = json!({"error": "Transcript lookup error, transcript id not found"}).to_string();
    let table = [
        (200, completed(&json!({"text": "Deleted by user."})).to_string(), Ok(())),
        (200, completed(&json!({"status": "error"})).to_string(), Ok(())),
        (200, completed(&json!({"status": "processing", "text": null})).to_string(), Err("job_under_way")),
        (200, completed(&json!({"id": "job-2"})).to_string(), Err("bad_response")),
        (200, String::new(), Err("bad_response")),
        (404, not_found.clone(), Ok(())),
        (400, not_found, Ok(())),
        (404, json!({"error": "Not found"}).to_string(), Ok(())),
        (404, "<html>Not Found</html>".to_owned(), Err("wrong_url")),
        (400, json!({"error": "it is being processed"}).to_string(), Err("job_under_way")),
        (401, json!({"error": "Authentication error"}).to_string(), Err("authentication")),
        (503, String::new(), Err("server_error")),
    ];
    for (status, body, expected) in table {
        let answered = answering(status, &body).await.forget("job-1", &permit().await).await;
        assert_eq!(answered.map_err(|failed| failed.code), expected, "{status} {body}");
    }
}

#[tokio::test]
async fn a_probe_pays_for_nothing_and_is_not_fooled() {
    let (server, config) = Server::start(|_| (200, json!({"transcripts": []}).to_string())).await;
    AssemblyAi::new(config).expect("valid").probe(&permit().await).await.expect("it answers");
    assert_eq!(
        server.calls().iter().map(|call| call.what.as_str()).collect::<Vec<_>>(),
        ["GET /v2/transcript?limit=1"]
    );
    let table = [
        (200, "<html>Sign in</html>", "bad_response"),
        (401, "{}", "authentication"),
        (404, "", "wrong_url"),
    ];
    for (status, body, code) in table {
        let failed = answering(status, body).await.probe(&permit().await).await.expect_err("no answer");
        assert_eq!(failed.code, code, "{status}");
    }
}

#[tokio::test]
async fn a_webhook_tells_of_a_job_or_of_nothing() {
    let provider = answering(200, "").await;
    let table = [
        (r#"{"transcript_id":"5552493-16d8-42d8","status":"completed"}"#, Some("5552493-16d8-42d8")),
        (r#"{"transcript_id":"5552493-16d8-42d8","status":"error","more":{}}"#, Some("5552493-16d8-42d8")),
        (r#"{"transcript_id":"../../upload","status":"completed"}"#, None),
        (r#"{"transcript_id":"","status":"completed"}"#, None),
        (r#"{"transcript_id":7}"#, None),
        (r#"{"status":"redacted_audio_ready","redacted_audio_url":"https://x.test"}"#, None),
        ("[]", None),
        ("", None),
    ];
    for (body, id) in table {
        assert_eq!(provider.told(body.as_bytes()).as_deref(), id, "{body}");
    }
    assert!(!format!("{provider:?}").contains(KEY), "{provider:?}");
}
