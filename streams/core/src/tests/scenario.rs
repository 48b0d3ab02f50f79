//! Runs the scenarios: texts of one event or one expectation a line, each at a moment.
//!
//! Whatever a scenario tells is then told again backwards and twice, and must give the same window.

use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use super::digest;
use crate::fact::{Ending, Failure, Finalize, Finish, Open, Rerun, Split, Transcript, Upload};
use crate::manifest::{Counts, Gap};
use crate::{
    ChunkId, Decision, Digest, Fact, FinalizeDigest, Generation, Generations, Manifest, Millis, Offset,
    Outcome, Revision, Rules, Stage, Timestamp, Track, Window, decide, explain, status,
};

/// One line of a scenario in words.
struct Line<'a> {
    at: Timestamp,
    words: Vec<&'a str>,
    settings: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn new(text: &'a str) -> Self {
        let mut tokens = text.split_whitespace();
        let at = Timestamp(moment(tokens.next().expect("a time")).0);
        let (settings, words) =
            tokens.partition::<Vec<_>, _>(|token| token.contains('=') || token.starts_with('@'));
        let pair = |token: &'a str| token.split_once('=').unwrap_or_else(|| token.split_at(1));
        Self { at, words, settings: settings.into_iter().map(pair).collect() }
    }

    fn word(&self, place: usize) -> &'a str {
        self.words.get(place).unwrap_or_else(|| panic!("word {place} is missing"))
    }

    fn length(&self, name: &str) -> Option<Millis> {
        self.settings.get(name).map(|text| moment(text))
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.settings.get(name).map(|text| text.parse().expect("a number"))
    }
}

/// Reads `1h2m3s4ms` and sums and differences of such: `5m-1ms`.
fn moment(text: &str) -> Millis {
    let (mut total, mut sign, mut digits, mut unit) = (0, 1, String::new(), String::new());
    for character in text.chars().chain(['+']) {
        if character.is_ascii_digit() || "+-".contains(character) {
            if !unit.is_empty() || "+-".contains(character) && !digits.is_empty() {
                let factor = match unit.as_str() {
                    "" | "ms" => 1,
                    "s" => 1_000,
                    "m" => 60_000,
                    "h" => 3_600_000,
                    other => panic!("unknown unit {other:?} in {text:?}"),
                };
                total += sign * factor * digits.parse::<i64>().expect("digits");
                digits.clear();
                unit.clear();
            }
            match character {
                '+' => sign = 1,
                '-' => sign = -1,
                digit => digits.push(digit),
            }
        } else {
            unit.push(character);
        }
    }
    Millis(total)
}

struct Run {
    rules: Rules,
    window: Window,
    facts: Vec<Fact>,
    uploads: i64,
    splits: i64,
    last: Option<Manifest>,
    changed: bool,
}

impl Run {
    fn new(rules: Rules) -> Self {
        let window = Window::new();
        Self { rules, window, facts: Vec::new(), uploads: 0, splits: 0, last: None, changed: false }
    }

    fn line(&mut self, text: &str) {
        let line = Line::new(text);
        if line.word(0) == "?" {
            return self.expect(&line);
        }
        let fact = self.fact(&line);
        self.tell(fact);
    }

    fn tell(&mut self, fact: Fact) {
        let before = self.window.clone();
        self.changed = self.window.apply(&fact);
        assert_eq!(self.changed, before != self.window, "apply must say whether the window changed");
        assert!(!self.window.apply(&fact), "the same fact again must change nothing");
        self.facts.push(fact);
    }

