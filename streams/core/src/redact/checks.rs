//! What a pattern cannot say: check digits, lengths by country, and what stands around a find.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::Range;

use super::numbers::{Digit, begins, begins_with_date, digits, ends, has_cue, is_amount};

/// A check of what a pattern finds. It may find that less of it is meant, and never more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// A payment card's number: an issuer's beginning with one of its lengths, and the check digit by Luhn
    /// (ISO/IEC 7812-1). The longest that ends where a group of digits ends is meant.
    Card,
    /// An IBAN: its country's length, and its check digits by mod 97 (ISO 13616).
    Iban,
    /// An IPv4 or IPv6 address, and neither a version nor a time.
    Ip,
    /// A telephone number: as many digits as its form has (E.164: 15 at most), and neither a date, an amount nor an order's
    /// number.
    Phone,
    /// An e-mail address as it is spoken: with a dot, dash or digit in its name, at a known provider of mailboxes, or shortly
    /// after a word like "mail". Else "I bought it at example dot com" would be one.
    SpokenEmail,
}

impl Check {
    /// All checks by the names that rules give them.
    pub const ALL: [(&'static str, Self); 5] = [
        ("card", Self::Card),
        ("iban", Self::Iban),
        ("ip", Self::Ip),
        ("phone", Self::Phone),
        ("spoken-email", Self::SpokenEmail),
    ];

    /// The check of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, check)| *check)
    }

    /// What is meant of a find; nothing where it is none.
    pub(super) fn accept(self, text: &str, place: Range<usize>) -> Option<Range<usize>> {
        let end = match self {
            Self::Card => card(text, &place),
            Self::Iban => iban(text, &place),
            Self::Ip => ip(text, &place),
            Self::Phone => phone(text, &place),
            Self::SpokenEmail => spoken_email(text, &place).then_some(place.end),
        };
        end.map(|end| place.start..end)
    }
}

/// The end of the longest beginning of these digits that ends with a group and is what is wanted.
fn longest(digits: &[Digit], wanted: impl Fn(&[Digit]) -> bool) -> Option<usize> {
    let mut lengths = (1..=digits.len()).rev();
    lengths.find_map(|length| {
        let last = digits[length - 1];
        (last.ends_group && wanted(&digits[..length])).then_some(last.end)
    })
}

fn card(text: &str, place: &Range<usize>) -> Option<usize> {
    let all = digits(text, place);
    longest(&all, |digits| {
        let end = digits[digits.len() - 1].end;
        is_issued(digits) && has_luhn(digits) && !is_amount(&text[place.start..end])
    })
}

/// Whether an issuer of cards has numbers that begin so and are so long; by the ranges that networks publish.
fn is_issued(digits: &[Digit]) -> bool {
    let first =
        |count: usize| digits.iter().take(count).fold(0, |sum: u32, digit| sum * 10 + u32::from(digit.value));
    let (two, four, length) = (first(2), first(4), digits.len());
    match two {
        40..=49 => [13, 16, 19].contains(&length),
        34 | 37 => length == 15,
        30 | 36 | 38 | 39 => (14..=19).contains(&length),
        51..=55 | 81 => length == 16,
        20..=27 => length == 16 && ((2200..=2204).contains(&four) || (2221..=2720).contains(&four)),
        35 | 60 | 62 | 64 | 65 => (16..=19).contains(&length),
        50 | 56..=58 | 61 | 63 | 66..=69 => (13..=19).contains(&length),
        _ => false,
    }
}

