//! How a transcript is redacted, whatever the rules: words with their text, labels as borders, and what holds always.

use std::borrow::ToOwned as _;
use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::collection::vec as vectors;
use proptest::prelude::*;
use proptest::sample::select;

use super::personal::built_in;
use crate::redact::{Kept, Redacted, RuleError, RuleSet, RuleText};

fn rule<'a>(kind: &'a str, label: &'a str, pattern: &'a str) -> RuleText<'a> {
    RuleText { kind, label, pattern, check: None }
}

/// The words as they are written down, each with the positions that it stands for.
fn written(redacted: &Redacted, words: &[&str]) -> Vec<String> {
    let one = |kept: &Kept| match kept {
        Kept::Word(at) => words[*at].to_owned(),
        Kept::Label { first, last, label } => std::format!("{label}{first}-{last}"),
    };
    redacted.words.iter().map(one).collect()
}

#[test]
fn words_go_with_their_text() {
    let cases: [(&str, &str, &str); 14] = [
        ("Mail a@b.nl now.", "Mail a@b.nl now.", "Mail [EMAIL]1-1 now."),
        ("Mail a@b.nl now.", "mail a b nl now", "mail [EMAIL]1-3 now"),
        ("Mail a@b.nl now.", "Mail a @ b . nl now .", "Mail [EMAIL]1-5 now ."),
        ("It is 4111 1111 1111 1111, ok?", "It is 4111 1111 1111 1111, ok?", "It is [CARD]2-5 ok?"),
        ("It is 4111-1111-1111-1111", "It is 4111 -1111 -1111 -1111", "It is [CARD]2-5"),
        ("a@b.nl c@d.nl", "a@b.nl c@d.nl", "[EMAIL]0-0 [EMAIL]1-1"),
        // The provider's words alone show it.
        ("", "call a@b.nl now", "call [EMAIL]1-1 now"),
        ("It costs 4111. 1111 or 1111 1111", "4111 1111 1111 1111", "[CARD]0-3"),
        // Words that the text lacks stay while all of the place is accounted for.
        ("Mail a@b.nl now", "um mail a@b.nl uh now", "um mail [EMAIL]2-2 uh now"),
        // The card is spelled otherwise: what has no place of its own in the rest goes.
        ("Card 4111111111111111 ok", "Card four triple one etcetera ok", "Card [CARD]1-4 ok"),
        ("Card 4111111111111111", "quite other words", "[CARD]0-2"),
        ("Card 4111111111111111 ok", "Card ok", "Card ok"),
        ("Card 4111111111111111 ok", "", ""),
        ("[EMAIL] and x", "[EMAIL] and x", "[EMAIL] and x"),
    ];
    let rules = built_in();
    for (text, words, expected) in cases {
        let words: Vec<&str> = words.split_whitespace().collect();
        let expected: Vec<&str> = expected.split_whitespace().collect();
        assert_eq!(written(&rules.redact(text, &words), &words), expected, "{text} / {words:?}");
    }
}

#[test]
fn what_only_words_show_goes_from_the_text_too() {
    let rules = built_in();
    let words = ["4111", "1111", "1111", "1111", "sold"];
    let redacted = rules.redact("4111! 1111? 1111! 1111 sold", &words);
    assert_eq!(redacted.text, "[CARD] sold");
    assert_eq!(written(&redacted, &words), ["[CARD]0-3", "sold"]);
}

#[test]
fn of_a_word_only_what_is_found_goes_from_the_text() {
    let rules = built_in();
    let words = ["See", "https://u:p4ss@e.org/x?token=abcd!", "(a@b.nl)"];
    let redacted = rules.redact(&words.join(" "), &words);
    assert_eq!(redacted.text, "See https://[CREDENTIALS]@e.org/x?token=[CREDENTIALS] ([EMAIL])");
    assert_eq!(written(&redacted, &words), ["See", "[CREDENTIALS]1-1", "[EMAIL]2-2"]);
}

