//! What can go wrong with audio: one enum for both sides of the child's pipe, each cause with a stable code and
//! a class, so that nobody has to read an error text to decide what happens next.

use serde::{Deserialize, Serialize};

/// What the cause says about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The bytes themselves are the cause: the same bytes fail again, so there is no second attempt.
    Permanent,
    /// This machine, at this moment, is the cause: another attempt may succeed.
    Transient,
    /// The decoder broke. As a rule the same bytes break it again, but not surely: few attempts.
    Defect,
}

/// Every way in which splitting or merging fails. On the pipe it is JSON, tagged with its code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum AudioError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// No known container was recognised.
    #[error("the file is not audio in any known container")]
    NotAudio,
    /// The format is known, yet not decoded, or could not be decoded faithfully.
    #[error("{codec} in {container} is not supported; use opus, aac-lc, mp3, vorbis, flac, alac or pcm")]
    UnsupportedCodec {
        /// The codec's name, or what the container calls it; `audio` where nobody looked into the container.
        codec: String,
        /// The container's short name.
        container: String,
    },
    /// A slice without its own header has none before it that fits.
    #[error("the slice has no header ({detail}); upload the recorder's first slice, with the header in it")]
    NoHeader {
        /// What was there instead.
        detail: String,
    },
    /// The container holds no audio track, for instance only video.
    #[error("the {container} file has no audio track")]
    NoAudioTrack {
        /// The container's short name.
        container: String,
    },
    /// Container and codec are known, yet nothing could be decoded.
    #[error("no audio could be decoded: {detail}")]
    Corrupt {
        /// What the decoder said.
        detail: String,
    },
    /// The decoded audio exceeds [`Limits::decoded_ms`](crate::Limits::decoded_ms).
    #[error("the recording decodes to more than {limit_ms} ms; upload it in shorter chunks")]
    TooLong {
        /// The limit.
        limit_ms: u64,
    },
    /// The cut recording exceeds [`Limits::segments`](crate::Limits::segments).
    #[error("the recording is cut into more than {limit} segments; upload it in shorter chunks")]
    TooManySegments {
        /// The limit.
        limit: u32,
    },
    /// The encoded result exceeds [`Limits::output_bytes`](crate::Limits::output_bytes), or what the format holds.
    #[error("the result exceeds {limit} bytes; choose opus or raise the limit")]
    OutputTooLarge {
        /// The limit.
        limit: u64,
    },
    /// The wall clock's limit passed. It may have been a slow machine or a slow reader.
    #[error("the decoder took longer than {limit_seconds} s")]
    DecodeTimeout {
        /// The limit.
        limit_seconds: u64,
    },
    /// The child ended without an answer: a panic, a fault in a decoder, or the system's memory ran out.
    #[error("the decoder ended abnormally ({detail})")]
    DecodeCrashed {
        /// Its exit code or signal.
        detail: String,
    },
    /// The child used up its processor time or its memory.
    #[error("the decoder exceeded its limit of {limit}")]
    DecodeLimit {
        /// Which limit it was, with its value.
        limit: String,
    },
    /// More of a merge's inputs were lost than is allowed.
    #[error("{skipped} of {inputs} inputs could not be merged, which is more than allowed")]
    TooMuchLost {
        /// Inputs without any usable audio.
        skipped: u32,
        /// All inputs.
        inputs: u32,
    },
    /// The packets of a merge's input cannot stand in the merged file: it is merged from samples instead.
    #[error("the packets of an input cannot be copied ({detail}); merge to another format")]
    CannotCopy {
        /// What does not fit.
        detail: String,
    },
    /// A merge got more inputs than a conversation may have chunks.
    #[error("a merge takes at most {limit} inputs")]
    TooManyInputs {
        /// The limit.
        limit: u32,
    },
    /// The child could not be started, or a pipe or file failed.
    #[error("{doing} failed: {cause}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        cause: String,
    },
    /// Parent and child disagree about the protocol: they are of different versions.
    #[error("the decoder's answer was not understood ({detail}); use the same version for parent and child")]
    Protocol {
        /// What was not understood.
        detail: String,
    },
    /// The receiver of the segments went away.
    #[error("the receiver of the segments is gone")]
    Cancelled,
}

impl AudioError {
    /// The stable code that records carry.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotAudio => "not_audio",
            Self::UnsupportedCodec { .. } => "unsupported_codec",
            Self::NoHeader { .. } => "no_header",
            Self::NoAudioTrack { .. } => "no_audio_track",
            Self::Corrupt { .. } => "corrupt",
            Self::TooLong { .. } => "too_long",
            Self::TooManySegments { .. } => "too_many_segments",
            Self::OutputTooLarge { .. } => "output_too_large",
            Self::DecodeTimeout { .. } => "decode_timeout",
            Self::DecodeCrashed { .. } => "decode_crashed",
            Self::DecodeLimit { .. } => "decode_limit",
            Self::TooMuchLost { .. } => "too_much_lost",
            Self::CannotCopy { .. } => "cannot_copy",
            Self::TooManyInputs { .. } => "too_many_inputs",
            Self::Io { .. } => "io",
            Self::Protocol { .. } => "protocol",
            Self::Cancelled => "cancelled",
        }
    }

    /// What the cause says about trying again.
    pub fn class(&self) -> Class {
        match self {
            Self::Empty
            | Self::NotAudio
            | Self::UnsupportedCodec { .. }
            | Self::NoHeader { .. }
            | Self::NoAudioTrack { .. }
            | Self::Corrupt { .. }
            | Self::TooLong { .. }
            | Self::TooManySegments { .. }
            | Self::OutputTooLarge { .. }
            | Self::DecodeLimit { .. }
            | Self::TooMuchLost { .. }
            | Self::CannotCopy { .. }
            | Self::TooManyInputs { .. } => Class::Permanent,
            Self::DecodeTimeout { .. } | Self::Io { .. } | Self::Cancelled => Class::Transient,
            Self::DecodeCrashed { .. } | Self::Protocol { .. } => Class::Defect,
        }
    }

    /// An [`AudioError::Io`] with what was being done.
    pub(crate) fn io(doing: &str) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |cause| Self::Io { doing: doing.to_owned(), cause: cause.to_string() }
    }
}
