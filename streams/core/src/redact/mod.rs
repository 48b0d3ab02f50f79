//! Redaction: which places of a transcript are personal, and what the transcript is without them.
//!
//! A rule is a pattern, perhaps a check of what it finds, and a label that takes its place. Rules are tried in their order:
//! an earlier one takes its places from the text, and a later one sees what is left, so overlaps have one outcome. Labels are
//! borders: nothing is found across one, and each is reported, so redacting again changes nothing. Words are redacted with
//! the text and on their own, see [`words`].
//!
//! Time is linear in the text: a pattern has a greatest length, so what follows a find is looked at so many times only, and
//! there are at most [`ROUNDS_MAX`] rounds. Memory is bounded by the rules' and the text's sizes.

mod checks;
mod numbers;
mod words;

use alloc::borrow::ToOwned as _;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use regex::{Regex, RegexBuilder};

pub use checks::Check;
pub use words::Kept;

/// The rules that every deployment has, in TOML; who reads it gives each as a [`RuleText`], in this order.
pub const BUILT_IN: &str = include_str!("rules.toml");

/// Rules of one set, at most.
pub const RULES_MAX: usize = 256;
/// Bytes that one find may have, at most.
pub const FIND_BYTES_MAX: usize = 4_096;
/// Bytes of one compiled pattern, at most.
pub const PATTERN_BYTES_MAX: usize = 4 << 20;
/// Each round looks at what the one before it left, since a removed place makes a new border beside it. Nearly always the
/// second finds nothing; what needs more than this many is blanked whole.
pub const ROUNDS_MAX: usize = 8;

/// What stands for a text that is blanked whole.
const WHOLE: (&str, &str) = ("redacted", "[REDACTED]");
/// The group of a pattern that is replaced; without it the whole find is.
const SECRET: &str = "secret";

/// A rule as somebody wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleText<'a> {
    /// What it finds, in lower case, as `email`.
    pub kind: &'a str,
    /// What takes its place, in capitals and brackets, as `[EMAIL]`.
    pub label: &'a str,
    /// How it looks: a regular expression; of a group named `secret` only that is replaced.
    pub pattern: &'a str,
    /// The name of a further check, see [`Check::ALL`].
    pub check: Option<&'a str>,
}

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The kind is no name.
    #[error("kind {0:?} is no name; give 1 to 32 of a-z, 0-9 and _, beginning with a letter")]
    Kind(String),
    /// The label is none.
    #[error("label {0:?} is none; give 1 to 32 of A-Z, 0-9 and _ in brackets, as [EMAIL]")]
    Label(String),
    /// Kinds could not be told apart.
    #[error("label {label} is that of kind {kind:?} already; give each kind a label of its own")]
    LabelTaken {
        /// The label.
        label: String,
        /// Whose it is.
        kind: String,
    },
    /// The pattern cannot be read, or is too large.
    #[error("the pattern is wrong: {0}")]
    Pattern(String),
    /// The pattern has no greatest length, or a too large one.
    #[error(
        "the pattern can match more than {FIND_BYTES_MAX} bytes; bound its repetitions, as {{1,64}} for +"
    )]
    Unbounded,
    /// The pattern matches nothing at all.
    #[error("the pattern can match an empty text; let it ask for one letter at least")]
    Empty,
    /// There is no such check.
    #[error("there is no check {given:?}; known are {known}")]
    Check {
        /// What was asked for.
        given: String,
        /// What there is.
        known: String,
    },
    /// There are too many rules.
    #[error("there are more than {RULES_MAX} rules; join patterns of one kind with |")]
    TooMany,
}

/// A place of the redacted text where something was removed, in bytes of UTF-8; it holds the kind's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// What was removed.
    pub kind: Arc<str>,
    /// Where its label begins.
    pub start: usize,
    /// Where its label ends, exclusive.
    pub end: usize,
}

/// A transcript without what is personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    /// The text.
    pub text: String,
    /// The words, as those that were given or as labels over some of them.
    pub words: Vec<Kept>,
    /// The labels of the text, in order.
    pub removed: Vec<Removed>,
}

