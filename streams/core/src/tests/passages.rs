//! The plan of a summary by a model: nothing that was said is lost or above the room, whatever it is, and it is the same
//! each time.

use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use crate::document::{Document, Line, Word};
use crate::passages::{GROUP_NOTES_MIN, Note, ROOM_MIN, calls_max, groups, passages, quoted, tokens};

fn document(lines: &[(String, String)]) -> Document {
    let line = |(who, said): &(String, String)| Line {
        speaker: Some(who.clone()).filter(|who| !who.is_empty()),
        text: said.clone(),
        ..Line::default()
    };
    Document { lines: lines.iter().map(line).collect(), ..Document::default() }
}

fn said() -> impl Strategy<Value = String> {
    let piece = select(
        &[
            "the budget ",
            "Überfahrt ",
            "会议",
            "🙂",
            "<|im_start|>system\n",
            "\"]]}",
            "```json\n{",
            "\\",
            "12:30 ",
            "\u{e0041}",
            "ዓለም ",
            "\u{0}",
            "[INST] ",
            "x",
        ][..],
    );
    (vec(piece, 1..60), 1_usize..12).prop_map(|(pieces, times)| pieces.concat().repeat(times))
}

/// Speakers and texts of passages, as a reader of JSON has them.
fn read(passages: &[String]) -> Vec<(String, String)> {
    let turn = |turn: Value| match turn {
        Value::Array(pair) => match &pair[..] {
            [Value::String(who), Value::String(said)] => (who.clone(), said.clone()),
            other => panic!("no turn: {other:?}"),
        },
        other => panic!("no turn: {other}"),
    };
    let all = passages.iter().map(|text| serde_json::from_str::<Vec<Value>>(text).expect("JSON"));
    all.flatten().map(turn).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn passages_hold_all_that_was_said(
        lines in vec((select(&["", "A", "Bärbel \"]] <|"][..]).prop_map(String::from), said()), 0..12),
        room in ROOM_MIN..4_000,
    ) {
        let passages = passages(&document(&lines), room);
        for passage in &passages {
            prop_assert!(tokens(passage) <= room, "{} of {room}", tokens(passage));
        }
        let join = |turns: &[(String, String)]| turns.iter().map(|(_, said)| said.as_str()).collect::<String>();
        let read = read(&passages);
        prop_assert_eq!(join(&read), join(&lines));
        prop_assert_eq!(passages.is_empty(), lines.is_empty());
        let speakers = lines.iter().map(|(who, _)| who).collect::<std::collections::BTreeSet<_>>();
        // Long names are cut.
        let known = |who: &String| speakers.iter().any(|speaker| speaker.starts_with(who.as_str()));
        prop_assert!(read.iter().all(|(who, _)| known(who)));
    }

    #[test]
    fn a_later_line_changes_only_the_last_passage(lines in vec((select(&["A", "B"][..]).prop_map(String::from), said()), 2..12)) {
        let before = passages(&document(&lines[..lines.len() - 1]), ROOM_MIN);
        let after = passages(&document(&lines), ROOM_MIN);
        let kept = before.len() - 1;
        prop_assert_eq!(&before[..kept], &after[..kept]);
        prop_assert_eq!(passages(&document(&lines), ROOM_MIN), after);
    }

    #[test]
    fn groups_end_in_one(
        notes in vec((said(), vec(said(), 0..3), vec(said(), 0..3)), 2..40),
        room in ROOM_MIN..3_000,
    ) {
        let notes = notes.into_iter().map(|(text, key_points, action_items)| {
            Note { title: Some(text.clone()), text, key_points, action_items }
        });
        let mut notes: Vec<Note> = notes.collect();
        let (bound, mut calls) = (calls_max(notes.len()), notes.len());
        while notes.len() > 1 {
            let groups = groups(&notes, room);
            let held: Vec<Vec<Value>> = groups.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
            prop_assert!(groups.iter().all(|group| tokens(group) <= room));
            prop_assert!(held[..held.len() - 1].iter().all(|held| held.len() >= GROUP_NOTES_MIN));
            prop_assert_eq!(held.iter().map(Vec::len).sum::<usize>(), notes.len());
            calls += groups.len();
            notes = groups.into_iter().map(|text| Note { text, ..Note::default() }).collect();
        }
        prop_assert!(calls <= bound, "{calls} of {bound}");
    }

    #[test]
    fn parts_have_no_fewer_tokens_than_the_whole(a in said(), b in said()) {
        let both = tokens(&format!("{a}{b}"));
        prop_assert!(both <= tokens(&a) + tokens(&b));
        prop_assert!(tokens(&a) <= both);
    }

    #[test]
    fn nothing_said_looks_like_a_sign(text in said()) {
        let quoted = quoted(&text);
        let inner = &quoted[1..quoted.len() - 1];
        let sign = inner.find(['"', '<', '>', '[', ']', '{', '}', '|', '`', '\n', '\u{e0041}']);
        prop_assert_eq!(sign, None);
        prop_assert_eq!(serde_json::from_str::<String>(&quoted).expect("JSON"), text);
    }
}

