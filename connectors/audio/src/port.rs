//! The stages' port onto the audio path: recordings come as streams from the object store, and rest in bounded temporary
//! files only while a child reads them.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use hansard_core::redelivery::Class as Redelivery;
use hansard_jobs::ports::{
    Audio, Body, Cut, CutSegment, MergeSource, Merged, MergedFile, MergedInput, Recording, Sources,
};
use hansard_runtime::stage::Failed;
use hansard_schemas::SplitSegment;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::{
    AudioError, Class, Decoder, Format, InputReport, MergeInput, MergeRequest, PLAN_VERSION, PlanMs,
    SegmentAudio, SplitRequest,
};

/// Segments that wait between the child and the stage.
const SEGMENTS_WAITING: usize = 2;

/// The audio path as the stages use it.
#[derive(Debug, Clone)]
pub struct AudioPath {
    /// Starts the children.
    pub decoder: Decoder,
    /// How recordings are cut.
    pub plan: PlanMs,
    /// The format of merged files.
    pub format: Format,
    /// The longest gap between chunks that is kept as silence, in milliseconds; 0 closes all gaps.
    pub fill_gaps_ms: u64,
    /// The share of a merge's inputs, 0 to 1, that may be lost.
    pub lost_share_max: f64,
    /// Where temporary files rest.
    pub directory: PathBuf,
    /// Bytes of a recording, at most; a longer stream is `too_large`.
    pub recording_bytes_max: u64,
}

impl AudioPath {
    fn temporary(&self) -> Result<NamedTempFile, Failed> {
        NamedTempFile::new_in(&self.directory)
            .map_err(|cause| failed(&AudioError::io("making a temporary file")(cause)))
    }

    /// Writes a stream to a temporary file.
    async fn download(&self, mut body: Body) -> Result<NamedTempFile, Failed> {
        let io = |doing: &'static str| move |cause| failed(&AudioError::io(doing)(cause));
        let file = self.temporary()?;
        let clone = file.as_file().try_clone().map_err(io("opening a temporary file"))?;
        let mut writer = tokio::fs::File::from_std(clone);
        let mut bytes = 0;
        while let Some(part) = body.next().await {
            let part = part?;
            bytes += part.len() as u64;
            if bytes > self.recording_bytes_max {
                let cause = format!("the recording has more than {} bytes", self.recording_bytes_max);
                return Err(Failed::new(Redelivery::Permanent, "too_large", cause));
            }
            writer.write_all(&part).await.map_err(io("writing a temporary file"))?;
        }
        writer.flush().await.map_err(io("writing a temporary file"))?;
        Ok(file)
    }

    /// The recording in a temporary file, and in another, where it is a slice, what the file with its header begins with.
    async fn fetch(&self, recording: Recording) -> Result<(NamedTempFile, Option<NamedTempFile>), Failed> {
        let file = self.download(recording.body).await?;
        let header = match recording.header {
            Some(header) => Some(self.download(first(header, self.decoder.limits().header_bytes)).await?),
            None => None,
        };
        Ok((file, header))
    }
}

#[async_trait]
impl Audio for AudioPath {
    fn plan_version(&self) -> &'static str {
        PLAN_VERSION
    }

    async fn split(&self, recording: Recording, segments: mpsc::Sender<CutSegment>) -> Result<Cut, Failed> {
        let (file, header) = self.fetch(recording).await?;
        let (sender, mut receiver) = mpsc::channel::<SegmentAudio>(SEGMENTS_WAITING);
        let request =
            SplitRequest { path: file.path().to_owned(), header: path_of(header.as_ref()), plan: self.plan };
        let pass_on = async move {
            while let Some(audio) = receiver.recv().await {
                if segments.send(segment(audio)).await.is_err() {
                    break;
                }
            }
        };
        let (report, ()) = futures::future::join(self.decoder.split(request, sender), pass_on).await;
        let report = report.map_err(|error| failed(&error))?;
        Ok(Cut {
            duration_ms: signed(report.duration_ms),
            codec: report.codec,
            container: report.container,
            sample_rate: i32::try_from(report.sample_rate).unwrap_or(i32::MAX),
            channels: i32::try_from(report.channels).unwrap_or(i32::MAX),
            truncated: report.truncated,
            silent_ms: signed(report.silent_ms),
            peaks: report.peaks,
        })
    }

    fn merge_format(&self) -> &'static str {
        self.format.extension()
    }

    async fn merge(&self, sources: Sources<'_>) -> Result<Merged, Failed> {
        match self.merge_as(self.format, sources()).await? {
            Some(merged) => Ok(merged),
            // Only copying can fail so, and Ogg Opus takes everything.
            None => self.merge_as(Format::OPUS, sources()).await?.ok_or_else(|| {
                Failed::new(Redelivery::Defect, "cannot_copy", "ogg opus was refused as a format to copy to")
            }),
        }
    }
}