    fn fact(&mut self, line: &Line<'_>) -> Fact {
        let time = line.at;
        match line.word(0) {
            "open" => Fact::Open(Open {
                offset: self.upload_offset(line),
                time,
                idle_after: line.length("idle"),
                missing_after: line.length("missing"),
            }),
            "upload" => Fact::Upload(self.upload(line)),
            "finish" => self.finish(line),
            "rerun" => Fact::Rerun(Rerun {
                offset: self.upload_offset(line),
                time,
                event: Arc::from(
                    line.settings.get("event").copied().unwrap_or(&self.facts.len().to_string()),
                ),
                stage: line.word(1).parse().expect("a stage"),
                only: line.word(2).parse().expect("failed or all"),
                options: None,
            }),
            "erase" => Fact::Erase,
            "split" => Fact::Split(self.split(line)),
            "text" => {
                let (chunk, upload_digest, split_digest, segment) = piece(line);
                let (generation, text_sha256) = (generation(line), digest(line.word(2)));
                let place = (chunk, upload_digest, split_digest, segment);
                let (chunk, upload_digest, split_digest, segment) = place;
                Fact::Transcript(Transcript {
                    time,
                    chunk,
                    upload_digest,
                    split_digest,
                    segment,
                    generation,
                    text_sha256,
                })
            }
            "fail" | "attempt" | "uncut" => Fact::Failure(failure(line)),
            "merge" => Fact::Merge(self.ending(line)),
            "summary" => Fact::Summary(self.ending(line)),
            "finalize" => Fact::Finalize(self.other_finalize(line)),
            other => panic!("unknown event {other:?}"),
        }
    }

    fn upload_offset(&mut self, line: &Line<'_>) -> Offset {
        let offset = line.number("@").unwrap_or(self.uploads);
        self.uploads = self.uploads.max(offset) + 1;
        Offset(offset)
    }

    fn upload(&mut self, line: &Line<'_>) -> Upload {
        let chunk = line.word(1);
        Upload {
            offset: self.upload_offset(line),
            time: line.at,
            chunk: chunk.parse().expect("a chunk id"),
            digest: digest(line.settings.get("digest").unwrap_or(&chunk)),
            track: track(line.settings.get("track").unwrap_or(&"")),
            sequence: line.number("seq").map(|number| u32::try_from(number).expect("a sequence")),
            recorded_at: line.length("rec").map_or(line.at, |length| Timestamp(length.0)),
        }
    }

    fn finish(&mut self, line: &Line<'_>) -> Fact {
        let by_track = line.settings.iter().filter(|(name, _)| **name != "@");
        Fact::Finish(Finish {
            offset: self.upload_offset(line),
            time: line.at,
            expected_chunks: line.words.get(1).map(|number| number.parse().expect("a number of chunks")),
            expected_by_track: by_track
                .map(|(name, number)| (track(name), number.parse().expect("a number")))
                .collect(),
        })
    }

    fn split(&mut self, line: &Line<'_>) -> Split {
        let chunk = line.word(1);
        let offset = line.number("@").unwrap_or(self.splits);
        self.splits = self.splits.max(offset) + 1;
        Split {
            offset: Offset(offset),
            time: line.at,
            chunk: chunk.parse().expect("a chunk id"),
            upload_digest: digest(line.settings.get("upload").unwrap_or(&chunk)),
            digest: digest(line.settings.get("digest").unwrap_or(&"split")),
            segments: line.word(2).parse().expect("a number of segments"),
            duration: line.length("dur").unwrap_or(Millis::seconds(30)),
        }
    }

    /// `done` or a code; of the last finalize unless another digest is named.
    fn ending(&self, line: &Line<'_>) -> Ending {
        let last = self.window.last_finalize().map(|last| last.digest).unwrap_or_default();
        let other = line.settings.get("of").map(|word| FinalizeDigest { version: 1, digest: digest(word) });
        Ending {
            time: line.at,
            finalize_digest: other.unwrap_or(last),
            generation: generation(line),
            failed: Some(line.word(1)).filter(|word| *word != "done").map(Arc::from),
        }
    }

    /// A finalize that another instance emitted; `like=last` says the same as the last, in other words.
    fn other_finalize(&self, line: &Line<'_>) -> Finalize {
        let (time, content) = (line.at, digest(line.settings.get("content").unwrap_or(&"content")));
        if line.settings.contains_key("like") {
            let last = self.window.last_finalize().expect("a finalize");
            return Finalize { time, content, ..last.clone() };
        }
        Finalize {
            time,
            revision: Revision(line.word(1).parse().expect("a revision")),
            digest: FinalizeDigest { version: 1, digest: content },
            content,
            outcome: Outcome::Complete,
            generations: Generations::default(),
            counts: Counts::default(),
        }
    }

