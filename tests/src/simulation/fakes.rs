//! Audio and webhooks of a world: what they give follows from the bytes, and a ledger keeps what
//! was asked of them.
//!
//! A recording is text: `name segments=2 ms=1000`, or `name broken`. A segment is `name/0 of 1000 ms`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::StreamExt as _;
use hansard_core::id::{Digest, Millis, Timestamp};
use hansard_core::redelivery::Class;
use hansard_jobs::ports::{
    Audio, Body, Cut, CutSegment, Merged, MergedFile, MergedInput, Notice, Peaks, Recording, Sources, Webhook,
};
use hansard_runtime::driver::Process;
use hansard_runtime::stage::Failed;
use hansard_schemas::SplitSegment;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::speech::Manner;

/// How a call for one name is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    /// Well, with a text that no log takes.
    Long,
    /// Well, with this text and its words.
    Says(String),
    /// The record is refused for good, and the cause tells this text.
    Refuses(String),
    Fail {
        class: Class,
        code: &'static str,
        retry_after_s: Option<u64>,
    },
    Hang,
    /// A job that takes so long, or for ever; it may end without a result, and its id may never be told.
    Job {
        takes: Option<Millis>,
        failure: Option<(Class, &'static str)>,
        silent: bool,
    },
    /// A job, named by an id that is nobody's.
    Misnamed,
    /// A job of which nothing readable is ever told.
    Garbled,
}

/// One call of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// `conversation/chunk/segment` for speech, `webhook URL` for webhooks.
    pub(crate) name: String,
    /// The submission's id, or what the receiver of a webhook drops repetitions by.
    pub(crate) submission: String,
    pub(crate) began: Timestamp,
    /// When it ended and whether well; nothing where it was cut off.
    pub(crate) ended: Option<(Timestamp, bool)>,
}

/// What providers were asked, and what they are to say.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) calls: Vec<Call>,
    script: BTreeMap<String, VecDeque<Answer>>,
    /// How speech is recognised.
    pub(crate) manner: Manner,
    /// What a writer of summaries takes at once, in tokens; nothing where that is a whole transcript.
    pub(crate) summary_room: Option<usize>,
}

/// The ledger as everyone has it.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    pub(crate) fn open(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next calls for `name` are answered so; the last answer but one that is used up is followed by success.
    pub(crate) fn script(&self, name: &str, answers: impl IntoIterator<Item = Answer>) {
        self.open().script.entry(name.to_owned()).or_default().extend(answers);
    }

    pub(super) fn begin(&self, name: &str, submission: &str, now: Timestamp) -> (usize, Answer) {
        let mut ledger = self.open();
        let answer = ledger.script.get_mut(name).and_then(VecDeque::pop_front).unwrap_or(Answer::Ok);
        let (name, submission) = (name.to_owned(), submission.to_owned());
        ledger.calls.push(Call { name, submission, began: now, ended: None });
        (ledger.calls.len() - 1, answer)
    }

    pub(super) fn end(&self, call: usize, now: Timestamp, well: bool) {
        self.open().calls[call].ended = Some((now, well));
    }
}

/// The connectors of one process.
#[derive(Clone)]
pub(crate) struct Fakes {
    pub(crate) process: Process,
    pub(crate) ledger: Shared,
}

