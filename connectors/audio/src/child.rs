//! The child process: takes one request on its input, limits itself before it touches a byte of media, and answers
//! with frames on its output. A panic is answered like any other failure.

use std::io::{BufRead, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;

use crate::decode::{Media, Wish};
use crate::error::AudioError;
use crate::limits::Limits;
use crate::protocol::{Decoded, Kind, Request, Shape, put_packet, put_samples, write_frame, write_json};
use crate::resample::Converter;
use crate::slice::Recording;
use crate::{encode, sandbox, split};

/// The longest request that is read; paths are at most 4 KiB each.
const REQUEST_BYTES_MAX: u64 = 1 << 16;

/// Samples go to the parent in frames of about this many bytes.
const SAMPLES_FRAME: usize = 1 << 16;

/// Where the first panic was.
static PANIC: OnceLock<String> = OnceLock::new();

/// Runs the child's whole life; gives its exit code. The application calls it first thing when it was invoked as
/// `hansard audio-child`, before any thread is started, because the limits hold for the whole process.
pub fn child_main() -> u8 {
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout().lock();
    note_panics();
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut input, &mut output))).unwrap_or_else(|_| {
        let place = PANIC.get().map_or("an unknown place", String::as_str);
        Err(AudioError::DecodeCrashed { detail: format!("panic at {place}") })
    });
    let told = match &result {
        Ok(()) => output.flush(),
        Err(error) => write_json(&mut output, Kind::Error, error).and_then(|()| output.flush()),
    };
    u8::from(result.is_err() || told.is_err())
}

/// Keeps where the first panic was, which a decoder's author needs to know.
fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if let Some(location) = panic.location() {
            let _ = PANIC.set(format!("{}:{}", below_registry(location.file()), location.line()));
        }
    }));
}

/// A source file's path from its package on; where the machine that built it keeps its packages tells nothing.
fn below_registry(file: &str) -> &str {
    let package = file.split_once("/registry/src/").and_then(|(_, package)| package.split_once('/'));
    package.map_or(file, |(_, file)| file)
}

fn run(input: &mut impl BufRead, output: &mut impl Write) -> Result<(), AudioError> {
    let mut line = String::new();
    (&mut *input)
        .take(REQUEST_BYTES_MAX)
        .read_line(&mut line)
        .map_err(AudioError::io("reading the request"))?;
    let request: Request = serde_json::from_str(&line)
        .map_err(|cause| AudioError::Protocol { detail: format!("bad request: {cause}") })?;
    sandbox::enter(&request)?;
    match &request {
        Request::Probe { .. } => write_json(output, Kind::Report, &sandbox::allowed())
            .map_err(AudioError::io("answering the parent")),
        Request::Split { path, header, plan, limits } => {
            split::split(&recording(path, header.as_deref(), limits)?, plan, limits, output)
        }
        Request::Decode { path, header, sample_rate, channels, packets, limits } => {
            let recording = recording(path, header.as_deref(), limits)?;
            let media = Media::open(&recording, Wish { rate: *sample_rate, channels: *channels })?;
            let wanted = |shape: &Shape| shape.copied.is_some_and(|copied| packets.contains(&copied.packets));
            let cut_short = media.truncated();
            let decoded = match media.copied().filter(wanted) {
                Some(shape) => copy(media, shape, limits, output)?,
                None => decode(media, *sample_rate, limits, output)?,
            };
            let decoded = match decoded {
                None if recording.is_bare_header(limits.header_bytes)? => {
                    Decoded { truncated: cut_short, padding: 0 }
                }
                decoded => decoded
                    .ok_or_else(|| AudioError::Corrupt { detail: "not one packet of audio".to_owned() })?,
            };
            write_json(output, Kind::Report, &decoded).map_err(AudioError::io("answering the parent"))
        }
        Request::Encode { path, format, shape, limits } => {
            encode::encode(path, *format, *shape, limits, input, output)
        }
    }
}