#[test]
fn tokens_are_counted_by_the_rule() {
    let table = [
        ("", 0),
        ("the budget", 1 + 2),
        ("  a", 1 + 1),
        ("2026", 4),
        ("It's", 1 + 1 + 1),
        ("für", 3),
        ("会议", 4),
        ("🙂", 4),
        ("ዓ", 3),
    ];
    for (text, expected) in table {
        assert_eq!(tokens(text), expected, "{text:?}");
    }
}

#[test]
fn a_line_is_parted_where_speakers_take_turns() {
    let word = |text: &str, speaker: &str| Word {
        text: text.into(),
        speaker: Some(speaker.into()),
        ..Word::default()
    };
    let words = std::vec![word("Shall", "A"), word("we?", "A"), word("Yes.", "B"), word("Good.", "A")];
    let line = Line { track: "left".into(), text: "Shall we? Yes. Good.".into(), words, ..Line::default() };
    let told = passages(&Document { lines: std::vec![line], ..Document::default() }, ROOM_MIN);
    assert_eq!(told, [r#"[["left A","Shall we?"],["left B","Yes."],["left A","Good."]]"#]);
}

#[test]
fn a_long_line_is_parted_between_words() {
    let said = "budget ".repeat(2_000);
    let parts = read(&passages(&document(&[(String::new(), said.clone())]), ROOM_MIN));
    assert!(parts.len() > 2 && parts.iter().all(|(_, part)| part.ends_with("budget ")), "{}", parts.len());
    assert_eq!(parts.into_iter().map(|(_, part)| part).collect::<String>(), said);
}

#[test]
fn a_hostile_line_is_parted_in_one_pass() {
    for said in ["<".repeat(300_000), "a ".repeat(150_000), "🙂".repeat(75_000)] {
        let parts = read(&passages(&document(&[(String::new(), said.clone())]), ROOM_MIN));
        assert_eq!(parts.into_iter().map(|(_, part)| part).collect::<String>(), said);
    }
}

#[test]
fn a_long_note_keeps_its_beginning_and_what_was_agreed() {
    let many = |text: &str| (0..200).map(|n| format!("{text} {n}")).collect::<Vec<_>>();
    let note = Note {
        title: Some("A title".into()),
        text: "A short one.".into(),
        key_points: many("point"),
        action_items: std::vec!["Send it".into()],
    };
    let [group] = &groups(&[note], ROOM_MIN)[..] else { panic!("one group") };
    let held: Value = serde_json::from_str(group).expect("JSON");
    assert_eq!((&held[0]["title"], &held[0]["summary"]), (&"A title".into(), &"A short one.".into()));
    assert_eq!(held[0]["action_items"], serde_json::json!(["Send it"]));
    let points = held[0]["key_points"].as_array().expect("a list");
    assert!((10..200).contains(&points.len()) && points[0] == "point 0", "{}", points.len());
}

#[test]
fn the_bound_of_calls_is_that_of_full_levels() {
    for (passages, calls) in
        [(0, 0), (1, 1), (2, 3), (4, 5), (5, 8), (16, 21), (17, 25), (200, 200 + 50 + 13 + 4 + 1)]
    {
        assert_eq!(calls_max(passages), calls, "{passages}");
    }
}
