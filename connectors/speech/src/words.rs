//! Words as they may be kept, whatever a server says of their times: within the segment, in order, each ending no sooner than
//! it begins. No answer makes this panic.

use hansard_schemas::Word;

/// No segment lasts longer, in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// Characters of a speaker's or a language's name, at most.
const NAME_CHARS_MAX: usize = 64;

/// A word as a server tells it; times in milliseconds from the start of the segment.
pub(crate) struct Told {
    pub(crate) text: String,
    pub(crate) start_ms: f64,
    pub(crate) end_ms: f64,
    pub(crate) confidence: Option<f64>,
    pub(crate) speaker: Option<String>,
}

/// Where a segment lies in its chunk.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start_ms: i64,
    length_ms: i64,
}

impl Span {
    pub(crate) fn new(start_ms: i64, end_ms: i64) -> Self {
        let length_ms = match end_ms.saturating_sub(start_ms) {
            // A span that is none tells nothing of what may lie in it.
            ..=0 => DAY_MS,
            length => length.min(DAY_MS),
        };
        Self { start_ms, length_ms }
    }

    /// A time of a server, brought into the segment.
    #[allow(clippy::cast_possible_truncation, reason = "clamped to a day")]
    pub(crate) fn clamp(self, ms: f64) -> i64 {
        // What is no number becomes 0 in the cast.
        (ms.round().clamp(0.0, DAY_MS as f64) as i64).min(self.length_ms)
    }

    /// How much of the segment a server says that it has heard.
    pub(crate) fn heard_ms(self, end_ms: i64, told_ms: Option<f64>) -> i64 {
        let whole = end_ms.saturating_sub(self.start_ms).max(0);
        told_ms.map_or(whole, |told| self.clamp(told))
    }

    /// Words relative to the chunk. The sort is stable, so that words of one moment stay as they were told.
    pub(crate) fn place(self, words: impl IntoIterator<Item = Told>) -> Vec<Word> {
        let placed = words.into_iter().filter_map(|word| {
            let text = word.text.trim();
            let start_ms = self.clamp(word.start_ms);
            (!text.is_empty()).then(|| Word {
                text: text.to_owned(),
                start_ms: self.start_ms.saturating_add(start_ms),
                end_ms: self.start_ms.saturating_add(self.clamp(word.end_ms).max(start_ms)),
                confidence: word.confidence.map(share),
                speaker: word.speaker.as_deref().and_then(name),
            })
        });
        let mut words: Vec<Word> = placed.collect();
        words.sort_by_key(|word| (word.start_ms, word.end_ms));
        words
    }
}

/// A probability, brought between 0 and 1.
#[allow(clippy::cast_possible_truncation, reason = "a probability needs no more digits")]
pub(crate) fn share(told: f64) -> f32 {
    if told.is_nan() { 0.0 } else { told.clamp(0.0, 1.0) as f32 }
}

/// A name of a few characters; nothing where it is empty or none.
pub(crate) fn name(told: &str) -> Option<String> {
    let told = told.trim();
    let is_name =
        !told.is_empty() && told.chars().count() <= NAME_CHARS_MAX && !told.chars().any(char::is_control);
    is_name.then(|| told.to_owned())
}
