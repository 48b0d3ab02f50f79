//! CAF (Apple's Core Audio Format): a head for a file that ends within its samples, whose stated length the demuxer would
//! jump over.

use std::io;

use crate::source::Part;

/// Chunks before the samples that are looked at.
const CHUNKS_MAX: usize = 1_000;

/// The most that lies before the samples of a file that is cut; more are pictures and the like.
const HEAD_BYTES: u64 = 1 << 20;

/// Bytes of a packet from which on the demuxer's count of its bits overflows.
const PACKET_BYTES_MAX: u32 = 1 << 29;

/// Whether the file's description, its first chunk, states packets that are no audio's; `head` is the file's beginning.
pub(crate) fn absurd_caf(head: &[u8]) -> bool {
    let described = head.get(8..12) == Some(b"desc");
    let packet = head.get(36..40).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(u32::from_be_bytes);
    described && packet.is_some_and(|bytes| bytes >= PACKET_BYTES_MAX)
}

/// A head with the length that is there, and where they lie; `None` where the file is not cut within them.
pub(crate) fn cut_caf(file: &Part, start: u64) -> io::Result<Option<(Vec<u8>, u64)>> {
    let (length, mut place) = (file.length(), start + 8);
    for _ in 0..CHUNKS_MAX {
        let mut chunk = [0; 12];
        if !file.read_at(&mut chunk, place)? {
            return Ok(None);
        }
        let [a, b, c, d, size @ ..] = chunk;
        let (size, body) = (i64::from_be_bytes(size), place + 12);
        // A recorder that does not know the length states -1, which the demuxer understands.
        let Ok(size) = u64::try_from(size) else { return Ok(None) };
        let Some(end) = body.checked_add(size) else { return Ok(None) };
        if [a, b, c, d] != *b"data" {
            place = end;
            continue;
        }
        if end <= length || body - start > HEAD_BYTES {
            return Ok(None);
        }
        let mut head = vec![0; usize::try_from(body - start).unwrap_or(0)];
        if !file.read_at(&mut head, start)? {
            return Ok(None);
        }
        let size_at = head.len() - 8;
        head[size_at..].copy_from_slice(&(length - body).to_be_bytes());
        return Ok(Some((head, body)));
    }
    Ok(None)
}
