//! Record batches: how records of one partition stand on disk and in memory, many to a value.
//!
//! A batch is a header (time, number of offsets covered, number of records) and a frame per record. One batch is one
//! value of the store, so a record costs a copy and no key of its own; reading hands out slices of it. The store
//! keeps checksums over its blocks and its journal, so a batch has none.

use bytes::{BufMut, Bytes};
use hansard_core::id::{Offset, Timestamp};
use hansard_runtime::ports::log::{LogRecord, Outgoing};

use crate::error::StoreError;

/// A batch is closed once it has this many bytes, so that reading can go in steps and memory is freed in steps.
const BATCH_BYTES: usize = 256 << 10;
/// Time (8), offsets covered (4), records (4).
const HEADER: usize = 16;
/// Offset above the first, lengths of key and value, number of headers: 4 bytes each.
const FRAME: usize = 16;
/// The length of a value that is not there.
const TOMBSTONE: u32 = u32::MAX;

/// Records to be appended to one partition, encoded but for their time and offsets.
#[derive(Debug)]
pub(crate) struct Draft {
    bytes: Vec<u8>,
    records: u32,
}

impl Draft {
    pub(crate) fn new() -> Self {
        let mut bytes = Vec::with_capacity(4 << 10);
        bytes.put_bytes(0, HEADER);
        Self { bytes, records: 0 }
    }

    /// Its size in bytes so far.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// How many records it has so far.
    pub(crate) fn len(&self) -> u32 {
        self.records
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    pub(crate) fn push(&mut self, record: &Outgoing) {
        self.push_frame(self.records, record.key.as_ref(), record.value.as_ref(), &record.headers);
        self.records += 1;
    }

    fn push_frame(
        &mut self,
        delta: u32,
        key: Option<&Bytes>,
        value: Option<&Bytes>,
        headers: &[(String, Bytes)],
    ) {
        let out = &mut self.bytes;
        out.put_u32_le(delta);
        out.put_u32_le(key.map_or(TOMBSTONE, |key| length(key.len())));
        out.put_u32_le(value.map_or(TOMBSTONE, |value| length(value.len())));
        out.put_u32_le(length(headers.len()));
        if let Some(key) = key {
            out.extend_from_slice(key);
        }
        if let Some(value) = value {
            out.extend_from_slice(value);
        }
        for (name, value) in headers {
            out.put_u32_le(length(name.len()));
            out.put_u32_le(length(value.len()));
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        }
    }

    /// Gives the batch its place.
    pub(crate) fn place(self, first: i64, time: Timestamp) -> Batch {
        let span = self.records;
        finish(self, first, span, time)
    }
}

fn finish(draft: Draft, first: i64, span: u32, time: Timestamp) -> Batch {
    let mut bytes = draft.bytes;
    let mut header = &mut bytes[..HEADER];
    header.put_i64_le(time.0);
    header.put_u32_le(span);
    header.put_u32_le(draft.records);
    // What stays in memory must not hold more than is counted.
    bytes.shrink_to_fit();
    Batch { first, last: first + i64::from(span) - 1, bytes: Bytes::from(bytes) }
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("records are bounded far below 4 GiB")
}

/// Records of one partition with their offsets `first..=last`, of which compaction may have left some out.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) bytes: Bytes,
}

impl Batch {
    /// Reads the header of a stored batch whose last offset is `last`.
    pub(crate) fn read(last: i64, bytes: Bytes) -> Result<Self, StoreError> {
        let mut batch = Self { first: 0, last, bytes };
        let span = batch.number(8)?;
        batch.first = last + 1 - i64::from(span);
        Ok(batch)
    }

    /// The time of all its records.
    pub(crate) fn time(&self) -> Result<Timestamp, StoreError> {
        let bytes = self.bytes.first_chunk::<8>().ok_or_else(|| self.corrupt("it ends within its header"))?;
        Ok(Timestamp(i64::from_le_bytes(*bytes)))
    }

    fn number(&self, at: usize) -> Result<u32, StoreError> {
        let bytes = self.bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or_else(|| self.corrupt("it ends within a number"))
    }

    fn slice(&self, at: &mut usize, len: u32) -> Result<Bytes, StoreError> {
        let end = *at + len as usize;
        if end > self.bytes.len() {
            return Err(self.corrupt("it ends within a record"));
        }
        let slice = self.bytes.slice(*at..end);
        *at = end;
        Ok(slice)
    }

    fn corrupt(&self, cause: &str) -> StoreError {
        StoreError::corrupt(format!("record batch up to offset {}", self.last), cause)
    }

    /// Appends its records from offset `from` on to `records`, until about `bytes_max` of keys, values and headers are
    /// handed out; at least one. Gives the offset to go on from.
    pub(crate) fn records(
        &self,
        from: i64,
        bytes_max: &mut usize,
        records: &mut Vec<LogRecord>,
    ) -> Result<i64, StoreError> {
        let time = self.time()?;
        let count = self.number(12)?;
        let mut at = HEADER;
        for _ in 0..count {
            let (offset, frame) = (self.first + i64::from(self.number(at)?), at);
            let (key, value) = (self.number(at + 4)?, self.number(at + 8)?);
            let headers = self.number(at + 12)?;
            at += FRAME;
            if offset >= from && *bytes_max == 0 && !records.is_empty() {
                return Ok(offset);
            }
            let mut part = |len| if len == TOMBSTONE { Ok(None) } else { self.slice(&mut at, len).map(Some) };
            let (key, value) = (part(key)?, part(value)?);
            let headers = self.headers(&mut at, headers)?;
            if offset >= from {
                records.push(LogRecord { offset: Offset(offset), time, key, value, headers });
                *bytes_max = bytes_max.saturating_sub(at - frame);
            }
        }
        Ok(self.last + 1)
    }

    fn headers(&self, at: &mut usize, count: u32) -> Result<Vec<(String, Bytes)>, StoreError> {
        let mut headers = Vec::with_capacity(count.min(16) as usize);
        for _ in 0..count {
            let (name, value) = (self.number(*at)?, self.number(*at + 4)?);
            *at += 8;
            let name = self.slice(at, name)?;
            let name =
                std::str::from_utf8(&name).map_err(|_| self.corrupt("a header's name is not utf-8"))?;
            headers.push((name.to_owned(), self.slice(at, value)?));
        }
        Ok(headers)
    }

    /// All its records.
    pub(crate) fn all(&self) -> Result<Vec<LogRecord>, StoreError> {
        let mut records = Vec::new();
        let mut bytes_max = usize::MAX;
        self.records(self.first, &mut bytes_max, &mut records)?;
        Ok(records)
    }

    /// The same batch with only those records that `keep` wants; `None` if it wants none.
    pub(crate) fn filtered(
        &self,
        mut keep: impl FnMut(&LogRecord) -> bool,
    ) -> Result<Option<Self>, StoreError> {
        let records = self.all()?;
        let mut draft = Draft::new();
        for record in records.iter().filter(|record| keep(record)) {
            let delta = u32::try_from(record.offset.0 - self.first)
                .map_err(|_| self.corrupt("an offset is too far"))?;
            let key = record.key.as_ref();
            draft.push_frame(delta, key, record.value.as_ref(), &record.headers);
            draft.records += 1;
        }
        if draft.records == 0 {
            return Ok(None);
        }
        let span = self.number(8)?;
        Ok(Some(finish(draft, self.first, span, self.time()?)))
    }

    /// How many records it holds.
    pub(crate) fn count(&self) -> Result<u32, StoreError> {
        self.number(12)
    }
}
