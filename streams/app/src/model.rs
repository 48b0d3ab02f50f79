//! The speech provider that the configuration names; the local one's model is fetched with a progress bar.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hansard_jobs::ports::Speech;
use hansard_jobs::topology::JobSettings;
use hansard_schemas::Stage;
use hansard_speech::{Local, LocalConfig, ModelFiles, OpenAi, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use crate::adapters::SpeechPort;
use crate::config::{self, Config};

/// Makes the provider.
///
/// # Errors
/// A model that cannot be fetched, or a server's address that is none.
pub(crate) async fn provider(config: &Config) -> Result<Arc<dyn Speech>> {
    let transcribe = config.jobs.get(&Stage::Transcribe);
    let call_max = transcribe.map_or_else(|| JobSettings::of(Stage::Transcribe).call_max, |job| job.call_max);
    let call_max = Duration::from_millis(call_max.0.unsigned_abs());
    Ok(match config.speech.clone() {
        config::Speech::OpenAi(server) => {
            let server = OpenAi::new(*server).context("speech cannot be set up")?;
            Arc::new(SpeechPort::new(server, call_max))
        }
        config::Speech::Local { children, answer_within } => {
            let files = fetch(&config.cache).await?;
            let program = std::env::current_exe().context("cannot find this program's own file")?;
            let local = LocalConfig::new(program, vec!["speech-child".into()], files);
            let local = Local::new(LocalConfig { children, answer_within, ..local });
            Arc::new(SpeechPort::new(local, call_max))
        }
    })
}

/// Fetches the local model, unless it is in the cache.
///
/// # Errors
/// It cannot be fetched; the text says what to do.
pub(crate) async fn fetch(cache: &Path) -> Result<ModelFiles> {
    let cache = cache.to_owned();
    tokio::task::spawn_blocking(move || {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{msg} {bar:30} {binary_bytes} of {binary_total_bytes}")?;
        bar.set_style(style);
        let fetched = hansard_speech::fetch(&cache, &mut |progress| match progress {
            Progress::Waiting => bar.set_message("another process fetches the speech model"),
            Progress::Downloading { bytes, of } => {
                bar.set_message("fetching the speech model");
                bar.set_length(of);
                bar.set_position(bytes);
            }
            Progress::Verifying => bar.set_message("checking the speech model"),
            Progress::Unpacking => bar.set_message("unpacking the speech model"),
        });
        bar.finish_and_clear();
        fetched.context("the local speech model cannot be fetched")
    })
    .await?
}

/// A line of progress on standard error, shown on terminals only.
pub(crate) fn spinner(text: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
