//! The exports, read back by readers of their own: JSON by another library, SubRip and WebVTT by their grammar.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::Millis;
use crate::document::{Document, Gap, Line, PlacedChunk, Spoken, Word};
use crate::export::{to_json, to_srt, to_text, to_vtt};

/// Texts with everything that could break a format.
fn text() -> impl Strategy<Value = String> {
    let hostile = [
        "hello",
        "world.",
        "a --> b",
        "<b>",
        "&amp;",
        "00:00:01.000",
        "\n\n",
        "\r",
        "\u{2028}",
        "\"",
        "\\",
        "\u{0}",
        "你好世界。",
        "7",
        "WEBVTT",
        "NOTE",
        "{\\an8}",
        "🎧",
        "\t",
        "Donaudampfschifffahrtsgesellschaftskapitänsmütze",
    ];
    vec(select(hostile.to_vec()), 0..30).prop_map(|words| words.join(" "))
}

fn line() -> impl Strategy<Value = Line> {
    let speaker = option::of(select(&["A", "B & <C>\n"][..]).prop_map(String::from));
    (text(), 0..100_000_i64, -100..40_000_i64, speaker, 0..3_u8).prop_map(
        |(text, start, length, speaker, words)| {
            let tokens: Vec<&str> = text.split_whitespace().collect();
            let step = length / (tokens.len().max(1) as i64);
            let word = |(place, token): (usize, &&str)| Word {
                // Some providers give words without their punctuation, and some give other words than the text.
                text: if words == 1 { token.trim_end_matches('.').into() } else { token.to_uppercase() },
                start: Millis(start + step * place as i64),
                end: Millis(start + step * (place as i64 + 1)),
                confidence: Some(0.5),
                speaker: speaker.clone().filter(|_| place % 7 != 6),
            };
            let words = if words == 0 { Vec::new() } else { tokens.iter().enumerate().map(word).collect() };
            let (start, end) = (Millis(start), Millis(start + length));
            Line { start, end, speaker, text, words, ..Line::default() }
        },
    )
}

fn document() -> impl Strategy<Value = Document> {
    vec(line(), 0..8).prop_map(|mut lines| {
        lines.retain(|line| !line.text.trim().is_empty());
        lines.sort_by_key(|line| line.start);
        Document { conversation: "c\"1".into(), revision: 2, lines, ..Document::default() }
    })
}

/// What can be seen of a text, with its spaces as one.
fn visible(text: &str) -> String {
    let parts = text.split(|character: char| character.is_whitespace() || character.is_control());
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("")
}

fn time(text: &str, point: char) -> i64 {
    let (seconds, ms) = text.split_once(point).expect("a time with milliseconds");
    assert_eq!(ms.len(), 3, "{text:?}");
    let parts: Vec<i64> = seconds.split(':').map(|part| part.parse().expect("a number")).collect();
    let [hours, minutes, seconds] = parts[..] else { panic!("hours, minutes and seconds in {text:?}") };
    assert!(minutes < 60 && seconds < 60, "{text:?}");
    ((hours * 60 + minutes) * 60 + seconds) * 1_000 + ms.parse::<i64>().expect("a number")
}

/// Reads blocks of a time and lines of text, parted by empty lines; start, end and text of each.
fn read(blocks: &str, point: char) -> Vec<(i64, i64, Vec<String>)> {
    let blocks = blocks.split("\n\n").filter(|block| !block.is_empty());
    let cue = |block: &str| {
        let mut lines = block.lines();
        let (start, end) = lines.next().and_then(|times| times.split_once(" --> ")).expect("a time");
        (time(start, point), time(end, point), lines.map(String::from).collect())
    };
    blocks.map(cue).collect()
}

