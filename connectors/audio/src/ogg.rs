//! Ogg pages (RFC 3533): their checksum, and writing those of one logical stream. A page is written when more comes than
//! it takes, or when it is ended; the last one thus waits for the end of the stream, which it has to mark.

use std::io::{self, Write};
use std::ops::Range;

use crc::{Algorithm, Crc, Table};

/// Segments of one page, at most.
const SEGMENTS: usize = 255;

/// Bytes of one segment, at most; a packet ends with one that has fewer.
const SEGMENT: usize = 255;

/// What each page begins with.
pub(crate) const OGG: &[u8] = b"OggS";

/// Bytes of a page's head before its table of segments.
pub(crate) const HEAD: usize = 27;

/// Where in it the flags stand.
pub(crate) const FLAGS: usize = 5;

/// Where in it the stream's serial number stands.
pub(crate) const SERIAL: Range<usize> = 14..18;

/// Where in it the checksum stands, which is counted as zero.
pub(crate) const CHECKSUM: Range<usize> = 22..26;

/// The position of a page on which no packet ends.
const NOWHERE: u64 = u64::MAX;

/// The page begins within a packet.
const CONTINUED: u8 = 1;

/// The page begins the stream.
pub(crate) const FIRST: u8 = 2;

/// The page ends the stream.
pub(crate) const LAST: u8 = 4;

/// RFC 3533, 6: the usual polynomial, but nothing is reflected or inverted.
static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&Algorithm {
    width: 32,
    poly: 0x04c1_1db7,
    init: 0,
    refin: false,
    refout: false,
    xorout: 0,
    check: 0x89a1_897f,
    residue: 0,
});

/// The checksum of a whole page, as it stands in it.
pub(crate) fn checksum(page: &[u8]) -> [u8; 4] {
    let mut sum = CRC.digest();
    sum.update(&page[..CHECKSUM.start]);
    sum.update(&[0; 4]);
    sum.update(&page[CHECKSUM.end..]);
    sum.finalize().to_le_bytes()
}

/// A stream of packets in the making.
pub(crate) struct OggStream<W> {
    out: W,
    serial: u32,
    pages: u32,
    /// Of the page in the making: its table of segments,
    lacing: Vec<u8>,
    /// the bytes of its packets,
    body: Vec<u8>,
    /// where the last packet that ends on it ends,
    position: u64,
    /// and its flags.
    flags: u8,
}

impl<W: Write> OggStream<W> {
    /// A stream of that serial number.
    pub(crate) fn new(out: W, serial: u32) -> Self {
        let (lacing, body) = (Vec::with_capacity(SEGMENTS), Vec::with_capacity(SEGMENTS * SEGMENT));
        Self { out, serial, pages: 0, lacing, body, position: NOWHERE, flags: FIRST }
    }

    /// Adds a packet, at whose end the stream stands at `position`.
    pub(crate) fn packet(&mut self, packet: &[u8], position: u64) -> io::Result<()> {
        let mut rest = packet;
        loop {
            if self.lacing.len() == SEGMENTS {
                let within = if rest.len() < packet.len() { CONTINUED } else { 0 };
                self.end_page()?;
                self.flags = within;
            }
            let (segment, after) = rest.split_at(rest.len().min(SEGMENT));
            self.body.extend_from_slice(segment);
            self.lacing.push(u8::try_from(segment.len()).expect("a segment has at most 255 bytes"));
            if segment.len() < SEGMENT {
                self.position = position;
                return Ok(());
            }
            rest = after;
        }
    }

    /// Writes the page that is in the making.
    pub(crate) fn end_page(&mut self) -> io::Result<()> {
        let mut head = [0; HEAD];
        head[..OGG.len()].copy_from_slice(OGG);
        head[FLAGS] = self.flags;
        head[FLAGS + 1..SERIAL.start].copy_from_slice(&self.position.to_le_bytes());
        head[SERIAL].copy_from_slice(&self.serial.to_le_bytes());
        head[SERIAL.end..CHECKSUM.start].copy_from_slice(&self.pages.to_le_bytes());
        head[HEAD - 1] = u8::try_from(self.lacing.len()).expect("a page has at most 255 segments");
        let mut sum = CRC.digest();
        for part in [&head, self.lacing.as_slice(), &self.body] {
            sum.update(part);
        }
        head[CHECKSUM].copy_from_slice(&sum.finalize().to_le_bytes());
        for part in [&head, self.lacing.as_slice(), &self.body] {
            self.out.write_all(part)?;
        }
        self.pages += 1;
        self.lacing.clear();
        self.body.clear();
        (self.position, self.flags) = (NOWHERE, 0);
        Ok(())
    }

    /// Ends the stream at `position`, which may lie before the end of the last packet: a player drops what is behind it.
    pub(crate) fn finish(mut self, position: u64) -> io::Result<()> {
        self.position = position;
        self.flags |= LAST;
        self.end_page()?;
        self.out.flush()
    }
}