    fn expect(&mut self, line: &Line<'_>) {
        match line.word(1) {
            "status" => assert_eq!(status(&self.window, &self.rules, line.at).as_str(), line.word(2)),
            "owes" => self.owes(line),
            "work" => {
                let work = self.window.rerun_work(None);
                let told: Vec<_> = work
                    .map(|work| format!("{}.{}:{}", work.chunk, work.segment, work.generation.0))
                    .collect();
                assert_eq!(told, line.words[2..]);
            }
            "counts" => assert_eq!(self.window.counts(), counts(line.word(2))),
            "unchanged" => assert!(!self.changed, "the last event must change nothing"),
            "conflicting" => {
                let Some(Fact::Upload(upload)) = self.facts.last() else {
                    panic!("the last event is no upload")
                };
                assert_eq!(self.window.conflicts(upload).to_string(), line.word(2));
            }
            "contents" => assert_eq!(self.window.contents_of_revision().to_string(), line.word(2)),
            "erased" => assert!(
                self.window == {
                    let mut top = Window::new();
                    top.apply(&Fact::Erase);
                    top
                }
            ),
            "wait" => {
                let look_at = line.words.get(2).map(|word| Timestamp(moment(word).0));
                match decide(&self.window, &self.rules, line.at) {
                    Decision::Wait { look_at: found } => assert_eq!(found, look_at),
                    Decision::Finalize(manifest) => panic!("finalized: {manifest:#?}"),
                }
            }
            "finalize" => self.finalized(line),
            "gaps" => {
                let gaps = self.last.as_ref().map(|manifest| manifest.gaps.as_slice()).unwrap_or_default();
                assert_eq!(gaps.iter().map(gap).collect::<Vec<_>>(), line.words[2..]);
            }
            "chunks" => {
                let chunks =
                    self.last.as_ref().map(|manifest| manifest.chunks.as_slice()).unwrap_or_default();
                let told =
                    chunks.iter().map(|chunk| format!("{}:{}:{}", chunk.chunk, chunk.status, chunk.offset.0));
                assert_eq!(told.collect::<Vec<_>>(), line.words[2..]);
            }
            other => panic!("unknown expectation {other:?}"),
        }
    }

    /// The window is to be finalized; the revision is then read back at the same moment.
    fn finalized(&mut self, line: &Line<'_>) {
        let manifest = match decide(&self.window, &self.rules, line.at) {
            Decision::Finalize(manifest) => manifest,
            Decision::Wait { look_at } => panic!("still waiting, until {look_at:?}"),
        };
        let told =
            [manifest.revision.0.to_string(), manifest.outcome.to_string(), manifest.cause.to_string()];
        assert_eq!(told.as_slice(), &line.words[2..5]);
        assert_eq!(manifest.gaps.len() as u64, manifest.counts.failed + manifest.counts.missing);
        if let Some(expected) = line.words.get(5) {
            assert_eq!(manifest.counts, counts(expected));
        }
        let content = digest(&format!("{manifest:?}"));
        self.tell(Fact::Finalize(manifest.to_fact(line.at, content)));
        self.last = Some(manifest);
    }

    fn owes(&self, line: &Line<'_>) {
        let explanation = explain(&self.window, &self.rules, line.at);
        let told = explanation.awaited.iter().map(|awaited| {
            let chunk = awaited.chunk.as_ref().map(|chunk| format!(":{chunk}")).unwrap_or_default();
            let sequence = awaited.sequence.filter(|_| chunk.is_empty());
            let sequence = sequence.map(|sequence| format!(":#{sequence}")).unwrap_or_default();
            let segment = awaited.segment.map(|segment| format!(".{segment}")).unwrap_or_default();
            let since = awaited.since.map(|since| format!("@{}", since.0)).unwrap_or_default();
            format!("{}{chunk}{sequence}{segment}{since}", awaited.owner)
        });
        let expected = line.words[2..].iter().map(|word| word.replace('~', "@"));
        assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert_eq!(explanation.awaited_total, explanation.awaited.len() as u64);
    }

