//! What the local model cannot do itself: cutting long segments at silence, and saying when each word is said.

use crate::frame::HeardWord;

/// Samples in 20 ms.
const FRAME: usize = 320;
/// The longest piece that the model gets, in frames: 28 s.
const FRAMES_MAX: usize = 1_400;
/// A cut is sought in the last 13 s of that.
const FRAMES_MIN: usize = 750;
/// A cut lies in the middle of the quietest 200 ms.
const QUIET_FRAMES: usize = 10;

/// A stretch in which somebody speaks, in milliseconds from the start of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spoken {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
}

/// Cuts samples into pieces that the model takes, in order and without loss. A segment of at most 28 s, which is
/// what the splitter makes, stays whole.
pub(crate) fn pieces(mut samples: &[i16]) -> Vec<&[i16]> {
    let mut pieces = Vec::new();
    while samples.len() > FRAMES_MAX * FRAME {
        let (piece, rest) = samples.split_at(quietest(samples));
        pieces.push(piece);
        samples = rest;
    }
    pieces.push(samples);
    pieces
}

fn quietest(samples: &[i16]) -> usize {
    let energy: Vec<u64> = samples[FRAMES_MIN * FRAME..FRAMES_MAX * FRAME]
        .chunks_exact(FRAME)
        .map(|frame| frame.iter().map(|sample| u64::from(sample.unsigned_abs()).pow(2)).sum())
        .collect();
    let quiet = energy.windows(QUIET_FRAMES).map(|window| window.iter().sum::<u64>());
    let (at, _) = quiet.enumerate().min_by_key(|(_, energy)| *energy).unwrap_or((0, 0));
    (FRAMES_MIN + at + QUIET_FRAMES / 2) * FRAME
}

/// Spreads the words of `text` over the stretches in which somebody speaks, each word by its length. The model
/// gives no times of words; this puts them within a second of where they are said, and never into a pause.
pub(crate) fn spread_words(text: &str, spoken: &[Spoken], offset_ms: i64) -> Vec<HeardWord> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let weights: Vec<i64> = words.iter().map(|word| letters(word)).collect();
    let weight_all: i64 = weights.iter().sum();
    let spoken_all: i64 = spoken.iter().map(|stretch| stretch.end_ms - stretch.start_ms).sum();
    let mut weight_before = 0;
    let mut place = |weight: i64| {
        let start = spoken_all * weight_before / weight_all.max(1);
        weight_before += weight;
        (start, spoken_all * weight_before / weight_all.max(1))
    };
    (words.iter().zip(weights))
        .map(|(word, weight)| {
            let (start, end) = place(weight);
            HeardWord {
                text: (*word).to_owned(),
                start_ms: offset_ms + in_pauses(spoken, start, false),
                end_ms: offset_ms + in_pauses(spoken, end, true),
            }
        })
        .collect()
}

fn letters(word: &str) -> i64 {
    // One more than it has, for the gap that follows it.
    i64::try_from(word.chars().filter(|letter| letter.is_alphanumeric()).count()).unwrap_or(i64::MAX) + 1
}

/// The time at which so many milliseconds have been spoken. Where a stretch ends just then, an end stays in it
/// and a start goes to the next.
fn in_pauses(spoken: &[Spoken], mut speech_ms: i64, is_end: bool) -> i64 {
    for stretch in spoken {
        let length = stretch.end_ms - stretch.start_ms;
        if speech_ms < length || (is_end && speech_ms == length) {
            return stretch.start_ms + speech_ms;
        }
        speech_ms -= length;
    }
    spoken.last().map_or(0, |stretch| stretch.end_ms)
}
