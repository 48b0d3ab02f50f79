//! Reading what a server answered: transcripts in the dialects of OpenAI, whisper.cpp and faster-whisper, and
//! refusals.

use serde::Deserialize;
use serde_json::error::Category;

use crate::piece::{Spoken, spread_words};
use crate::port::{Request, Word};

/// A transcript, its times relative to the chunk.
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) words: Vec<Word>,
    pub(crate) language: Option<String>,
    pub(crate) audio_ms: i64,
}

#[derive(Deserialize)]
struct Transcript {
    text: String,
    language: Option<String>,
    duration: Option<f64>,
    words: Option<Vec<TimedWord>>,
    segments: Option<Vec<Stretch>>,
}

#[derive(Deserialize)]
struct TimedWord {
    word: String,
    start: f64,
    end: f64,
    probability: Option<f32>,
    speaker: Option<String>,
}

#[derive(Deserialize)]
struct Stretch {
    text: String,
    start: f64,
    end: f64,
    words: Option<Vec<TimedWord>>,
}

/// Where an answer is none. The reader's own words would repeat what stands there, which may have been said.
pub(crate) fn place(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Io | Category::Eof => "it ends early",
        Category::Syntax => "it is no JSON",
        Category::Data => "it is other JSON",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

/// Reads a transcript from an answer's body.
pub(crate) fn heard(body: &[u8], request: &Request) -> Result<Heard, serde_json::Error> {
    let transcript: Transcript = serde_json::from_slice(body)?;
    let segment_ms = (request.end_ms - request.start_ms).max(0);
    Ok(Heard {
        text: transcript.text.trim().to_owned(),
        language: transcript.language.as_deref().map(str::to_lowercase),
        audio_ms: transcript.duration.map_or(segment_ms, whole_ms),
        words: words(transcript.words, transcript.segments, request.start_ms),
    })
}

/// Times of words stand at the top, within the stretches, or nowhere; then they are spread over the stretches.
fn words(timed: Option<Vec<TimedWord>>, stretches: Option<Vec<Stretch>>, offset_ms: i64) -> Vec<Word> {
    if let Some(timed) = timed.filter(|timed| !timed.is_empty()) {
        return timed.into_iter().filter_map(|word| word.placed(offset_ms)).collect();
    }
    stretches.into_iter().flatten().flat_map(|stretch| stretch.placed(offset_ms)).collect()
}

impl TimedWord {
    fn placed(self, offset_ms: i64) -> Option<Word> {
        let text = self.word.trim();
        (!text.is_empty()).then(|| Word {
            text: text.to_owned(),
            start_ms: offset_ms + whole_ms(self.start),
            end_ms: offset_ms + whole_ms(self.end.max(self.start)),
            confidence: self.probability.map(|probability| probability.clamp(0.0, 1.0)),
            speaker: self.speaker,
        })
    }
}

impl Stretch {
    fn placed(self, offset_ms: i64) -> Vec<Word> {
        if let Some(timed) = self.words.filter(|timed| !timed.is_empty()) {
            return timed.into_iter().filter_map(|word| word.placed(offset_ms)).collect();
        }
        let spoken = Spoken { start_ms: whole_ms(self.start), end_ms: whole_ms(self.end.max(self.start)) };
        let spread = spread_words(&self.text, &[spoken], offset_ms).into_iter();
        let placed = spread.map(|word| Word {
            text: word.text,
            start_ms: word.start_ms,
            end_ms: word.end_ms,
            confidence: None,
            speaker: None,
        });
        placed.collect()
    }
}

#[allow(clippy::cast_possible_truncation, reason = "clamped to a day, which no segment lasts")]
fn whole_ms(seconds: f64) -> i64 {
    (seconds.clamp(0.0, 86_400.0) * 1000.0).round() as i64
}

/// What a server says when it refuses.
#[derive(Default)]
pub(crate) struct Refusal {
    code: Option<String>,
    kind: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct RefusalBody {
    error: RefusalError,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RefusalError {
    Text(String),
    Fields {
        message: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
        // Some servers repeat the status here, as a number.
        code: Option<serde_json::Value>,
    },
}

/// Reads a refusal; nothing is known where the body is not JSON.
pub(crate) fn refusal(body: &[u8]) -> Refusal {
    match serde_json::from_slice::<RefusalBody>(body).map(|body| body.error) {
        Ok(RefusalError::Text(message)) => Refusal { message: Some(message), ..Refusal::default() },
        Ok(RefusalError::Fields { message, kind, code }) => {
            Refusal { code: code.and_then(|code| code.as_str().map(str::to_owned)), kind, message }
        }
        Err(_) => Refusal::default(),
    }
}

impl Refusal {
    /// Whether the account's money or allowance is spent, by the codes that are documented for it.
    pub(crate) fn is_quota(&self) -> bool {
        let codes = ["insufficient_quota", "billing_hard_limit_reached"];
        [&self.code, &self.kind].into_iter().flatten().any(|code| codes.contains(&code.as_str()))
    }

    /// The code and the text, at most 300 characters, on one line.
    pub(crate) fn text(&self) -> Option<String> {
        let said = [self.code.as_deref(), self.message.as_deref()];
        let said = said.into_iter().flatten().collect::<Vec<_>>().join(": ");
        let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        (!said.is_empty()).then_some(said)
    }
}
