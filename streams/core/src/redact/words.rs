//! The words of a redacted text.
//!
//! Providers give words that differ from their text in punctuation, spacing and spelling, and sometimes words that it lacks.
//! So words are laid along the text by their letters and digits alone, and the rules also look at the words joined. What is
//! found in either is removed from both, as far as its place in the other is known. Where a removed place of the text is not
//! wholly accounted for by words, every word without a place of its own in what stays is removed too: words then say nothing
//! that the redacted text does not say.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::{Label, Span, labels_of};

/// How far ahead of its turn a word is looked for, in letters of the text.
const AHEAD_LETTERS_MAX: usize = 256;
/// A label is one letter, beyond all others.
const LABELS_BEGIN: u32 = 0x11_0000;

/// A word of the redacted transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The word at this position, unchanged.
    Word(usize),
    /// A label in place of words.
    Label {
        /// The first of them.
        first: usize,
        /// The last of them.
        last: usize,
        /// What stands for them.
        label: Arc<str>,
    },
}

impl Kept {
    /// Its text, where these were the words.
    #[must_use]
    pub fn text<'a>(&'a self, words: &[&'a str]) -> &'a str {
        match self {
            Self::Word(at) => words[*at],
            Self::Label { label, .. } => label,
        }
    }

    fn covers(&self) -> (usize, usize) {
        match self {
            Self::Word(at) => (*at, *at),
            Self::Label { first, last, .. } => (*first, *last),
        }
    }
}

/// What `later`, which speaks of the positions of `earlier`, says of the positions that `earlier` speaks of.
pub(super) fn over(later: &[Kept], earlier: &[Kept]) -> Vec<Kept> {
    let one = |kept: &Kept| match kept {
        Kept::Word(at) => earlier[*at].clone(),
        Kept::Label { first, last, label } => Kept::Label {
            first: earlier[*first].covers().0,
            last: earlier[*last].covers().1,
            label: Arc::clone(label),
        },
    };
    later.iter().map(one).collect()
}

/// One label over all words.
pub(super) fn whole(words: usize, label: Arc<str>) -> Vec<Kept> {
    words.checked_sub(1).map(|last| Kept::Label { first: 0, last, label }).into_iter().collect()
}

/// The words as one text.
pub(super) struct Joined {
    pub(super) text: String,
    places: Vec<Range<usize>>,
}

/// A find in the joined words.
pub(super) struct InWords {
    /// The positions of the words that it touches.
    words: Range<usize>,
    /// What of the first stands before it, and of the last behind it, in the joined text.
    beside: [Range<usize>; 2],
    label: usize,
}

impl Joined {
    pub(super) fn of(words: &[&str]) -> Self {
        let (mut text, mut places) = (String::new(), Vec::with_capacity(words.len()));
        for word in words {
            let start = text.len();
            text.push_str(word.trim());
            places.push(start..text.len());
            text.push(' ');
        }
        Self { text, places }
    }

    /// Which words the finds touch.
    pub(super) fn touched(&self, spans: &[Span]) -> Vec<InWords> {
        let one = |span: &Span| {
            let first = self.places.partition_point(|word| word.end <= span.place.start);
            let end = self.places.partition_point(|word| word.start < span.place.end);
            let (begin, last) = (self.places.get(first)?, self.places.get(end.checked_sub(1)?)?);
            let before = begin.start..span.place.start.max(begin.start);
            let behind = span.place.end.min(last.end)..last.end;
            (first < end).then_some(InWords {
                words: first..end,
                beside: [before, behind],
                label: span.label,
            })
        };
        spans.iter().filter_map(one).collect()
    }
}

/// The letters and digits of a text in lower case, each with its place.
struct Letters {
    units: Vec<u32>,
    places: Vec<Range<usize>>,
    /// Whether something else stands before it.
    begins: Vec<bool>,
}

impl Letters {
    fn of(text: &str, labels: &[Label]) -> Self {
        let mut all = Self { units: Vec::new(), places: Vec::new(), begins: Vec::new() };
        let mut at = 0;
        for (number, place) in labels_of(text, labels) {
            all.add(&text[at..place.start], at);
            let unit = u32::try_from(number).unwrap_or(u32::MAX - LABELS_BEGIN);
            all.units.push(LABELS_BEGIN + unit);
            all.places.push(place.clone());
            all.begins.push(true);
            at = place.end;
        }
        all.add(&text[at..], at);
        all
    }