/// The recording that a request names.
fn recording(path: &Path, header: Option<&Path>, limits: &Limits) -> Result<Recording, AudioError> {
    match header {
        Some(header) => Recording::slice(path, header, limits.header_bytes),
        None => Ok(Recording::whole(path)),
    }
}

/// Decodes a recording and writes its samples; nothing where it has none. Rate and channels are those that were asked
/// for, else the recording's own, with at most two channels and 48 kHz.
fn decode(
    mut media: Media,
    rate: Option<u32>,
    limits: &Limits,
    output: &mut impl Write,
) -> Result<Option<Decoded>, AudioError> {
    let channels = media.channels();
    let mut sink: Option<Sink> = None;
    while let Some(block) = media.read()? {
        let sink = match &mut sink {
            Some(sink) => sink,
            none => {
                let sample_rate = rate.unwrap_or_else(|| block.rate.min(48_000));
                let shape = Shape { sample_rate, channels, copied: None };
                write_json(output, Kind::Shape, &shape).map_err(AudioError::io("answering the parent"))?;
                none.insert(Sink::new(shape, limits))
            }
        };
        sink.converter.push(block.rate, block.samples, &mut sink.samples)?;
        if sink.samples.len() >= SAMPLES_FRAME / 2 {
            sink.write(output)?;
        }
    }
    let Some(mut sink) = sink else { return Ok(None) };
    sink.converter.finish(&mut sink.samples)?;
    sink.write(output)?;
    Ok(Some(Decoded { truncated: media.truncated(), padding: 0 }))
}

/// Writes a recording's packets as they are; nothing where it has none.
fn copy(
    mut media: Media,
    shape: Shape,
    limits: &Limits,
    output: &mut impl Write,
) -> Result<Option<Decoded>, AudioError> {
    let failed = || AudioError::io("answering the parent");
    let mut left = limits.decoded_ms.saturating_mul(u64::from(shape.sample_rate)) / 1_000;
    let (mut frame, mut padding, mut begun) = (Vec::new(), 0, false);
    while let Some(packet) = media.read_packet()? {
        if !begun {
            begun = true;
            write_json(output, Kind::Shape, &shape).map_err(failed())?;
        }
        left = left.checked_sub(packet.samples).ok_or(AudioError::TooLong { limit_ms: limits.decoded_ms })?;
        padding = packet.padding;
        put_packet(&packet.bytes, &mut frame);
        if frame.len() >= SAMPLES_FRAME {
            write_frame(output, Kind::Packets, &frame).map_err(failed())?;
            frame.clear();
        }
    }
    if !begun {
        return Ok(None);
    }
    write_frame(output, Kind::Packets, &frame).map_err(failed())?;
    Ok(Some(Decoded { truncated: media.truncated(), padding }))
}

/// Converts samples and hands them on in frames, up to the limit.
struct Sink {
    converter: Converter,
    samples: Vec<i16>,
    bytes: Vec<u8>,
    channels: usize,
    /// Samples per channel that may still come.
    left: u64,
    limit_ms: u64,
}

impl Sink {
    fn new(shape: Shape, limits: &Limits) -> Self {
        Self {
            converter: Converter::new(shape.sample_rate, shape.channels),
            samples: Vec::new(),
            bytes: Vec::new(),
            channels: usize::from(shape.channels),
            left: limits.decoded_ms.saturating_mul(u64::from(shape.sample_rate)) / 1_000,
            limit_ms: limits.decoded_ms,
        }
    }

    fn write(&mut self, output: &mut impl Write) -> Result<(), AudioError> {
        for part in self.samples.chunks(SAMPLES_FRAME / 2) {
            let frames = (part.len() / self.channels) as u64;
            self.left =
                self.left.checked_sub(frames).ok_or(AudioError::TooLong { limit_ms: self.limit_ms })?;
            self.bytes.clear();
            put_samples(part, &mut self.bytes);
            write_frame(output, Kind::Samples, &self.bytes)
                .map_err(AudioError::io("answering the parent"))?;
        }
        self.samples.clear();
        Ok(())
    }
}
