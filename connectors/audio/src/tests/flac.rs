//! The FLAC encoder, checked by a decoder that is not ours.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::flac::{BLOCK, encode_all};

/// What ffmpeg decodes the file to; its decoder checks both checksums of each frame.
fn foreign(flac: &[u8]) -> Vec<i16> {
    let mut child = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-err_detect", "crccheck+explode", "-f", "flac", "-i", "pipe:0"])
        .args(["-f", "s16le", "pipe:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg is needed: apt-get install ffmpeg");
    let mut input = child.stdin.take().unwrap();
    let flac = flac.to_vec();
    let feed = std::thread::spawn(move || input.write_all(&flac).unwrap());
    let ended = child.wait_with_output().unwrap();
    feed.join().unwrap();
    assert!(ended.status.success());
    ended.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// Noise with a memory: `smooth` 0 is white.
fn noise(count: usize, smooth: i32, mut seed: u32) -> Vec<i16> {
    let mut last = 0_i32;
    let next = |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let fresh = i32::from((seed >> 16) as u16) - 32_768;
        last = (last * smooth + fresh) / (smooth + 1);
        i16::try_from(last).unwrap()
    };
    (0..count).map(next).collect()
}

#[test]
fn is_lossless() {
    let mut extremes = [i16::MIN, i16::MAX].repeat(BLOCK);
    extremes.extend(std::iter::repeat_n(7, BLOCK + 3));
    extremes.extend([i16::MIN, 0, 0, 0, 0, i16::MAX]);
    let ramp: Vec<i16> = (0..20_000).map(|at| i16::try_from((at * at / 7_000) % 30_000).unwrap()).collect();
    // White noise is stored verbatim, smooth noise is predicted; odd lengths end in a short block.
    let cases = [extremes, ramp, noise(40_001, 0, 1), noise(40_003, 30, 2), vec![5], noise(3, 0, 9)];
    for samples in cases {
        assert_eq!(foreign(&encode_all(16_000, 1, &samples)), samples);
        let even = &samples[..samples.len() / 2 * 2];
        if !even.is_empty() {
            assert_eq!(foreign(&encode_all(44_100, 2, even)), even);
        }
    }
}

#[test]
fn numbers_frames_beyond_every_length_of_the_number() {
    // 2,100 frames need numbers of one, two and three bytes.
    let samples = noise(BLOCK * 2_100, 100, 3);
    let flac = encode_all(48_000, 1, &samples);
    assert_eq!(foreign(&flac), samples);
    assert!(flac.len() < samples.len() * 2);
}

#[test]
fn is_smaller_than_the_samples_even_for_noise() {
    let samples = noise(BLOCK * 4, 0, 5);
    let flac = encode_all(16_000, 1, &samples);
    assert!(flac.len() < samples.len() * 2 + 4 * 20 + 42, "{} bytes", flac.len());
}
