//! The limits that keep every record below 900 kB and every window within memory. They follow from each other:
//! a finalize names all chunks of a conversation, so their number and the length of their names bound its size.

/// Bytes of an encoded record, without its key and headers.
pub const RECORD_BYTES_MAX: usize = 900_000;
/// Bytes of a conversation's id.
pub const CONVERSATION_ID_BYTES_MAX: usize = 128;
/// Bytes of an event's id.
pub const EVENT_ID_BYTES_MAX: usize = 128;
/// Bytes of a chunk's id.
pub const CHUNK_ID_BYTES_MAX: usize = 64;
/// Bytes of a track's name.
pub const TRACK_BYTES_MAX: usize = 32;
/// Chunks of a conversation. Sequences and expected counts are below it.
pub const CHUNKS_MAX: usize = 5_000;
/// Segments of a chunk.
pub const CHUNK_SEGMENTS_MAX: usize = 5_000;
/// Segments of a conversation.
pub const CONVERSATION_SEGMENTS_MAX: usize = 50_000;
/// Gaps that a finalize lists; more of them are only counted.
pub const GAPS_MAX: usize = 500;
/// Bytes of a failure's code, which a finalize repeats for each gap.
pub const CODE_BYTES_MAX: usize = 32;
/// Bytes of a status.
pub const STATUS_BYTES_MAX: usize = 16;
/// Bytes of a language, provider or model in options, which a finalize repeats for each stage.
pub const OPTION_BYTES_MAX: usize = 128;
/// Bytes of any other name: a title, an object's key, a media type and the like.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Bytes of one field that can be written freely: labels, attributes, key terms, webhooks' URLs, an error's words.
pub const FREE_BYTES_MAX: usize = 4_096;
/// Webhooks of a conversation.
pub const WEBHOOKS_MAX: usize = 8;
/// Entries of one field that can be written freely.
pub const FREE_ITEMS_MAX: usize = 500;
/// The longest patience that a producer may ask for, in milliseconds: 30 days.
pub const PATIENCE_MS_MAX: i64 = 30 * 86_400_000;
/// The longest chunk, in milliseconds: a day.
pub const CHUNK_MS_MAX: i64 = 86_400_000;
/// The last point in time that is believed, in milliseconds since 1970 UTC: the end of the year 9999. Sums and
/// differences of believed times stay far from overflow.
pub const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// A record that breaks a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct Invalid {
    /// The field; that of a part stands behind a dot, for example `object.key`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing stands where something must.
    #[error("is empty")]
    Empty,
    /// More bytes or items than allowed.
    #[error("has length {length}, at most {max} is allowed")]
    TooLong {
        /// Bytes or items.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A number outside its range.
    #[error("is {value}, from {min} to {max} is allowed")]
    OutOfRange {
        /// The number.
        value: i64,
        /// The least allowed.
        min: i64,
        /// The greatest allowed.
        max: i64,
    },
    /// Something else than the field must hold.
    #[error("must be {expected}")]
    Malformed {
        /// What it must be.
        expected: &'static str,
    },
}

impl Invalid {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self.problem {
            Problem::Empty => "empty",
            Problem::TooLong { .. } => "too_long",
            Problem::OutOfRange { .. } => "out_of_range",
            Problem::Malformed { .. } => "malformed",
        }
    }
}

pub(crate) type Checked = Result<(), Invalid>;

/// Checks the length of an encoded record, in bytes.
///
/// # Errors
/// [`Problem::TooLong`] above [`RECORD_BYTES_MAX`].
pub fn check_record_bytes(bytes: usize) -> Result<(), Invalid> {
    length("record", bytes, RECORD_BYTES_MAX)
}

/// Checks a conversation's id: 1 to 128 of `A-Z a-z 0-9 . _ -`.
///
/// # Errors
/// [`Invalid`] for any other.
pub fn check_conversation_id(id: &str) -> Result<(), Invalid> {
    filled("conversation_id", id, CONVERSATION_ID_BYTES_MAX)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    demand("conversation_id", id.bytes().all(allowed), "of A-Z a-z 0-9 . _ - only")
}

/// Checks a chunk's id: 1 to 64 bytes.
///
/// # Errors
/// [`Invalid`] for any other.
pub fn check_chunk_id(id: &str) -> Result<(), Invalid> {
    filled("chunk_id", id, CHUNK_ID_BYTES_MAX)
}

/// Checks a track's name: up to 32 bytes.
///
/// # Errors
/// [`Invalid`] for any other.
pub fn check_track(track: &str) -> Result<(), Invalid> {
    length("track", track.len(), TRACK_BYTES_MAX)
}

pub(crate) fn demand(field: &'static str, holds: bool, expected: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(Invalid { field, problem: Problem::Malformed { expected } }) }
}

pub(crate) fn length(field: &'static str, length: usize, max: usize) -> Checked {
    if length <= max { Ok(()) } else { Err(Invalid { field, problem: Problem::TooLong { length, max } }) }
}

pub(crate) fn filled(field: &'static str, value: &str, max: usize) -> Checked {
    if value.is_empty() {
        Err(Invalid { field, problem: Problem::Empty })
    } else {
        length(field, value.len(), max)
    }
}

pub(crate) fn name(field: &'static str, value: &str) -> Checked {
    filled(field, value, NAME_BYTES_MAX)
}

/// Names that may be null, but not empty.
pub(crate) fn names(values: &[(&'static str, &Option<String>)]) -> Checked {
    values.iter().try_for_each(|(field, value)| value.as_ref().map_or(Ok(()), |value| name(field, value)))
}

pub(crate) fn range(field: &'static str, value: impl Into<i64>, min: i64, max: i64) -> Checked {
    let value = value.into();
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(Invalid { field, problem: Problem::OutOfRange { value, min, max } })
    }
}

/// A number that counts something, and so is not negative.
pub(crate) fn natural(field: &'static str, value: impl Into<i64>) -> Checked {
    range(field, value, 0, i64::MAX)
}

/// A number below the greatest number of chunks or segments.
pub(crate) fn below(field: &'static str, value: impl Into<i64>, end: usize) -> Checked {
    range(field, value, 0, end as i64 - 1)
}

/// A span of time within a chunk, in milliseconds.
pub(crate) fn span(start_ms: i64, end_ms: i64) -> Checked {
    range("start_ms", start_ms, 0, CHUNK_MS_MAX)?;
    range("end_ms", end_ms, start_ms, CHUNK_MS_MAX)
}

/// Lower-case hex SHA-256.
pub(crate) fn sha256(field: &'static str, value: &str) -> Checked {
    let hex = value.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    demand(field, value.len() == 64 && hex, "a sha-256 in lower-case hex")
}

/// A digest of a finalize: its version, a colon, and lower-case hex SHA-256.
pub(crate) fn finalize_digest(field: &'static str, value: &str) -> Checked {
    let (version, digest) = value.split_once(':').unwrap_or_default();
    let versioned =
        !version.is_empty() && version.len() <= 9 && version.bytes().all(|byte| byte.is_ascii_digit());
    demand(field, versioned, "a version, a colon and a sha-256 in lower-case hex")?;
    sha256(field, digest)
}

pub(crate) fn free<'a>(
    field: &'static str,
    items: usize,
    values: impl Iterator<Item = &'a String>,
) -> Checked {
    length(field, items, FREE_ITEMS_MAX)?;
    length(field, values.map(String::len).sum(), FREE_BYTES_MAX)
}
