//! Reading what a server answered: transcripts in the dialects of OpenAI, whisper.cpp and faster-whisper.

use hansard_schemas::Word;
use serde::Deserialize;

use crate::piece::{Spoken, spread_words};

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

/// Reads a transcript from an answer's body.
pub(crate) fn heard(body: &[u8], start_ms: i64, end_ms: i64) -> Result<Heard, serde_json::Error> {
    let transcript: Transcript = serde_json::from_slice(body)?;
    let segment_ms = (end_ms - start_ms).max(0);
    Ok(Heard {
        text: transcript.text.trim().to_owned(),
        language: transcript.language.as_deref().map(str::to_lowercase),
        audio_ms: transcript.duration.map_or(segment_ms, whole_ms),
        words: words(transcript.words, transcript.segments, start_ms),
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