#[test]
fn an_earlier_rule_takes_its_places() {
    let one = rule("one", "[ONE]", "[a-c]{3}");
    let two = rule("two", "[TWO]", "[b-e]{3}");
    let by = |rules: [RuleText<'_>; 2]| RuleSet::new(rules).expect("rules").redact("abcde", &[]).text;
    assert_eq!(by([one, two]), "[ONE]de");
    assert_eq!(by([two, one]), "a[TWO]e");
}

#[test]
fn of_a_secret_only_the_secret_goes() {
    let rules = RuleSet::new([rule("pin", "[PIN]", r"pin (?P<secret>[0-9]{4})")]).expect("rules");
    assert_eq!(rules.redact("pin 1234 of 5678", &[]).text, "pin [PIN] of 5678");
}

#[test]
fn a_removed_place_is_a_border_at_once() {
    // The second is a word only once the first has gone.
    let rules = RuleSet::new([rule("b", "[B]", r"\bx"), rule("a", "[A]", "ab")]).expect("rules");
    let redacted = rules.redact("abx", &[]);
    assert_eq!(redacted.text, "[A][B]");
    assert_eq!(rules.redact(&redacted.text, &[]), redacted);
}

#[test]
fn what_never_comes_to_rest_is_blanked_whole() {
    let rules = RuleSet::new([rule("a", "[A]", r"^y?x")]).expect("rules");
    let text = "x".repeat(30);
    let redacted = rules.redact(&text, &["y", "z"]);
    assert_eq!(written(&redacted, &["y", "z"]), ["[REDACTED]0-1"]);
    assert_eq!(redacted.text, "[REDACTED]");
    assert_eq!(redacted.removed.len(), 1);
    assert_eq!(rules.redact(&redacted.text, &["[REDACTED]"]).text, redacted.text);
}

#[test]
fn wrong_rules_are_refused() {
    let refused = |text: RuleText<'_>| RuleSet::new([rule("ok", "[OK]", "ok"), text]).expect_err("wrong");
    assert_eq!(refused(rule("E-mail", "[X]", "x")), (1, RuleError::Kind("E-mail".to_owned())));
    for label in ["X", "[x]", "[]", "[A B]", "[A]]"] {
        assert_eq!(refused(rule("x", label, "x")), (1, RuleError::Label(label.to_owned())));
    }
    assert!(matches!(refused(rule("x", "[OK]", "x")), (1, RuleError::LabelTaken { .. })));
    assert!(matches!(refused(rule("x", "[X]", "(x")), (1, RuleError::Pattern(_))));
    assert!(matches!(refused(rule("x", "[X]", r"\pL{4000}")), (1, RuleError::Unbounded)));
    assert!(matches!(refused(rule("x", "[X]", r"(\pL{900}){1}")), (1, RuleError::Pattern(_))));
    assert_eq!(refused(rule("x", "[X]", "x+")), (1, RuleError::Unbounded));
    assert_eq!(refused(rule("x", "[X]", "x?")), (1, RuleError::Empty));
    let (at, error) = refused(RuleText { check: Some("lune"), ..rule("x", "[X]", "x") });
    assert_eq!(at, 1);
    assert!(std::format!("{error}").contains("card, iban, ip, phone, spoken-email"), "{error}");
    assert!(matches!(RuleSet::new(vec![rule("x", "[X]", "x"); 257]), Err((256, RuleError::TooMany))));
}

/// Pieces of which transcripts are made: what is personal, what looks like it, and letters of all kinds.
fn piece() -> impl Strategy<Value = String> {
    let known = select(vec![
        "a@b.nl",
        "4111 1111 1111 1111",
        "4111111111111111",
        "NL91ABNA0417164300",
        "+31 6 1234 5678",
        "10.0.0.1",
        "https://u:p@h",
        "?token=abcdef",
        "fe80::1",
        "[EMAIL]",
        "[",
        "]",
        "@",
        ".",
        " at ",
        " dot ",
        "com",
        "one ",
        "four ",
        "0",
        "6",
        "12",
        " ",
        "-",
        "é",
        "ß",
        "İ",
        "\u{301}",
        "👩‍👩‍👧",
        "\u{a0}",
        "\n",
        "عرب",
        "漢字",
    ]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

fn transcript() -> impl Strategy<Value = (String, Vec<String>)> {
    let text = vectors(piece(), 0..24).prop_map(|pieces| pieces.concat());
    (text, vectors(piece(), 0..12), any::<u8>()).prop_map(|(text, others, choice)| {
        let own = || text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let letters =
            |text: &str| text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect::<Vec<_>>();
        let words = match choice % 4 {
            0 => own(),
            1 => letters(&text),
            2 => [own(), others].concat(),
            _ => others,
        };
        (text, words)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_for_any_transcript((text, words) in transcript()) {
        let rules = built_in();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let redacted = rules.redact(&text, &words);
        for one in &redacted.removed {
            let label = redacted.text.get(one.start..one.end).expect("on the borders of letters");
            prop_assert!(label.starts_with('[') && label.ends_with(']'), "{label}");
        }
        // Each word is in one place or under one label, in order.
        let mut next = 0;
        for kept in &redacted.words {
            let (first, last) = match kept {
                Kept::Word(at) => (*at, *at),
                Kept::Label { first, last, .. } => (*first, *last),
            };
            prop_assert!(first == next && last >= first, "{:?}", redacted.words);
            next = last + 1;
        }
        prop_assert_eq!(next, words.len());
        // Again, nothing changes.
        let again: Vec<&str> = redacted.words.iter().map(|kept| kept.text(&words)).collect();
        let twice = rules.redact(&redacted.text, &again);
        let same: Vec<&str> = twice.words.iter().map(|kept| kept.text(&again)).collect();
        prop_assert_eq!((&twice.text, &twice.removed), (&redacted.text, &redacted.removed));
        prop_assert_eq!(same, again);
    }

    #[test]
    fn no_secret_is_left_in_text_or_words(
        before in vectors(select(vec!["so", "well", "it", "is", "mine"]), 0..6),
        secret in select(vec![
            ("kanarie.vogel@zanger.nl", "kanarie vogel zanger"), ("4111 1111 1111 1111", "4111 1111"),
            ("NL91 ABNA 0417 1643 00", "0417 1643"), ("+31 6 5792 1386", "5792 1386"), ("172.23.91.7", "172 91"),
        ]),
        after in vectors(select(vec!["and", "then", "okay", "bye"]), 0..6),
        how in 0..4_u8,
    ) {
        let (secret, parts) = secret;
        let text = [before.join(" "), secret.to_owned(), after.join(" ")].join(" ");
        let bare = text.replace(|c: char| !c.is_alphanumeric(), " ");
        let words: Vec<&str> = match how {
            0 => text.split_whitespace().collect(),
            1 => bare.split_whitespace().collect(),
            2 => bare.split_whitespace().flat_map(|word| ["uh", word]).collect(),
            _ => bare.split_whitespace().filter(|word| word.len() != 2).collect(),
        };
        let redacted = built_in().redact(&text, &words);
        let left = std::format!("{} {}", redacted.text, written(&redacted, &words).join(" "));
        for part in parts.split(' ') {
            prop_assert!(!left.contains(part), "{part} is left in {left}");
        }
        for word in before.iter().chain(&after).filter(|_| how < 2) {
            prop_assert!(redacted.text.contains(word), "{word} is gone from {}", redacted.text);
        }
    }
}