fn has_luhn(digits: &[Digit]) -> bool {
    let doubled = |(place, digit): (usize, &Digit)| match (place % 2, u32::from(digit.value) * 2) {
        (0, _) => u32::from(digit.value),
        (_, double) if double > 9 => double - 9,
        (_, double) => double,
    };
    digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

/// Lengths by country, from the registry of IBANs (SWIFT, release 99).
const IBANS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 \
                     EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 \
                     IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 \
                     NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 \
                     SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30";

fn iban(text: &str, place: &Range<usize>) -> Option<usize> {
    let within = text[place.clone()].char_indices().filter(|(_, letter)| letter.is_ascii_alphanumeric());
    let letters: Vec<(usize, char)> =
        within.map(|(at, letter)| (place.start + at + 1, letter.to_ascii_uppercase())).collect();
    let country: String = letters.iter().take(2).map(|(_, letter)| letter).collect();
    let entry = IBANS.split(' ').find(|entry| entry.starts_with(&country))?;
    let length: usize = entry.get(2..)?.parse().ok()?;
    let letters = letters.get(..length)?;
    let end = letters.last()?.0;
    let value = |sum: u32, (_, letter): &(usize, char)| {
        let value = letter.to_digit(36).unwrap_or(0);
        (sum * if value > 9 { 100 } else { 10 } + value) % 97
    };
    let rest = letters[4..].iter().chain(&letters[..4]).fold(0, value);
    let is_whole = !text[end..].starts_with(|next: char| next.is_alphanumeric());
    (rest == 1 && is_whole).then_some(end)
}

/// Words after which four numbers with points are a version.
const VERSIONS: [&str; 9] =
    ["version", "versions", "versie", "v", "release", "build", "firmware", "section", "chapter"];

fn ip(text: &str, place: &Range<usize>) -> Option<usize> {
    let found = &text[place.clone()];
    if !found.contains(':') {
        let octets = digits(text, place);
        let groups: Vec<&str> =
            found.split(|letter: char| !letter.is_ascii_digit()).filter(|group| !group.is_empty()).collect();
        let plain = groups.join(".").parse::<Ipv4Addr>().is_ok();
        let mut after = text[place.end..].chars();
        // A port may follow.
        let is_longer =
            after.next() == Some('.') && after.next().is_some_and(|letter| letter.is_ascii_digit());
        let alone = begins(text, place.start) && !is_longer && octets.len() >= 4;
        return (plain && alone && !has_cue(text, place.start, &VERSIONS)).then_some(place.end);
    }
    // A colon behind an address is the sentence's.
    let own = if found.ends_with("::") { found } else { found.trim_end_matches([':', '.']) };
    let apart = !text[..place.start].ends_with(|letter: char| letter.is_alphanumeric() || letter == ':');
    let end = place.start + own.len();
    let whole = !text[end..].starts_with(|letter: char| letter.is_alphanumeric());
    let told = own.contains(|letter: char| letter.is_ascii_digit());
    (own.parse::<Ipv6Addr>().is_ok() && apart && whole && told).then_some(end)
}

/// Words after which a number without a plus is none to be called.
const NO_PHONES: [&str; 20] = [
    "order",
    "invoice",
    "ticket",
    "case",
    "reference",
    "ref",
    "article",
    "isbn",
    "serial",
    "tracking",
    "sku",
    "barcode",
    "parcel",
    "bestelnummer",
    "factuurnummer",
    "bestellnummer",
    "rechnungsnummer",
    "part",
    "model",
    "version",
];

fn phone(text: &str, place: &Range<usize>) -> Option<usize> {
    let found = &text[place.clone()];
    let all = digits(text, place);
    let is = |at: usize, value: u8| all.get(at).is_some_and(|digit| digit.value == value);
    let plus = found.starts_with('+') || found.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("plus"));
    let lengths = if plus {
        8..=15
    } else if is(0, 0) && is(1, 0) {
        10..=17
    } else if is(0, 0) {
        9..=11
    } else {
        7..=15
    };
    let spoken = found.contains(|letter: char| letter.is_alphabetic());
    // What is counted aloud begins anywhere; what is dialled begins with a plus or a zero, or has ten digits.
    let dialled = !spoken || plus || is(0, 0) || all.len() >= 10;
    let excused = !plus && has_cue(text, place.start, &NO_PHONES);
    if excused || !dialled || !begins(text, place.start) || begins_with_date(found) {
        return None;
    }
    longest(&all, |digits| {
        let end = digits[digits.len() - 1].end;
        lengths.contains(&digits.len()) && ends(text, end) && !is_amount(&text[place.start..end])
    })
}

/// Words near which somebody gives an address.
const MAILS: [&str; 8] = ["mail", "email", "emails", "mailbox", "address", "mailadres", "adres", "adresse"];
/// Who has mailboxes, more than shops or pages.
const MAILBOXES: [&str; 14] = [
    "gmail",
    "googlemail",
    "outlook",
    "hotmail",
    "live",
    "yahoo",
    "icloud",
    "proton",
    "protonmail",
    "gmx",
    "aol",
    "fastmail",
    "ziggo",
    "kpnmail",
];

fn spoken_email(text: &str, place: &Range<usize>) -> bool {
    let found = &text[place.clone()];
    let words: Vec<&str> = found.split_whitespace().collect();
    let is_at =
        |word: &&str| ["at", "@", "ät", "apenstaartje"].iter().any(|at| word.eq_ignore_ascii_case(at));
    let Some(at) = words.iter().rposition(is_at) else { return false };
    let (name, host) = (&words[..at], &words[at + 1..]);
    let named = |word: &&str| word.contains(char::is_alphabetic);
    let joined =
        name.len() > 1 || name.iter().any(|word| word.contains(|letter: char| !letter.is_alphabetic()));
    let mailbox = host.first().and_then(|host| host.split('.').next());
    let known = mailbox.is_some_and(|host| MAILBOXES.iter().any(|box_| host.eq_ignore_ascii_case(box_)));
    name.iter().any(named) && (joined || known || has_cue(text, place.start, &MAILS))
}
