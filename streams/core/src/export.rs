//! The transcript document as people and players want it: plain text, JSON, SubRip and WebVTT.
//!
//! Sources: <https://www.w3.org/TR/webvtt1/>, and for SubRip the format that its own program writes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use crate::cues::cues;
use crate::document::{Document, Gap, Line, Word};
use crate::id::Millis;

/// Plain text: one paragraph a line of the document, with its time and, where known, who speaks.
#[must_use]
pub fn to_text(document: &Document) -> String {
    let mut text = String::new();
    for line in &document.lines {
        let who =
            line.speaker.as_deref().or_else(|| Some(line.track.as_str()).filter(|track| !track.is_empty()));
        let who = who.map(|who| format!(" {who}:")).unwrap_or_default();
        put(&mut text, format_args!("[{}]{who} {}\n", clock(line.start, '.', false), line.text));
    }
    for gap in &document.gaps {
        put(&mut text, format_args!("[{}: {}]\n", gap.status, describe(gap)));
    }
    if document.gaps_truncated {
        text.push_str("[more gaps than are listed]\n");
    }
    text
}

/// JSON: the whole document, times in milliseconds.
#[must_use]
pub fn to_json(document: &Document) -> String {
    let mut json = Json(String::with_capacity(1024));
    json.open('{');
    json.text("conversation_id", Some(&document.conversation));
    json.number("revision", document.revision.into());
    json.text("outcome", Some(&document.outcome));
    json.text("finalize_digest", Some(&document.finalize_digest));
    json.number("duration_ms", document.duration.0);
    json.text("language", document.language.as_deref());
    json.list("lines", &document.lines, Json::line);
    json.list("gaps", &document.gaps, Json::gap);
    json.raw("gaps_truncated", if document.gaps_truncated { "true" } else { "false" });
    json.close('}');
    json.0
}

/// SubRip. A speaker stands before what they say, since the format has no place for one.
#[must_use]
pub fn to_srt(document: &Document) -> String {
    let mut text = String::new();
    for (number, cue) in cues(document).iter().enumerate() {
        let (start, end) = (clock(cue.start, ',', true), clock(cue.end, ',', true));
        let speaker =
            cue.speaker.as_deref().map(|speaker| format!("{}: ", one_line(speaker))).unwrap_or_default();
        // An arrow in the text would look like a time.
        let said = cue.text.replace("-->", "->");
        put(&mut text, format_args!("{}\n{start} --> {end}\n{speaker}{said}\n\n", number + 1));
    }
    text
}

/// WebVTT. A speaker becomes a voice span.
#[must_use]
pub fn to_vtt(document: &Document) -> String {
    let mut text = String::from("WEBVTT\n\n");
    for cue in cues(document) {
        let (start, end) = (clock(cue.start, '.', true), clock(cue.end, '.', true));
        let speaker = cue.speaker.as_deref().map(one_line).filter(|speaker| !speaker.is_empty());
        let voice = speaker.map(|speaker| format!("<v {}>", escape(&speaker))).unwrap_or_default();
        put(&mut text, format_args!("{start} --> {end}\n{voice}{}\n\n", escape(&cue.text)));
    }
    text
}

/// The text with every white space and invisible character as one space.
fn one_line(text: &str) -> String {
    let words = text.split(|character: char| character.is_whitespace() || character.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `01:02:03.004`, the last part only where asked for.
fn clock(time: Millis, point: char, millis: bool) -> String {
    let ms = time.0.max(0);
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    let rest = if millis { format!("{point}{:03}", ms % 1_000) } else { String::new() };
    format!("{hours:02}:{minutes:02}:{seconds:02}{rest}")
}

fn describe(gap: &Gap) -> String {
    let mut what = String::new();
    let mut part = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            put(&mut what, format_args!("{name} {value}, "));
        }
    };
    part("track", Some(gap.track.clone()).filter(|track| !track.is_empty()));
    part("chunk", gap.chunk.clone());
    part("number", gap.sequence.map(|sequence| sequence.to_string()));
    part("segment", gap.segment.map(|segment| segment.to_string()));
    what.push_str(&gap.code);
    what
}

/// Writing to a String cannot fail.
fn put(text: &mut String, arguments: core::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

/// A writer of compact JSON.
struct Json(String);

impl Json {
    fn open(&mut self, bracket: char) {
        self.0.push(bracket);
    }

    fn close(&mut self, bracket: char) {
        self.0.push(bracket);
    }

    /// A comma, unless something was just opened.
    fn comma(&mut self) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
    }

    fn name(&mut self, name: &str) {
        self.comma();
        self.string(name);
        self.0.push(':');
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push_str(value);
    }

    fn number(&mut self, name: &str, value: i64) {
        self.raw(name, &value.to_string());
    }

    fn optional(&mut self, name: &str, value: Option<u32>) {
        self.raw(name, &value.map_or_else(|| String::from("null"), |value| value.to_string()));
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        self.name(name);
        match value {
            Some(value) => self.string(value),
            None => self.0.push_str("null"),
        }
    }

    fn list<T>(&mut self, name: &str, items: &[T], one: fn(&mut Self, &T)) {
        self.name(name);
        self.open('[');
        for item in items {
            self.comma();
            self.open('{');
            one(self, item);
            self.close('}');
        }
        self.close(']');
    }

    fn line(&mut self, line: &Line) {
        self.text("track", Some(&line.track));
        self.text("chunk_id", Some(&line.chunk));
        self.number("segment", line.segment.into());
        self.number("start_ms", line.start.0);
        self.number("end_ms", line.end.0);
        self.text("speaker", line.speaker.as_deref());
        self.text("text", Some(&line.text));
        self.list("words", &line.words, Self::word);
    }

    fn word(&mut self, word: &Word) {
        self.text("text", Some(&word.text));
        self.number("start_ms", word.start.0);
        self.number("end_ms", word.end.0);
        let confidence = word.confidence.filter(|confidence| confidence.is_finite());
        self.raw(
            "confidence",
            &confidence.map_or_else(|| String::from("null"), |confidence| confidence.to_string()),
        );
        self.text("speaker", word.speaker.as_deref());
    }

    fn gap(&mut self, gap: &Gap) {
        self.text("track", Some(&gap.track));
        self.text("status", Some(&gap.status));
        self.text("code", Some(&gap.code));
        self.text("chunk_id", gap.chunk.as_deref());
        self.optional("segment", gap.segment);
        self.optional("sequence", gap.sequence);
    }

    fn string(&mut self, text: &str) {
        self.0.push('"');
        for character in text.chars() {
            match character {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                character if (character as u32) < 0x20 => {
                    put(&mut self.0, format_args!("\\u{:04x}", character as u32));
                }
                character => self.0.push(character),
            }
        }
        self.0.push('"');
    }
}
