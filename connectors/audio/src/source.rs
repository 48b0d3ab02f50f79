//! What demuxers read: a file, a part of one behind a new head, or a damaged one of which something can still be made.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use symphonia::core::io::MediaSource;

/// A part of a file, behind a head that stands for what lies before it.
#[derive(Debug)]
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

    /// A part of this one, behind another head; `place` is counted as this one is read.
    pub(crate) fn behind(&self, mut head: Vec<u8>, place: Range<u64>) -> io::Result<Self> {
        let own = self.head.len() as u64;
        let of_head = place.start.min(own)..place.end.min(own);
        let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        head.extend_from_slice(&self.head[within(of_head.start)..within(of_head.end)]);
        let in_file = |at: u64| self.part.start + at.saturating_sub(own);
        Ok(Self::new(self.file.try_clone()?, head, in_file(place.start)..in_file(place.end)))
    }

    /// Its bytes.
    pub(crate) fn length(&self) -> u64 {
        self.head.len() as u64 + (self.part.end - self.part.start)
    }

    /// Reads all of `into` from that place; whether there are so many bytes.
    pub(crate) fn read_at(&self, into: &mut [u8], place: u64) -> io::Result<bool> {
        if place.checked_add(into.len() as u64).is_none_or(|end| end > self.length()) {
            return Ok(false);
        }
        let head = usize::try_from(place).ok().and_then(|at| self.head.get(at..)).unwrap_or(&[]);
        let (first, rest) = into.split_at_mut(head.len().min(into.len()));
        first.copy_from_slice(&head[..first.len()]);
        let in_file = (place + first.len() as u64).saturating_sub(self.head.len() as u64);
        match self.file.read_exact_at(rest, self.part.start + in_file) {
            // It was cut since it was opened.
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            other => other.map(|()| true),
        }
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
