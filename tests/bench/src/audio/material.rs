//! What is split and merged: real recordings, looped and put into the containers that browsers write, made by ffmpeg when
//! the benchmark runs and removed with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use hansard_speech::LocalModel;

/// Seconds of one chunk of a merge.
const CHUNK_SECONDS: u32 = 30;

/// The files of one run.
pub(super) struct Material {
    directory: PathBuf,
    /// One pass over all recordings, about 80 s, as Chrome's recorder writes it.
    speech: PathBuf,
    /// The same as Safari's does.
    aac: PathBuf,
}

/// What a browser records in.
#[derive(Clone, Copy)]
pub(super) enum Browser {
    /// WebM with Opus.
    Chrome,
    /// Fragmented MP4 with AAC.
    Safari,
}

impl Browser {
    /// What its recordings are, and what they are copied into.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Chrome => ("WebM/Opus", "Ogg Opus"),
            Self::Safari => ("MP4/AAC", "MP4"),
        }
    }
}

impl Material {
    /// Encodes the recordings that come with the local speech model; fetches them where they are not there yet.
    pub(super) fn make(directory: &Path) -> Result<Self> {
        let recordings = hansard_speech::fetch(&cache()?, LocalModel::Tiny, &mut |_| ())?.recordings();
        let mut ffmpeg = vec![];
        for recording in &recordings {
            ffmpeg.extend(["-i".to_owned(), recording.path.to_string_lossy().into_owned()]);
        }
        // Packets of 60 ms are what Chrome's recorder makes.
        let speech = directory.join("speech.webm");
        let graph =
            "[0]aresample=48000[a];[1]aresample=48000[b];[2]aresample=48000[c];[a][b][c]concat=n=3:v=0:a=1";
        let encode = "-ac 1 -c:a libopus -b:a 32k -frame_duration 60";
        ffmpeg.extend(["-filter_complex".to_owned(), graph.to_owned()]);
        ffmpeg.extend(encode.split(' ').map(str::to_owned));
        run_ffmpeg(&ffmpeg, &speech)?;
        let aac = directory.join("speech.m4a");
        let encode = format!("-i {} -c:a aac -b:a 64k", speech.display());
        run_ffmpeg(&words(&encode), &aac)?;
        Ok(Self { directory: directory.to_owned(), speech, aac })
    }

    /// One recording of that length: WebM with Opus, mono, 48 kHz, without duration or cues.
    pub(super) fn recording(&self, seconds: u32) -> Result<PathBuf> {
        let path = self.directory.join(format!("recording-{seconds}.webm"));
        looped(&self.speech, seconds, "-f webm -live 1", &path)?;
        Ok(path)
    }

    /// An hour as a browser's chunks, each a file of its own, in order.
    pub(super) fn chunks(&self, browser: Browser) -> Result<Vec<PathBuf>> {
        let (speech, ending, format) = match browser {
            Browser::Chrome => (&self.speech, "webm", "webm -segment_format_options live=1"),
            Browser::Safari => {
                (&self.aac, "mp4", "mp4 -segment_format_options movflags=frag_keyframe+empty_moov")
            }
        };
        let options =
            format!("-f segment -segment_time {CHUNK_SECONDS} -reset_timestamps 1 -segment_format {format}");
        looped(speech, 3_600, &options, &self.directory.join(format!("chunk-%03d.{ending}")))?;
        let name = |index| self.directory.join(format!("chunk-{index:03}.{ending}"));
        let chunks: Vec<PathBuf> = (0..3_600 / CHUNK_SECONDS).map(name).collect();
        if let Some(missing) = chunks.iter().find(|chunk| !chunk.exists()) {
            bail!("ffmpeg made no {}", missing.display());
        }
        Ok(chunks)
    }

    /// How many chunks make so many seconds.
    pub(super) fn chunks_of(seconds: u32) -> usize {
        (seconds / CHUNK_SECONDS) as usize
    }
}

/// Repeats speech, packet by packet.
fn looped(speech: &Path, seconds: u32, options: &str, to: &Path) -> Result<()> {
    let words = words(&format!("-stream_loop -1 -i {} -t {seconds} -c copy {options}", speech.display()));
    run_ffmpeg(&words, to)
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Where the program keeps the model, unless it is told otherwise.
pub(super) fn cache() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("HANSARD_CACHE") {
        return Ok(given.into());
    }
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    Ok(base.context("no home directory; set HANSARD_CACHE")?.join("hansard"))
}

fn run_ffmpeg(words: &[String], to: &Path) -> Result<()> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-y"]).args(words).arg(to);
    let status = command.status().context("ffmpeg is needed: apt-get install ffmpeg")?;
    if !status.success() {
        bail!("ffmpeg ended with {status} making {}", to.display());
    }
    Ok(())
}
