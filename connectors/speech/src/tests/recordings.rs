//! Real recordings as segments: fetched with the model, brought to 16 kHz, encoded as FLAC.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use flacenc::bitsink::ByteSink;
use flacenc::component::BitRepr;
use flacenc::error::Verify;
use flacenc::source::MemSource;
use hansard_jobs::ports::{SegmentAudio, Speech, SpeechReply, SpeechRequest, Submitted};
use hansard_runtime::stage::Failed;
use hansard_schemas::Options;

use crate::fetch::fetch;
use crate::package::{LocalModel, ModelFiles};
use crate::wav::duration_ms;

use super::permit;

pub(crate) const TWO_CITIES: &str = "It was the best of times, it was the worst of times, it was the age of wisdom, \
    it was the age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of \
    light, it was the season of darkness, it was the spring of hope, it was the winter of despair, we had everything \
    before us, we had nothing before us, we were all going direct to heaven, we were all going direct the other way. \
    In short, the period was so far like the present period, that some of its noisiest authorities insisted on its \
    being received, for good or for evil, in the superlative degree of comparison only.";

/// The tiny model, fetched once into the user's cache.
pub(crate) fn model() -> &'static ModelFiles {
    static MODEL: OnceLock<ModelFiles> = OnceLock::new();
    MODEL.get_or_init(|| fetched(LocalModel::Tiny))
}

/// A model, fetched into the user's cache.
pub(crate) fn fetched(model: LocalModel) -> ModelFiles {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").unwrap_or_else(std::env::temp_dir).join(".cache");
    let cache =
        set("HANSARD_CACHE").unwrap_or_else(|| set("XDG_CACHE_HOME").unwrap_or_else(home).join("hansard"));
    match fetch(&cache, model, &mut |_| {}) {
        Ok(files) => files,
        Err(error) => panic!("these tests need the local speech model in {}: {error}", cache.display()),
    }
}

/// The samples of a recording, at 16 kHz.
pub(crate) fn samples(name: &str) -> Vec<i16> {
    let recordings = model().recordings();
    let recording = recordings.iter().find(|recording| recording.name == name).expect("a known recording");
    let (samples, rate) = read_wav(&recording.path);
    assert_eq!(samples.len() as i64 * 1000 / i64::from(rate), recording.duration_ms, "{name}");
    to_16_khz(&samples, rate)
}

fn read_wav(path: &Path) -> (Vec<i16>, u32) {
    let reader = hound::WavReader::open(path).expect("a WAV file");
    let rate = reader.spec().sample_rate;
    (reader.into_samples::<i16>().collect::<Result<_, _>>().expect("whole samples"), rate)
}

/// A windowed sinc at 16 kHz, which is enough for speech.
#[allow(clippy::cast_possible_truncation, reason = "a float saturates when it is cast")]
fn to_16_khz(samples: &[i16], rate: u32) -> Vec<i16> {
    let step = f64::from(rate) / 16_000.0;
    let reach = 16.0 * step;
    let at = |n: usize| {
        let center = n as f64 * step;
        let first = (center - reach).ceil().max(0.0) as usize;
        let last = ((center + reach) as usize).min(samples.len() - 1);
        let weighted = (first..=last).map(|i| {
            let x = (i as f64 - center) / step * std::f64::consts::PI;
            let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
            f64::from(samples[i]) * sinc * (x / 32.0).cos().powi(2) / step
        });
        weighted.sum::<f64>().round() as i16
    };
    if rate == 16_000 {
        samples.to_vec()
    } else {
        (0..(samples.len() as f64 / step) as usize).map(at).collect()
    }
}

/// A FLAC file of these samples.
pub(crate) fn flac(samples: &[i16], rate: usize) -> Bytes {
    let wide: Vec<i32> = samples.iter().map(|sample| i32::from(*sample)).collect();
    let config = flacenc::config::Encoder::default().into_verified().expect("the default is valid");
    let source = MemSource::from_samples(&wide, 1, 16, rate);
    let stream = flacenc::encode_with_fixed_block_size(&config, source, config.block_size).expect("encoded");
    let mut sink = ByteSink::new();
    stream.write(&mut sink).expect("written");
    Bytes::copy_from_slice(sink.as_slice())
}

/// A request for these samples, which start at `start_ms` of their chunk.
pub(crate) fn request(samples: &[i16], start_ms: i64) -> SpeechRequest {
    request_of(flac(samples, 16_000), start_ms, start_ms + duration_ms(samples.len()))
}

/// A request for this audio.
pub(crate) fn request_of(audio: Bytes, start_ms: i64, end_ms: i64) -> SpeechRequest {
    SpeechRequest {
        audio: Arc::new(Held(audio)),
        start_ms,
        end_ms,
        options: Options::default(),
        redact: false,
        idempotency_key: "8f3a".to_owned(),
        callback: None,
    }
}

/// Audio that is at hand.
pub(crate) struct Held(pub(crate) Bytes);

#[async_trait]
impl SegmentAudio for Held {
    async fn bytes(&self) -> Result<Bytes, Failed> {
        Ok(self.0.clone())
    }

    async fn link(&self) -> Result<String, Failed> {
        unreachable!("no provider that is asked here takes links")
    }
}

/// A provider that answers at once.
pub(crate) trait Answers {
    /// What it says.
    async fn transcribe(&self, request: SpeechRequest) -> Result<SpeechReply, Failed>;
}

impl<S: Speech> Answers for S {
    async fn transcribe(&self, request: SpeechRequest) -> Result<SpeechReply, Failed> {
        match self.submit(&request, &permit().await).await? {
            Submitted::Reply(reply) => Ok(reply),
            Submitted::Job(job) => panic!("job {job:?} instead of an answer"),
        }
    }
}
