//! The framed protocol between the pool and a child: a length, a kind, then the bytes; in both directions over
//! the one socket that is the child's standard input, so that what native code prints can never break it.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// To the child, first of all: [`Load`] as JSON.
pub(crate) const LOAD: u8 = b'L';
/// To the child: one segment as FLAC.
pub(crate) const AUDIO: u8 = b'A';
/// From the child: the model is loaded; no payload.
pub(crate) const READY: u8 = b'R';
/// From the child: [`Heard`] as JSON.
pub(crate) const HEARD: u8 = b'H';
/// From the child: [`Refused`] as JSON; the child lives on unless it was loading.
pub(crate) const REFUSED: u8 = b'E';

/// The longest answer of a child, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What a child is to load, and within which limits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) library: PathBuf,
    pub(crate) model: PathBuf,
    /// What the library calls the model's architecture.
    pub(crate) architecture: u32,
    /// Address space of the child, in bytes.
    pub(crate) memory_bytes_max: u64,
    /// Longest segment, in milliseconds.
    pub(crate) audio_ms_max: u64,
    /// Largest segment, in bytes of FLAC.
    pub(crate) audio_bytes_max: usize,
}

/// What a child heard in a segment; times in milliseconds from its start.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) words: Vec<HeardWord>,
    pub(crate) audio_ms: i64,
}

/// One word that a child heard.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HeardWord {
    pub(crate) text: String,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
}

/// Why a child could not do what it was asked to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// The causes that a child can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    Model,
    Undecodable,
    TooLong,
    Recognition,
}

fn head(kind: u8, payload: &[u8]) -> io::Result<[u8; 5]> {
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let [a, b, c, d] = length.to_le_bytes();
    Ok([a, b, c, d, kind])
}

fn parse_head([a, b, c, d, kind]: [u8; 5], bytes_max: usize) -> io::Result<(u8, usize)> {
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > bytes_max {
        let text = format!("frame of {length} bytes is over the limit of {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok((kind, length))
}

/// Writes one frame.
pub(crate) fn write(to: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    to.write_all(&head(kind, payload)?)?;
    to.write_all(payload)?;
    to.flush()
}

/// Reads one frame; `UnexpectedEof` where the other side has gone.
pub(crate) fn read(from: &mut impl Read, bytes_max: usize) -> io::Result<(u8, Vec<u8>)> {
    let mut bytes = [0; 5];
    from.read_exact(&mut bytes)?;
    let (kind, length) = parse_head(bytes, bytes_max)?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok((kind, payload))
}

/// Writes one frame from async code.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), kind: u8, payload: &[u8]) -> io::Result<()> {
    to.write_all(&head(kind, payload)?).await?;
    to.write_all(payload).await?;
    to.flush().await
}

/// Reads one frame from async code.
pub(crate) async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> io::Result<(u8, Vec<u8>)> {
    let mut bytes = [0; 5];
    from.read_exact(&mut bytes).await?;
    let (kind, length) = parse_head(bytes, bytes_max)?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    Ok((kind, payload))
}
