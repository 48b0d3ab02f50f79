//! Reading what a server answered: transcripts in the dialects of OpenAI, whisper.cpp and faster-whisper.

use hansard_schemas::Word;
use serde::Deserialize;
use serde_json::error::Category;

use crate::piece::{Spoken, spread_words};
use crate::words::{Span, Told, name};

/// Bytes of a segment's text, at most; in ten minutes nobody says a tenth of it.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// Words of a segment, at most.
const WORDS_MAX: usize = 20_000;

/// Why an answer is no transcript. It tells where, not what: an answer may hold what was said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{:?} at line {}, column {}", .0.classify(), .0.line(), .0.column())]
    Json(#[from] serde_json::Error),
    #[error("{bytes} bytes of text and {words} words are more than anybody says in a segment")]
    TooMuch { bytes: usize, words: usize },
    #[error("{0}")]
    Contradiction(&'static str),
}

/// A transcript, its times relative to the chunk.
#[derive(Debug)]
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
    probability: Option<f64>,
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
pub(crate) fn heard(body: &[u8], start_ms: i64, end_ms: i64) -> Result<Heard, Unreadable> {
    let transcript: Transcript = serde_json::from_slice(body)?;
    let span = Span::new(start_ms, end_ms);
    let heard = Heard {
        text: transcript.text.trim().to_owned(),
        language: transcript.language.as_deref().and_then(name).map(|language| language.to_lowercase()),
        audio_ms: span.heard_ms(end_ms, transcript.duration.map(|seconds| seconds * 1000.0)),
        words: span.place(told(transcript.words, transcript.segments, span)),
    };
    within_limits(&heard.text, &heard.words)?;
    Ok(heard)
}

/// Refuses what would be too large to be kept, and cannot have been said.
pub(crate) fn within_limits(text: &str, words: &[Word]) -> Result<(), Unreadable> {
    let bytes = text.len().max(words.iter().map(|word| word.text.len()).sum());
    if bytes > TEXT_BYTES_MAX || words.len() > WORDS_MAX {
        return Err(Unreadable::TooMuch { bytes, words: words.len() });
    }
    Ok(())
}

/// Times of words stand at the top, within the stretches, or nowhere; then they are spread over the stretches.
fn told(timed: Option<Vec<TimedWord>>, stretches: Option<Vec<Stretch>>, span: Span) -> Vec<Told> {
    if let Some(timed) = timed.filter(|timed| !timed.is_empty()) {
        return timed.into_iter().map(TimedWord::told).collect();
    }
    stretches.into_iter().flatten().flat_map(|stretch| stretch.told(span)).collect()
}

impl TimedWord {
    fn told(self) -> Told {
        Told {
            text: self.word,
            start_ms: self.start * 1000.0,
            end_ms: self.end * 1000.0,
            confidence: self.probability,
            speaker: self.speaker,
        }
    }
}

impl Stretch {
    fn told(self, span: Span) -> Vec<Told> {
        if let Some(timed) = self.words.filter(|timed| !timed.is_empty()) {
            return timed.into_iter().map(TimedWord::told).collect();
        }
        let start_ms = span.clamp(self.start * 1000.0);
        let spoken = Spoken { start_ms, end_ms: span.clamp(self.end * 1000.0).max(start_ms) };
        let spread = spread_words(&self.text, &[spoken], 0).into_iter();
        #[allow(clippy::cast_precision_loss, reason = "within a day")]
        let told = |word: crate::frame::HeardWord| Told {
            text: word.text,
            start_ms: word.start_ms as f64,
            end_ms: word.end_ms as f64,
            confidence: None,
            speaker: None,
        };
        spread.map(told).collect()
    }
}