async fn whole(mut body: Body) -> Result<String, Failed> {
    let mut bytes = Vec::new();
    while let Some(part) = body.next().await {
        bytes.extend_from_slice(&part?);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A recording; of a slice without its own header `name what header-of name`.
async fn joined(recording: Recording) -> Result<String, Failed> {
    let body = whole(recording.body).await?;
    let Some(header) = recording.header else { return Ok(body) };
    let header = whole(header).await?;
    if header.ends_with("broken") {
        return Err(Failed::new(Class::Permanent, "no_header", "the first slice is broken"));
    }
    let name = header.split(' ').next().unwrap_or_default();
    Ok(format!("{body} header-of {name}"))
}

/// The value after `key=` in a recording.
fn value(recording: &str, key: &str) -> Option<i64> {
    let word = recording.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    word.and_then(|word| word.parse().ok())
}

pub(super) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// What a refused call looks like to a stage.
pub(super) fn refused(code: &'static str) -> Failed {
    Failed::new(Class::Transient, code, "the simulated call failed")
}

#[async_trait]
impl Audio for Fakes {
    fn plan_version(&self) -> &'static str {
        "simulated"
    }

    async fn split(&self, recording: Recording, segments: mpsc::Sender<CutSegment>) -> Result<Cut, Failed> {
        let recording = joined(recording).await?;
        let decoded = self.process.call("audio.split", |_| ()).await;
        decoded.map_err(|_| refused("decoder_killed"))?;
        if recording.ends_with("broken") {
            return Err(Failed::new(Class::Permanent, "undecodable_audio", "the recording is broken"));
        }
        let count = value(&recording, "segments").unwrap_or(1);
        let duration_ms = value(&recording, "ms").unwrap_or(1000);
        let name = recording.split(' ').next().unwrap_or_default();
        for index in 0..count {
            let flac = format!("{name}/{index} of {recording}");
            let segment = SplitSegment {
                index: i32::try_from(index).unwrap_or(0),
                start_ms: duration_ms * index / count,
                end_ms: duration_ms * (index + 1) / count,
                bytes: i64::try_from(flac.len()).unwrap_or(0),
                sha256: hash(&flac).to_vec(),
                forced_cut: false,
            };
            if segments.send(CutSegment { segment, flac: flac.into() }).await.is_err() {
                break;
            }
        }
        let mut peaks = Peaks::default();
        peaks.push(&[i16::MAX]);
        let header =
            recording.split_once(" header-of ").map(|(_, name)| name.rsplit('/').next().unwrap_or(name));
        let container = header.map_or_else(|| "text".to_owned(), |header| format!("text-behind-{header}"));
        Ok(Cut { duration_ms, codec: "text".to_owned(), container, peaks, ..Cut::default() })
    }

    fn merge_format(&self) -> &'static str {
        "txt"
    }

    async fn merge(&self, sources: Sources<'_>) -> Result<Merged, Failed> {
        let mut sources = sources();
        let (mut inputs, mut file) = (Vec::new(), String::new());
        while let Some(source) = sources.next().await {
            let body = match source.recording {
                Ok(recording) => joined(recording).await,
                Err(failed) => Err(failed),
            };
            let (status, code, duration_ms) = match body {
                Ok(text) if text.ends_with("broken") => ("skipped", Some("undecodable_audio".to_owned()), 0),
                Ok(text) => {
                    file.push_str(&text);
                    ("merged", None, value(&text, "ms").unwrap_or(1000))
                }
                Err(failed) if failed.class == Class::Permanent => {
                    ("skipped", Some(failed.code.to_owned()), 0)
                }
                Err(failed) => return Err(failed),
            };
            let (chunk_id, offset_ms) = (source.chunk_id, source.offset_ms);
            inputs.push(MergedInput { chunk_id, status, code, offset_ms, duration_ms });
        }
        self.process.call("audio.merge", |_| ()).await.map_err(|_| refused("encoder_killed"))?;
        if file.is_empty() {
            return Ok(Merged { file: Err("no_audio"), inputs });
        }
        let (bytes, sha256) = (i64::try_from(file.len()).unwrap_or(0), Digest(hash(&file)).to_string());
        let duration_ms = inputs.iter().map(|input| input.duration_ms).sum();
        let body = Box::new(std::io::Cursor::new(file.into_bytes()));
        let (extension, content_type) = ("txt", "text/plain");
        let file = MergedFile { extension, content_type, body, bytes, sha256, duration_ms };
        Ok(Merged { file: Ok(file), inputs })
    }
}

#[async_trait]
impl Webhook for Fakes {
    async fn post(&self, notice: &Notice) -> Result<u16, Failed> {
        let name = format!("webhook {}", notice.url);
        let (call, answer) = self.ledger.begin(&name, &notice.id, self.process.world_now());
        let called = self.process.call("webhook.call", |_| ()).await;
        let answer = match (answer, called) {
            (Answer::Hang, _) => std::future::pending().await,
            (Answer::Fail { class, code, retry_after_s }, _) => Err(Failed {
                retry_after: retry_after_s.map(Duration::from_secs),
                ..Failed::new(class, code, "as told")
            }),
            (_, Err(_)) => Err(refused("http_500")),
            (_, Ok(())) => Ok(204),
        };
        self.ledger.end(call, self.process.world_now(), answer.is_ok());
        answer
    }
}

/// The bytes of a recording.
pub(super) fn recording(conversation: &str, chunk: &str, what: &str) -> Bytes {
    Bytes::from(format!("{conversation}/{chunk} {what}"))
}
