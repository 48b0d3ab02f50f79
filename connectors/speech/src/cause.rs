//! The one place that maps the cause of a failed call to its class and code, for all providers alike.

use std::time::Duration;

use hansard_core::redelivery::Class;

use crate::port::SpeechError;

/// Everything that can go wrong in a call, as the provider's code found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No connection: refused, no such host, no route, TLS refused, or not made in time.
    Unreachable,
    /// The connection broke after it was made.
    ConnectionLost,
    /// No answer within the time limit.
    TimedOut,
    /// An HTTP status other than success.
    Status { status: u16, account: Account, quota: bool },
    /// Success by its status, but not a transcript: HTML, broken JSON, or more bytes than allowed.
    BadResponse,
    /// The audio is larger or longer than the provider takes.
    TooLarge,
    /// The audio is not 16 kHz mono FLAC.
    Undecodable,
    /// The local model does not speak the language asked for.
    UnsupportedLanguage,
    /// The provider has no such model.
    UnsupportedModel,
    /// The local model or its library cannot be loaded.
    ModelUnavailable,
    /// More calls wait for the local model than its queue holds.
    QueueFull,
    /// The child process ended in the middle of a call.
    ChildDied,
    /// The local model refused samples that were decoded without fault.
    RecognitionFailed,
}

/// Under whose choice of model a call was made: a refusal of the deployment's own concerns every record, a
/// refusal of a record's choice only that record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    Deployment,
    Record,
}

impl Cause {
    /// The table.
    pub(crate) fn class_and_code(self) -> (Class, &'static str) {
        use Class::{Permanent, Transient, Unavailable};
        match self {
            Self::Unreachable => (Unavailable, "unreachable"),
            Self::ConnectionLost => (Transient, "connection_lost"),
            Self::TimedOut => (Transient, "timeout"),
            Self::Status { status, account, quota } => status_class_and_code(status, account, quota),
            Self::BadResponse => (Transient, "bad_response"),
            Self::TooLarge => (Permanent, "too_large"),
            Self::Undecodable => (Permanent, "undecodable_audio"),
            Self::UnsupportedLanguage => (Permanent, "unsupported_language"),
            Self::UnsupportedModel => (Permanent, "unsupported_model"),
            Self::ModelUnavailable => (Unavailable, "model_unavailable"),
            Self::QueueFull => (Unavailable, "queue_full"),
            Self::ChildDied => (Transient, "child_died"),
            Self::RecognitionFailed => (Transient, "recognition_failed"),
        }
    }

    /// The error for this cause.
    pub(crate) fn error(self, message: impl Into<String>) -> SpeechError {
        let (class, code) = self.class_and_code();
        let http_status = match self {
            Self::Status { status, .. } => Some(status),
            _ => None,
        };
        SpeechError { class, code, message: message.into(), http_status, retry_after: None }
    }

    /// The error for this cause, with the time that the provider asks for.
    pub(crate) fn error_after(self, message: impl Into<String>, wait: Option<Duration>) -> SpeechError {
        SpeechError { retry_after: wait, ..self.error(message) }
    }
}

fn status_class_and_code(status: u16, account: Account, quota: bool) -> (Class, &'static str) {
    // A refused key, an unpaid bill and a spent quota are nobody's but the deployment's, unless the record
    // itself asked for a model that the deployment may not use.
    let refusal = match account {
        Account::Deployment => Class::Unavailable,
        Account::Record => Class::Permanent,
    };
    match status {
        401 => (refusal, "authentication"),
        402 => (refusal, "payment_required"),
        403 => (refusal, "forbidden"),
        429 if quota => (refusal, "quota"),
        408 => (Class::Transient, "timeout"),
        413 => (Class::Permanent, "too_large"),
        429 => (Class::Transient, "rate_limited"),
        400..=499 => (Class::Permanent, "rejected"),
        500..=599 => (Class::Transient, "server_error"),
        // Redirects are off, since they would carry audio and key elsewhere. The base URL is wrong for all.
        300..=399 => (Class::Unavailable, "redirected"),
        _ => (Class::Transient, "bad_response"),
    }
}
