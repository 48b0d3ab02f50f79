//! A summary made of the conversation's own sentences, for where no model writes one.
//!
//! The rule, the same for every language and for the same text always the same:
//! 1. A sentence lies within one line of the transcript. Sentences of fewer than three words are passed over where others
//!    can be had, and the same sentence is taken once.
//! 2. Together the sentences have at most 15 % of the transcript's words (where a script writes no spaces, of its
//!    characters).
//! 3. One is taken from each third of the transcript, by words: the best by score that leaves room for the others.
//!    Then the best of the rest follow while they fit, up to seven, passing over those that add little.
//! 4. Where 15 % do not hold one of each third, as many of the shortest as they hold are taken, up to three; and where
//!    they hold none, the one best sentence.
//! 5. A sentence scores by the words that recur in the conversation and are not in every second sentence, for its length;
//!    the opening one more, a fragment less.
//!
//! After H. P. Luhn, The Automatic Creation of Literature Abstracts, 1958.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::document::Document;
use crate::id::Millis;

/// Fewest sentences, where they fit.
pub const SENTENCES_MIN: usize = 3;
/// Most sentences.
pub const SENTENCES_MAX: usize = 7;
/// Most words of a hundred.
pub const WORDS_PERCENT_MAX: usize = 15;
/// Fewest words of a sentence, where others can be had.
const SENTENCE_WORDS_MIN: usize = 3;

/// A sentence of the conversation, word for word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excerpt<'a> {
    /// The sentence as the transcript has it.
    pub text: &'a str,
    /// Start of its line.
    pub start: Millis,
    /// Its place among the transcript's lines, from 0.
    pub line: usize,
}

struct Sentence<'a> {
    excerpt: Excerpt<'a>,
    words: usize,
    /// Words of the transcript before it.
    before: usize,
    terms: BTreeSet<String>,
    score: u64,
}

/// Sentences that stand for the conversation, in its order.
#[must_use]
pub fn extract(document: &Document) -> Vec<Excerpt<'_>> {
    let mut sentences = sentences(document);
    let total: usize = sentences.iter().map(|sentence| sentence.words).sum();
    score(&mut sentences);
    let mut seen = BTreeSet::new();
    let long = sentences.iter().any(|sentence| sentence.words >= SENTENCE_WORDS_MIN);
    sentences.retain(|sentence| {
        (!long || sentence.words >= SENTENCE_WORDS_MIN) && seen.insert(sentence.excerpt.text)
    });
    let mut chosen = choose(&sentences, total);
    chosen.sort_unstable();
    chosen.into_iter().map(|place| sentences[place].excerpt).collect()
}

/// Number of words: white space parts them, and where a script writes no spaces each character is one.
#[must_use]
pub fn words(text: &str) -> usize {
    let count = |token: &str| token.chars().filter(|character| is_unspaced(*character)).count().max(1);
    text.split_whitespace().map(count).sum()
}

/// Han, Kana, Thai, Lao, Burmese, Khmer: <https://www.unicode.org/Public/UNIDATA/Blocks.txt>.
fn is_unspaced(character: char) -> bool {
    matches!(u32::from(character), 0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff)
}

fn sentences(document: &Document) -> Vec<Sentence<'_>> {
    let mut sentences = Vec::new();
    let mut before = 0;
    for (line, content) in document.lines.iter().enumerate() {
        for text in split(&content.text) {
            let excerpt = Excerpt { text, start: content.start, line };
            let words = words(text);
            sentences.push(Sentence { excerpt, words, before, terms: terms(text), score: 0 });
            before += words;
        }
    }
    sentences
}

/// The sentences of a text, without the white space around them. Nothing but white space is lost.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim();
    core::iter::from_fn(move || {
        let (sentence, after) = rest.split_at(end_of_sentence(rest));
        rest = after.trim_start();
        (!sentence.is_empty()).then(|| sentence.trim_end())
    })
}

/// Where the first sentence ends: after a mark and what closes with it, if white space or the end follows; a mark of a
/// script without spaces needs none. A full stop after an initial or a title ends nothing, nor one before a small letter.
fn end_of_sentence(text: &str) -> usize {
    let mut characters = text.char_indices().peekable();
    while let Some((place, mark)) = characters.next() {
        let full = "。！？｡".contains(mark);
        if !full && !".!?…؟۔।॥".contains(mark) {
            continue;
        }
        while characters.next_if(|(_, next)| ".!?…。！？\"'”’»)]」』）".contains(*next)).is_some()
        {
        }
        let end = characters.peek().map_or(text.len(), |(place, _)| *place);
        let after = &text[end..];
        let parted = full || after.starts_with(char::is_whitespace);
        let goes_on = mark == '.'
            && (is_abbreviated(&text[..place]) || after.trim_start().starts_with(char::is_lowercase));
        if after.is_empty() || parted && !goes_on {
            return end;
        }
    }
    text.len()
}

