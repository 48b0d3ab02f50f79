//! What demuxers read: a file, a part of one behind a new head, or a damaged one of which something can still be made.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use symphonia::core::io::MediaSource;

/// A part of a file, behind a head that stands for what lies before it.
pub(crate) struct Part {
    file: File,
    head: Vec<u8>,
    part: Range<u64>,
    position: u64,
}

impl Part {
    pub(crate) fn new(file: File, head: Vec<u8>, part: Range<u64>) -> Self {
        Self { file, head, part, position: 0 }
    }

    fn length(&self) -> u64 {
        self.head.len() as u64 + (self.part.end - self.part.start)
    }
}

impl Read for Part {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let head = usize::try_from(self.position).ok().and_then(|at| self.head.get(at..)).unwrap_or(&[]);
        let read = if head.is_empty() {
            let place = self.part.start + (self.position - self.head.len() as u64);
            let left = usize::try_from(self.part.end.saturating_sub(place)).unwrap_or(usize::MAX);
            let room = into.len().min(left);
            self.file.read_at(&mut into[..room], place)?
        } else {
            let bytes = into.len().min(head.len());
            into[..bytes].copy_from_slice(&head[..bytes]);
            bytes
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length().checked_add_signed(by),
        };
        self.position =
            place.filter(|place| *place <= i64::MAX.cast_unsigned()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl MediaSource for Part {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length())
    }
}

/// A damaged file, as a demuxer can still make something of it.
pub(crate) struct Damaged {
    pub(crate) part: Part,
    /// Without seeking, a demuxer does without the index at the end, which may be lost.
    pub(crate) seekable: bool,
}

impl Damaged {
    /// A length that no box exceeds: a demuxer then does not refuse one that was cut off.
    const LENGTH: u64 = 1 << 40;
}

impl Read for Damaged {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.part.read(into)
    }
}

impl Seek for Damaged {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::End(_) => self.part.seek(SeekFrom::Start(Self::LENGTH)),
            to => self.part.seek(to),
        }
    }
}

impl MediaSource for Damaged {
    fn is_seekable(&self) -> bool {
        self.seekable
    }

    fn byte_len(&self) -> Option<u64> {
        None
    }
}
