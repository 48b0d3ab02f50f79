//! What can happen in a scenario, line by line.

use std::collections::BTreeMap;

use hansard_core::id::{Millis, Timestamp};
use hansard_core::redelivery::Class;
use hansard_jobs::topology::JOBS;
use hansard_runtime::driver::{Action, Trap};
use hansard_schemas::{Erase, Finish, Open, Options, Record, Rerun, Stage};

use super::seen::Seen;
use crate::simulation::deployment::{Deployment, START};
use crate::simulation::fakes::Answer;
use crate::simulation::producer::{ChunkSpec, Producer};

/// A scenario under way.
pub(super) struct Script {
    pub(super) deployment: Deployment,
    pub(super) producer: Producer,
    pub(super) wrong: Vec<String>,
    /// Unless a scenario starts processes itself, one process `a` runs everything.
    pub(super) started: bool,
}

/// The words of a line after its moment: those alone, and those with a value.
struct Words<'a> {
    plain: Vec<&'a str>,
    valued: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        let (mut plain, mut valued) = (Vec::new(), BTreeMap::new());
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => {
                    valued.insert(key, value);
                }
                None => plain.push(word),
            }
        }
        Self { plain, valued }
    }

    fn at(&self, place: usize) -> &'a str {
        self.plain
            .get(place)
            .copied()
            .unwrap_or_else(|| panic!("word {place} is missing in {:?}", self.plain))
    }

    fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        self.valued.get(key).map(|text| text.parse().unwrap_or_else(|_| panic!("{key}={text} is no number")))
    }

    fn length(&self, key: &str) -> Option<Millis> {
        self.valued.get(key).map(|text| length(text))
    }
}

/// A length of time: `0`, `5s`, `1m30s`, `2h1ms`, `3d`.
pub(super) fn length(text: &str) -> Millis {
    let (mut total, mut rest) = (0, text);
    while !rest.is_empty() && rest != "0" {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: i64 = rest[..digits].parse().unwrap_or_else(|_| panic!("{text:?} is no length of time"));
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let unit = units.iter().find(|(unit, _)| rest[digits..].starts_with(unit));
        let (unit, millis) = unit.unwrap_or_else(|| panic!("{text:?} has no unit"));
        total += number * millis;
        rest = &rest[digits + unit.len()..];
    }
    Millis(total)
}

impl Script {
    /// The partition count: a line `partitions N`, else 1.
    pub(super) fn partitions(text: &str) -> u32 {
        let count = text.lines().find_map(|line| line.strip_prefix("partitions "));
        count.map_or(1, |count| count.trim().parse().expect("a partition count"))
    }

    fn moment(&self, length: Millis) -> Timestamp {
        (START + length).max(self.deployment.world.now())
    }

    pub(super) fn run_until(&mut self, length: Millis) {
        let until = self.moment(length);
        self.deployment.run_until(until);
    }

    /// One line; the world runs up to its moment first.
    pub(super) fn line(&mut self, number: usize, line: &str) {
        if line.starts_with("partitions ") {
            return;
        }
        let (moment, rest) =
            line.split_once(' ').unwrap_or_else(|| panic!("line {number}: {line:?} says nothing"));
        let words = Words::of(rest);
        let moment = length(moment);
        let verb = words.at(0);
        if !self.started
            && verb != "start"
            && verb != "set"
            && verb != "trap"
            && !matches!(verb, "speech" | "summary" | "webhook")
        {
            self.deployment.start("a", &JOBS);
            self.started = true;
        }
        let before = matches!(verb, "expect" | "same");
        if before {
            self.run_until(moment);
        } else {
            // Events of one moment happen in the order of their lines, before anything reacts to them.
            let at = START + moment;
            if at > self.deployment.world.now() {
                self.run_until(Millis(moment.0 - 1));
                self.deployment.world.pass_to(at);
            }
        }
        self.carry_out(number, rest, verb, &words);
    }