#[derive(Debug, Clone)]
struct Rule {
    label: usize,
    pattern: Regex,
    check: Option<Check>,
    has_secret: bool,
}

/// What a label stands for.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    kind: Arc<str>,
    pub(crate) text: Arc<str>,
}

/// A place that is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) place: Range<usize>,
    pub(crate) label: usize,
}

/// The rules by which transcripts are redacted, ready for use.
#[derive(Debug, Clone)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// The first is that of a whole text.
    labels: Vec<Label>,
}

impl RuleSet {
    /// Compiles rules.
    ///
    /// # Errors
    /// A rule is wrong: its position from 0, and why.
    pub fn new<'a>(texts: impl IntoIterator<Item = RuleText<'a>>) -> Result<Self, (usize, RuleError)> {
        let whole = Label { kind: WHOLE.0.into(), text: WHOLE.1.into() };
        let mut set = Self { rules: Vec::new(), labels: alloc::vec![whole] };
        for (at, text) in texts.into_iter().enumerate() {
            set.add(text).map_err(|error| (at, error))?;
        }
        Ok(set)
    }

    fn add(&mut self, text: RuleText<'_>) -> Result<(), RuleError> {
        if self.rules.len() == RULES_MAX {
            return Err(RuleError::TooMany);
        }
        let label = self.label(text.kind, text.label)?;
        let check = text.check.map(|given| {
            Check::named(given).ok_or_else(|| RuleError::Check {
                given: given.to_owned(),
                known: Check::ALL.map(|(name, _)| name).join(", "),
            })
        });
        let pattern = compile(text.pattern)?;
        let has_secret = pattern.capture_names().flatten().any(|name| name == SECRET);
        self.rules.push(Rule { label, pattern, check: check.transpose()?, has_secret });
        Ok(())
    }

    fn label(&mut self, kind: &str, text: &str) -> Result<usize, RuleError> {
        let named = |text: &str, letter: fn(&u8) -> bool| {
            let rest = |byte: u8| letter(&byte) || byte.is_ascii_digit() || byte == b'_';
            (1..=32).contains(&text.len()) && text.bytes().all(rest) && letter(&text.as_bytes()[0])
        };
        if !named(kind, u8::is_ascii_lowercase) {
            return Err(RuleError::Kind(kind.to_owned()));
        }
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if !inner.is_some_and(|inner| named(inner, u8::is_ascii_uppercase)) {
            return Err(RuleError::Label(text.to_owned()));
        }
        if let Some(at) = self.labels.iter().position(|label| *label.text == *text) {
            if *self.labels[at].kind == *kind {
                return Ok(at);
            }
            let kind = self.labels[at].kind.as_ref().to_owned();
            return Err(RuleError::LabelTaken { label: text.to_owned(), kind });
        }
        self.labels.push(Label { kind: kind.into(), text: text.into() });
        Ok(self.labels.len() - 1)
    }

    /// The text and its words without what is personal. Words are theirs in order, as the provider gave them; they may differ
    /// from the text.
    #[must_use]
    pub fn redact(&self, text: &str, words: &[&str]) -> Redacted {
        let mut text = text.to_owned();
        let mut kept: Vec<Kept> = (0..words.len()).map(Kept::Word).collect();
        let mut rounds = 0;
        loop {
            let current: Vec<&str> = kept.iter().map(|one| one.text(words)).collect();
            let Some((new, changed)) = self.round(&text, &current) else { break };
            (text, kept) = (new, words::over(&changed, &kept));
            rounds += 1;
            if rounds == ROUNDS_MAX && self.round(&text, &texts(&kept, words)).is_some() {
                let label = Arc::clone(&self.labels[0].text);
                text = label.as_ref().to_owned();
                kept = words::whole(words.len(), label);
                break;
            }
        }
        let removed = labels_of(&text, &self.labels)
            .map(|(label, place)| Removed {
                kind: Arc::clone(&self.labels[label].kind),
                start: place.start,
                end: place.end,
            })
            .collect();
        Redacted { text, words: kept, removed }
    }

    /// One look at text and words; nothing where nothing is found.
    fn round(&self, text: &str, words: &[&str]) -> Option<(String, Vec<Kept>)> {
        let joined = words::Joined::of(words);
        let (in_text, in_words) = (self.find(text), joined.touched(&self.find(&joined.text)));
        if in_text.is_empty() && in_words.is_empty() {
            return None;
        }
        let (spans, kept) = words::remove(text, in_text, words, (&in_words, &joined), &self.labels);
        let (mut new, mut at) = (String::with_capacity(text.len()), 0);
        for Span { place, label } in &spans {
            new.push_str(&text[at..place.start]);
            new.push_str(&self.labels[*label].text);
            at = place.end;
        }
        new.push_str(&text[at..]);
        Some((new, kept))
    }

    /// What the rules find, in order, without overlaps and between the labels that are there.
    fn find(&self, text: &str) -> Vec<Span> {
        let (mut pieces, mut at) = (Vec::new(), 0);
        for (_, place) in labels_of(text, &self.labels) {
            pieces.push(at..place.start);
            at = place.end;
        }
        pieces.push(at..text.len());
        let mut spans = Vec::new();
        for rule in &self.rules {
            let mut left = Vec::with_capacity(pieces.len());
            for piece in pieces {
                let (within, mut begin, mut from) = (&text[piece.clone()], 0, 0);
                while let Some(found) = rule.find(within, from) {
                    left.push(piece.start + begin..piece.start + found.start);
                    (begin, from) = (found.end, found.end);
                    let place = piece.start + found.start..piece.start + found.end;
                    spans.push(Span { place, label: rule.label });
                }
                left.push(piece.start + begin..piece.end);
            }
            left.retain(|piece| !piece.is_empty());
            pieces = left;
        }
        spans.sort_by_key(|span| span.place.start);
        spans
    }
}

