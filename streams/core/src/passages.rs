//! A transcript cut into passages that a language model's context holds, and the summaries of passages put together again
//! to what it holds; as JSON, so that nothing that was said can pass for anything else.
//!
//! The plan is the same for the same transcript and room, and greedy: a line at the end of a conversation changes no
//! passage but the last, so that what was paid for the others stands.
//!
//! A passage is `[["who","what"],…]`, a group of notes `[{"title":…,"summary":…,"key_points":[…],"action_items":[…]},…]`.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::document::{Document, Line};

/// The least room that is cut for, in tokens: with less every passage would be a sentence.
pub const ROOM_MIN: usize = 1_000;
/// Notes that a group holds at least, unless there are no more: each is cut to what allows it. So the levels end.
pub const GROUP_NOTES_MIN: usize = 4;
/// Tokens of a speaker's name, at most.
const WHO_TOKENS_MAX: usize = 32;

/// The summary of a passage or of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Note {
    /// A title, where there is one.
    pub title: Option<String>,
    /// The summary.
    pub text: String,
    /// Main points.
    pub key_points: Vec<String>,
    /// What somebody agreed to do.
    pub action_items: Vec<String>,
}

/// How many tokens a text has for a model, at most; estimated, since each model has a vocabulary of its own.
///
/// Three letters of a word are one, where English has four and German or Finnish three; each digit and sign is one; a
/// letter of Latin, Greek or Cyrillic outside of ASCII is one; a character of Chinese, Japanese or Korean two; anything else
/// as many as it has bytes in UTF-8, which no vocabulary that is built on bytes exceeds. A model needs more only for what
/// nobody says, such as keys in base64.
#[must_use]
pub fn tokens(text: &str) -> usize {
    let mut characters = text.chars().peekable();
    let (mut sum, mut letters) = (0_usize, 0_usize);
    while let Some(character) = characters.next() {
        if character.is_ascii_alphabetic() {
            letters += 1;
            continue;
        }
        sum += letters.div_ceil(3);
        letters = 0;
        // A single space belongs to the word after it.
        let before_word = character == ' ' && characters.peek().is_some_and(char::is_ascii_alphabetic);
        sum += match u32::from(character) {
            _ if before_word => 0,
            0..=0x7f | 0xc0..=0x24f | 0x370..=0x52f | 0x1e00..=0x1fff | 0x2010..=0x201f => 1,
            0x3000..=0x30ff | 0x3400..=0x9fff | 0xac00..=0xd7af | 0xff00..=0xffef => 2,
            _ => character.len_utf8(),
        };
    }
    sum + letters.div_ceil(3)
}

/// A text as a string of JSON in which nothing is left that templates of chats, Markdown or JSON itself could take for a
/// sign of theirs: brackets, bars and back quotes are escaped beside what must be, and so are characters that nobody sees.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        if !is_sign(character) {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out.push('"');
    out
}

fn is_sign(character: char) -> bool {
    let hidden = matches!(u32::from(character),
        0x00ad | 0x061c | 0x200b | 0x200e..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff0..=0xfffb | 0xe0000..=0xe0fff);
    character.is_control() || hidden || "\"\\<>[]{}|`｜".contains(character)
}

/// The transcript in passages of at most `room` tokens each; none where nothing was said. Lines are parted from each other,
/// or where speakers take turns; a line that is longer than a passage by itself is parted between words, and one word
/// between characters.
///
/// # Panics
/// Where `room` is less than [`ROOM_MIN`].
#[must_use]
pub fn passages(document: &Document, room: usize) -> Vec<String> {
    let mut packing = Packing::new(room);
    for (who, said) in document.lines.iter().flat_map(turns) {
        let who = quoted(beginning(&who, WHO_TOKENS_MAX));
        let element = |said: &str| format!("[{who},{}]", quoted(said));
        let mut rest = &*said;
        while !rest.is_empty() {
            let end = fitting(rest, packing.element_max(), |part| tokens(&element(part)));
            packing.add(&element(&rest[..end]));
            rest = &rest[end..];
        }
    }
    packing.done()
}

/// The notes in groups of at most `room` tokens each, in order; a note that is longer than a fourth of the room is cut.
///
/// # Panics
/// Where `room` is less than [`ROOM_MIN`].
#[must_use]
pub fn groups(notes: &[Note], room: usize) -> Vec<String> {
    let mut packing = Packing::new(room);
    let note_max = packing.element_max() / GROUP_NOTES_MIN - 1;
    for note in notes {
        packing.add(&shown(note, note_max));
    }
    packing.done()
}