    fn carry_out(&mut self, number: usize, rest: &str, verb: &str, words: &Words<'_>) {
        match verb {
            "expect" | "same" => {
                let seen = Seen::of(&self.deployment);
                let wrong = if verb == "same" {
                    seen.differs(&words.plain[1..])
                } else {
                    seen.wrong(words.at(1), &words.valued)
                };
                self.wrong.extend(wrong.map(|wrong| format!("line {number}: {rest}\n    {wrong}")));
            }
            "open" | "upload" | "finish" | "rerun" | "erase" | "poison" | "redrive" | "nameless" => {
                self.produce(verb, words);
            }
            "torn-revision" => self.producer.tear_revision(words.at(1)),
            "speech" => {
                let answers = words.plain[2..].iter().map(|word| answer(word));
                self.deployment.ledger.script(words.at(1), answers);
            }
            "summary" => {
                let answers = words.plain[2..].iter().map(|word| answer(word));
                self.deployment.ledger.script(&format!("summary of {}", words.at(1)), answers);
            }
            "webhook" => {
                let answers = words.plain[2..].iter().map(|word| answer(word));
                self.deployment.ledger.script(&format!("webhook https://{}", words.at(1)), answers);
            }
            "trap" => {
                let call = words.at(2).to_owned();
                let skip = words.number("skip").unwrap_or(0);
                let trap = Trap { process: words.at(1).to_owned(), call, skip, action: action(words) };
                self.deployment.world.set_trap(trap);
            }
            "down" => {
                let until = self.deployment.world.now() + length(words.at(2));
                self.deployment.world.take_down(words.at(1), until);
            }
            "sweep" => {
                let name = words.valued.get("as").copied().unwrap_or("sweep");
                self.deployment.sweep(name, words.has("dry"));
            }
            "abandon" => {
                self.upload(words);
            }
            "begin" => self.producer.begin_parts(words.at(1), words.at(2)),
            "job" => self.deployment.note_job(words.at(1), words.at(2)),
            "callback" => self.deployment.call_back(words.at(1), words.valued.get("job").copied()),
            "set" => self.set(words),
            "start" => {
                self.started = true;
                let jobs: Vec<Stage> =
                    words.plain[2..].iter().map(|job| job.parse().expect("a job's name")).collect();
                self.deployment.start(words.at(1), if jobs.is_empty() { &JOBS } else { &jobs });
            }
            "stop" => self.deployment.stop(words.at(1)),
            "kill" => self.deployment.kill(words.at(1)),
            "freeze" => self.deployment.freeze(words.at(1), length(words.at(2))),
            "isolate" => self.deployment.isolate(words.at(1), length(words.at(2))),
            "ahead" => self.deployment.set_skew(words.at(1), length(words.at(2))),
            "behind" => self.deployment.set_skew(words.at(1), Millis(-length(words.at(2)).0)),
            other => panic!("line {number}: nothing is called {other:?}"),
        }
    }

    /// Settings, before the first process starts.
    fn set(&mut self, words: &Words<'_>) {
        let jobs = self.deployment.jobs.values_mut();
        if let Some(attempts) = words.number("attempts") {
            jobs.for_each(|job| job.policy.attempts = attempts);
        } else if let Some(in_flight) = words.number("in-flight") {
            jobs.for_each(|job| job.effects.bounds.in_flight_max = in_flight);
        } else if let Some(most) = words.number("per-conversation") {
            jobs.for_each(|job| job.effects.bounds.in_flight_per_conversation_max = most);
        } else if let Some(bytes) = words.number("cache-bytes") {
            self.deployment.aggregate.cache_bytes_max = bytes;
        } else if let Some(retention) = words.length("retention") {
            self.deployment.sweep.retention = Some(retention);
            self.deployment.aggregate.expire_after = Some(retention);
        } else if let Some(room) = words.number("summary-room") {
            self.deployment.ledger.open().summary_room = Some(room);
        } else if let Some(away) = words.length("away") {
            self.deployment.away = away;
        } else if let Some(delays) = words.valued.get("calls-back") {
            let delays = delays.split(',').filter(|delay| *delay != "never").map(length).collect();
            self.deployment.ledger.open().manner.calls_back = Some(delays);
        } else if let Some(budget) = words.length("budget") {
            self.deployment.ledger.open().manner.budget = Some(budget);
        } else if words.has("second") {
            self.deployment.ledger.open().manner.second = true;
        } else if words.has("unlisted") {
            self.deployment.ledger.open().manner.unlisted = true;
        } else {
            panic!("nothing to set in {:?}", words.valued);
        }
    }

