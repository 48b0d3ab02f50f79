//! The local provider: a small pool of child processes, each with the model loaded, and a bounded queue before it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use hansard_jobs::ports::{Speech, SpeechReply, SpeechRequest, Submitted};
use hansard_provider::Cause;
use hansard_runtime::pace::Permit;
use hansard_runtime::stage::Failed;
use hansard_schemas::{Options, Word};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::answer;
use crate::frame::{self, ANSWER_BYTES_MAX, Heard, Load, Reason, Refused};
use crate::package::{LocalModel, ModelFiles};

/// How the local provider runs; [`LocalConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The program that calls [`child_main`](crate::child_main); as a rule this very program.
    pub program: PathBuf,
    /// Its arguments, as a rule the one command that does so.
    pub arguments: Vec<OsString>,
    /// The files, from [`fetch`](crate::fetch).
    pub files: ModelFiles,
    /// The model (tiny). A conversation may name it, and no other.
    pub model: LocalModel,
    /// How many children work at the same time (1). Each takes one core and 300 to 400 MB, with the base model
    /// 700 to 900 MB.
    pub children: usize,
    /// How many more calls may wait for a child (256); further ones are answered `queue_full`.
    pub queue: usize,
    /// Address space of a child, in bytes (2 GiB). 512 MiB can be too little for long segments.
    pub memory_bytes_max: u64,
    /// Time to start a child and load the model (30 s).
    pub start_within: Duration,
    /// Time for one segment, without its time in the queue (60 s).
    pub answer_within: Duration,
    /// Longest segment (10 min). Longer than 28 s is cut at silence before the model gets it.
    pub audio_max: Duration,
    /// Largest segment, in bytes of FLAC (32 MiB).
    pub audio_bytes_max: usize,
}

impl LocalConfig {
    /// The defaults, for a program that answers to `arguments` as the child.
    pub fn new(program: PathBuf, arguments: Vec<OsString>, files: ModelFiles) -> Self {
        Self {
            program,
            arguments,
            files,
            model: LocalModel::Tiny,
            children: 1,
            queue: 256,
            memory_bytes_max: 2 << 30,
            start_within: Duration::from_secs(30),
            answer_within: Duration::from_secs(60),
            audio_max: Duration::from_secs(600),
            audio_bytes_max: 32 << 20,
        }
    }
}

/// Speech recognition on this machine. Children are started when they are first needed, kept for the next call,
/// replaced when they die, and killed when this is dropped.
///
/// The model knows English only, does not tell speakers apart and takes no keyterms: another language is
/// refused, speakers stay empty, keyterms change nothing. Times of words are interpolated within each spoken
/// stretch, so they carry no confidence.
pub struct Local {
    config: LocalConfig,
    /// One permit a child.
    running: Semaphore,
    /// One permit a call that runs or waits.
    places: Semaphore,
    idle: Mutex<Vec<Recognizer>>,
}

/// One child and the socket to it.
struct Recognizer {
    process: Child,
    socket: UnixStream,
}

impl Local {
    /// A pool that has started no child yet.
    pub fn new(config: LocalConfig) -> Self {
        let running = Semaphore::new(config.children.max(1));
        let places =
            Semaphore::new(config.children.max(1).saturating_add(config.queue).min(Semaphore::MAX_PERMITS));
        Self { config, running, places, idle: Mutex::new(Vec::new()) }
    }

    /// The process ids of the children that wait for work.
    pub fn idle_children(&self) -> Vec<u32> {
        self.idle().iter().filter_map(|recognizer| recognizer.process.id()).collect()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Recognizer>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for a free child. The caller holds its permit as long as it uses the child.
    async fn with_recognizer<T>(
        &self,
        work: impl AsyncFnOnce(&mut Recognizer) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let full = |_| Cause::QueueFull.failed_after(self.queue_full_text(), Some(Duration::from_secs(1)));
        let _place = self.places.try_acquire().map_err(full)?;
        let _running = self.running.acquire().await;
        let mut recognizer = match self.take_living() {
            Some(recognizer) => recognizer,
            None => self.start().await?,
        };
        // Where this future is dropped here, the child goes with it: its answer would be taken for that of the
        // next segment.
        let result = work(&mut recognizer).await;
        if !result.as_ref().is_err_and(lost_child) {
            self.idle().push(recognizer);
        }
        result
    }

    fn queue_full_text(&self) -> String {
        format!(
            "{} calls wait for the local model already; give it more children or lower the load",
            self.config.queue
        )
    }

    fn take_living(&self) -> Option<Recognizer> {
        let mut idle = self.idle();
        while let Some(mut recognizer) = idle.pop() {
            if matches!(recognizer.process.try_wait(), Ok(None)) {
                return Some(recognizer);
            }
        }
        None
    }

    async fn start(&self) -> Result<Recognizer, Failed> {
        let unavailable = |error: io::Error| {
            let program = self.config.program.display();
            Cause::ModelUnavailable.failed(format!("cannot start the speech child {program}: {error}"))
        };
        let mut recognizer = self.spawn().map_err(unavailable)?;
        let load = serde_json::to_vec(&self.load()).map_err(|error| unavailable(error.into()))?;
        let greet = async {
            frame::send(&mut recognizer.socket, frame::LOAD, &load).await?;
            frame::receive(&mut recognizer.socket, ANSWER_BYTES_MAX).await
        };
        match timeout(self.config.start_within, greet).await {
            Ok(Ok((frame::READY, _))) => Ok(recognizer),
            Ok(Ok((frame::REFUSED, payload))) => Err(refused(&payload)),
            Ok(Ok((kind, _))) => Err(unavailable(unexpected(kind))),
            Ok(Err(error)) => {
                let end = recognizer.end().await;
                Err(Cause::ModelUnavailable.failed(format!(
                    "the speech child ended while it loaded the model: {error}, {end}; \
                     check its memory limit of {} bytes",
                    self.config.memory_bytes_max
                )))
            }
            Err(_) => Err(unavailable(io::ErrorKind::TimedOut.into())),
        }
    }

    fn load(&self) -> Load {
        Load {
            library: self.config.files.library(),
            model: self.config.files.model(self.config.model),
            architecture: self.config.model.architecture(),
            memory_bytes_max: self.config.memory_bytes_max,
            audio_ms_max: u64::try_from(self.config.audio_max.as_millis()).unwrap_or(u64::MAX),
            audio_bytes_max: self.config.audio_bytes_max,
        }
    }

    fn spawn(&self) -> io::Result<Recognizer> {
        let (ours, theirs) = BlockingUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&self.config.program);
        // The environment may hold keys, which native code has no business to see.
        command.args(&self.config.arguments).env_clear();
        if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", path);
        }
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).kill_on_drop(true);
        Ok(Recognizer { process: command.spawn()?, socket: UnixStream::from_std(ours)? })
    }

    fn check(&self, audio: &[u8], options: &Options) -> Result<(), Failed> {
        if audio.len() > self.config.audio_bytes_max {
            let (bytes, most) = (audio.len(), self.config.audio_bytes_max);
            return Err(
                Cause::TooLarge.failed(format!("segment of {bytes} bytes is over the limit of {most}"))
            );
        }
        if let Some(language) = options.language.as_deref().filter(|language| !is_english(language)) {
            return Err(Cause::UnsupportedLanguage.failed(format!(
                "the local model knows English only, not {language:?}; configure an openai provider for it"
            )));
        }
        let name = self.config.model.name();
        match options.model.as_deref() {
            Some(model) if model != name => Err(Cause::UnsupportedModel
                .failed(format!("the local model of this deployment is {name}; there is no {model:?}"))),
            _ => Ok(()),
        }
    }
}