fn check(cues: &[(i64, i64, Vec<String>)]) {
    for (start, end, lines) in cues {
        assert!(start < end, "a cue lasts at least a millisecond");
        assert!(
            !lines.is_empty() && lines.iter().all(|line| !line.trim().is_empty()),
            "no line is empty: {lines:?}"
        );
        assert!(lines.len() <= 2, "at most two lines: {lines:?}");
        assert!(!lines.iter().any(|line| line.contains("-->")), "an arrow would be a time: {lines:?}");
    }
    assert!(cues.is_sorted_by_key(|(start, ..)| start));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn webvtt_is_valid_and_loses_nothing(document in document()) {
        let vtt = to_vtt(&document);
        let cues = read(vtt.strip_prefix("WEBVTT\n\n").expect("the magic word"), '.');
        check(&cues);
        let mut said = Vec::new();
        for (.., lines) in &cues {
            let text = lines.join("\n");
            let text = match text.strip_prefix("<v ") {
                Some(voice) => voice.split_once('>').expect("the end of the voice").1.to_string(),
                None => text,
            };
            prop_assert!(!text.contains(['<', '>']));
            said.push(visible(&text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")));
        }
        let mut expected: Vec<char> = document.lines.iter().flat_map(|line| visible(&line.text).chars().collect::<Vec<_>>()).collect();
        let mut said: Vec<char> = said.concat().chars().collect();
        // Cues of lines that overlap are mixed, so only what was said is compared.
        expected.sort_unstable();
        said.sort_unstable();
        prop_assert_eq!(said, expected);
    }

    #[test]
    fn subrip_is_valid(document in document()) {
        let srt = to_srt(&document);
        let mut blocks = String::new();
        for (place, block) in srt.split("\n\n").filter(|block| !block.is_empty()).enumerate() {
            let (number, rest) = block.split_once('\n').expect("a number");
            prop_assert_eq!(number, (place + 1).to_string());
            blocks.push_str(&format!("{rest}\n\n"));
        }
        check(&read(&blocks, ','));
    }

    #[test]
    fn json_is_read_as_it_was_written(document in document()) {
        let json: serde_json::Value = serde_json::from_str(&to_json(&document)).expect("valid JSON");
        prop_assert_eq!(&json["conversation_id"], "c\"1");
        let lines = json["lines"].as_array().expect("lines");
        prop_assert_eq!(lines.len(), document.lines.len());
        for (json, line) in lines.iter().zip(&document.lines) {
            prop_assert_eq!(json["text"].as_str(), Some(line.text.as_str()));
            prop_assert_eq!(json["speaker"].as_str(), line.speaker.as_deref());
            prop_assert_eq!(json["start_ms"].as_i64(), Some(line.start.0));
            let words = json["words"].as_array().expect("words");
            prop_assert_eq!(words.len(), line.words.len());
            for (json, word) in words.iter().zip(&line.words) {
                prop_assert_eq!(json["text"].as_str(), Some(word.text.as_str()));
                prop_assert_eq!(json["confidence"].as_f64(), Some(0.5));
            }
        }
    }
}

fn line_of(text: &str, start: i64, end: i64) -> Line {
    Line { text: text.into(), start: Millis(start), end: Millis(end), ..Line::default() }
}

#[test]
fn long_lines_are_parted_evenly_where_there_are_no_words() {
    let text = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of \
        foolishness, it was the epoch of belief.";
    let document = Document { lines: Vec::from([line_of(text, 10_000, 20_000)]), ..Document::default() };
    assert_eq!(
        to_vtt(&document),
        "WEBVTT\n\n00:00:10.000 --> 00:00:15.985\nIt was the best of times, it was the\nworst of times, it was the \
         age of wisdom, it\n\n00:00:15.985 --> 00:00:20.000\nwas the age of foolishness,\nit was the epoch of \
         belief.\n\n"
    );
}

#[test]
fn words_part_the_text_and_keep_its_punctuation() {
    let words = [("Yes", 0, 400, "A"), ("sir", 500, 900, "A"), ("No", 8_000, 8_300, "B")];
    let word = |(text, start, end, speaker): (&str, i64, i64, &str)| Word {
        text: text.into(),
        start: Millis(start),
        end: Millis(end),
        confidence: None,
        speaker: Some(speaker.into()),
    };
    let words = words.into_iter().map(word).collect();
    let line = Line { words, ..line_of("“Yes, sir.” – No!", 0, 9_000) };
    let document = Document { lines: Vec::from([line]), ..Document::default() };
    assert_eq!(
        to_srt(&document),
        "1\n00:00:00,000 --> 00:00:00,900\nA: “Yes, sir.” –\n\n2\n00:00:08,000 --> 00:00:08,300\nB: No!\n\n"
    );
}

#[test]
fn text_without_spaces_is_parted_too() {
    let text = "你好世界".repeat(30);
    let document = Document { lines: Vec::from([line_of(&text, 0, 12_000)]), ..Document::default() };
    let vtt = to_vtt(&document);
    assert!(vtt.lines().all(|line| line.chars().count() <= 84), "{vtt}");
    assert_eq!(vtt.matches(" --> ").count(), 3, "{vtt}");
}

#[test]
fn plain_text_names_times_speakers_and_gaps() {
    let mut lines = Vec::from([
        line_of("Good morning.", 3_723_000, 3_724_000),
        line_of("Morning.", 3_725_000, 3_726_000),
    ]);
    lines[0].speaker = Some("A".into());
    lines[1].track = "mic".into();
    let gap =
        Gap { status: "missing".into(), code: "not_uploaded".into(), sequence: Some(4), ..Gap::default() };
    let document = Document { lines, gaps: Vec::from([gap]), gaps_truncated: true, ..Document::default() };
    assert_eq!(
        to_text(&document),
        "[01:02:03] A: Good morning.\n[01:02:05] mic: Morning.\n[missing: number 4, not_uploaded]\n[more gaps than \
         are listed]\n"
    );
}

#[test]
fn assembling_places_segments_and_leaves_out_the_empty() {
    let spoken = |segment, start, text: &str, language: &str| Spoken {
        segment,
        start: Millis(start),
        end: Millis(start + 500),
        text: text.into(),
        words: Vec::from([Word {
            text: text.into(),
            start: Millis(start),
            end: Millis(start + 500),
            ..Word::default()
        }]),
        language: Some(language.into()),
    };
    let chunk = |name: &str, offset, segments| PlacedChunk {
        chunk: name.into(),
        offset: Millis(offset),
        duration: Millis(30_000),
        segments,
        ..PlacedChunk::default()
    };
    let document = Document::assemble(Vec::from([
        chunk("b", 30_000, Vec::from([spoken(0, 1_000, "later on", "en"), spoken(1, 2_000, " ", "de")])),
        chunk("a", 0, Vec::from([spoken(0, 5_000, " erst ", "de")])),
    ]));
    let lines: Vec<_> = document.lines.iter().map(|line| (line.start.0, line.text.as_str())).collect();
    assert_eq!(lines, [(5_000, "erst"), (31_000, "later on")]);
    assert_eq!((document.duration, document.language.as_deref()), (Millis(60_000), Some("en")));
    assert_eq!(document.lines[1].words[0].end, Millis(31_500));
    assert_eq!(document.word_count(), 3);
}