/// Whether a full stop after this text belongs to its last word.
fn is_abbreviated(text: &str) -> bool {
    const TITLES: [&str; 16] = [
        "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "mme", "bzw", "ca", "z.b", "d.h", "e.g",
        "i.e",
    ];
    let word = text.rsplit(char::is_whitespace).next().unwrap_or_default();
    let word = word.trim_start_matches(|character: char| !character.is_alphanumeric());
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase) && word != "I";
    initial || TITLES.contains(&word.to_lowercase().as_str())
}

/// The words by which sentences are compared: in small letters, from three characters on.
fn terms(text: &str) -> BTreeSet<String> {
    let parts = text.split(|character: char| !character.is_alphanumeric());
    let mut terms = BTreeSet::new();
    for part in parts {
        terms.extend(part.chars().filter(|character| is_unspaced(*character)).map(String::from));
        if part.chars().count() >= 3 && !part.contains(is_unspaced) {
            terms.insert(part.to_lowercase());
        }
    }
    terms
}

fn score(sentences: &mut [Sentence<'_>]) {
    let mut frequency: BTreeMap<String, u64> = BTreeMap::new();
    for term in sentences.iter().flat_map(|sentence| &sentence.terms) {
        *frequency.entry(term.clone()).or_default() += 1;
    }
    let total = sentences.len() as u64;
    for (place, sentence) in sentences.iter_mut().enumerate() {
        let weight = |term: &String| {
            let times = frequency.get(term).copied().unwrap_or_default();
            let length = term.chars().count().min(10) as u64;
            // What half of the sentences say says nothing about one.
            let common = total >= 8 && times * 2 > total;
            if common { 0 } else { times.min(8) * length }
        };
        let sum: u64 = sentence.terms.iter().map(weight).sum();
        // The constant keeps short sentences from winning by their shortness.
        let score = sum * 1_000 / (sentence.words as u64 + 8);
        let whole = sentence.excerpt.text.ends_with(|last: char| !last.is_alphanumeric() && last != ',');
        let score = if whole { score } else { score / 2 };
        sentence.score = if place == 0 { score + score / 4 } else { score };
    }
}

/// The chosen sentences by their places.
fn choose(sentences: &[Sentence<'_>], total: usize) -> Vec<usize> {
    let share = total * WORDS_PERCENT_MAX / 100;
    let third = |sentence: &Sentence<'_>| sentence.before * 3 / total.max(1);
    let in_third = |number| (0..sentences.len()).filter(move |place| third(&sentences[*place]) == number);
    let shortest = [0, 1, 2].map(|number| in_third(number).map(|place| sentences[place].words).min());
    let [Some(_), Some(second), Some(last)] = shortest else { return fewest(sentences, share) };
    if shortest.iter().flatten().sum::<usize>() > share {
        return fewest(sentences, share);
    }
    let mut chosen = Vec::new();
    let mut left = share;
    for (number, reserved) in [second + last, last, 0].into_iter().enumerate() {
        // An even part of what is left keeps the first from taking the room of the others.
        let even = left / (SENTENCES_MIN - number);
        let room = even.max(shortest[number].unwrap_or_default()).min(left - reserved);
        let fitting = in_third(number).filter(|place| sentences[*place].words <= room);
        let best = best(sentences, fitting);
        left -= best.map_or(0, |place| sentences[place].words);
        chosen.extend(best);
    }
    let mut said: BTreeSet<&String> = chosen.iter().flat_map(|place| &sentences[*place].terms).collect();
    while chosen.len() < SENTENCES_MAX {
        let adds = |sentence: &Sentence<'_>| {
            let new = sentence.terms.iter().filter(|term| !said.contains(term)).count();
            new * 2 >= sentence.terms.len()
        };
        let open = (0..sentences.len()).filter(|place| {
            !chosen.contains(place) && sentences[*place].words <= left && adds(&sentences[*place])
        });
        let Some(next) = best(sentences, open) else { break };
        left -= sentences[next].words;
        said.extend(&sentences[next].terms);
        chosen.push(next);
    }
    chosen
}

/// As many of the shortest as the share holds, or the one best.
fn fewest(sentences: &[Sentence<'_>], share: usize) -> Vec<usize> {
    let mut by_length: Vec<usize> = (0..sentences.len()).collect();
    by_length.sort_by_key(|place| sentences[*place].words);
    let mut left = share;
    let mut chosen = Vec::new();
    for place in by_length.into_iter().take(SENTENCES_MIN) {
        if sentences[place].words <= left {
            left -= sentences[place].words;
            chosen.push(place);
        }
    }
    if chosen.is_empty() {
        chosen.extend(best(sentences, 0..sentences.len()));
    }
    chosen
}

/// The place with the highest score, of equals the first.
fn best(sentences: &[Sentence<'_>], places: impl Iterator<Item = usize>) -> Option<usize> {
    places.max_by_key(|place| (sentences[*place].score, core::cmp::Reverse(*place)))
}
