//! The local speech model, fetched with a progress bar.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hansard_speech::{LocalModel, ModelFiles, Progress};
use indicatif::{ProgressBar, ProgressStyle};

/// Fetches a local model, unless it is in the cache.
///
/// # Errors
/// It cannot be fetched; the text says what to do.
pub(crate) async fn fetch(cache: &Path, model: LocalModel) -> Result<ModelFiles> {
    let cache = cache.to_owned();
    tokio::task::spawn_blocking(move || {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{msg} {bar:30} {binary_bytes} of {binary_total_bytes}")?;
        bar.set_style(style);
        let fetched = hansard_speech::fetch(&cache, model, &mut |progress| match progress {
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
