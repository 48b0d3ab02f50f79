//! Word error rate: the edits between two texts, counted in words, over the words of the reference.

use std::fmt;

/// Edits and words, so that a failing test shows both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct WordErrors {
    pub(crate) edits: usize,
    pub(crate) words: usize,
}

impl WordErrors {
    pub(crate) fn rate(self) -> f64 {
        self.edits as f64 / self.words as f64
    }
}

impl fmt::Debug for WordErrors {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} of {} words, {:.1} %", self.edits, self.words, self.rate() * 100.0)
    }
}

fn words(text: &str) -> Vec<String> {
    let letters = |c: char| if c.is_alphanumeric() || c == '\'' { c } else { ' ' };
    let plain: String = text.to_lowercase().chars().map(letters).collect();
    plain.split_whitespace().map(str::to_owned).collect()
}

/// The least insertions, deletions and replacements that turn `heard` into `reference`; case and punctuation
/// do not count.
pub(crate) fn word_errors(reference: &str, heard: &str) -> WordErrors {
    let (reference, heard) = (words(reference), words(heard));
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, expected) in reference.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, found) in heard.iter().enumerate() {
            let replaced = diagonal + usize::from(expected != found);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    WordErrors { edits: row[heard.len()], words: reference.len() }
}

#[test]
fn edits_are_counted_in_words() {
    let table = [
        ("It was the best.", "it was, the BEST", 0),
        ("it was the best", "it was the worst", 1),
        ("it was the best", "was the best", 1),
        ("it was the best", "so it was the very best", 2),
        ("it was the best", "", 4),
        ("one two three four", "four three two one", 4),
    ];
    for (reference, heard, edits) in table {
        assert_eq!(word_errors(reference, heard), WordErrors { edits, words: 4 }, "{reference:?} {heard:?}");
    }
}
