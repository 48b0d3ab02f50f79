//! The table of causes: whatever goes wrong has one class and one code, whoever the provider is. Each cell is how that
//! provider shows the cause; a server on loopback, or a real child, shows it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::any;
use bytes::Bytes;
use hansard_core::redelivery::Class::{self, Permanent, Transient, Unavailable};
use hansard_jobs::ports::{JobState, Speech, SpeechReply, SpeechRequest, Submitted};
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::child::{READY, config as local_config, real_pool, script};
use super::permit;
use super::recordings::{flac, request_of};
use crate::{AssemblyAi, AssemblyAiConfig, Local, LocalConfig, OpenAi, OpenAiConfig};

/// A cause, what it must be, and how each provider shows it.
struct Row {
    cause: &'static str,
    must_be: Is,
    openai: &'static [Shows],
    assemblyai: &'static [Shows],
    local: &'static [Here],
}

/// What a call leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    /// A failure of this class and code.
    Failed(Class, &'static str),
    /// One class and code where the deployment chose provider and model, and one where the record did.
    Refused { deployment: (Class, &'static str), record: (Class, &'static str) },
    /// A success without a word.
    Silence,
}

/// How a server shows a cause.
#[derive(Clone, Copy, Debug)]
enum Shows {
    /// This status and body; of a provider that works in jobs, in each of its calls.
    Http(u16, &'static str),
    /// A job that ends with this error.
    Job(&'static str),
    /// A result without a word.
    Nothing,
    /// The connection is taken and nothing said.
    Mute,
    /// Nobody listens.
    Gone,
    /// The connection breaks.
    Resets,
    /// Nothing: the audio is over the configured limit.
    Limit,
}

/// How the local model shows a cause.
#[derive(Clone, Copy, Debug)]
enum Here {
    Silence,
    Limit,
    NoFlac,
    Language,
    Model,
    Hangs,
    Missing,
    Dies,
}

use Is::{Failed as Fails, Refused, Silence};
use Shows::{Gone, Http, Job, Limit, Mute, Nothing, Resets};

#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row {
        cause: "authentication",
        must_be: Refused { deployment: (Unavailable, "authentication"), record: (Permanent, "authentication") },
        openai: &[Http(401, r#"{"error":{"message":"Incorrect API key","type":"invalid_request_error","code":"invalid_api_key"}}"#)],
        assemblyai: &[Http(401, r#"{"error":"Authentication error, API token missing/invalid."}"#)],
        local: &[],
    },
    Row {
        cause: "quota",
        must_be: Refused { deployment: (Unavailable, "quota"), record: (Permanent, "quota") },
        openai: &[
            Http(429, r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#),
            Http(400, r#"{"error":{"message":"no","type":"x","code":"billing_hard_limit_reached"}}"#),
        ],
        assemblyai: &[
            Http(400, r#"{"error":"Your current account balance is negative. Please top up to continue using the API."}"#),
            Job("Your current account balance is negative. Please top up to continue using the API."),
        ],
        local: &[],
    },
    Row {
        cause: "unknown model",
        must_be: Refused { deployment: (Unavailable, "unsupported_model"), record: (Permanent, "unsupported_model") },
        openai: &[
            Http(404, r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","code":"model_not_found"}}"#),
            Http(400, r#"{"error":{"message":"invalid model ID","type":"invalid_request_error","code":null}}"#),
        ],
        assemblyai: &[Http(400, r#"{"error":"\"speech_models\" must be a non-empty list containing one or more of: \"universal-2\""}"#)],
        // Only a record can choose another.
        local: &[Here::Model],
    },
    Row {
        cause: "unknown language",
        must_be: Fails(Permanent, "unsupported_language"),
        openai: &[
            Http(400, r#"{"error":{"message":"no","type":"invalid_request_error","code":"unsupported_language"}}"#),
            Http(400, r#"{"error":{"message":"Invalid language 'xx'","type":"invalid_request_error","code":"invalid_language_format"}}"#),
        ],
        assemblyai: &[
            Http(400, r#"{"error":"Invalid language_code: xx is not supported"}"#),
            Http(400, r#"{"error":"The following models are not available in this language: speaker_labels"}"#),
        ],
        local: &[Here::Language],
    },
    Row {
        cause: "too large",
        must_be: Fails(Permanent, "too_large"),
        openai: &[Limit, Http(413, r#"{"error":{"message":"Maximum content size limit exceeded","type":"server_error","code":null}}"#)],
        assemblyai: &[Limit, Http(413, ""), Job("The audio file is too large.")],
        local: &[Here::Limit],
    },
    Row {
        cause: "unsupported audio",
        must_be: Fails(Permanent, "unsupported_audio"),
        openai: &[
            Http(400, r#"{"error":{"message":"The audio file could not be decoded or its format is not supported.","type":"invalid_request_error","code":null}}"#),
            Http(400, r#"{"error":{"message":"Invalid file format. Supported formats: ['flac']","type":"invalid_request_error","code":null}}"#),
            Http(415, ""),
        ],
        assemblyai: &[
            Job("File does not appear to contain audio. File type is application/octet-stream (data)."),
            Job("Transcoding failed. File may be corrupted."),
        ],
        local: &[Here::NoFlac],
    },
    Row {
        cause: "too short",
        must_be: Fails(Permanent, "too_short"),
        openai: &[Http(400, r#"{"error":{"message":"Audio file is too short.","type":"invalid_request_error","code":"audio_too_short"}}"#)],
        assemblyai: &[Job("Audio duration is too short.")],
        local: &[],
    },
    Row {
        cause: "no speech",
        must_be: Silence,
        openai: &[Nothing],
        assemblyai: &[Nothing, Job("language_detection cannot be performed on files with no spoken audio.")],
        local: &[Here::Silence],
    },
    Row {
        cause: "bad response",
        must_be: Fails(Transient, "bad_response"),
        openai: &[Http(200, ""), Http(200, "{}"), Http(200, r#"{"text":"cut o"#), Http(200, "<html>Please sign in</html>")],
        assemblyai: &[Http(200, ""), Http(200, "{}"), Http(200, r#"{"id":"job-1","st"#), Http(200, "<html>Please sign in</html>")],
        local: &[],
    },
    Row {
        cause: "wrong URL",
        must_be: Fails(Unavailable, "wrong_url"),
        openai: &[Http(404, "<html>Not Found</html>"), Http(404, r#"{"detail":"Not Found"}"#), Http(405, "")],
        assemblyai: &[Http(404, "<html>Not Found</html>"), Http(404, r#"{"detail":"Not Found"}"#), Http(405, "")],
        local: &[],
    },
    Row {
        cause: "redirect",
        must_be: Fails(Unavailable, "redirected"),
        openai: &[Http(301, ""), Http(307, "<html>moved</html>")],
        assemblyai: &[Http(301, ""), Http(307, "<html>moved</html>")],
        local: &[],
    },
    Row {
        cause: "timeout",
        must_be: Fails(Transient, "timeout"),
        openai: &[Mute, Http(408, "")],
        assemblyai: &[Mute, Http(408, "")],
        local: &[Here::Hangs],
    },
    Row {
        cause: "rate limited",
        must_be: Fails(Transient, "rate_limited"),
        openai: &[Http(429, r#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#)],
        assemblyai: &[Http(429, r#"{"error":"Too many requests, please slow down."}"#), Http(429, "")],
        local: &[],
    },
    Row {
        cause: "server error",
        must_be: Fails(Transient, "server_error"),
        openai: &[Http(500, r#"{"error":{"message":"The server had an error","type":"server_error","code":null}}"#), Http(503, ""), Http(502, "<html>bad gateway</html>")],
        assemblyai: &[Http(500, r#"{"error":"Server error, developers have been alerted."}"#), Http(503, ""), Http(502, "<html>bad gateway</html>")],
        local: &[],
    },
    Row { cause: "unreachable", must_be: Fails(Unavailable, "unreachable"), openai: &[Gone], assemblyai: &[Gone], local: &[] },
    Row { cause: "connection lost", must_be: Fails(Transient, "connection_lost"), openai: &[Resets], assemblyai: &[Resets], local: &[] },
    Row {
        cause: "anything else of the record",
        must_be: Fails(Permanent, "rejected"),
        openai: &[Http(400, r#"{"error":{"message":"no","type":"invalid_request_error","code":"x"}}"#), Http(422, r#"{"detail":[]}"#)],
        assemblyai: &[Http(400, r#"{"error":"'x' was included in the word boost list but contains unsupported characters"}"#)],
        local: &[],
    },
    // What only one kind of provider has.
    Row { cause: "job failed", must_be: Fails(Transient, "job_failed"), openai: &[], assemblyai: &[Job("Server error, developers have been alerted."), Job("")], local: &[] },
    Row {
        cause: "link not to be fetched",
        must_be: Fails(Transient, "audio_unreachable"),
        openai: &[],
        assemblyai: &[Job("Download error, unable to download https://s3.test/a?sig. Please make sure the file exists and is accessible from the internet.")],
        local: &[],
    },
    Row { cause: "no model", must_be: Fails(Unavailable, "model_unavailable"), openai: &[], assemblyai: &[], local: &[Here::Missing] },
    Row { cause: "child died", must_be: Fails(Transient, "child_died"), openai: &[], assemblyai: &[], local: &[Here::Dies] },
];

/// Who chose provider and model.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Deployment,
    Record,
}

impl Is {
    fn by(self, who: By) -> Self {
        match (self, who) {
            (Refused { deployment, .. }, By::Deployment) => Fails(deployment.0, deployment.1),
            (Refused { record, .. }, By::Record) => Fails(record.0, record.1),
            (other, _) => other,
        }
    }

    fn of(answered: Result<SpeechReply, Failed>) -> Self {
        match answered {
            Ok(reply) => {
                assert_eq!((reply.text.as_str(), reply.words.len()), ("", 0));
                Silence
            }
            Err(failed) => Fails(failed.class, failed.code),
        }
    }
}

fn segment(who: By) -> SpeechRequest {
    let provider = (who == By::Record).then(|| "another".to_owned());
    let options = Options { provider, ..Options::default() };
    SpeechRequest { options, ..request_of(flac(&[0; 16_000], 16_000), 0, 1_000) }
}

/// Time for a call: short where it must pass, long where it must not.
fn within(shows: Shows) -> Duration {
    if matches!(shows, Mute) { Duration::from_millis(300) } else { Duration::from_secs(30) }
}

async fn serve(answer: impl Fn(&Method, &Uri) -> (u16, String) + Clone + Send + Sync + 'static) -> String {
    let answering = move |method: Method, uri: Uri, _: Bytes| {
        let (status, body) = answer(&method, &uri);
        async move { (StatusCode::from_u16(status).expect("a status"), body) }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let router = Router::new().fallback(any(answering));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// A server that does not answer with HTTP.
async fn broken(shows: Shows) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    if !matches!(shows, Gone) {
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 64]).await;
                if matches!(shows, Mute) {
                    open.push(socket);
                } else {
                    let _ = socket.flush().await;
                }
            }
        });
    }
    format!("http://{address}")
}

async fn by_openai(shows: Shows, who: By) -> Vec<Is> {
    let url = match shows {
        Http(status, body) => serve(move |_, _| (status, body.to_owned())).await,
        Nothing => serve(|_, _| (200, r#"{"text":" ","words":[],"duration":1.0}"#.to_owned())).await,
        _ => broken(shows).await,
    };
    let mut config = OpenAiConfig::new(url, "whisper-1");
    config.service.answer_within = within(shows);
    if matches!(shows, Limit) {
        config.audio_bytes_max = 10;
    }
    let provider = OpenAi::new(config).expect("valid");
    let answered = provider.submit(&segment(who), &permit().await).await.map(|submitted| match submitted {
        Submitted::Reply(reply) => reply,
        Submitted::Job(job) => panic!("job {job}"),
    });
    vec![Is::of(answered)]
}

const UPLOADED: &str = r#"{"upload_url":"https://cdn.test/1"}"#;
const QUEUED: &str = r#"{"id":"job-1","status":"queued"}"#;

/// What the call shows at each of its three places: the upload, the submission, and the check.
async fn by_assemblyai(shows: Shows, who: By) -> Vec<Is> {
    let mut seen = Vec::new();
    for place in ["/v2/upload", "/v2/transcript", "/v2/transcript/job-1"] {
        let job = match shows {
            Job(error) => serde_json::json!({"id": "job-1", "status": "error", "error": error}),
            _ => serde_json::json!({"id": "job-1", "status": "completed", "text": "", "words": []}),
        };
        let job = job.to_string();
        let answer = move |_: &Method, uri: &Uri| match (shows, uri.path()) {
            (Http(status, body), path) if path == place => (status, body.to_owned()),
            (_, "/v2/upload") => (200, UPLOADED.to_owned()),
            (_, "/v2/transcript") => (200, QUEUED.to_owned()),
            _ => (200, job.clone()),
        };
        let url =
            if matches!(shows, Mute | Gone | Resets) { broken(shows).await } else { serve(answer).await };
        let mut config = AssemblyAiConfig::new(url);
        config.service.answer_within = within(shows);
        if matches!(shows, Limit) {
            config.audio_bytes_max = 10;
        }
        let provider = AssemblyAi::new(config).expect("valid");
        let request = segment(who);
        let answered = match provider.submit(&request, &permit().await).await {
            Ok(Submitted::Job(job)) => match provider.check(&job, &request, &permit().await).await {
                Ok(JobState::Done(reply)) => Ok(reply),
                Ok(JobState::Ended(failed)) | Err(failed) => Err(failed),
                Ok(JobState::UnderWay) => panic!("under way"),
            },
            Ok(Submitted::Reply(reply)) => panic!("{reply:?}"),
            Err(failed) => Err(failed),
        };
        seen.push(Is::of(answered));
    }
    seen
}

async fn here(shows: Here) -> Is {
    let pool = match shows {
        Here::Hangs => {
            let mut config = local_config(Path::new("/bin/sh"), &["-c", &format!("{READY} exec sleep 1000")]);
            config.answer_within = Duration::from_millis(300);
            Local::new(config)
        }
        Here::Missing => Local::new(local_config(Path::new("/nonexistent/hansard"), &[])),
        Here::Dies => script(&format!("{READY} dd bs=1 count=5 of=/dev/null 2>/dev/null; exit 3")),
        Here::Limit => {
            Local::new(LocalConfig { audio_bytes_max: 10, ..local_config(Path::new("/bin/sh"), &["-c", ""]) })
        }
        Here::Silence | Here::NoFlac | Here::Language | Here::Model => real_pool(1),
    };
    let mut request = segment(By::Record);
    match shows {
        Here::NoFlac => request.audio = Arc::new(super::recordings::Held(Bytes::from_static(b"<html>"))),
        Here::Language => request.options.language = Some("nl".to_owned()),
        Here::Model => request.options.model = Some("whisper-1".to_owned()),
        _ => {}
    }
    Is::of(pool.submit(&request, &permit().await).await.map(|submitted| match submitted {
        Submitted::Reply(reply) => reply,
        Submitted::Job(job) => panic!("job {job}"),
    }))
}

#[tokio::test]
async fn each_cause_has_one_class_and_code_whoever_the_provider_is() {
    for row in TABLE {
        for who in [By::Deployment, By::Record] {
            let must_be = row.must_be.by(who);
            for shows in row.openai {
                let told = by_openai(*shows, who).await;
                assert!(
                    told.iter().all(|is| *is == must_be),
                    "{}: openai, {shows:?}, {who:?}: {told:?}",
                    row.cause
                );
            }
            for shows in row.assemblyai {
                let told = by_assemblyai(*shows, who).await;
                assert!(
                    told.iter().all(|is| *is == must_be),
                    "{}: assemblyai, {shows:?}, {who:?}: {told:?}",
                    row.cause
                );
            }
        }
        for shows in row.local {
            assert_eq!(here(*shows).await, row.must_be.by(By::Record), "{}: local, {shows:?}", row.cause);
        }
    }
}

#[test]
fn no_cause_is_in_the_table_twice() {
    let mut causes: Vec<_> = TABLE.iter().map(|row| row.cause).collect();
    causes.sort_unstable();
    assert!(causes.windows(2).all(|pair| pair[0] != pair[1]), "{causes:?}");
}
