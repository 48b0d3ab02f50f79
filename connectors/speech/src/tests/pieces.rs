//! Cutting at silence, spreading of words, FLAC and WAV.

use super::recordings::{flac, samples};
use crate::piece::{Spoken, pieces, spread_words};
use crate::wav::{AudioError, decode_flac, encode_wav};

#[test]
fn pieces_are_short_enough_and_nothing_is_lost() {
    let loud = |length: usize| -> Vec<i16> {
        (0..length).map(|n| if n % 2 == 0 { 9_000 } else { -9_000 }).collect()
    };
    for length in [0, 1, 28 * 16_000, 28 * 16_000 + 1, 300 * 16_000 + 7] {
        let samples = loud(length);
        let cut = pieces(&samples);
        assert_eq!(cut.concat(), samples, "{length}");
        assert!(cut.iter().all(|piece| piece.len() <= 28 * 16_000), "{length}");
        assert_eq!(cut.len() == 1, length <= 28 * 16_000, "{length}");
    }
}

#[test]
fn a_cut_lies_in_the_middle_of_the_quietest_place() {
    let mut samples: Vec<i16> = (0..40 * 16_000).map(|n| if n % 2 == 0 { 9_000 } else { -9_000 }).collect();
    samples[20 * 16_000..20 * 16_000 + 3_200].fill(12);
    samples[24 * 16_000..24 * 16_000 + 3_200].fill(11);
    let lengths: Vec<usize> = pieces(&samples).iter().map(|piece| piece.len()).collect();
    assert_eq!(lengths, [24 * 16_000 + 1_600, 16 * 16_000 - 1_600]);
}

#[test]
fn words_are_spread_by_length_and_never_into_a_pause() {
    let spoken = [Spoken { start_ms: 100, end_ms: 700 }, Spoken { start_ms: 2_000, end_ms: 2_400 }];
    let words = spread_words("one, two  three", &spoken, 10_000);
    let placed: Vec<_> = words.iter().map(|word| (word.text.as_str(), word.start_ms, word.end_ms)).collect();
    // 1,000 ms of speech over 4 + 4 + 6 letters and gaps: 0–285, 285–571, 571–1000 ms of speech.
    assert_eq!(placed, [("one,", 10_100, 10_385), ("two", 10_385, 10_671), ("three", 10_671, 12_400)]);
    assert_eq!(spread_words("", &spoken, 0), []);
    let at_seam = [Spoken { start_ms: 0, end_ms: 500 }, Spoken { start_ms: 900, end_ms: 1_400 }];
    let words = spread_words("same same", &at_seam, 0);
    assert_eq!(
        words.iter().map(|word| (word.start_ms, word.end_ms)).collect::<Vec<_>>(),
        [(0, 500), (900, 1_400)]
    );
}

#[test]
fn flac_and_wav_keep_every_sample() {
    let beckett = samples("beckett");
    let decoded = decode_flac(&flac(&beckett, 16_000), 10_000).expect("decoded");
    assert!(decoded == beckett, "FLAC is lossless");
    let wav = encode_wav(&beckett);
    let reader = hound::WavReader::new(wav.as_slice()).expect("a WAV file");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    assert_eq!(reader.spec(), spec);
    assert!(reader.into_samples::<i16>().map(|sample| sample.expect("whole")).eq(beckett), "WAV is lossless");
}

#[test]
fn the_limit_of_length_holds_to_the_sample() {
    let at = flac(&vec![1; 16_000], 16_000);
    assert_eq!(decode_flac(&at, 1_000).expect("just within").len(), 16_000);
    let over = flac(&vec![1; 16_001], 16_000);
    let error = decode_flac(&over, 1_000).expect_err("one sample over");
    assert!(matches!(error, AudioError::TooLong(1_000)), "{error}");
}