/// How many calls a transcript of so many passages leads to, at most: one each, and those that put their notes together.
#[must_use]
pub fn calls_max(passages: usize) -> usize {
    let (mut calls, mut level) = (passages, passages);
    while level > 1 {
        level = level.div_ceil(GROUP_NOTES_MIN);
        calls += level;
    }
    calls
}

/// JSON arrays that are filled one after the other.
struct Packing {
    room: usize,
    /// Tokens of the last of `done`.
    filled: usize,
    done: Vec<String>,
}

impl Packing {
    fn new(room: usize) -> Self {
        assert!(room >= ROOM_MIN, "room for {room} tokens, of at least {ROOM_MIN}");
        Self { room, filled: 0, done: Vec::new() }
    }

    /// Tokens of one element, at most: two are the array's brackets.
    fn element_max(&self) -> usize {
        self.room - 2
    }

    fn add(&mut self, element: &str) {
        let size = tokens(element);
        match self.done.last_mut() {
            Some(last) if self.filled + 1 + size <= self.room => {
                last.push(',');
                last.push_str(element);
                self.filled += 1 + size;
            }
            _ => {
                self.done.push(format!("[{element}"));
                self.filled = 2 + size;
            }
        }
    }

    fn done(mut self) -> Vec<String> {
        self.done.iter_mut().for_each(|array| array.push(']'));
        self.done
    }
}

/// Who says what in a line: one turn, or, where its words have several speakers, one for each change.
fn turns(line: &Line) -> Vec<(String, Cow<'_, str>)> {
    let name = |speaker: Option<&str>| match (line.track.as_str(), speaker) {
        ("", speaker) => speaker.unwrap_or_default().to_string(),
        (track, None) => track.to_string(),
        (track, Some(speaker)) => format!("{track} {speaker}"),
    };
    let takes = line.words.chunk_by(|a, b| a.speaker == b.speaker);
    if line.speaker.is_some() || takes.clone().count() < 2 {
        return alloc::vec![(name(line.speaker.as_deref()), Cow::Borrowed(line.text.as_str()))];
    }
    let turn = |words: &[crate::document::Word]| {
        let said = words.iter().map(|word| word.text.trim()).filter(|word| !word.is_empty());
        let said = said.collect::<Vec<_>>().join(" ");
        (name(words.first().and_then(|word| word.speaker.as_deref())), Cow::Owned(said))
    };
    takes.map(turn).collect()
}

/// The length of the longest beginning of `text` that costs no more tokens than allowed, shortened to between words where
/// there is a place in its second half; at least one character. A longer beginning costs no less.
fn fitting(text: &str, tokens_max: usize, cost: impl Fn(&str) -> usize) -> usize {
    // No token has more than three letters and the space before them, so that what lies behind need not be looked at.
    let seen = text.char_indices().nth(tokens_max * 4 + 4).map_or(text.len(), |(at, _)| at);
    if seen == text.len() && cost(text) <= tokens_max {
        return text.len();
    }
    let ends: Vec<usize> = text[..seen].char_indices().map(|(at, _)| at).skip(1).collect();
    let many = ends.partition_point(|end| cost(&text[..*end]) <= tokens_max);
    let first = text.chars().next().map_or(0, char::len_utf8);
    let end = many.checked_sub(1).map_or(first, |last| ends[last]);
    let after_space = text[..end].char_indices().rfind(|(_, character)| character.is_whitespace());
    after_space.map(|(at, space)| at + space.len_utf8()).filter(|at| at * 2 > end).unwrap_or(end)
}

/// A beginning of a text of at most so many tokens once it is quoted.
fn beginning(text: &str, tokens_max: usize) -> &str {
    &text[..fitting(text, tokens_max, |part| tokens(&quoted(part)))]
}

/// A note as JSON of at most so many tokens: first the summary, of at most half of them, then what was agreed, then points.
fn shown(note: &Note, tokens_max: usize) -> String {
    let title = note.title.as_deref().map_or_else(
        || String::from("null"),
        |title| quoted(beginning(title, tokens_max / GROUP_NOTES_MIN / 2)),
    );
    let text = quoted(beginning(&note.text, tokens_max / 2));
    let json = |points: &[String], items: &[String]| {
        let list = |texts: &[String]| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(",");
        let (points, items) = (list(points), list(items));
        format!(
            "{{\"title\":{title},\"summary\":{text},\"key_points\":[{points}],\"action_items\":[{items}]}}"
        )
    };
    let most = |list: &[String], json: &dyn Fn(&[String]) -> String| {
        let fits = |many: &usize| tokens(&json(&list[..*many])) <= tokens_max;
        (0..=list.len()).take_while(fits).last().unwrap_or(0)
    };
    let items = &note.action_items[..most(&note.action_items, &|items| json(&[], items))];
    let points = &note.key_points[..most(&note.key_points, &|points| json(points, items))];
    json(points, items)
}
