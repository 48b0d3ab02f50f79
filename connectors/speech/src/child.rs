//! The child process: loads the model, then answers segments one by one until its parent is gone.
//! It is a process of its own since a model that does not fit into memory aborts the process.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::frame::{self, Heard, Load, Reason, Refused};
use crate::moonshine::{Moonshine, MoonshineError};
use crate::piece::{pieces, spread_words};
use crate::voice::spoken;
use crate::wav::{AudioError, decode_flac, duration_ms};

/// The exit code of a child that was started by hand, or whose parent speaks another protocol.
pub const CHILD_REFUSED: u8 = 2;

/// Serves one parent; returns when it cannot. A program offers this under a command of its own, and names
/// itself and that command in [`LocalConfig`](crate::LocalConfig). The socket is its standard input. Call it
/// before an async runtime is made, whose threads would take some 64 MiB of address space each.
pub fn child_main() -> ExitCode {
    match serve() {
        Ok(code) => code,
        Err(error) => {
            let mut stderr = io::stderr();
            // There is nobody else to tell, so a closed standard error is no further failure.
            let _ = writeln!(stderr, "speech child: {error}; it is started by hansard, not by hand");
            ExitCode::from(CHILD_REFUSED)
        }
    }
}

fn serve() -> io::Result<ExitCode> {
    let mut parent = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    parent.peer_addr()?; // Fails where standard input is no socket.
    let (kind, payload) = frame::read(&mut parent, 1 << 16)?;
    if kind != frame::LOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first frame loads no model"));
    }
    let load: Load = serde_json::from_slice(&payload)?;
    let model = match limit_memory(load.memory_bytes_max).and_then(|()| open(&load)) {
        Ok(model) => model,
        Err(message) => {
            answer(&mut parent, Err(Refused { reason: Reason::Model, message }))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    frame::write(&mut parent, frame::READY, &[])?;
    for audio in segments(parent.try_clone()?, load.audio_bytes_max) {
        answer(&mut parent, hear(&model, &audio, load.audio_ms_max))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn open(load: &Load) -> Result<Moonshine, String> {
    Moonshine::load(&load.library, &load.model, load.architecture).map_err(|error| error.to_string())
}

fn limit_memory(bytes: u64) -> Result<(), String> {
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::As, limit)
        .map_err(|error| format!("cannot set the memory limit to {bytes} bytes: {error}"))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| format!("cannot switch core dumps off: {error}"))
}

/// Reads segments on a thread of its own, so that a child whose parent has died ends at once, even while the
/// model is at work.
fn segments(mut parent: UnixStream, bytes_max: usize) -> mpsc::IntoIter<Vec<u8>> {
    let (hand_over, segments) = mpsc::sync_channel(0);
    std::thread::spawn(move || {
        loop {
            match frame::read(&mut parent, bytes_max) {
                Ok((frame::AUDIO, audio)) => {
                    if hand_over.send(audio).is_err() {
                        return; // The answers' side has failed, and ends the process.
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => std::process::exit(0),
                _ => std::process::exit(i32::from(CHILD_REFUSED)),
            }
        }
    });
    segments.into_iter()
}

fn answer(parent: &mut UnixStream, result: Result<Heard, Refused>) -> io::Result<()> {
    match result {
        Ok(heard) => frame::write(parent, frame::HEARD, &serde_json::to_vec(&heard)?),
        Err(refused) => frame::write(parent, frame::REFUSED, &serde_json::to_vec(&refused)?),
    }
}

fn hear(model: &Moonshine, flac: &[u8], ms_max: u64) -> Result<Heard, Refused> {
    let samples = decode_flac(flac, ms_max)?;
    let mut heard = Heard { text: String::new(), words: Vec::new(), audio_ms: duration_ms(samples.len()) };
    let mut samples_before = 0;
    for piece in pieces(&samples) {
        let spoken = spoken(piece);
        if !spoken.is_empty() {
            let floats: Vec<f32> = piece.iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
            let text = model.text(&floats)?;
            heard.words.extend(spread_words(&text, &spoken, duration_ms(samples_before)));
            if !heard.text.is_empty() && !text.is_empty() {
                heard.text.push(' ');
            }
            heard.text.push_str(&text);
        }
        samples_before += piece.len();
    }
    Ok(heard)
}

impl From<AudioError> for Refused {
    fn from(error: AudioError) -> Self {
        let reason = match error {
            AudioError::Flac(_) | AudioError::Shape { .. } => Reason::Undecodable,
            AudioError::TooLong(_) => Reason::TooLong,
        };
        Self { reason, message: error.to_string() }
    }
}

impl From<MoonshineError> for Refused {
    fn from(error: MoonshineError) -> Self {
        Self { reason: Reason::Recognition, message: error.to_string() }
    }
}
