//! FLAC (RFC 9639): where the frames begin. Cue sheets, pictures and comments say nothing of the sound, and a demuxer that
//! takes offence at one refuses the file.

use std::io;

use crate::source::Part;

/// Metadata blocks that are passed over.
const BLOCKS_MAX: usize = 1_000;

/// Bytes of the block that describes the stream, which is the first one, and of the marks before it.
const STREAM_INFO: usize = 34;
const MARKS: usize = 8;

/// A head with nothing but the stream's description, and where the frames lie; `None` where the blocks do not lead to any.
pub(crate) fn flac(file: &Part, start: u64) -> io::Result<Option<(Vec<u8>, u64)>> {
    let mut head = vec![0; MARKS + STREAM_INFO];
    if !file.read_at(&mut head, start)? || head[4..MARKS] != [head[4] & 0x80, 0, 0, 34] {
        return Ok(None);
    }
    let (mut last, mut place) = (head[4] & 0x80 != 0, start + head.len() as u64);
    for _ in 0..BLOCKS_MAX {
        if last {
            head[4] = 0x80;
            return Ok((place < file.length()).then_some((head, place)));
        }
        let mut block = [0; 4];
        if !file.read_at(&mut block, place)? {
            return Ok(None);
        }
        let [kind, a, b, c] = block;
        last = kind & 0x80 != 0;
        place += 4 + u64::from(u32::from_be_bytes([0, a, b, c]));
    }
    Ok(None)
}