    fn produce(&mut self, verb: &str, words: &Words<'_>) {
        if verb == "redrive" {
            let stage = words.at(1).parse().ok();
            self.producer.redrive(stage, words.plain.get(2).copied());
            return;
        }
        let conversation_id = words.at(1).to_owned();
        let record: Record = match verb {
            "poison" | "nameless" => {
                let key = (verb == "poison").then_some(conversation_id.as_str());
                self.producer.poison(&conversation_id, key);
                return;
            }
            "open" => Open {
                conversation_id,
                idle_after_ms: words.length("idle").map(|length| length.0),
                missing_after_ms: words.length("missing").map(|length| length.0),
                webhook_urls: words
                    .valued
                    .get("webhooks")
                    .map(|names| urls(words.at(1), names))
                    .unwrap_or_default(),
                ..Open::default()
            }
            .into(),
            "upload" => self.upload(words).into(),
            "finish" => {
                let tracks = words.valued.iter().filter_map(|(key, value)| {
                    Some((key.strip_prefix("track:")?.to_owned(), value.parse().expect("a number")))
                });
                let expected_by_track = tracks.collect();
                Finish {
                    conversation_id,
                    expected_chunks: words.number("chunks"),
                    expected_by_track,
                    ..Finish::default()
                }
                .into()
            }
            "rerun" => Rerun {
                conversation_id,
                event_id: words.valued.get("id").map(|id| (*id).to_owned()).unwrap_or_default(),
                stage: words.at(2).to_owned(),
                only: words.at(3).to_owned(),
                options: words
                    .valued
                    .get("language")
                    .map(|language| Options { language: Some((*language).to_owned()), ..Options::default() }),
                ..Rerun::default()
            }
            .into(),
            _ => Erase { conversation_id, ..Erase::default() }.into(),
        };
        self.producer.send(record, words.number("shift").unwrap_or(0));
    }

    fn upload(&self, words: &Words<'_>) -> hansard_schemas::Upload {
        let segments: i64 = words.number("segments").unwrap_or(1);
        let ms = words.length("ms").map_or(1_000, |length| length.0);
        let what =
            if words.has("broken") { "broken".to_owned() } else { format!("segments={segments} ms={ms}") };
        let now = self.deployment.world.now();
        let chunk = ChunkSpec {
            conversation: words.at(1).to_owned(),
            chunk: words.at(2).to_owned(),
            what,
            track: words.valued.get("track").map(|track| (*track).to_owned()).unwrap_or_default(),
            sequence: words.number("seq"),
            recorded_at: words.length("recorded").map_or(now.0, |at| START.0 + at.0),
            continues: words.has("continues"),
            bytes: words.number("bytes"),
            prefix: words.valued.get("prefix").map(|prefix| (*prefix).to_owned()),
        };
        let options = words.has("redact").then(|| Options { redact_pii: Some(true), ..Options::default() });
        hansard_schemas::Upload { options, ..self.producer.upload(&chunk, !words.has("absent")) }
    }
}

/// Webhooks by their names, below the conversation's own host.
fn urls(conversation: &str, names: &str) -> Vec<String> {
    names.split(',').map(|name| format!("https://{conversation}/{name}")).collect()
}

/// `ok`, `hang`, `class:code[:retry-after in seconds]`; `job:length[:class:code]`, `silent:…` where its id is never told, and
/// `never` for one without an end, `misnamed` for one under an id that is nobody's, `garbled`
/// for one that is only asked for in vain.
fn answer(word: &str) -> Answer {
    match word {
        "ok" => return Answer::Ok,
        "long" => return Answer::Long,
        "hang" => return Answer::Hang,
        "misnamed" => return Answer::Misnamed,
        "garbled" => return Answer::Garbled,
        "never" => return Answer::Job { takes: None, failure: None, silent: false },
        _ => {}
    }
    let parts: Vec<&str> = word.split(':').collect();
    if let ["job" | "silent", takes, ended @ ..] = &parts[..] {
        let failure = match ended {
            [] => None,
            [class, code] => Some((class.parse().expect("a class"), self::code(Some(code)))),
            _ => panic!("{word:?} is no job"),
        };
        return Answer::Job { takes: Some(length(takes)), failure, silent: parts[0] == "silent" };
    }
    let class: Class = parts[0].parse().unwrap_or_else(|_| panic!("{word:?} begins with no class"));
    let code = code(parts.get(1).copied());
    Answer::Fail { class, code, retry_after_s: parts.get(2).map(|text| text.parse().expect("seconds")) }
}

fn code(word: Option<&str>) -> &'static str {
    match word {
        None | Some("http_500") => "http_500",
        Some("http_429") => "http_429",
        Some("http_400") => "http_400",
        Some("http_401") => "http_401",
        Some("job_failed") => "job_failed",
        Some(other) => panic!("no code {other:?}"),
    }
}

fn action(words: &Words<'_>) -> Action {
    let long = || length(words.at(4));
    match words.at(3) {
        "crash-before" => Action::CrashBefore,
        "crash-after" => Action::CrashAfter,
        "fail" => Action::Fail,
        "lose-answer" => Action::LoseAnswer,
        "hang" => Action::Hang,
        "tear" => Action::Tear,
        "delay" => Action::Delay(long()),
        "isolate" => Action::Isolate(long()),
        other => panic!("a call cannot {other:?}"),
    }
}
