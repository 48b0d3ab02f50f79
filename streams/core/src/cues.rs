//! The transcript as cues of a player: short pieces of text with their times.
//!
//! A cue is never empty, holds no line break of the text's own, starts no earlier than the cue before it, and lasts at
//! least a millisecond. Its text is the line's, also where the provider gives words without punctuation: words only tell
//! where the text may be parted, and when. A text without usable words is parted evenly over its time.

use alloc::string::String;
use alloc::vec::Vec;

use crate::document::{Document, Line, Word};
use crate::id::Millis;

/// A cue is shown for at most so long before it is parted at a word; a longer one cannot be read along.
const CUE_MS_MAX: i64 = 7_000;
/// Characters of a cue: two lines of usual width.
const CUE_CHARS_MAX: usize = 84;
/// Characters from which on the end of a sentence ends the cue.
const SENTENCE_CHARS_MIN: usize = 30;
/// Characters of one line of a cue.
const LINE_CHARS_MAX: usize = 42;

/// What is shown from `start` to `end`.
pub(crate) struct Cue {
    pub(crate) start: Millis,
    pub(crate) end: Millis,
    pub(crate) speaker: Option<String>,
    /// One or two lines.
    pub(crate) text: String,
}

/// A piece of a line's text that is not parted, with its time.
struct Piece<'a> {
    text: &'a str,
    start: Millis,
    end: Millis,
    speaker: Option<&'a str>,
}

/// The cues of the whole document, by start.
pub(crate) fn cues(document: &Document) -> Vec<Cue> {
    let mut cues = Vec::new();
    for line in &document.lines {
        let pieces = by_words(line).unwrap_or_else(|| evenly(line));
        let mut open: Vec<Piece<'_>> = Vec::new();
        for piece in pieces {
            if open.first().is_some_and(|first| is_full(first, &open, &piece)) {
                cues.extend(cue(&open));
                open.clear();
            }
            open.push(piece);
        }
        cues.extend(cue(&open));
    }
    cues.sort_by_key(|cue| cue.start);
    cues
}

/// Whether the next piece begins another cue.
fn is_full(first: &Piece<'_>, open: &[Piece<'_>], next: &Piece<'_>) -> bool {
    let chars: usize = open.iter().map(|piece| piece.text.chars().count()).sum();
    let sentence =
        open.last().is_some_and(|last| last.text.trim_end().ends_with(['.', '!', '?', '。', '！', '？']));
    next.speaker != first.speaker
        || (next.end - first.start).0 > CUE_MS_MAX
        || chars + next.text.trim_end().chars().count() > CUE_CHARS_MAX
        || sentence && chars >= SENTENCE_CHARS_MIN
}

/// The line's text parted where its words begin; nothing where the words are not found in the text in their order.
fn by_words(line: &Line) -> Option<Vec<Piece<'_>>> {
    let mut pieces: Vec<Piece<'_>> = Vec::with_capacity(line.words.len());
    // What stands before the first word belongs to it, and what follows a word belongs to that.
    let (mut begin, mut from) = (0, 0);
    for Word { text, start, end, speaker, .. } in &line.words {
        let word = text.trim();
        let found = from + line.text[from..].find(word).filter(|_| !word.is_empty())?;
        if let Some(last) = pieces.last_mut() {
            last.text = &line.text[begin..found];
            begin = found;
        }
        from = found + word.len();
        let (start, end, speaker) = (*start, *end, speaker.as_deref());
        pieces.push(Piece { text: &line.text[begin..], start, end, speaker });
    }
    (!pieces.is_empty()).then_some(pieces)
}

/// The line's text parted at white space, and within longer words; each character takes the same time.
fn evenly(line: &Line) -> Vec<Piece<'_>> {
    let total = line.text.chars().count().max(1);
    let length = (line.end - line.start).0.max(0);
    let at = |chars: usize| {
        let share = i128::from(length) * chars as i128 / total as i128;
        line.start + Millis(i64::try_from(share).unwrap_or(length))
    };
    let mut pieces = Vec::new();
    let (mut begin, mut chars, mut before) = (0, 0, 0);
    let mut rest = line.text.char_indices().peekable();
    while let Some((_, character)) = rest.next() {
        chars += 1;
        let next = rest.peek().copied();
        let parted = next.is_none_or(|(_, next)| character.is_whitespace() && !next.is_whitespace());
        if parted || chars - before == LINE_CHARS_MAX {
            let end = next.map_or(line.text.len(), |(place, _)| place);
            let text = &line.text[begin..end];
            pieces.push(Piece { text, start: at(before), end: at(chars), speaker: line.speaker.as_deref() });
            (begin, before) = (end, chars);
        }
    }
    pieces
}

fn cue(pieces: &[Piece<'_>]) -> Option<Cue> {
    let (first, last) = (pieces.first()?, pieces.last()?);
    let text: String = pieces.iter().map(|piece| piece.text).collect();
    let text = wrap(&text);
    let start = first.start.max(Millis::ZERO);
    let end = last.end.max(start + Millis(1));
    (!text.is_empty()).then(|| Cue { start, end, speaker: first.speaker.map(String::from), text })
}

/// One line of text, or two of about the same length; white space of any kind becomes one space, and what cannot be seen
/// is left out.
fn wrap(text: &str) -> String {
    let words = text.split(|character: char| character.is_whitespace() || character.is_control());
    let mut words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let chars = words.iter().map(|word| word.chars().count() + 1).sum::<usize>().saturating_sub(1);
    if chars <= LINE_CHARS_MAX {
        return words.join(" ");
    }
    let mut first = 0;
    let mut length = 0;
    while first < words.len() && (length + words[first].chars().count()) * 2 <= chars + 1 {
        length += words[first].chars().count() + 1;
        first += 1;
    }
    let second = words.split_off(first.max(1));
    let mut lines = words.join(" ");
    if !second.is_empty() {
        lines.push('\n');
        lines.push_str(&second.join(" "));
    }
    lines
}