fn texts<'a>(kept: &'a [Kept], words: &[&'a str]) -> Vec<&'a str> {
    kept.iter().map(|one| one.text(words)).collect()
}

impl Rule {
    /// The first place from `from` on; what a check refuses may hide another a letter later.
    fn find(&self, text: &str, mut from: usize) -> Option<Range<usize>> {
        let begin = from;
        while from <= text.len() {
            let (whole, place) = if self.has_secret {
                let found = self.pattern.captures_at(text, from)?;
                (found.get(0)?.range(), found.name(SECRET).map(|secret| secret.range()))
            } else {
                let whole = self.pattern.find_at(text, from)?.range();
                (whole.clone(), Some(whole))
            };
            let accepted = place.and_then(|place| match self.check {
                Some(check) => check.accept(text, place),
                None => Some(place),
            });
            match accepted {
                Some(place) if place.start >= begin && !place.is_empty() => return Some(place),
                _ => from = next_letter(text, whole.start),
            }
        }
        None
    }
}

/// The beginning of the letter after the one that begins at `at`; beyond the end where there is none.
fn next_letter(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(text.len() + 1, |letter| at + letter.len_utf8())
}

/// The labels that a text holds, in order.
pub(crate) fn labels_of<'a>(
    text: &'a str,
    labels: &'a [Label],
) -> impl Iterator<Item = (usize, Range<usize>)> + 'a {
    let opened = text.match_indices('[');
    opened.filter_map(|(at, _)| {
        let found = labels.iter().position(|label| text[at..].starts_with(&*label.text))?;
        Some((found, at..at + labels[found].text.len()))
    })
}

fn compile(pattern: &str) -> Result<Regex, RuleError> {
    let wrong = |error: &dyn core::fmt::Display| RuleError::Pattern(error.to_string());
    let read = regex_syntax::Parser::new().parse(pattern).map_err(|error| wrong(&error))?;
    if read.properties().maximum_len().is_none_or(|most| most > FIND_BYTES_MAX) {
        return Err(RuleError::Unbounded);
    }
    if read.properties().minimum_len() == Some(0) {
        return Err(RuleError::Empty);
    }
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| wrong(&error))
}