    fn add(&mut self, piece: &str, begin: usize) {
        let mut inside = false;
        for (at, letter) in piece.char_indices() {
            if !letter.is_alphanumeric() {
                inside = false;
                continue;
            }
            for lower in letter.to_lowercase() {
                self.units.push(lower.into());
                self.places.push(begin + at..begin + at + letter.len_utf8());
                self.begins.push(!inside);
                inside = true;
            }
        }
    }

    /// Where each word stands among these letters, if it does; places rise.
    fn lay(&self, words: &[&str], labels: &[Label]) -> Vec<Option<Range<usize>>> {
        let mut at = 0;
        let mut one = |word: &&str| {
            let own = Self::of(word, labels).units;
            if own.is_empty() {
                return None;
            }
            let is_at = |at: usize| self.units[at..].starts_with(&own);
            let apart = |at: &usize| {
                self.begins[*at] && is_at(*at) && self.begins.get(at + own.len()).is_none_or(|begins| *begins)
            };
            let ahead = at..self.units.len().min(at + AHEAD_LETTERS_MAX);
            let found = if is_at(at) { Some(at) } else { ahead.into_iter().find(apart) }?;
            at = found + own.len();
            Some(found..at)
        };
        words.iter().map(&mut one).collect()
    }

    /// The letters that lie in a place of the text.
    fn within(&self, place: &Range<usize>) -> Range<usize> {
        let first = self.places.partition_point(|letter| letter.end <= place.start);
        let last = self.places.partition_point(|letter| letter.start < place.end);
        first..last.max(first)
    }
}

/// What is to become of a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It is punctuation alone, and goes with its neighbours.
    Follows,
    /// It is removed, for this label where one is known.
    Goes(Option<(usize, usize)>),
}

/// The place in the text of a find in the joined words, as far as its words have places.
fn in_text(
    found: &InWords,
    joined: &Joined,
    letters: &Letters,
    laid: &[Option<Range<usize>>],
    labels: &[Label],
) -> Option<Span> {
    let laid = &laid[found.words.clone()];
    let first = laid.iter().flatten().next()?.start;
    let last = laid.iter().flatten().next_back()?.end;
    // Of words at its edges only the letters inside it are meant.
    let [before, behind] =
        [0, 1].map(|side| Letters::of(&joined.text[found.beside[side].clone()], labels).units.len());
    let first = first + if laid.first()?.is_some() { before } else { 0 };
    let last = last - if laid.last()?.is_some() { behind } else { 0 };
    let place = letters.places.get(first)?.start..letters.places.get(last.checked_sub(1)?)?.end;
    (place.start < place.end).then_some(Span { place, label: found.label })
}

/// All places of the text that are to be removed, and what becomes of the words.
pub(super) fn remove(
    text: &str,
    in_this: Vec<Span>,
    words: &[&str],
    (in_words, joined_words): (&[InWords], &Joined),
    labels: &[Label],
) -> (Vec<Span>, Vec<Kept>) {
    let letters = Letters::of(text, labels);
    let laid = letters.lay(words, labels);
    let mut spans = in_this;
    spans.extend(in_words.iter().filter_map(|found| in_text(found, joined_words, &letters, &laid, labels)));
    let spans = joined(spans);
    let covered = Covered::of(&letters, &spans, &laid);
    let mut fates: Vec<Fate> = (0..words.len())
        .map(|at| match (&laid[at], covered.owner[at]) {
            _ if labels.iter().any(|label| *label.text == *words[at]) => Fate::Stays,
            (_, Some(owner)) => Fate::Goes(Some((owner, spans[owner].label))),
            (Some(_), None) => Fate::Stays,
            (None, None) if !words[at].contains(char::is_alphanumeric) => Fate::Follows,
            (None, None) if covered.wholly => Fate::Stays,
            (None, None) => Fate::Goes(None),
        })
        .collect();
    for (number, found) in in_words.iter().enumerate() {
        let fates = &mut fates[found.words.clone()];
        // Where some of its words have a place in the text, all of them go with it.
        let known = fates.iter().find_map(|fate| match fate {
            Fate::Goes(owner) => *owner,
            Fate::Stays | Fate::Follows => None,
        });
        let owner = known.unwrap_or((spans.len() + number, found.label));
        for fate in fates.iter_mut().filter(|fate| !matches!(fate, Fate::Goes(Some(_)))) {
            *fate = Fate::Goes(Some(owner));
        }
    }
    let fallback = covered.first_open.map_or(0, |open| spans[open].label);
    let kept = gather(&fates, fallback, labels);
    (spans, kept)
}