impl AudioPath {
    /// Merges as that format; nothing where an input could not be copied and the format takes nothing else.
    async fn merge_as(
        &self,
        format: Format,
        mut sources: BoxStream<'static, MergeSource>,
    ) -> Result<Option<Merged>, Failed> {
        let output = self.temporary()?;
        let mut merge = self.decoder.merge(MergeRequest {
            output: output.path().to_owned(),
            format,
            fill_gaps_ms: self.fill_gaps_ms,
            lost_share_max: self.lost_share_max,
        });
        let mut inputs = Vec::new();
        while let Some(source) = sources.next().await {
            let files = match source.recording {
                Ok(recording) => self.fetch(recording).await,
                Err(failed) => Err(failed),
            };
            let offset_ms = u64::try_from(source.offset_ms).unwrap_or(0);
            let input =
                |path, header| MergeInput { chunk_id: source.chunk_id.clone(), path, header, offset_ms };
            let report = match files {
                Ok((file, header)) => {
                    match merge.add(input(file.path().to_owned(), path_of(header.as_ref()))).await {
                        Ok(report) => report,
                        Err(AudioError::CannotCopy { .. }) => return Ok(None),
                        Err(error) => return Err(failed(&error)),
                    }
                }
                Err(failed) if failed.class == Redelivery::Permanent => {
                    merge.add_skipped(input(PathBuf::new(), None), failed.code)
                }
                Err(failed) => return Err(failed),
            };
            inputs.push(merged_input(report));
        }
        let report = match merge.finish().await {
            Ok(report) => report,
            Err(AudioError::TooMuchLost { skipped, inputs: of }) => {
                let code = if skipped == of { "no_audio" } else { "too_much_lost" };
                return Ok(Some(Merged { file: Err(code), inputs }));
            }
            Err(error) => return Err(failed(&error)),
        };
        let file =
            output.reopen().map_err(|cause| failed(&AudioError::io("reading the merged file")(cause)))?;
        let file = MergedFile {
            extension: report.format.extension(),
            content_type: report.format.content_type(),
            // The name may go: the open file keeps the bytes until it is dropped.
            body: Box::new(tokio::fs::File::from_std(file)),
            bytes: signed(report.bytes),
            sha256: hex(&report.sha256),
            duration_ms: signed(report.duration_ms),
        };
        Ok(Some(Merged { file: Ok(file), inputs: report.inputs.iter().map(merged_input).collect() }))
    }
}

/// No more of a body than `bytes_max`; what is not asked for is not fetched.
fn first(body: Body, bytes_max: u64) -> Body {
    let most = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let cut = body.scan(most, |left, part| {
        let part = part.map(|mut part| part.split_to(part.len().min(*left)));
        *left -= part.as_ref().map_or(0, Bytes::len);
        let more = part.as_ref().map_or(true, |part| !part.is_empty());
        futures::future::ready(more.then_some(part))
    });
    cut.boxed()
}

fn path_of(file: Option<&NamedTempFile>) -> Option<PathBuf> {
    file.map(|file| file.path().to_owned())
}

fn segment(audio: SegmentAudio) -> CutSegment {
    let SegmentAudio { segment, flac } = audio;
    CutSegment {
        segment: SplitSegment {
            index: i32::try_from(segment.index).unwrap_or(i32::MAX),
            start_ms: signed(segment.start_ms),
            end_ms: signed(segment.end_ms),
            bytes: signed(segment.bytes),
            sha256: segment.sha256.to_vec(),
            forced_cut: segment.forced_cut,
        },
        flac: Bytes::from(flac),
    }
}

fn merged_input(report: &InputReport) -> MergedInput {
    MergedInput {
        chunk_id: report.chunk_id.clone(),
        status: report.status.as_str(),
        code: report.code.clone(),
        offset_ms: signed(report.offset_ms),
        duration_ms: signed(report.duration_ms),
    }
}

/// A failure of the audio path as the stages see it.
fn failed(error: &AudioError) -> Failed {
    let class = match error.class() {
        Class::Permanent => Redelivery::Permanent,
        Class::Transient => Redelivery::Transient,
        Class::Defect => Redelivery::Defect,
    };
    Failed::new(class, error.code(), error.to_string())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