impl Recognizer {
    async fn hear(&mut self, audio: &[u8], within: Duration) -> Result<Heard, Failed> {
        let ask = async {
            frame::send(&mut self.socket, frame::AUDIO, audio).await?;
            frame::receive(&mut self.socket, ANSWER_BYTES_MAX).await
        };
        match timeout(within, ask).await {
            Ok(Ok((frame::HEARD, payload))) => serde_json::from_slice(&payload).map_err(|error| {
                let place = answer::place(&error);
                Cause::ChildDied.failed(format!("the speech child answers nonsense: {place}"))
            }),
            Ok(Ok((frame::REFUSED, payload))) => Err(refused(&payload)),
            Ok(Ok((kind, _))) => Err(Cause::ChildDied.failed(unexpected(kind).to_string())),
            Ok(Err(error)) => {
                let end = self.end().await;
                Err(Cause::ChildDied
                    .failed(format!("the speech child ended during a segment: {error}, {end}")))
            }
            Err(_) => Err(Cause::TimedOut.failed(format!(
                "the speech child gave no answer within {} s and was killed",
                within.as_secs_f32()
            ))),
        }
    }

    /// Kills the child, which has broken the protocol, and says how it ended.
    async fn end(&mut self) -> String {
        let ended = match self.process.try_wait() {
            Ok(None) => {
                // A crashing process closes its socket a moment before it can be waited for.
                match timeout(Duration::from_millis(200), self.process.wait()).await {
                    Ok(ended) => ended.map(Some),
                    Err(_) => self.process.start_kill().map(|()| None),
                }
            }
            ended => ended,
        };
        match ended {
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "killed".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

#[async_trait]
impl Speech for Local {
    async fn submit(&self, request: &SpeechRequest, _: &Permit<'_>) -> Result<Submitted, Failed> {
        let audio = request.audio.bytes().await?;
        self.check(&audio, &request.options)?;
        let within = self.config.answer_within;
        let heard = self.with_recognizer(async |recognizer| recognizer.hear(&audio, within).await).await?;
        let words = heard.words.into_iter().map(|word| Word {
            text: word.text,
            start_ms: request.start_ms + word.start_ms,
            end_ms: request.start_ms + word.end_ms,
            ..Word::default()
        });
        Ok(Submitted::Reply(SpeechReply {
            text: heard.text,
            words: words.collect(),
            language: Some("en".to_owned()),
            model: self.config.model.name().to_owned(),
            audio_ms: heard.audio_ms,
            ..SpeechReply::default()
        }))
    }

    async fn probe(&self, _: &Permit<'_>) -> Result<(), Failed> {
        self.with_recognizer(async |_| Ok(())).await
    }
}

fn is_english(language: &str) -> bool {
    language.split(['-', '_']).next().is_some_and(|first| first.eq_ignore_ascii_case("en"))
}

fn unexpected(kind: u8) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the speech child answers with a frame of kind {kind}"),
    )
}

fn refused(payload: &[u8]) -> Failed {
    let Refused { reason, message } = match serde_json::from_slice(payload) {
        Ok(refused) => refused,
        Err(error) => {
            let place = answer::place(&error);
            return Cause::ChildDied.failed(format!("the speech child answers nonsense: {place}"));
        }
    };
    let cause = match reason {
        Reason::Model => Cause::ModelUnavailable,
        Reason::Undecodable => Cause::UnsupportedAudio,
        Reason::TooLong => Cause::TooLarge,
        Reason::Recognition => Cause::RecognitionFailed,
    };
    cause.failed(message)
}

/// After these answers the child is not to be used again.
fn lost_child(error: &Failed) -> bool {
    [Cause::ChildDied, Cause::TimedOut].iter().any(|cause| cause.class_and_code().1 == error.code)
}