/// Spans in order, those that overlap made one; of their labels the first stays.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| span.place.start);
    let mut all: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match all.last_mut() {
            Some(last) if span.place.start < last.place.end => {
                last.place.end = last.place.end.max(span.place.end);
            }
            _ => all.push(span),
        }
    }
    all
}

/// Which words lie in which removed places.
struct Covered {
    /// Of each word, the place that it touches.
    owner: Vec<Option<usize>>,
    /// Whether every letter that is removed from the text is one of a word's.
    wholly: bool,
    /// The first place of which that is not so.
    first_open: Option<usize>,
}

impl Covered {
    fn of(letters: &Letters, spans: &[Span], laid: &[Option<Range<usize>>]) -> Self {
        let places: Vec<Range<usize>> = spans.iter().map(|span| letters.within(&span.place)).collect();
        let mut open: Vec<usize> = places.iter().map(ExactSizeIterator::len).collect();
        let mut owner = Vec::with_capacity(laid.len());
        for word in laid {
            let mut touched = None;
            let begin = word
                .as_ref()
                .map_or(places.len(), |word| places.partition_point(|place| place.end <= word.start));
            for (number, place) in places.iter().enumerate().skip(begin) {
                let Some(word) = word.as_ref().filter(|word| place.start < word.end) else { break };
                let common = word.end.min(place.end).saturating_sub(word.start.max(place.start));
                open[number] = open[number].saturating_sub(common);
                if common > 0 && touched.is_none() {
                    touched = Some(number);
                }
            }
            owner.push(touched);
        }
        let first_open = open.iter().position(|left| *left > 0);
        Self { owner, wholly: first_open.is_none(), first_open }
    }
}

/// Words that go one after the other.
struct Run {
    first: usize,
    last: usize,
    /// Their place and its label, as far as it is known.
    owner: Option<(usize, usize)>,
}

/// Words that go one after the other become one label, unless they lie in different places.
fn gather(fates: &[Fate], fallback: usize, labels: &[Label]) -> Vec<Kept> {
    let mut kept = Vec::with_capacity(fates.len());
    let mut run: Option<Run> = None;
    // Punctuation behind a run, which may yet turn out to be inside it.
    let mut waiting = Vec::new();
    let close = |run: &mut Option<Run>, waiting: &mut Vec<Kept>, kept: &mut Vec<Kept>| {
        if let Some(Run { first, last, owner }) = run.take() {
            let label = Arc::clone(&labels[owner.map_or(fallback, |(_, label)| label)].text);
            kept.push(Kept::Label { first, last, label });
        }
        kept.append(waiting);
    };
    for (at, fate) in fates.iter().enumerate() {
        match (fate, &mut run) {
            (Fate::Follows, Some(_)) => waiting.push(Kept::Word(at)),
            (Fate::Stays | Fate::Follows, _) => {
                close(&mut run, &mut waiting, &mut kept);
                kept.push(Kept::Word(at));
            }
            (Fate::Goes(owner), Some(run))
                if owner.is_none() || run.owner.is_none() || *owner == run.owner =>
            {
                waiting.clear();
                run.last = at;
                run.owner = run.owner.or(*owner);
            }
            (Fate::Goes(owner), _) => {
                close(&mut run, &mut waiting, &mut kept);
                run = Some(Run { first: at, last: at, owner: *owner });
            }
        }
    }
    close(&mut run, &mut waiting, &mut kept);
    kept
}
