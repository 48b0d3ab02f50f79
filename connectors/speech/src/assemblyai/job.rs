//! What AssemblyAI answers: a job and what came of it, and the list of jobs. It gives a job's failure as a sentence only
//! (<https://www.assemblyai.com/docs/guides/common_errors_and_solutions>), so the sentences that are known stand in a table.

use std::collections::HashSet;

use hansard_jobs::ports::SpeechReply;
use hansard_provider::{Account, Cause};
use hansard_schemas::Word;
use serde::{Deserialize, Deserializer};

use crate::answer::{Unreadable, within_limits};
use crate::words::{Span, Told, name, share};

/// What stands for the text and the links of a job that was deleted.
const DELETED: [&str; 2] = ["http://deleted_by_user", "Deleted by user."];

/// A job, as a submission, a check and a deletion answer it.
#[derive(Deserialize)]
pub(super) struct Job {
    pub(super) id: String,
    status: String,
    error: Option<String>,
    /// Null where nothing is said. A result in which it is not even named is none.
    #[serde(default, deserialize_with = "given")]
    text: Option<Option<String>>,
    words: Option<Vec<TimedWord>>,
    audio_url: Option<String>,
    /// Whole seconds.
    audio_duration: Option<f64>,
    language_code: Option<String>,
    language_confidence: Option<f64>,
    speech_model_used: Option<String>,
    pub(super) webhook_url: Option<String>,
}

#[derive(Deserialize)]
struct TimedWord {
    text: String,
    start: f64,
    end: f64,
    confidence: Option<f64>,
    speaker: Option<String>,
}

/// How far a job is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is queued or worked on.
    UnderWay,
    /// It has a result.
    Completed,
    /// It has ended without one, for this cause.
    Ended(Cause),
    /// It has ended since nothing is said.
    Silent,
    /// Somebody has deleted it.
    Deleted,
    /// It says something else.
    Unknown,
}

/// How a job's failure is known: parts of its sentence, in lower case; the first that fits counts. Pages of text are told
/// apart from other files that are no audio, since a segment is never one: there the link led elsewhere.
const ENDINGS: [(&str, Ending); 15] = [
    ("no spoken audio", Ending::Silent),
    ("no speech", Ending::Silent),
    ("file type is text/", Ending::Failed(Cause::AudioUnreachable)),
    ("download error", Ending::Failed(Cause::AudioUnreachable)),
    ("unable to download", Ending::Failed(Cause::AudioUnreachable)),
    ("unable to access", Ending::Failed(Cause::AudioUnreachable)),
    ("does not appear to contain audio", Ending::Failed(Cause::UnsupportedAudio)),
    ("transcoding failed", Ending::Failed(Cause::UnsupportedAudio)),
    ("unsupported file", Ending::Failed(Cause::UnsupportedAudio)),
    ("unsupported audio", Ending::Failed(Cause::UnsupportedAudio)),
    ("unsupported media", Ending::Failed(Cause::UnsupportedAudio)),
    ("too short", Ending::Failed(Cause::TooShort)),
    ("too long", Ending::Failed(Cause::TooLarge)),
    ("too large", Ending::Failed(Cause::TooLarge)),
    ("account balance is negative", Ending::OutOfQuota),
];

#[derive(Clone, Copy)]
enum Ending {
    Silent,
    Failed(Cause),
    OutOfQuota,
}

impl Job {
    pub(super) fn read(body: &[u8]) -> Result<Self, Unreadable> {
        Ok(serde_json::from_slice(body)?)
    }

    /// How far it is.
    pub(super) fn stage(&self, account: Account) -> Stage {
        let text = self.text.as_ref().and_then(Option::as_deref);
        let told = [text, self.audio_url.as_deref(), self.webhook_url.as_deref()];
        // This is asked first: a job that was deleted is completed, and its "text" is not what anybody said.
        if told.into_iter().flatten().any(|told| DELETED.contains(&told)) {
            return Stage::Deleted;
        }
        match self.status.as_str() {
            "queued" | "processing" => Stage::UnderWay,
            "completed" => Stage::Completed,
            "error" => {
                let said = self.said().to_lowercase();
                let known = ENDINGS.iter().find(|(part, _)| said.contains(part));
                match known.map(|(_, ending)| *ending) {
                    Some(Ending::Silent) => Stage::Silent,
                    Some(Ending::Failed(cause)) => Stage::Ended(cause),
                    Some(Ending::OutOfQuota) => Stage::Ended(Cause::Quota(account)),
                    None => Stage::Ended(Cause::JobFailed),
                }
            }
            _ => Stage::Unknown,
        }
    }

    /// Its own words for its failure; they may hold the audio's link.
    pub(super) fn said(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }

