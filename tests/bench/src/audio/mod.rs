//! Splitting and merging, measured beside ffmpeg on the same files in the same run. What ffmpeg makes is as like ours as
//! its options allow: FLAC at 16 kHz, Ogg Opus of the same bit rate and effort.

mod material;
mod measure;
mod words;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use material::{Browser, Material};
use measure::Figures;
pub(crate) use measure::{Run, run};
pub(crate) use words::words;

const HOUR: u32 = 3_600;
const TEN_MINUTES: u32 = 600;

/// How ffmpeg looks for silence, which is the nearest that it has to detecting voice.
const DETECT: &str = "-af silencedetect=noise=-35dB:d=0.2";

/// How ffmpeg cuts. In one pass with `DETECT` the cuts are blind; to cut where it found silence takes a pass for each.
const SEGMENTS: &str = "-ac 1 -ar 16000 -c:a flac -f segment -segment_time 15";

/// Bit rate and effort of our default format.
const ENCODE: &str = "-c:a libopus -application voip -b:a 32k -compression_level 5";

/// What becomes of packets when merging.
#[derive(Clone, Copy)]
enum Merged {
    /// They go into the file as they are.
    Copied,
    /// They are decoded, and what they hold is encoded as Opus.
    Encoded,
}

/// Makes the files, measures, prints.
pub(crate) fn compare(hours: u32, only_memory: bool, json: bool) -> Result<()> {
    ensure!(hours > 0, "the long recording needs at least one hour");
    let directory = tempfile::tempdir()?;
    let material = Material::make(directory.path())?;
    let bench = Bench { directory: directory.path(), material, json };
    let load = load()?;
    if !only_memory {
        bench.speed()?;
    }
    bench.memory(hours, !only_memory)?;
    if !json {
        println!("\n{}", machine(&load)?);
    }
    Ok(())
}

struct Bench<'a> {
    directory: &'a Path,
    material: Material,
    json: bool,
}

