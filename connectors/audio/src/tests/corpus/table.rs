//! Reads the table.

use std::path::Path;

/// One file and what is expected of it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Where it comes from and its name there, or the name of one that is made.
    pub(super) file: String,
    pub(super) expected: Expected,
    /// How it is made; empty where it is fetched.
    pub(super) recipe: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Expected {
    Decoded { source: String, cut_short: bool, frames: Frames },
    Refused { code: String, naming: Option<String> },
}

/// Samples per channel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Frames {
    Counted(u64),
    /// As many as ffmpeg counts, within so many.
    AsFfmpeg {
        within: u64,
    },
}

impl Frames {
    pub(super) fn within(self) -> u64 {
        match self {
            Self::Counted(_) => 0,
            Self::AsFfmpeg { within } => within,
        }
    }
}

/// All rows, in order.
pub(super) fn rows() -> Vec<Row> {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/corpus/corpus.txt");
    let table = std::fs::read_to_string(table).unwrap();
    let lines = table.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(row).collect()
}

fn row(line: &str) -> Row {
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("a row is too short: {line}")).to_owned();
    let (file, result, third) = (word(), word(), word());
    let expected = if result.contains('/') {
        let cut_short = match third.as_str() {
            "whole" => false,
            "cut" => true,
            other => panic!("{other} is neither whole nor cut: {line}"),
        };
        Expected::Decoded { source: result, cut_short, frames: frames(&word()) }
    } else {
        Expected::Refused { code: result, naming: Some(third).filter(|name| name != "-") }
    };
    Row { file, expected, recipe: words.map(str::to_owned).collect() }
}

fn frames(word: &str) -> Frames {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text} is no number of frames"));
    match word.strip_prefix('=') {
        Some("") => Frames::AsFfmpeg { within: 0 },
        Some(within) => Frames::AsFfmpeg { within: number(within) },
        None => Frames::Counted(number(word)),
    }
}
