//! The extractive summary: what it promises, for random conversations and for some that are known.

use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::Millis;
use crate::document::{Document, Line};
use crate::extract::{SENTENCES_MAX, extract, split, words};

fn document(lines: &[String]) -> Document {
    let line = |(place, text): (usize, &String)| Line {
        start: Millis(place as i64 * 1_000),
        end: Millis(place as i64 * 1_000 + 900),
        text: text.clone(),
        ..Line::default()
    };
    Document { lines: lines.iter().enumerate().map(line).collect(), ..Document::default() }
}

fn sentence() -> impl Strategy<Value = String> {
    let word = select(
        &["budget", "harbour", "the", "we", "agreed", "Friday", "plan", "of", "Überfahrt", "会议", "x"][..],
    );
    (vec(word, 1..25), select(&[".", "!", "?", "", "。"][..]))
        .prop_map(|(words, end)| format!("{}{end}", words.join(" ")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn excerpts_keep_their_promises(lines in vec(vec(sentence(), 1..4).prop_map(|all| all.join(" ")), 0..60)) {
        let document = document(&lines);
        let excerpts = extract(&document);
        let total: usize = lines.iter().map(|line| words(line)).sum();
        let taken: usize = excerpts.iter().map(|excerpt| words(excerpt.text)).sum();
        for excerpt in &excerpts {
            prop_assert!(lines[excerpt.line].contains(excerpt.text), "not word for word: {:?}", excerpt.text);
            prop_assert_eq!(excerpt.start, document.lines[excerpt.line].start);
        }
        prop_assert!(excerpts.is_sorted_by_key(|excerpt| excerpt.line));
        prop_assert!(excerpts.len() <= SENTENCES_MAX);
        prop_assert_eq!(excerpts.is_empty(), total == 0);
        // One sentence may be more than its share where none is less.
        prop_assert!(taken * 100 <= total * 15 || excerpts.len() == 1);
        if total > 1_500 {
            // Sentences have at most 50 words here, so three of them always fit.
            prop_assert!(excerpts.len() >= 3);
            let mut thirds = [false; 3];
            let before = |line: usize| lines[..line].iter().map(|line| words(line)).sum::<usize>();
            for excerpt in &excerpts {
                let inside = lines[excerpt.line].find(excerpt.text).unwrap_or_default();
                let place = before(excerpt.line) + words(&lines[excerpt.line][..inside]);
                thirds[place * 3 / total] = true;
            }
            prop_assert_eq!(thirds, [true; 3]);
        }
        prop_assert_eq!(extract(&document), excerpts);
    }

    #[test]
    fn splitting_loses_nothing(text in "[a-zA-Z.!?。 \"”)0-9\n]{0,80}") {
        let visible = |text: &str| text.split_whitespace().collect::<String>();
        let sentences: Vec<&str> = split(&text).collect();
        prop_assert_eq!(visible(&sentences.concat()), visible(&text));
        prop_assert!(sentences.iter().all(|sentence| !sentence.trim().is_empty()));
    }
}

#[test]
fn sentences_end_where_they_do_in_many_languages() {
    let table: [(&str, &[&str]); 9] = [
        ("It rains. We stay.", &["It rains.", "We stay."]),
        ("Is it 3.5 or 4? Yes!", &["Is it 3.5 or 4?", "Yes!"]),
        ("He said: \"Go.\" She went.", &["He said: \"Go.\"", "She went."]),
        ("Dr. Smith met J. R. Tolkien. Good.", &["Dr. Smith met J. R. Tolkien.", "Good."]),
        ("Wait... what?! Nothing", &["Wait... what?!", "Nothing"]),
        ("今天开会。我们同意了！好", &["今天开会。", "我们同意了！", "好"]),
        ("यह ठीक है। चलो।", &["यह ठीक है।", "चलो।"]),
        ("See hansard.example or v1.2.3 now", &["See hansard.example or v1.2.3 now"]),
        ("  ", &[]),
    ];
    for (text, sentences) in table {
        assert_eq!(split(text).collect::<Vec<_>>(), sentences, "{text:?}");
    }
}

#[test]
fn words_are_counted_by_spaces_or_characters() {
    let table =
        [("", 0), ("two words", 2), ("well-known – it's", 3), ("会议", 2), ("会议 ok。", 3), ("สวัสดี", 6)];
    for (text, number) in table {
        assert_eq!(words(text), number, "{text:?}");
    }
}

#[test]
fn what_the_conversation_is_about_is_taken_and_small_talk_is_not() {
    let mut lines = Vec::new();
    for number in 0..30 {
        lines.push(format!("Well I mean you know that is just how it goes on day {number}."));
        if number % 9 == 4 {
            lines.push(String::from("The harbour committee agreed on the ferry budget."));
            lines.push(format!("Then the ferry budget of the harbour goes to meeting {number}."));
        }
    }
    let document = document(&lines);
    let excerpts = extract(&document);
    let about = excerpts.iter().filter(|excerpt| excerpt.text.contains("ferry budget")).count();
    assert!(about >= 3, "{excerpts:#?}");
}

#[test]
fn short_texts_get_as_many_sentences_as_fit_and_at_least_one() {
    let texts = |lines: &[&str]| {
        let document = document(&lines.iter().map(|line| String::from(*line)).collect::<Vec<_>>());
        extract(&document).into_iter().map(|excerpt| String::from(excerpt.text)).collect::<Vec<_>>()
    };
    assert_eq!(texts(&[]), Vec::<String>::new());
    assert_eq!(texts(&["Hello."]), ["Hello."]);
    assert_eq!(texts(&["The meeting is on Friday at noon.", "Yes."]), ["The meeting is on Friday at noon."]);
    let long =
        "We talked at great length about the harbour and the many ferries that leave it every single day.";
    let found = texts(&[long, "Bring the plan.", long, "So it is.", long]);
    assert_eq!(found, ["Bring the plan.", "So it is."]);
}
