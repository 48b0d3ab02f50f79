//! The parent's entry: splits a recording in a child process and hands its segments on as they come.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::time::timeout_at;

use crate::error::AudioError;
use crate::limits::Limits;
use crate::process::Process;
use crate::protocol::{Kind, Request};
use crate::split::{PlanMs, Segment, SplitReport};

/// What is to be split.
#[derive(Debug, Clone)]
pub struct SplitRequest {
    /// A file on disk, whole; its name says nothing.
    pub path: PathBuf,
    /// For a slice without its own header, a file that begins with it; no more of it is read than
    /// [`Limits::header_bytes`].
    pub header: Option<PathBuf>,
    /// How to cut it.
    pub plan: PlanMs,
}

/// A segment with its audio: a FLAC file, 16 kHz, mono, 16 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentAudio {
    /// What and where it is.
    pub segment: Segment,
    /// The FLAC file.
    pub flac: Vec<u8>,
}

/// Decodes, cuts and merges audio, each time in a child process of its own.
#[derive(Debug, Clone)]
pub struct Decoder {
    program: PathBuf,
    limits: Limits,
}

impl Decoder {
    /// A decoder that starts `program audio-child`, which has to call [`child_main`](crate::child_main).
    pub fn new(program: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { program: program.into(), limits }
    }

    /// The limits of each child.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts a child that tries what none may do, and names what this machine's kernel let it do; empty where it is
    /// held as it should be. Without Landlock (Linux 5.13) a child can read any file that this process can, and
    /// without seccomp it can make any system call; its limits on time and memory hold all the same.
    ///
    /// # Errors
    /// No child could be started, or it did not answer.
    pub async fn uncontained(&self) -> Result<Vec<String>, AudioError> {
        let request = Request::Probe { limits: self.limits.clone() };
        let mut process = Process::start(&self.program, &request).await?;
        match process.next().await? {
            Kind::Report => {
                let allowed = process.json()?;
                process.finish().await?;
                Ok(allowed)
            }
            kind => Err(AudioError::Protocol { detail: format!("unexpected {kind:?} frame") }),
        }
    }

    /// Splits one recording. Each segment goes to `segments` in order; while that is full the child waits, so the
    /// memory used is that of the channel. Segments that were sent before an error are to be discarded.
    /// Dropping the future kills the child.
    pub async fn split(
        &self,
        request: SplitRequest,
        segments: mpsc::Sender<SegmentAudio>,
    ) -> Result<SplitReport, AudioError> {
        let request = Request::Split {
            path: request.path,
            header: request.header,
            plan: request.plan,
            limits: self.limits.clone(),
        };
        let mut process = Process::start(&self.program, &request).await?;
        let mut sent = Vec::new();
        loop {
            match process.next().await? {
                Kind::Segment => {
                    let segment: Segment = process.json()?;
                    if process.next().await? != Kind::Audio {
                        return Err(AudioError::Protocol { detail: "a segment without audio".to_owned() });
                    }
                    let flac = std::mem::take(process.payload());
                    let audio = SegmentAudio { segment: segment.clone(), flac };
                    match timeout_at(process.deadline(), segments.send(audio)).await {
                        Ok(Ok(())) => sent.push(segment),
                        Ok(Err(_)) => return Err(AudioError::Cancelled),
                        Err(_) => return Err(process.timed_out()),
                    }
                }
                Kind::Report => {
                    let mut report: SplitReport = process.json()?;
                    report.segments = sent;
                    process.finish().await?;
                    return Ok(report);
                }
                kind => return Err(AudioError::Protocol { detail: format!("unexpected {kind:?} frame") }),
            }
        }
    }
}
