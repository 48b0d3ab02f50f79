//! The transcript of one revision, assembled: who said what and when, and what is missing.
//!
//! Times of segments are relative to their chunk; only here do they move to the conversation's timeline.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::Millis;

/// The transcript of one revision of a conversation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    /// The conversation's id.
    pub conversation: String,
    /// The revision, from 1.
    pub revision: i32,
    /// The finalize's outcome.
    pub outcome: String,
    /// The finalize's digest.
    pub finalize_digest: String,
    /// The end of the last chunk on the timeline.
    pub duration: Millis,
    /// The language of most of the text, where providers named one.
    pub language: Option<String>,
    /// What was said, by start; segments without a word are left out.
    pub lines: Vec<Line>,
    /// What is missing or failed.
    pub gaps: Vec<Gap>,
    /// Whether there are more gaps than listed.
    pub gaps_truncated: bool,
}

/// What was said in one segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Line {
    /// The producer's line of chunks.
    pub track: String,
    /// The chunk.
    pub chunk: String,
    /// The segment's index in the chunk.
    pub segment: u32,
    /// Start on the conversation's timeline.
    pub start: Millis,
    /// End on the conversation's timeline.
    pub end: Millis,
    /// Who speaks, where one speaker says all of it.
    pub speaker: Option<String>,
    /// The text.
    pub text: String,
    /// The words with their times on the timeline; empty where the provider gives none.
    pub words: Vec<Word>,
}

/// One word.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Word {
    /// The word with its punctuation.
    pub text: String,
    /// Start on the conversation's timeline.
    pub start: Millis,
    /// End on the conversation's timeline.
    pub end: Millis,
    /// 0 to 1.
    pub confidence: Option<f32>,
    /// Who says it.
    pub speaker: Option<String>,
}

/// Something that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gap {
    /// The producer's line of chunks.
    pub track: String,
    /// `missing`, `pending` or `failed`.
    pub status: String,
    /// The stable code of the reason.
    pub code: String,
    /// The chunk, where it is known.
    pub chunk: Option<String>,
    /// The segment, where it is one.
    pub segment: Option<u32>,
    /// The number within the track, where it is known.
    pub sequence: Option<u32>,
}

/// A chunk on the timeline, with its transcribed segments in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlacedChunk {
    /// Its id.
    pub chunk: String,
    /// Its track.
    pub track: String,
    /// Its start on the timeline.
    pub offset: Millis,
    /// Its length.
    pub duration: Millis,
    /// Its segments that have a text.
    pub segments: Vec<Spoken>,
}

/// A transcribed segment, in its chunk's time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spoken {
    /// Its index.
    pub segment: u32,
    /// Start in the chunk.
    pub start: Millis,
    /// End in the chunk.
    pub end: Millis,
    /// The text; may be empty.
    pub text: String,
    /// The words, in the chunk's time.
    pub words: Vec<Word>,
    /// The language as the provider named it.
    pub language: Option<String>,
}

impl Document {
    /// Places segments on the timeline and joins them; what else the document says is filled in by the caller.
    #[must_use]
    pub fn assemble(chunks: Vec<PlacedChunk>) -> Self {
        let mut document = Self::default();
        let mut languages: Vec<(String, usize)> = Vec::new();
        for chunk in chunks {
            document.duration = document.duration.max(chunk.offset + chunk.duration);
            for spoken in chunk.segments {
                if let Some(language) = &spoken.language {
                    count(&mut languages, language, spoken.text.len());
                }
                if !spoken.text.trim().is_empty() {
                    document.lines.push(line(&chunk.chunk, &chunk.track, chunk.offset, spoken));
                }
            }
        }
        document.lines.sort_by(|a, b| {
            (a.start, &a.track, &a.chunk, a.segment).cmp(&(b.start, &b.track, &b.chunk, b.segment))
        });
        // Of equals the first by name, so that the same texts give the same document.
        languages.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        document.language = languages.into_iter().next().map(|(language, _)| language);
        document
    }

    /// Number of words of the whole text, as white space parts them.
    #[must_use]
    pub fn word_count(&self) -> usize {
        self.lines.iter().map(|line| line.text.split_whitespace().count()).sum()
    }
}

fn count(languages: &mut Vec<(String, usize)>, language: &str, weight: usize) {
    match languages.iter_mut().find(|(known, _)| known == language) {
        Some((_, sum)) => *sum += weight,
        None => languages.push((language.into(), weight)),
    }
}

fn line(chunk: &str, track: &str, offset: Millis, spoken: Spoken) -> Line {
    let words: Vec<Word> = spoken
        .words
        .into_iter()
        .map(|word| Word { start: offset + word.start, end: offset + word.end, ..word })
        .collect();
    let first = words.first().and_then(|word| word.speaker.clone());
    let speaker = first.filter(|speaker| words.iter().all(|word| word.speaker.as_ref() == Some(speaker)));
    Line {
        track: track.into(),
        chunk: chunk.into(),
        segment: spoken.segment,
        start: offset + spoken.start,
        end: offset + spoken.end,
        speaker,
        text: spoken.text.trim().into(),
        words,
    }
}