    /// The same facts backwards, and each twice, give the same window.
    fn again(&self) {
        let mut window = Window::new();
        for fact in self.facts.iter().rev().chain(&self.facts) {
            window.apply(fact);
        }
        assert_eq!(window, self.window, "the window depends on the order of its facts");
    }
}

fn track(name: &str) -> Track {
    name.parse().expect("a track")
}

fn generation(line: &Line<'_>) -> Generation {
    Generation(line.number("gen").unwrap_or(0))
}

/// `chunk.segment` with its Upload and Split.
fn piece(line: &Line<'_>) -> (ChunkId, Digest, Digest, u32) {
    let (chunk, segment) = line.word(1).split_once('.').expect("chunk.segment");
    let upload = digest(line.settings.get("upload").unwrap_or(&chunk));
    let split = digest(line.settings.get("split").unwrap_or(&"split"));
    (chunk.parse().expect("a chunk id"), upload, split, segment.parse().expect("a segment"))
}

fn failure(line: &Line<'_>) -> Failure {
    let kind = line.word(0);
    let place = (kind != "uncut").then(|| piece(line));
    let chunk = place.as_ref().map_or_else(|| line.word(1), |(chunk, ..)| chunk.as_str());
    Failure {
        time: line.at,
        stage: if kind == "uncut" { Stage::Split } else { Stage::Transcribe },
        terminal: kind != "attempt",
        code: Arc::from(line.word(2)),
        generation: generation(line),
        chunk: chunk.parse().ok(),
        upload_digest: Some(digest(line.settings.get("upload").unwrap_or(&chunk))),
        split_digest: place.as_ref().map(|(_, _, split, _)| *split),
        segment: place.as_ref().map(|(.., segment)| *segment),
        finalize_digest: None,
    }
}

/// `chunks/segments/transcribed/failed/missing`.
fn counts(text: &str) -> Counts {
    let numbers: Vec<u64> = text.split('/').map(|number| number.parse().expect("a count")).collect();
    let [chunks, segments, transcribed, failed, missing] = numbers[..] else {
        panic!("five counts in {text:?}")
    };
    Counts { chunks, segments, transcribed, failed, missing }
}

fn gap(gap: &Gap) -> String {
    let chunk = gap.chunk.as_ref().map(|chunk| format!(":{chunk}")).unwrap_or_default();
    let track = Some(gap.track.as_str()).filter(|track| !track.is_empty()).map(|track| format!(":{track}"));
    let sequence = gap.sequence.filter(|_| gap.chunk.is_none()).map(|sequence| format!("#{sequence}"));
    let segment = gap.segment.map(|segment| format!(".{segment}")).unwrap_or_default();
    let (track, sequence) = (track.unwrap_or_default(), sequence.unwrap_or_default());
    format!("{}:{}{chunk}{segment}{track}{sequence}", gap.status, gap.code)
}

/// The scenarios of all files, each with its title and place.
fn scenarios() -> Vec<(String, Vec<(usize, String)>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the scenarios").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let mut found: Vec<(String, Vec<(usize, String)>)> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a text");
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (number, line) in text.lines().enumerate() {
            if let Some(title) = line.strip_prefix("# ") {
                found.push((format!("{name}: {title}"), Vec::new()));
            } else if !line.trim().is_empty() {
                let (_, lines) = found.last_mut().expect("a title before the first event");
                lines.push((number + 1, line.to_string()));
            }
        }
    }
    found
}

/// The scenarios that fail under these rules, each with its line.
pub(super) fn red_scenarios(rules: Rules) -> Vec<String> {
    let all = scenarios();
    assert!(all.len() >= 30, "only {} scenarios were found", all.len());
    let mut red = Vec::new();
    for (title, lines) in &all {
        let mut run = Run::new(rules);
        let mut at = 0;
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (number, line) in lines {
                at = *number;
                run.line(line);
            }
            run.again();
        }));
        if held.is_err() {
            red.push(format!("{title}, line {at}"));
        }
    }
    red
}

#[test]
fn scenarios_hold() {
    let red = red_scenarios(Rules::default());
    assert!(red.is_empty(), "{} scenarios fail (reasons above): {red:#?}", red.len());
}
