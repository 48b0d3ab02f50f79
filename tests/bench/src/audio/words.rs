//! What cutting costs in words: recordings are transcribed by the local model whole, as far as it takes them whole, and as we
//! cut them, both from the same decoded samples.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use hansard_audio::{Decoder, Limits, PlanMs, SegmentAudio, SplitRequest};
use hansard_jobs::ports::{Speech as _, SpeechRequest, Submitted};
use hansard_runtime::pace::Pace;
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;
use hansard_speech::{Local, LocalConfig, LocalModel, ModelFiles};
use tokio::sync::mpsc;

use super::material::cache;

/// What is said in the one recording whose text is known: the beginning of Dickens' novel, as it is read there.
const TWO_CITIES: &str = "It was the best of times, it was the worst of times, it was the age of wisdom, \
    it was the age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of \
    light, it was the season of darkness, it was the spring of hope, it was the winter of despair, we had everything \
    before us, we had nothing before us, we were all going direct to heaven, we were all going direct the other way. \
    In short, the period was so far like the present period, that some of its noisiest authorities insisted on its \
    being received, for good or for evil, in the superlative degree of comparison only.";

/// Longer than each recording, so that none is cut, and so long a silence that none is left out.
const WHOLE: PlanMs = PlanMs {
    min_ms: 59_000,
    max_ms: 60_000,
    pause_ms: 200,
    pad_ms: 320,
    silence_ms: 58_000,
    voice_score: 0.4,
};

/// The longest segments of a second plan, which cuts more often than the default.
const SHORT_MS: u64 = 10_000;

/// Transcribes each recording whole, by the default plan, and in shorter segments, and prints the share of wrong words.
pub(crate) async fn words() -> Result<()> {
    let files = hansard_speech::fetch(&cache()?, LocalModel::Tiny, &mut |_| ())?;
    let model = model(files.clone())?;
    let plans = [WHOLE, PlanMs::default(), PlanMs { max_ms: SHORT_MS, ..PlanMs::default() }];
    println!("| Recording | words | reference | whole | default plan (segments) | at most 10 s (segments) |");
    println!("|---|--:|---|--:|--:|--:|");
    // Errors against the known text, and differences from the whole's transcript.
    let (mut known, mut differing) = (Rates::default(), Rates::default());
    for recording in files.recordings() {
        let mut heard = Vec::new();
        for plan in plans {
            heard.push(transcribe(&model, &recording.path, plan).await?);
        }
        let of_whole = spoken(&heard[0].0);
        ensure!(heard[0].1 == 1, "{} was cut", recording.name);
        let is_known = recording.name == "two-cities";
        let (reference, named, sum) = match is_known {
            true => (spoken(TWO_CITIES), "its text", &mut known),
            false => (of_whole, "the whole's transcript", &mut differing),
        };
        let errors = heard.iter().map(|(text, _)| distance(&reference, &spoken(text)));
        let errors: Vec<usize> = errors.collect();
        sum.add(reference.len(), &errors);
        let cell = |at: usize| format!("{:.1} % ({})", share(errors[at], reference.len()), heard[at].1);
        let (name, count, whole) = (recording.name, reference.len(), share(errors[0], reference.len()));
        println!("| {name} | {count} | {named} | {whole:.1} % | {} | {} |", cell(1), cell(2));
    }
    println!("\nWord errors against the text: {}.", known.told());
    println!("Words unlike the whole's transcript: {}.", differing.told());
    Ok(())
}

/// The local model, in a child of this program.
fn model(files: ModelFiles) -> Result<Local> {
    let program = std::env::current_exe()?;
    Ok(Local::new(LocalConfig::new(program, vec!["speech-child".into()], files)))
}

/// Audio that is at hand.
struct Held(Bytes);

#[async_trait]
impl hansard_jobs::ports::SegmentAudio for Held {
    async fn bytes(&self) -> Result<Bytes, Failed> {
        Ok(self.0.clone())
    }

    async fn link(&self) -> Result<String, Failed> {
        unreachable!("a model on this machine follows no links")
    }
}

/// The text of all segments, and how many there are.
async fn transcribe(model: &Local, recording: &Path, plan: PlanMs) -> Result<(String, usize)> {
    let (sender, mut receiver) = mpsc::channel::<SegmentAudio>(1);
    let decoder = Decoder::new(std::env::current_exe()?, Limits::default());
    let request = SplitRequest { path: recording.to_owned(), header: None, plan };
    let pace = Pace::unlimited();
    let collect = async {
        let mut texts = Vec::new();
        while let Some(SegmentAudio { segment, flac }) = receiver.recv().await {
            let request = SpeechRequest {
                audio: Arc::new(Held(Bytes::from(flac))),
                start_ms: i64::try_from(segment.start_ms)?,
                end_ms: i64::try_from(segment.end_ms)?,
                options: Options::default(),
                redact: false,
                idempotency_key: String::new(),
                callback: None,
            };
            match model.submit(&request, &pace.permit().await).await? {
                Submitted::Reply(reply) => texts.push(reply.text),
                Submitted::Job(job) => bail!("job {job} instead of an answer"),
            }
        }
        anyhow::Ok(texts)
    };
    let (report, texts) = tokio::join!(decoder.split(request, sender), collect);
    let (report, texts) = (report?, texts?);
    ensure!(report.segments.len() == texts.len(), "not all segments came");
    Ok((texts.join(" "), texts.len()))
}

/// Words as they are compared: letters and digits in lower case.
fn spoken(text: &str) -> Vec<String> {
    let plain =
        |word: &str| word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    text.split(|c: char| c.is_whitespace() || c == '-' || c == '—')
        .map(plain)
        .filter(|word: &String| !word.is_empty())
        .collect()
}

/// The fewest words to replace, insert or leave out (Levenshtein).
fn distance(from: &[String], to: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (taken, word) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], taken + 1);
        for (at, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(row[at + 1] + 1);
        }
    }
    row[to.len()]
}

fn share(errors: usize, words: usize) -> f64 {
    100.0 * errors as f64 / words.max(1) as f64
}

/// Sums over recordings.
#[derive(Default)]
struct Rates {
    words: usize,
    errors: [usize; 3],
}

impl Rates {
    fn add(&mut self, words: usize, errors: &[usize]) {
        self.words += words;
        for (sum, errors) in self.errors.iter_mut().zip(errors) {
            *sum += errors;
        }
    }

    fn told(&self) -> String {
        let [whole, cut, short] = self.errors.map(|errors| share(errors, self.words));
        format!("{whole:.1} % whole, {cut:.1} % as we cut, {short:.1} % in segments of 10 s at most")
    }
}
