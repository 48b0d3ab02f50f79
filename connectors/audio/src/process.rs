//! The parent's side of one child: starts it, feeds it, reads its frames, and says why it ended. It reads only
//! frames of bounded size and never parses media.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use crate::error::AudioError;
use crate::limits::Limits;
use crate::protocol::{FRAME_HEAD, Kind, Request, head, parse_head};

/// What the program is called with.
const ARGUMENT: &str = "audio-child";

/// A running child. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    deadline: Instant,
    limits: Limits,
    frame: Vec<u8>,
}

impl Process {
    /// Starts a child and hands it the request. It gets nothing of the parent's environment.
    pub(crate) async fn start(program: &Path, request: &Request) -> Result<Self, AudioError> {
        let limits = request.limits().clone();
        let deadline = Instant::now() + Duration::from_secs(limits.wall_seconds);
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            // An interrupt from the terminal is for the parent, which ends its children in order.
            .process_group(0)
            .spawn()
            .map_err(AudioError::io("starting the decoder"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(AudioError::Protocol { detail: "the child has no pipes".to_owned() });
        };
        let mut process = Self { child, input, output, deadline, limits, frame: Vec::new() };
        let mut line = serde_json::to_vec(request)
            .map_err(|cause| AudioError::Protocol { detail: cause.to_string() })?;
        line.push(b'\n');
        process.write(&line).await?;
        Ok(process)
    }

    /// Gives the child its whole time again, for one that serves many inputs.
    pub(crate) fn renew(&mut self) {
        self.deadline = Instant::now() + Duration::from_secs(self.limits.wall_seconds);
    }

    /// Sends a frame; waits while the child is busy.
    pub(crate) async fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), AudioError> {
        self.write(&head(kind, payload.len())).await?;
        self.write(payload).await
    }

    /// Writes to the child. If it has stopped reading, its own answer says why.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), AudioError> {
        match timeout_at(self.deadline, self.input.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.why().await),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// The next frame; its payload is in [`payload`](Self::payload). An error that the child reports is an error.
    pub(crate) async fn next(&mut self) -> Result<Kind, AudioError> {
        match timeout_at(self.deadline, read(&mut self.output, &mut self.frame)).await {
            Ok(Ok(Kind::Error)) => {
                let error = self.json()?;
                // It ends by itself now; should it not, it is killed when this is dropped.
                let _ = timeout_at(self.deadline, self.child.wait()).await;
                Err(error)
            }
            Ok(Ok(kind)) => Ok(kind),
            Ok(Err(Some(error))) => Err(error),
            Ok(Err(None)) => Err(self.ended().await),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// The last frame's payload.
    pub(crate) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.frame
    }

    /// The last frame's payload as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, AudioError> {
        serde_json::from_slice(&self.frame)
            .map_err(|cause| AudioError::Protocol { detail: cause.to_string() })
    }

    /// Closes the child's input and waits for its end, so that no zombie stays and its processor time is accounted.
    /// For one that has given its report, which stands however it ends.
    pub(crate) async fn finish(self) -> Result<(), AudioError> {
        let Self { mut child, input, deadline, limits, .. } = self;
        drop(input);
        match timeout_at(deadline, child.wait()).await {
            Ok(ended) => ended.map(|_| ()).map_err(AudioError::io("waiting for the decoder")),
            Err(_) => Err(AudioError::DecodeTimeout { limit_seconds: limits.wall_seconds }),
        }
    }

    /// When the child's time is over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn timed_out(&self) -> AudioError {
        AudioError::DecodeTimeout { limit_seconds: self.limits.wall_seconds }
    }

    /// Reads on to the error that made the child stop taking input.
    async fn why(&mut self) -> AudioError {
        loop {
            if let Err(error) = Box::pin(self.next()).await {
                return error;
            }
        }
    }

    /// Why the child ended without an answer.
    async fn ended(&mut self) -> AudioError {
        match timeout_at(self.deadline, self.child.wait()).await {
            Ok(Ok(status)) => self.cause(status),
            Ok(Err(cause)) => AudioError::io("waiting for the decoder")(cause),
            Err(_) => self.timed_out(),
        }
    }

    fn cause(&self, status: ExitStatus) -> AudioError {
        use rustix::process::Signal;
        use std::os::unix::process::ExitStatusExt;
        let limit = |limit: String| AudioError::DecodeLimit { limit };
        match status.signal().and_then(Signal::from_named_raw) {
            Some(Signal::XCPU) => limit(format!("{} s of processor time", self.limits.cpu_seconds)),
            // Rust aborts where an allocation fails, as C libraries do; nothing else aborts, since panics are
            // caught, but for a stack that overflows, which is a limit too.
            Some(Signal::ABORT) => limit(format!("{} bytes of memory", self.limits.memory_bytes)),
            _ => AudioError::DecodeCrashed { detail: status.to_string() },
        }
    }
}

/// Reads one frame into `payload`; `None` as the error means that the stream ended.
async fn read(output: &mut ChildStdout, payload: &mut Vec<u8>) -> Result<Kind, Option<AudioError>> {
    let mut bytes = [0; FRAME_HEAD];
    output.read_exact(&mut bytes).await.map_err(|_| None)?;
    let (kind, length) = parse_head(bytes)?;
    payload.resize(length, 0);
    output.read_exact(payload).await.map_err(|_| None)?;
    Ok(kind)
}
