//! Whether a file ends where its container says that it ends, for the containers whose demuxer cannot tell a
//! recording that was stopped from one that was cut off.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// Whether an Ogg file ends with a whole page that ends its stream (RFC 3533, 6).
pub(crate) fn ogg_is_whole(mut file: impl Read + Seek, length: u64) -> io::Result<bool> {
    const LONGEST_PAGE: u64 = 27 + 255 + 255 * 255;
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_PAGE)))?;
    let mut tail = Vec::new();
    file.take(LONGEST_PAGE).read_to_end(&mut tail)?;
    let Some(at) = tail.windows(4).rposition(|bytes| bytes == b"OggS") else { return Ok(false) };
    let page = &tail[at..];
    let Some(&segments) = page.get(26) else { return Ok(false) };
    let Some(lacing) = page.get(27..27 + usize::from(segments)) else { return Ok(false) };
    let body: usize = lacing.iter().map(|bytes| usize::from(*bytes)).sum();
    Ok(page[5] & 4 != 0 && page.len() == 27 + lacing.len() + body)
}

/// Whether a Matroska file ends at the end of an element (RFC 8794). A browser leaves the sizes of the segment and
/// its clusters unknown, so all that can be asked is that no element is cut in two. Where only a part of a head is left
/// nothing is missing that this file ever held: a browser's slice ends so, and the next one has the rest.
pub(crate) fn matroska_is_whole(mut file: impl Read + Seek, length: u64) -> io::Result<bool> {
    const SEGMENT: u64 = 0x1853_8067;
    const CLUSTER: u64 = 0x1f43_b675;
    const HEAD_BYTES_MAX: u64 = 4 + 8;
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut position = 0;
    while position < length {
        let torn_head = length - position < HEAD_BYTES_MAX;
        let Some((id, id_bytes)) = variable(&mut reader, true)? else { return Ok(torn_head) };
        let Some((size, size_bytes)) = variable(&mut reader, false)? else { return Ok(torn_head) };
        position += id_bytes + size_bytes;
        if id == SEGMENT || id == CLUSTER {
            continue;
        }
        let Some(end) = position.checked_add(size).filter(|end| *end <= length) else { return Ok(false) };
        let Ok(skip) = i64::try_from(size) else { return Ok(false) };
        reader.seek_relative(skip)?;
        position = end;
    }
    Ok(true)
}

/// Whether an MP4 file ends at the end of a box (ISO/IEC 14496-12, 4.2). One that lasts to the end has size 0.
pub(crate) fn mp4_is_whole(mut file: impl Read + Seek, length: u64) -> io::Result<bool> {
    let mut position = 0;
    while position < length {
        if length - position < 8 {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(position))?;
        let mut head = [0; 16];
        // The last box may be shorter than the longer form of a head.
        let wanted = if length - position < 16 { 8 } else { 16 };
        file.read_exact(&mut head[..wanted])?;
        let [a, b, c, d, ..] = head;
        let size = match u32::from_be_bytes([a, b, c, d]) {
            0 => return Ok(true),
            1 => head[8..].iter().fold(0, |size, byte| size << 8 | u64::from(*byte)),
            size => u64::from(size),
        };
        match position.checked_add(size.max(8)) {
            Some(end) if end <= length => position = end,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// A number of 1 to 8 bytes whose length is the place of its first set bit, and how many bytes it had. The marker
/// bit belongs to an element's id and not to its size.
pub(crate) fn variable(reader: &mut impl Read, keep_marker: bool) -> io::Result<Option<(u64, u64)>> {
    let mut bytes = [0; 8];
    let read_all = |result: io::Result<()>| match result {
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    };
    if !read_all(reader.read_exact(&mut bytes[..1]))? || bytes[0] == 0 {
        return Ok(None);
    }
    let length = bytes[0].leading_zeros() as usize + 1;
    if !read_all(reader.read_exact(&mut bytes[1..length]))? {
        return Ok(None);
    }
    let value = bytes[..length].iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let mask = if keep_marker { u64::MAX } else { (1 << (7 * length)) - 1 };
    Ok(Some((value & mask, length as u64)))
}
