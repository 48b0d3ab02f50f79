//! Where somebody speaks in a piece. The model's own detection is one for the whole process and never forgets, so that what
//! it answered depended on the recordings before; this one is new for each piece.

use earshot::Detector;

use crate::piece::Spoken;

/// Samples of one frame: what the detector takes, 16 ms at 16 kHz.
const FRAME: usize = 256;
const FRAME_MS: usize = 16;
/// The detector's score, 0 to 1, from which a frame counts as voice; segments are cut by the same.
const VOICE_SCORE: f32 = 0.4;
/// The detector is sure of a word only within it: 208 ms on either side are counted to it, also where they meet.
const PAD_FRAMES: usize = 13;
/// A stretch that it is sure of for less than 96 ms is no word.
const WORD_FRAMES: usize = 6;

/// The stretches in which somebody speaks, in order.
pub(crate) fn spoken(samples: &[i16]) -> Vec<Spoken> {
    let mut detector = Detector::default_boxed();
    let (frames, _) = samples.as_chunks::<FRAME>();
    let voiced = frames.iter().enumerate().filter(|(_, frame)| detector.predict_i16(*frame) >= VOICE_SCORE);
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for (at, _) in voiced {
        match stretches.last_mut() {
            Some((_, end)) if at < *end + 2 * PAD_FRAMES => *end = at + 1,
            _ => stretches.push((at, at + 1)),
        }
    }
    let ms = |frame: usize| i64::try_from(frame * FRAME_MS).unwrap_or(i64::MAX);
    (stretches.into_iter().filter(|(start, end)| end - start >= WORD_FRAMES))
        .map(|(start, end)| (start.saturating_sub(PAD_FRAMES), (end + PAD_FRAMES).min(frames.len())))
        .map(|(start, end)| Spoken { start_ms: ms(start), end_ms: ms(end) })
        .collect()
}
