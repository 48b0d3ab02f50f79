//! The small values that everything else is made of: times, offsets, digests, names.
//!
//! Each is a type of its own, since mixing up a time with a duration, or one digest with another, compiles nowhere.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::ops::{Add, Sub};
use core::str::FromStr;

/// Why a text is not the value that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty where a name is needed.
    #[error("{what} is empty, give at least one character")]
    Empty {
        /// What was to be read.
        what: &'static str,
    },
    /// The text has more bytes than allowed.
    #[error("{what} has {bytes} bytes, at most {limit} are allowed")]
    TooLong {
        /// What was to be read.
        what: &'static str,
        /// Length of the text in bytes.
        bytes: usize,
        /// Greatest allowed length in bytes.
        limit: usize,
    },
    /// A character is outside `[A-Za-z0-9._-]`.
    #[error("{what} holds the character {character:?}, only letters, digits, '.', '_' and '-' are allowed")]
    Character {
        /// What was to be read.
        what: &'static str,
        /// The first character that is not allowed.
        character: char,
    },
    /// The text is not 64 lower-case hexadecimal digits, or its version is not a number followed by a colon.
    #[error("{text:?} is not a digest, expected {expected}")]
    Digest {
        /// The text.
        text: String,
        /// The form that was expected.
        expected: &'static str,
    },
    /// The word is not in the vocabulary.
    #[error("{word:?} is no {what}")]
    Word {
        /// The vocabulary.
        what: &'static str,
        /// The unknown word.
        word: String,
    },
}

/// A moment of the log's time, in milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every moment: "at once" as a due time.
    pub const MIN: Self = Self(i64::MIN);
    /// After every moment.
    pub const MAX: Self = Self(i64::MAX);
}

/// A length of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub i64);

impl Millis {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// So many minutes.
    #[must_use]
    pub const fn minutes(minutes: i64) -> Self {
        Self::seconds(minutes.saturating_mul(60))
    }

    /// So many hours.
    #[must_use]
    pub const fn hours(hours: i64) -> Self {
        Self::minutes(hours.saturating_mul(60))
    }
}

impl Add<Millis> for Timestamp {
    type Output = Self;
    /// Saturates.
    fn add(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl Sub for Timestamp {
    type Output = Millis;
    /// Saturates.
    fn sub(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Millis {
    type Output = Self;
    /// Saturates.
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Millis {
    type Output = Self;
    /// Saturates.
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// A record's offset in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

impl Offset {
    /// The generation of the rerun at this offset: offset + 1, saturating.
    #[must_use]
    pub const fn generation(self) -> Generation {
        Generation(self.0.saturating_add(1))
    }
}

/// The number of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Partition(pub i32);

/// A stage's generation: 0 at first, a rerun's is its offset in `uploads` + 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub i64);

/// The number of a finalize: 1, 2, 3 …; 0 means none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub i32);

impl Revision {
    /// The revision after this one, saturating.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A SHA-256; as text 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Digest { text: text.into(), expected: "64 lower-case hexadecimal digits" };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| wrong())?;
        let (mut bytes, mut all) = ([0; 32], 0);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
            all |= high | low;
            *byte = high << 4 | low & 0xF;
        }
        // Looked at once: every fact has several digests.
        if all > 0xF { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

/// The value of each lower-case hexadecimal digit; more than any has for what is none.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [0xFF; 256];
    let mut value = 0_u8;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    nibbles
};

/// A manifest's digest with the version of the rule that made it; as text `1:<hex>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FinalizeDigest {
    /// Which rule made the digest.
    pub version: u32,
    /// The digest by that rule.
    pub digest: Digest,
}

impl fmt::Display for FinalizeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.version, self.digest)
    }
}

impl FromStr for FinalizeDigest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Digest {
            text: text.into(),
            expected: "a version, a colon and 64 hexadecimal digits",
        };
        let (version, digest) = text.split_once(':').ok_or_else(wrong)?;
        let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        let version = version.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        Ok(Self { version, digest: digest.parse().map_err(|_| wrong())? })
    }
}

/// Declares a name: a checked text that is cheap to clone.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $range:expr, $plain:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// Where the text is empty, too long, or holds a character that is not allowed.
            pub fn new(text: impl Into<Arc<str>>) -> Result<Self, IdError> {
                let text = text.into();
                check($what, &text, $range, $plain)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
    };
}

fn check(
    what: &'static str,
    text: &str,
    bytes: core::ops::RangeInclusive<usize>,
    plain: bool,
) -> Result<(), IdError> {
    if text.len() < *bytes.start() {
        return Err(IdError::Empty { what });
    }
    if text.len() > *bytes.end() {
        return Err(IdError::TooLong { what, bytes: text.len(), limit: *bytes.end() });
    }
    let allowed = |character: &char| character.is_ascii_alphanumeric() || "._-".contains(*character);
    match text.chars().find(|character| plain && !allowed(character)) {
        Some(character) => Err(IdError::Character { what, character }),
        None => Ok(()),
    }
}

name! {
    /// What one window covers, and the key of every record: `[A-Za-z0-9._-]{1,128}`.
    ConversationId, "conversation id", 1..=128, true
}
name! {
    /// The name of one uploaded recording within its conversation: 1 to 64 bytes.
    ChunkId, "chunk id", 1..=64, false
}
name! {
    /// A producer's line of chunks: at most 32 bytes, by default empty.
    Track, "track", 0..=32, false
}

impl Default for Track {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

/// Declares a closed vocabulary with its words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$word_doc:meta])* $word:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$word_doc])* $word,)+
        }

        impl $name {
            /// Every word of the vocabulary.
            pub const ALL: &'static [Self] = &[$(Self::$word,)+];

            /// The word as records carry it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)+
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl core::str::FromStr for $name {
            type Err = $crate::id::IdError;
            fn from_str(word: &str) -> Result<Self, $crate::id::IdError> {
                let unknown = || $crate::id::IdError::Word { what: $what, word: word.into() };
                Self::ALL.iter().copied().find(|known| known.as_str() == word).ok_or_else(unknown)
            }
        }
    };
}
pub(crate) use words;

words! {
    /// The code of one box in the dataflow.
    Stage, "stage", {
        /// Cuts a chunk into segments.
        Split = "split",
        /// Turns a segment into text.
        Transcribe = "transcribe",
        /// Joins the facts and decides.
        Aggregate = "aggregate",
        /// Joins the audio.
        Merge = "merge",
        /// Writes the transcript document and the summary.
        Summarize = "summarize",
        /// Calls webhooks.
        Notify = "notify",
    }
}

words! {
    /// What a rerun of a stage covers.
    Only, "choice of segments", {
        /// The segments without a transcript of a lower generation.
        Failed = "failed",
        /// All.
        All = "all",
    }
}