    /// What was said between these times of the chunk.
    pub(super) fn reply(
        self,
        start_ms: i64,
        end_ms: i64,
        redact: bool,
        model: &str,
    ) -> Result<SpeechReply, Unreadable> {
        let span = Span::new(start_ms, end_ms);
        let mut words = span.place(self.words.into_iter().flatten().map(TimedWord::told));
        let text = match self.text {
            Some(Some(text)) => text.trim().to_owned(),
            Some(None) if words.is_empty() => String::new(),
            Some(None) => return Err(Unreadable::Contradiction("there are words and no text")),
            None => return Err(Unreadable::Contradiction("it is completed and has no text")),
        };
        if redact {
            mask(&mut words, &text);
        }
        within_limits(&text, &words)?;
        // It tells whole seconds, rounded: the segment's own length is more exact where they agree.
        let whole = span.heard_ms(end_ms, None);
        let told = span.heard_ms(end_ms, self.audio_duration.map(|seconds| seconds * 1000.0));
        Ok(SpeechReply {
            text,
            words,
            language: self.language_code.as_deref().and_then(name),
            language_confidence: self.language_confidence.map(share),
            model: self.speech_model_used.as_deref().and_then(name).unwrap_or_else(|| model.to_owned()),
            audio_ms: if (whole - told).abs() <= 1_000 { whole } else { told },
            call_id: Some(self.id),
        })
    }
}

impl TimedWord {
    fn told(self) -> Told {
        let Self { text, start, end, confidence, speaker } = self;
        Told { text, start_ms: start, end_ms: end, confidence, speaker }
    }
}

/// The redaction is promised for the text alone (<https://www.assemblyai.com/docs/pre-recorded-audio/redact-pii-from-transcripts>).
/// A word that the text does not hold any more is therefore masked here.
fn mask(words: &mut [Word], text: &str) {
    let kept: HashSet<&str> = text.split_whitespace().collect();
    for word in words {
        if !word.text.split_whitespace().all(|part| kept.contains(part)) {
            word.text = "#".repeat(word.text.chars().count());
        }
    }
}

fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(from).map(Some)
}

/// A page of the list of jobs, from the newest to the oldest.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) transcripts: Vec<Listed>,
}

/// A job in the list.
#[derive(Deserialize)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) audio_url: String,
    created: String,
}

impl Listed {
    /// When it was made, in milliseconds since 1970; nothing where that cannot be read.
    pub(super) fn created_ms(&self) -> Option<i64> {
        moment_ms(&self.created)
    }
}

/// Reads `2024-03-11T21:24:59.979420`, in UTC with or without a `Z`; no other zone is told.
fn moment_ms(text: &str) -> Option<i64> {
    let (date, time) = text.trim_end_matches('Z').split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (time.next()?.parse::<i64>().ok()?, time.next()?.parse::<i64>().ok()?);
    let second = time.next()?.parse::<f64>().ok()?;
    let known = [(1970..=9999, year), (1..=12, month), (1..=31, day), (0..=23, hour), (0..=59, minute)];
    if known.iter().any(|(range, part)| !range.contains(part)) || !(0.0..61.0).contains(&second) {
        return None;
    }
    // Days since 1970, with the year beginning in March (Hinnant, "chrono-compatible low-level date algorithms").
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    #[allow(clippy::cast_possible_truncation, reason = "below 61,000")]
    let second_ms = (second * 1000.0) as i64;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_what_is_none_is_not() {
        let table = [
            ("1970-01-01T00:00:00", Some(0)),
            ("2024-02-29T23:59:59.999Z", Some(1_709_251_199_999)),
            ("2024-03-11T21:24:59.979420", Some(1_710_192_299_979)),
            ("2024-13-01T00:00:00", None),
            ("2024-01-01T00:00:00+02:00", None),
            ("2024-01-01T00:00:NaN", None),
            ("-1-1-1T1:1:1", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, ms) in table {
            assert_eq!(moment_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn a_failure_is_known_by_its_sentence() {
        let failed = |cause| Stage::Ended(cause);
        let table = [
            ("language_detection cannot be performed on files with no spoken audio.", Stage::Silent),
            ("Audio file contains no speech", Stage::Silent),
            ("Audio duration is too short.", failed(Cause::TooShort)),
            (
                "File does not appear to contain audio. File type is application/pdf (PDF document).",
                failed(Cause::UnsupportedAudio),
            ),
            (
                "File does not appear to contain audio. File type is text/html (HTML document).",
                failed(Cause::AudioUnreachable),
            ),
            ("Transcoding failed. File may be corrupted", failed(Cause::UnsupportedAudio)),
            ("Download error, unable to download https://foo.bar.", failed(Cause::AudioUnreachable)),
            ("Your current account balance is negative.", failed(Cause::Quota(Account::Record))),
            ("Server error, developers have been alerted.", failed(Cause::JobFailed)),
            ("", failed(Cause::JobFailed)),
        ];
        for (error, stage) in table {
            let body = serde_json::json!({"id": "a", "status": "error", "error": error}).to_string();
            assert_eq!(Job::read(body.as_bytes()).expect("a job").stage(Account::Record), stage, "{error}");
        }
    }
}
