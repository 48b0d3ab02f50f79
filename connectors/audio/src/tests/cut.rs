//! The cutting plan against a slow second reading of its rules, and against what it promises.
#![expect(clippy::cast_possible_truncation)] // Frames are counted in 64 bits and kept in vectors.

use proptest::prelude::*;

use crate::cut::{CutPlan, Cutter, Frame, Piece};

const PLAN: CutPlan = CutPlan { min: 12, max: 30, pause: 4, pad: 3, silence: 8 };

fn cut(frames: &[Frame], plan: CutPlan) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut cutter = Cutter::new(plan);
    for frame in frames {
        cutter.push(*frame, &mut |piece| pieces.push(piece));
    }
    cutter.finish(&mut |piece| pieces.push(piece));
    pieces
}

/// The rules once more, over the whole recording and by trying every place.
fn oracle(frames: &[Frame], plan: CutPlan) -> Vec<Piece> {
    let end = frames.len() as u64;
    let quiet = |from: u64, to: u64| {
        to <= end && frames[from as usize..to as usize].iter().all(|frame| !frame.voiced)
    };
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < end {
        let Some(voice) = (start..end).find(|index| !quiet(*index, index + 1)) else {
            pieces.push(Piece::Silence { start, end });
            break;
        };
        if voice - start >= plan.pad + plan.silence {
            pieces.push(Piece::Silence { start, end: voice - plan.pad });
            start = voice - plan.pad;
        }
        let (earliest, latest) = (start + plan.min, start + plan.max);
        let horizon = latest + plan.pause - plan.pause / 2;
        // Rule 2: a place with `pad` quiet frames before it (or more, up to `min`) and enough after it, which is
        // known before the window is.
        let early = (start..=latest).find(|cut| {
            let since = (start..=*cut).rev().take_while(|at| *at == *cut || quiet(*at, *cut)).last().unwrap();
            let placed = *cut == (since + plan.pad).max(earliest) && quiet(since, *cut);
            let known = *cut + plan.silence + plan.pad;
            placed
                && ((known <= horizon && quiet(*cut, known))
                    || (end < horizon && end >= cut + plan.silence && quiet(*cut, end)))
        });
        if let Some(cut) = early {
            pieces.push(Piece::Segment { start, end: cut, forced_cut: false });
            start = cut;
            continue;
        }
        if end <= latest {
            pieces.push(Piece::Segment { start, end, forced_cut: false });
            break;
        }
        let seen = horizon.min(end);
        let length = |at: u64| {
            let before = (start..at).rev().take_while(|i| quiet(*i, i + 1)).count() as u64;
            let after = (at..seen).take_while(|i| quiet(*i, i + 1)).count() as u64;
            (before, after)
        };
        let fits = |at: &u64| {
            let (before, after) = length(*at);
            before >= plan.pause / 2 && after >= plan.pause - plan.pause / 2
        };
        let best = (earliest..=latest).filter(fits).min_by_key(|at| {
            let (before, after) = length(*at);
            let (begin, stop) = (at - before, at + after);
            let middle = ((begin + stop) / 2).clamp(
                (begin + plan.pause / 2).max(earliest),
                (stop - (plan.pause - plan.pause / 2)).min(latest),
            );
            let off = (2 * middle).abs_diff(earliest + latest);
            (u64::MAX - (before + after), off, begin, at.abs_diff(middle))
        });
        let forced = || (earliest..latest).min_by_key(|at| frames[*at as usize].energy).unwrap();
        let cut = best.unwrap_or_else(forced);
        pieces.push(Piece::Segment { start, end: cut, forced_cut: best.is_none() });
        start = cut;
    }
    pieces
}

/// Stretches of voice and of silence of all interesting lengths.
fn recordings() -> impl Strategy<Value = Vec<Frame>> {
    let stretch = (any::<bool>(), prop_oneof![1..6_usize, 1..40_usize, 30..80_usize]);
    (prop::collection::vec(stretch, 0..12), any::<u64>()).prop_map(|(stretches, seed)| {
        let mut state = seed | 1;
        let flags = stretches.into_iter().flat_map(|(voiced, length)| std::iter::repeat_n(voiced, length));
        flags
            .map(|voiced| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                Frame { voiced, energy: u32::try_from(state >> 58).unwrap() }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn follows_its_rules(frames in recordings()) {
        prop_assert_eq!(cut(&frames, PLAN), oracle(&frames, PLAN));
    }

    #[test]
    fn keeps_its_promises(frames in recordings()) {
        let pieces = cut(&frames, PLAN);
        let mut next = 0;
        for (index, piece) in pieces.iter().enumerate() {
            let (start, end) = match *piece {
                Piece::Segment { start, end, .. } | Piece::Silence { start, end } => (start, end),
            };
            prop_assert_eq!(start, next);
            prop_assert!(start < end);
            next = end;
            let voiced = |range: std::ops::Range<u64>| {
                range.into_iter().any(|at| frames.get(at as usize).is_some_and(|frame| frame.voiced))
            };
            let last = index + 1 == pieces.len();
            match *piece {
                Piece::Silence { .. } => {
                    prop_assert!(!voiced(start..end));
                    // The onset that follows keeps its pad.
                    prop_assert!(last || !voiced(end..end + PLAN.pad));
                }
                Piece::Segment { forced_cut, .. } => {
                    prop_assert!(voiced(start..end));
                    prop_assert!(end - start <= PLAN.max);
                    prop_assert!(last || end - start >= PLAN.min);
                    let pause = |at: u64| !voiced(at - PLAN.pause / 2..at + PLAN.pause - PLAN.pause / 2);
                    if forced_cut {
                        let known = |at: u64| at + PLAN.pause - PLAN.pause / 2 <= frames.len() as u64;
                        let missed = (start + PLAN.min..=start + PLAN.max).find(|at| known(*at) && pause(*at));
                        prop_assert_eq!(missed, None);
                    } else {
                        prop_assert!(last || pause(end));
                    }
                }
            }
        }
        prop_assert_eq!(next, frames.len() as u64);
    }
}

#[test]
fn remembers_no_more_than_a_window() {
    let mut cutter = Cutter::new(PLAN);
    let mut now = 0_u64;
    for voiced in [true, false, true, false] {
        for _ in 0..100_000 {
            cutter.push(Frame { voiced, energy: 1 }, &mut |_| {});
            now += 1;
            assert!(now - cutter.needed_from() <= PLAN.max + PLAN.pause);
        }
    }
}

#[test]
fn refuses_an_unsound_plan() {
    assert!(PLAN.is_sound());
    assert!(!CutPlan { min: 0, ..PLAN }.is_sound());
    assert!(!CutPlan { max: PLAN.min, ..PLAN }.is_sound());
    assert!(!CutPlan { pause: 1, ..PLAN }.is_sound());
    assert!(CutPlan { silence: PLAN.min - PLAN.pad, ..PLAN }.is_sound());
    assert!(!CutPlan { silence: PLAN.min - PLAN.pad + 1, ..PLAN }.is_sound());
    assert!(!CutPlan { pad: u64::MAX, ..PLAN }.is_sound());
}