impl Bench<'_> {
    /// One hour by us and by ffmpeg.
    fn speed(&self) -> Result<()> {
        let recording = self.material.recording(HOUR)?;
        self.line("| One hour of speech, WebM/Opus | CPU s | hours per CPU minute | peak MiB, parent | peak MiB, child |");
        self.line("|---|--:|--:|--:|--:|");
        let ours = self.split(&recording)?;
        self.speed_line("split: decode, detect voice, cut in pauses, FLAC", &ours)?;
        let recording = format!("-i {}", text(&recording));
        let once = self.ffmpeg(&format!("{recording} {DETECT} {SEGMENTS}"), "%05d.flac")?;
        self.speed_line("ffmpeg: decode, silencedetect, FLAC every 15 s", &once)?;
        let mut twice = self.ffmpeg(&format!("{recording} {DETECT} -f null"), "none")?;
        twice.cpu_seconds += self.ffmpeg(&format!("{recording} {SEGMENTS}"), "%05d.flac")?.cpu_seconds;
        self.speed_line("ffmpeg: the same in two passes, as cuts in pauses need", &twice)?;
        let (once, twice) = (once.cpu_seconds / ours.cpu_seconds, twice.cpu_seconds / ours.cpu_seconds);
        let opus = self.merge_beside(Browser::Chrome, Merged::Copied)?;
        let aac = self.merge_beside(Browser::Safari, Merged::Copied)?;
        let encoded = self.merge_beside(Browser::Safari, Merged::Encoded)?;
        self.line(&format!(
            "\nffmpeg's CPU seconds over ours: split {once:.2} in one pass and {twice:.2} in two, merge {opus:.2} with \
             Opus copied, {aac:.2} with AAC copied and {encoded:.2} encoded.\n"
        ));
        Ok(())
    }

    /// An hour of a browser's chunks by us and by ffmpeg; its CPU seconds over ours.
    fn merge_beside(&self, browser: Browser, merged: Merged) -> Result<f64> {
        let chunks = self.material.chunks(browser)?;
        let ours = self.merge(&chunks, chunks.len(), merged)?;
        let (of, copy) = browser.names();
        let (into, theirs) = match merged {
            Merged::Copied => (copy, "concat, `-c copy`"),
            Merged::Encoded => ("Ogg Opus", "concat, decode, encode"),
        };
        self.speed_line(&format!("merge: {} chunks of {of} into {into}", chunks.len()), &ours)?;
        let ffmpeg = self.ffmpeg_merge(browser, &chunks, chunks.len(), merged)?;
        self.speed_line(&format!("ffmpeg: {theirs}"), &ffmpeg)?;
        Ok(ffmpeg.cpu_seconds / ours.cpu_seconds)
    }

    fn ffmpeg_merge(
        &self,
        browser: Browser,
        chunks: &[PathBuf],
        count: usize,
        merged: Merged,
    ) -> Result<Figures> {
        let (options, output) = match (merged, browser) {
            (Merged::Encoded, _) => (ENCODE, "merged.ogg"),
            (Merged::Copied, Browser::Chrome) => ("-c copy", "merged.ogg"),
            (Merged::Copied, Browser::Safari) => ("-c copy", "merged.m4a"),
        };
        self.ffmpeg(&format!("{} {options}", self.concat(chunks, count)?), output)
    }

    /// ffmpeg's input that is so many of these files one after the other, taken again from the start where there are too few.
    fn concat(&self, chunks: &[PathBuf], count: usize) -> Result<String> {
        let list = self.directory.join("list.txt");
        let lines = chunks.iter().cycle().take(count).map(|chunk| format!("file '{}'\n", chunk.display()));
        let lines: Vec<String> = lines.collect();
        std::fs::write(&list, lines.concat())?;
        Ok(format!("-f concat -safe 0 -i {}", text(&list)))
    }

    /// Ten minutes and many hours by us and, if it is asked for, by ffmpeg.
    fn memory(&self, hours: u32, beside: bool) -> Result<()> {
        self.line("| Peak MiB | parent | child | ffmpeg |");
        self.line("|---|--:|--:|--:|");
        for seconds in [TEN_MINUTES, hours * HOUR] {
            let length =
                if seconds == TEN_MINUTES { "10 minutes".to_owned() } else { format!("{hours} hours") };
            let recording = self.material.recording(seconds)?;
            let cut = format!("-i {} {DETECT} {SEGMENTS}", text(&recording));
            let theirs = beside.then(|| self.ffmpeg(&cut, "%05d.flac")).transpose()?;
            self.memory_line(&format!("split of {length}"), &self.split(&recording)?, theirs.as_ref())?;
            std::fs::remove_file(recording)?;
            for browser in [Browser::Chrome, Browser::Safari] {
                let (chunks, count) = (self.material.chunks(browser)?, Material::chunks_of(seconds));
                let ours = self.merge(&chunks, count, Merged::Copied)?;
                let theirs = || self.ffmpeg_merge(browser, &chunks, count, Merged::Copied);
                let theirs = beside.then(theirs).transpose()?;
                let name = format!("merge of {length} of {}", browser.names().0);
                self.memory_line(&name, &ours, theirs.as_ref())?;
            }
        }
        Ok(())
    }

    fn split(&self, recording: &Path) -> Result<Figures> {
        let into = tempfile::tempdir_in(self.directory)?;
        figures(&["split".to_owned(), text(recording), text(into.path())])
    }

    fn merge(&self, chunks: &[PathBuf], count: usize, merged: Merged) -> Result<Figures> {
        let into = self.directory.join("merged");
        let mut words = vec!["merge".to_owned(), text(&into), count.to_string()];
        words.extend(matches!(merged, Merged::Encoded).then(|| "--opus".to_owned()));
        words.extend(chunks.iter().map(|chunk| text(chunk)));
        figures(&words)
    }

    /// ffmpeg with these options; the output lies in a directory of its own.
    fn ffmpeg(&self, options: &str, output: &str) -> Result<Figures> {
        let into = tempfile::tempdir_in(self.directory)?;
        let output = text(&into.path().join(output));
        let words = format!("foreign ffmpeg -nostdin -loglevel error -y {options} {output}");
        figures(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn line(&self, line: &str) {
        if !self.json {
            println!("{line}");
        }
    }

    fn speed_line(&self, name: &str, figures: &Figures) -> Result<()> {
        let Figures { cpu_seconds, parent_mib, child_mib, .. } = figures;
        let (rate, ours) = (60.0 / cpu_seconds, figures.audio_ms > 0);
        let parent = if ours { format!("{parent_mib:.0}") } else { String::new() };
        self.json_line(name, figures)?;
        self.line(&format!("| {name} | {cpu_seconds:.2} | {rate:.1} | {parent} | {child_mib:.0} |"));
        Ok(())
    }

    fn memory_line(&self, name: &str, ours: &Figures, theirs: Option<&Figures>) -> Result<()> {
        let Figures { parent_mib, child_mib, .. } = ours;
        self.json_line(name, ours)?;
        if let Some(theirs) = theirs {
            self.json_line(&format!("ffmpeg: {name}"), theirs)?;
        }
        let theirs = theirs.map_or_else(String::new, |theirs| format!("{:.0}", theirs.child_mib));
        self.line(&format!("| {name} | {parent_mib:.0} | {child_mib:.0} | {theirs} |"));
        Ok(())
    }

    fn json_line(&self, name: &str, figures: &Figures) -> Result<()> {
        if self.json {
            let mut line = serde_json::to_value(figures)?;
            line["name"] = name.into();
            println!("{line}");
        }
        Ok(())
    }
}

/// Measures in a process of its own, so that nothing else is counted.
fn figures(words: &[String]) -> Result<Figures> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.arg("audio-run").args(words).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "`audio-run {}` ended with {}", words[0], output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The load averages of 1, 5 and 15 minutes.
fn load() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// What the figures were found on.
fn machine(load_before: &str) -> Result<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{cores} cores of {model}; load average before {load_before}, after {}.", load()?))
}
