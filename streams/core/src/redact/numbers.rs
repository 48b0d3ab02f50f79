//! Numbers as people write and speak them: their digits, one after the other, with what stands around them.

use alloc::vec::Vec;
use core::ops::Range;

/// A digit and where it ends; spoken ones are words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digit {
    pub(super) value: u8,
    pub(super) end: usize,
    /// Whether something else than a digit, or the end, follows.
    pub(super) ends_group: bool,
}

const SPOKEN: [(&str, u8); 11] = [
    ("zero", 0),
    ("oh", 0),
    ("one", 1),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
];

/// The digits of a place, written or spoken; other words in it are passed over.
pub(super) fn digits(text: &str, place: &Range<usize>) -> Vec<Digit> {
    let mut digits: Vec<Digit> = Vec::new();
    let mut at = place.start;
    while at < place.end {
        let rest = &text[at..place.end];
        let Some(letter) = rest.chars().next() else { break };
        let mut length = letter.len_utf8();
        if letter.is_ascii_digit() {
            let value = letter as u8 - b'0';
            let ends_group = !text[at + 1..].starts_with(|next: char| next.is_alphanumeric());
            digits.push(Digit { value, end: at + 1, ends_group });
        } else if letter.is_alphabetic() {
            length = rest.find(|next: char| !next.is_alphanumeric()).unwrap_or(rest.len());
            let word = &rest[..length];
            if let Some((_, value)) = SPOKEN.iter().find(|(spoken, _)| word.eq_ignore_ascii_case(spoken)) {
                let whole = !text[at + length..].starts_with(|next: char| next.is_alphanumeric());
                digits.push(Digit { value: *value, end: at + length, ends_group: whole });
            }
        }
        at += length;
    }
    digits
}

/// Whether the place begins where a number begins: not within a word, nor behind a point, comma, colon, slash or dash that
/// goes on from a digit, nor behind a currency's sign.
pub(super) fn begins(text: &str, start: usize) -> bool {
    let mut before = text[..start].chars().rev();
    match before.next() {
        None => true,
        Some(letter) if letter.is_alphanumeric() || "$€£¥".contains(letter) => false,
        Some(letter) if ".,:/-".contains(letter) => {
            !before.next().is_some_and(|letter| letter.is_ascii_digit())
        }
        Some(' ') => !before.next().is_some_and(|letter| "$€£¥".contains(letter)),
        Some(_) => true,
    }
}

/// Whether the number ends here: no letter follows, nor a digit behind a point, comma, colon or slash.
pub(super) fn ends(text: &str, end: usize) -> bool {
    let mut after = text[end..].chars();
    match after.next() {
        Some(letter) if letter.is_alphanumeric() => false,
        Some(letter) if ".,:/".contains(letter) => {
            !after.next().is_some_and(|letter| letter.is_ascii_digit())
        }
        _ => true,
    }
}

/// Whether it is written as an amount: by points or commas alone, in threes.
pub(super) fn is_amount(text: &str) -> bool {
    [',', '.'].iter().any(|mark| {
        let mut groups = text.split(*mark);
        let first = groups.next().unwrap_or_default();
        let plain = |group: &str, lengths: Range<usize>| {
            lengths.contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_digit())
        };
        let mut others = groups.peekable();
        others.peek().is_some() && plain(first, 1..4) && others.all(|group| plain(group, 3..4))
    })
}

/// Whether it begins with a date, as 24-12-2026 or 24.12.26 18.
pub(super) fn begins_with_date(text: &str) -> bool {
    let parts: Vec<&str> =
        text.split([' ', '\u{a0}']).next().unwrap_or_default().split(['-', '.', '/']).collect();
    let number = |part: &str| part.parse::<u32>().unwrap_or(u32::MAX);
    match parts.as_slice() {
        [day, month, year] if day.len() <= 2 && month.len() <= 2 && [2, 4].contains(&year.len()) => {
            let (day, month) = (number(day), number(month));
            (1..=31).contains(&day) && (1..=31).contains(&month) && day.min(month) <= 12
        }
        _ => false,
    }
}

/// Whether one of the words stands shortly before the place.
pub(super) fn has_cue(text: &str, start: usize, cues: &[&str]) -> bool {
    const BEFORE_BYTES: usize = 40;
    let mut from = start.saturating_sub(BEFORE_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let words = text[from..start].split(|letter: char| !letter.is_alphanumeric());
    words.into_iter().any(|word| cues.iter().any(|cue| word.eq_ignore_ascii_case(cue)))
}
