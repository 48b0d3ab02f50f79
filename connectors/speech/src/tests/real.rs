//! The real model over the three real recordings, through the real pool and child.

use std::time::{Duration, Instant};

use hansard_core::redelivery::Class;
use hansard_jobs::ports::{Speech, SpeechReply, SpeechRequest};
use hansard_schemas::{Options, Word};

use super::child::{real_config, real_pool};
use super::permit;
use super::recordings::{Answers, TWO_CITIES, fetched, flac, request, request_of, samples};
use super::word_errors::word_errors;
use crate::piece::pieces;
use crate::{Local, LocalConfig, LocalModel};

#[tokio::test]
async fn the_shortest_recording_is_heard_without_an_error() {
    let reply = real_pool(1).transcribe(request(&samples("beckett"), 60_000)).await.expect("a transcript");
    let spoken = "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.";
    assert_eq!(word_errors(spoken, &reply.text).edits, 0, "{:?}", reply.text);
    assert_eq!(reply.model, "moonshine-tiny-en");
    assert_eq!((reply.audio_ms, reply.language.as_deref()), (9_963, Some("en")));
    assert_eq!(reply.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "), reply.text);
    // By ear: "No" begins at 3.4 s, the second "fail" at 7.9 s.
    for (text, nth, said_at_ms) in [("no", 0, 63_400), ("fail", 1, 67_900)] {
        let is_it = |word: &&Word| word.text.trim_matches(',').eq_ignore_ascii_case(text);
        let word = reply.words.iter().filter(is_it).nth(nth).expect("the word is heard");
        assert!((word.start_ms - said_at_ms).abs() < 700, "{word:?} was said at {said_at_ms}");
        assert_eq!(word.confidence, None);
    }
    assert!(
        reply.words.is_sorted_by(|a, b| a.start_ms < a.end_ms && a.end_ms <= b.start_ms),
        "{:?}",
        reply.words
    );
}

#[tokio::test]
async fn a_dialogue_is_heard() {
    let reply = real_pool(1).transcribe(request(&samples("endgame"), 0)).await.expect("a transcript");
    let heard = reply.text.to_lowercase();
    for part in
        ["do you hear me", "we have still that resource", "that's a good story", "what are you talking about"]
    {
        assert!(heard.contains(part), "{part:?} is missing in {heard:?}");
    }
    assert_eq!(reply.audio_ms, 28_277);
}

#[tokio::test]
async fn the_longest_recording_has_few_word_errors_when_cut_at_silence() {
    hear_two_cities(&real_pool(1), 0.06, 512).await;
}

#[tokio::test]
async fn the_base_model_has_fewer_word_errors() {
    // The model is a package of 55 MB by itself, and slow.
    if std::env::var_os("HANSARD_TEST_FULL").is_none_or(|full| full != "1") {
        return;
    }
    let model = LocalModel::Base;
    let files = fetched(model);
    let pool =
        Local::new(LocalConfig { files, model, answer_within: Duration::from_secs(300), ..real_config() });
    let reply = hear_two_cities(&pool, 0.04, 1_024).await;
    assert_eq!(reply.model, crate::LOCAL_BASE_MODEL);
    let named = |name: &str| Options { model: Some(name.to_owned()), ..Options::default() };
    let good = request(&[0; 16_000], 0);
    pool.transcribe(with(&good, named(crate::LOCAL_BASE_MODEL))).await.expect("it runs here");
    let error =
        pool.transcribe(with(&good, named(crate::LOCAL_MODEL))).await.expect_err("it does not run here");
    assert_eq!((error.class, error.code), (Class::Permanent, "unsupported_model"), "{error:?}");
}

/// Hears the longest recording in pieces and as a whole, and prints the figures.
#[allow(clippy::print_stdout, reason = "the figures are what the tests are run for by hand")]
async fn hear_two_cities(pool: &Local, errors_max: f64, memory_mb_max: u64) -> SpeechReply {
    let samples = samples("two-cities");
    let (mut text, mut samples_before, began) = (String::new(), 0, Instant::now());
    for piece in pieces(&samples) {
        let start_ms = (samples_before / 16) as i64;
        let reply = pool.transcribe(request(piece, start_ms)).await.expect("a transcript");
        assert!(
            reply.words.iter().all(|word| word.start_ms >= start_ms && word.end_ms <= 44_400),
            "{reply:?}"
        );
        text.extend([reply.text.as_str(), " "]);
        samples_before += piece.len();
    }
    let latency_ms = began.elapsed().as_millis();
    let errors = word_errors(TWO_CITIES, &text);
    let memory = pool.idle_children().first().map(|id| peak_memory_kb(*id));
    println!(
        "word errors: {errors:?}; {latency_ms} ms for 44374 ms of audio; child's peak memory {memory:?} kB"
    );
    assert!(errors.rate() <= errors_max, "{errors:?} in {text:?}");
    assert!(memory.is_some_and(|kb| kb < memory_mb_max << 10), "the child took {memory:?} kB");

    // The same in one segment, which the child cuts itself.
    let whole = pool.transcribe(request(&samples, 0)).await.expect("a transcript");
    assert_eq!(whole.text, text.trim());
    assert_eq!(whole.audio_ms, 44_374);
    whole
}

fn peak_memory_kb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the child lives");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}

#[tokio::test]
async fn silence_and_noise_give_an_empty_text() {
    let pool = real_pool(1);
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i16
    });
    for (name, samples) in
        [("silence", vec![0; 80_000]), ("noise", noise.take(80_000).collect()), ("none", vec![])]
    {
        let reply = pool.transcribe(request(&samples, 0)).await.expect("nothing said is a success");
        assert_eq!((reply.text.as_str(), reply.words.len()), ("", 0), "{name}");
        assert_eq!(reply.audio_ms, samples.len() as i64 / 16, "{name}");
    }
}

