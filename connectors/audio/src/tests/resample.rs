//! Rounding, held against the standard library's.

use proptest::prelude::*;

use crate::resample::to_i16;

#[expect(clippy::cast_possible_truncation)]
fn nearest(sample: f32) -> i16 {
    (sample * 32_768.0).round_ties_even().clamp(-32_768.0, 32_767.0) as i16
}

#[test]
fn every_number_of_16_bits_stays_as_it_is_and_halves_go_to_even() {
    for number in i16::MIN..=i16::MAX {
        for quarters in -2_i8..=2 {
            let sample = (f32::from(number) + f32::from(quarters) / 4.0) / 32_768.0;
            assert_eq!(to_i16(sample), nearest(sample), "{number} and {quarters} quarters");
        }
    }
    for (sample, expected) in
        [(f32::MAX, i16::MAX), (f32::INFINITY, i16::MAX), (f32::MIN, i16::MIN), (-0.0, 0)]
    {
        assert_eq!(to_i16(sample), expected, "{sample}");
    }
}

proptest! {
    #[test]
    fn any_sample_becomes_the_nearest_number(sample in -1.5_f32..1.5) {
        prop_assert_eq!(to_i16(sample), nearest(sample));
    }
}
