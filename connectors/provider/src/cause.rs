//! The one place that maps the cause of a failed call to its class and code, for all providers alike.

use std::time::Duration;

use hansard_core::redelivery::Class;
use hansard_runtime::stage::Failed;

use crate::refusal::Told;

/// Everything that can go wrong in a call, as the provider's code found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection: refused, no such host, no route, TLS refused, or not made in time.
    Unreachable,
    /// The connection broke after it was made.
    ConnectionLost,
    /// No answer within the time limit.
    TimedOut,
    /// An HTTP status other than success, with what the body told beside it.
    Status {
        /// The status.
        status: u16,
        /// Whose choice was refused.
        account: Account,
        /// What the body told.
        told: Told,
    },
    /// Success by its status, but not what was asked for: HTML, broken JSON, another job, or more bytes than allowed.
    BadResponse,
    /// The model's answer was cut off by its limit. The next may be shorter; where most are cut off, the limit is too low.
    AnswerTruncated,
    /// The model or the server's filter will not answer to what it was sent.
    ContentRefused,
    /// What is sent is larger or longer than the provider takes.
    TooLarge,
    /// Who was to hear the audio cannot read it: it is not 16 kHz mono FLAC, or it is and the provider takes that for none.
    UnsupportedAudio,
    /// The audio is shorter than the provider takes.
    TooShort,
    /// The provider could not fetch the audio by the link that it was given.
    AudioUnreachable,
    /// The provider does not know the language asked for.
    UnsupportedLanguage,
    /// The provider has no such model.
    UnsupportedModel,
    /// The deployment has no such provider.
    UnknownProvider,
    /// The account's money or allowance is spent, which is told otherwise than by a status.
    Quota(Account),
    /// The provider gave a job up for a reason of its own.
    JobFailed,
    /// The provider still works on a job that it was to delete.
    JobUnderWay,
    /// The local model or its library cannot be loaded.
    ModelUnavailable,
    /// More calls wait for the local model than its queue holds.
    QueueFull,
    /// The child process ended in the middle of a call.
    ChildDied,
    /// The local model refused samples that were decoded without fault.
    RecognitionFailed,
}

/// Under whose choice of provider and model a call was made: a refusal of the deployment's own concerns every record, a
/// refusal of a record's choice only that record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// The deployment's.
    Deployment,
    /// The record's.
    Record,
}

impl Account {
    /// A refused key, an unpaid bill, a spent quota and a model that is none are nobody's but the deployment's, unless the
    /// record itself asked for what the deployment may not use.
    fn refusal(self) -> Class {
        match self {
            Self::Deployment => Class::Unavailable,
            Self::Record => Class::Permanent,
        }
    }
}

impl Cause {
    /// The table.
    #[must_use]
    pub fn class_and_code(self) -> (Class, &'static str) {
        use Class::{Permanent, Transient, Unavailable};
        match self {
            Self::Unreachable => (Unavailable, "unreachable"),
            Self::ConnectionLost => (Transient, "connection_lost"),
            Self::TimedOut => (Transient, "timeout"),
            Self::Status { status, account, told } => of_status(status, account, told),
            Self::BadResponse => (Transient, "bad_response"),
            Self::AnswerTruncated => (Transient, "answer_truncated"),
            Self::ContentRefused => (Permanent, "content_refused"),
            Self::TooLarge => (Permanent, "too_large"),
            Self::UnsupportedAudio => (Permanent, "unsupported_audio"),
            Self::TooShort => (Permanent, "too_short"),
            Self::AudioUnreachable => (Transient, "audio_unreachable"),
            Self::UnsupportedLanguage => (Permanent, "unsupported_language"),
            Self::UnsupportedModel => (Permanent, "unsupported_model"),
            Self::UnknownProvider => (Permanent, "unknown_provider"),
            Self::Quota(account) => (account.refusal(), "quota"),
            Self::JobFailed => (Transient, "job_failed"),
            Self::JobUnderWay => (Transient, "job_under_way"),
            Self::ModelUnavailable => (Unavailable, "model_unavailable"),
            Self::QueueFull => (Unavailable, "queue_full"),
            Self::ChildDied => (Transient, "child_died"),
            Self::RecognitionFailed => (Transient, "recognition_failed"),
        }
    }

    /// The failure of this cause. The message is for people: what happened and, where there is one, the remedy; it never
    /// holds a key or what was said.
    pub fn failed(self, message: impl Into<String>) -> Failed {
        let (class, code) = self.class_and_code();
        let http_status = match self {
            Self::Status { status, .. } => Some(status),
            _ => None,
        };
        Failed { http_status, ..Failed::new(class, code, message) }
    }

    /// The failure of this cause, with the time that the provider asks for. Who says how long it serves nobody is down for
    /// all records, and not for this one.
    pub fn failed_after(self, message: impl Into<String>, wait: Option<Duration>) -> Failed {
        let failed = self.failed(message);
        let class = match (failed.http_status, wait) {
            (Some(503), Some(_)) => Class::Unavailable,
            _ => failed.class,
        };
        Failed { class, retry_after: wait, ..failed }
    }
}

fn of_status(status: u16, account: Account, told: Told) -> (Class, &'static str) {
    let refusal = account.refusal();
    match status {
        400..=499 if told == Told::Quota => (refusal, "quota"),
        400..=499 if told == Told::NoSuchModel => (refusal, "unsupported_model"),
        400..=499 if told == Told::NoSuchLanguage => (Class::Permanent, "unsupported_language"),
        400..=499 if told == Told::TooLong => (Class::Permanent, "too_large"),
        400..=499 if told == Told::ContentRefused => (Class::Permanent, "content_refused"),
        400..=499 if told == Told::NoSuchJob => (Class::Permanent, "no_such_job"),
        400..=499 if told == Told::UnsupportedAudio => (Class::Permanent, "unsupported_audio"),
        400..=499 if told == Told::TooShort => (Class::Permanent, "too_short"),
        // The call itself is unknown there. The base URL is wrong for all.
        404 | 405 if told == Told::NotTheApi => (Class::Unavailable, "wrong_url"),
        401 => (refusal, "authentication"),
        402 => (refusal, "payment_required"),
        403 => (refusal, "forbidden"),
        408 => (Class::Transient, "timeout"),
        413 => (Class::Permanent, "too_large"),
        415 => (Class::Permanent, "unsupported_audio"),
        429 => (Class::Transient, "rate_limited"),
        400..=499 => (Class::Permanent, "rejected"),
        500..=599 => (Class::Transient, "server_error"),
        // Redirects are off, since they would carry audio and key elsewhere. The base URL is wrong for all.
        300..=399 => (Class::Unavailable, "redirected"),
        _ => (Class::Transient, "bad_response"),
    }
}