#[tokio::test]
async fn what_the_model_cannot_hear_is_permanent_and_leaves_the_child_alive() {
    let pool = real_pool(1);
    pool.probe(&permit().await).await.expect("the model loads");
    let children = pool.idle_children();
    let good = request(&[0; 16_000], 0);
    let other_rate = flac(&[0; 16_000], 8_000);
    let whole = flac(&samples("beckett"), 16_000);
    let table = [
        ("unsupported_audio", request_of(b"<html>not audio</html>".to_vec().into(), 0, 1)),
        ("unsupported_audio", request_of(whole.slice(..whole.len() / 2), 0, 9_963)),
        ("unsupported_audio", request_of(other_rate, 0, 2_000)),
        ("too_large", request_of(vec![0; (32 << 20) + 1].into(), 0, 1)),
        (
            "unsupported_language",
            with(&good, Options { language: Some("nl-NL".into()), ..Options::default() }),
        ),
        (
            "unsupported_model",
            with(&good, Options { model: Some(crate::LOCAL_BASE_MODEL.into()), ..Options::default() }),
        ),
        ("unsupported_model", with(&good, Options { model: Some("whisper-1".into()), ..Options::default() })),
    ];
    for (code, request) in table {
        let error = pool.transcribe(request).await.expect_err(code);
        assert_eq!((error.class, error.code), (Class::Permanent, code), "{error}");
    }
    let english = Options {
        language: Some("en-GB".into()),
        model: Some(crate::LOCAL_MODEL.into()),
        ..Options::default()
    };
    pool.transcribe(with(&good, english)).await.expect("English is understood");
    assert_eq!(pool.idle_children(), children);
}

fn with(request: &SpeechRequest, options: Options) -> SpeechRequest {
    SpeechRequest { options, ..request.clone() }
}

#[tokio::test]
async fn what_was_heard_before_changes_nothing() {
    let pool = real_pool(1);
    let mut heard = Vec::new();
    for name in ["beckett", "endgame", "beckett"] {
        let reply = pool.transcribe(request(&samples(name), 0)).await.expect("a transcript");
        heard.push((reply.text, reply.words));
    }
    assert_eq!(heard[0], heard[2]);
}
