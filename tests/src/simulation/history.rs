//! A random history: conversations with their uploads in every disorder, and what goes wrong meanwhile, drawn by a seed.

use std::collections::BTreeMap;

use hansard_core::id::{Millis, Timestamp};
use hansard_core::redelivery::Class;
use hansard_jobs::topology::JOBS;
use hansard_runtime::driver::{Action, Faults, Rng, Trap, WorldConfig};
use hansard_schemas::{Erase, Finish, Open, Record, Rerun, Stage};

use super::checks::Checks;
use super::deployment::{Deployment, START};
use super::fakes::Answer;
use super::producer::{ChunkSpec, Producer};

/// How long things happen and go wrong.
const TROUBLE: i64 = 40 * 60_000;
/// How long the world is left alone after that, so that everything may end: beyond every deadline.
const PEACE: Millis = Millis(4 * 24 * 3_600_000);
/// Runs of sweep in that time.
const SWEEPS: i64 = 8;

/// Something that happens from outside.
enum Deed {
    Upload {
        chunk: Box<ChunkSpec>,
        put: bool,
        shift: i32,
    },
    Say(Box<Record>),
    /// A recording that is never confirmed.
    Abandon(Box<ChunkSpec>),
    Poison(String),
    Redrive,
    Sweep,
    Kill,
    /// Whoever commits next but so many crashes right after it.
    CrashCommitted(u32),
    Freeze(Millis),
    Isolate(Millis),
    Stop,
    Start,
    Down(&'static str, Millis),
    Behind(Millis),
}

/// One history, ready to be lived through.
pub(crate) struct History {
    rng: Rng,
    deeds: BTreeMap<(i64, u64), Deed>,
    deployment: Deployment,
    producer: Producer,
    faults: Faults,
    starts: u64,
    /// How often work may have been cut off by what happened from outside.
    moves: usize,
}

fn faults(rng: &mut Rng) -> Faults {
    let mut level = |of: u32| if rng.chance(5000) { of } else { 0 };
    Faults {
        crash: level(15),
        fail: level(100),
        lose_answer: level(100),
        hang: level(20),
        hang_max: Millis(60_000),
        delay: level(3_000),
        delay_max: Millis(3_000),
        marker_lag: level(2_000),
        tear: level(5_000),
        fetch_lag: level(2_000),
    }
}

impl History {
    pub(crate) fn new(seed: u64, set_up: impl Fn(&mut Deployment)) -> Self {
        let mut rng = Rng::new(seed ^ 0x5EED);
        let partitions = 1 + u32::try_from(rng.below(3)).unwrap_or(0);
        let config = WorldConfig { seed, start: START, partitions, trace_max: 3_000 };
        let mut deployment = Deployment::new(&config);
        deployment.away = Millis(90_000);
        deployment.erratic = true;
        if rng.chance(3000) {
            deployment.aggregate.cache_bytes_max = 2_000;
        }
        // Else a call that hangs is waited for, for hours.
        let jobs = deployment.jobs.values_mut();
        jobs.for_each(|job| job.call_max = job.call_max.min(Millis(300_000)));
        // A producer here confirms at once. What stages write must be safe by what is known of it, not by its age.
        deployment.sweep.unreferenced_after = Millis(1_000);
        deployment.sweep.every = Millis(1_000);
        set_up(&mut deployment);
        let producer = Producer::new(deployment.world.clone(), partitions);
        let faults = faults(&mut rng);
        let mut history =
            Self { rng, deeds: BTreeMap::new(), deployment, producer, faults, starts: 0, moves: 0 };
        for _ in 0..=history.rng.below(2) {
            history.start();
        }
        for number in 0..=history.rng.below(4) {
            history.plan_conversation(&format!("c{number}"));
        }
        if history.rng.chance(7000) {
            history.plan_trouble();
        }
        history.plan_sweeps(Rng::new(seed ^ 0xBE50));
        history.plan_webhooks(Rng::new(seed ^ 0x0B11));
        history.plan_takeovers(Rng::new(seed ^ 0x7A4E));
        history.plan_jobs(Rng::new(seed ^ 0x10B5));
        history
    }

    fn start(&mut self) {
        self.starts += 1;
        let name = format!("p{}", self.starts);
        if self.rng.chance(5000) {
            self.deployment.start(&name, &JOBS);
        } else {
            // Some jobs alone, so that each crashes by itself.
            for job in JOBS {
                self.deployment.start(&format!("{name}_{job}"), &[job]);
            }
        }
    }

    fn plan(&mut self, at: i64, deed: Deed) {
        let place = (at, self.deeds.len() as u64);
        self.deeds.insert(place, deed);
    }

    fn moment(&mut self, within: i64) -> i64 {
        self.rng.millis(within)
    }

    fn plan_conversation(&mut self, conversation: &str) {
        let id = || conversation.to_owned();
        if self.rng.chance(3000) {
            let idle = [60_000, 600_000][self.rng.index(2)];
            let open = Open { conversation_id: id(), idle_after_ms: Some(idle), ..Open::default() };
            self.plan(0, Deed::Say(Box::new(open.into())));
        }
        let span = [0, 1_000, 60_000, 1_200_000][self.rng.index(4)];
        let count = self.rng.below(5);
        let tracks = 1 + self.rng.below(2);
        let numbered = self.rng.chance(4000);
        for number in 0..count {
            self.plan_chunk(conversation, number, span, tracks, numbered);
        }
        if self.rng.chance(7500) {
            let expected = self.rng.chance(5000).then(|| i32::try_from(count).unwrap_or(0));
            let extra = i32::from(self.rng.chance(1500));
            let finish = Finish {
                conversation_id: id(),
                expected_chunks: expected.map(|expected| expected + extra),
                ..Finish::default()
            };
            let at = self.moment(span + 60_000);
            self.plan(at, Deed::Say(Box::new(finish.into())));
        }
        while self.rng.chance(2500) {
            let stage = ["transcribe", "merge", "summarize"][self.rng.index(3)].to_owned();
            let only = ["failed", "all"][self.rng.index(2)].to_owned();
            let rerun = Rerun { conversation_id: id(), stage, only, ..Rerun::default() };
            let at = self.moment(TROUBLE);
            self.plan(at, Deed::Say(Box::new(rerun.into())));
        }
        if self.rng.chance(500) {
            let at = self.moment(TROUBLE);
            self.plan(at, Deed::Say(Box::new(Erase { conversation_id: id(), ..Erase::default() }.into())));
        }
        if self.rng.chance(1000) {
            let at = self.moment(span);
            self.plan(at, Deed::Poison(id()));
        }
    }

    fn plan_chunk(&mut self, conversation: &str, number: u64, span: i64, tracks: u64, numbered: bool) {
        let broken = self.rng.chance(800);
        let segments = self.rng.below(4);
        let what = if broken { "broken".to_owned() } else { format!("segments={segments} ms=3000") };
        let track = self.rng.below(tracks);
        let sequence = i64::try_from(number / tracks).ok().filter(|_| numbered);
        let chunk = ChunkSpec {
            conversation: conversation.to_owned(),
            chunk: format!("k{number}"),
            what,
            track: if track == 0 { String::new() } else { format!("t{track}") },
            sequence,
            recorded_at: START.0 + i64::try_from(number).unwrap_or(0) * 3_000,
            ..ChunkSpec::default()
        };
        for segment in 0..segments {
            self.plan_answers(&format!("{conversation}/k{number}/{segment}"));
        }
        let at = self.moment(span);
        let shift = i32::from(self.rng.chance(1000));
        let put = !self.rng.chance(300);
        while self.rng.chance(1500) {
            let again = at + self.rng.millis(120_000);
            // The other partitioner may be used for the repetition alone: then the order of the two is the log's.
            self.plan(again, Deed::Upload { chunk: Box::new(chunk.clone()), put, shift });
        }
        if self.rng.chance(700) {
            let other = ChunkSpec { what: "segments=1 ms=500".to_owned(), ..chunk.clone() };
            let then = self.moment(span + 60_000);
            self.plan(then, Deed::Upload { chunk: Box::new(other), put: true, shift });
        }
        self.plan(at, Deed::Upload { chunk: Box::new(chunk), put, shift });
    }

    /// Drawn apart, so that what else happens under a seed stays the same; half of the histories go without.
    fn plan_sweeps(&mut self, mut rng: Rng) {
        if rng.chance(5000) {
            return;
        }
        let within = [120_000, TROUBLE][rng.index(2)];
        for _ in 0..rng.below(8) {
            self.plan(rng.millis(within), Deed::Sweep);
        }
        for number in 0..rng.below(3) {
            let (conversation, chunk) = (format!("c{number}"), format!("abandoned{number}"));
            let chunk = ChunkSpec { conversation, chunk, ..ChunkSpec::default() };
            self.plan(rng.millis(TROUBLE), Deed::Abandon(Box::new(chunk)));
        }
    }

    /// Drawn apart, likewise.
    fn plan_webhooks(&mut self, mut rng: Rng) {
        for number in 0..rng.below(3) {
            let conversation_id = format!("c{number}");
            let webhook_urls: Vec<String> =
                (0..=rng.below(2)).map(|name| format!("https://{conversation_id}/{name}")).collect();
            for url in &webhook_urls {
                let mut answers = Vec::new();
                while rng.chance(3000) && answers.len() < 30 {
                    let (class, code) =
                        [(Class::Transient, "http_500"), (Class::Permanent, "http_400")][rng.index(2)];
                    answers.push(Answer::Fail { class, code, retry_after_s: None });
                }
                self.deployment.ledger.script(&format!("webhook {url}"), answers);
            }
            let open = Open { conversation_id, webhook_urls, ..Open::default() };
            self.plan(rng.millis(60_000), Deed::Say(Box::new(open.into())));
        }
    }

    /// In half of all histories the provider works in jobs for some segments; it calls back in time, twice, late, or never, and
    /// its jobs can be looked for or not. Drawn apart, likewise.
    fn plan_jobs(&mut self, mut rng: Rng) {
        let mut ledger = self.deployment.ledger.open();
        ledger.manner.by_name = rng.chance(5000);
        ledger.manner.unlisted = rng.chance(5000);
        let calls: [&[Millis]; 4] = [&[], &[Millis(1)], &[Millis(0), Millis(0)], &[Millis::minutes(7)]];
        ledger.manner.calls_back = Some(calls[rng.index(4)].to_vec()).filter(|_| rng.chance(7000));
    }

    /// Around a producer's end, which is said again, processes crash right after commits: who takes over has more to decide
    /// about, and its predecessor's decisions still to read; and sweep runs while nobody reads. Drawn apart, likewise.
    fn plan_takeovers(&mut self, mut rng: Rng) {
        let end = |(place, deed): (&(i64, u64), &Deed)| match deed {
            Deed::Say(record) if matches!(**record, Record::Finish(_)) => Some((place.0, record.clone())),
            _ => None,
        };
        let ends: Vec<_> = self.deeds.iter().filter_map(end).collect();
        for (at, finish) in ends {
            if rng.chance(3000) {
                let skip = u32::try_from(rng.below(12)).unwrap_or(0);
                self.plan(at, Deed::CrashCommitted(skip));
                for _ in 0..2 {
                    self.plan(at + rng.millis(10_000), Deed::Say(finish.clone()));
                    self.plan(at + rng.millis(60_000), Deed::Sweep);
                }
            }
        }
    }

    fn plan_answers(&mut self, name: &str) {
        let mut answers = Vec::new();
        while self.rng.chance(1500) && answers.len() < 8 {
            let (class, code) = [
                (Class::Transient, "http_500"),
                (Class::Transient, "http_429"),
                (Class::Permanent, "http_400"),
                (Class::Unavailable, "http_401"),
            ][self.rng.index(4)];
            let wish = [None, Some(30), Some(900)][self.rng.index(3)];
            let hang = self.rng.chance(1500);
            answers.push(if hang { Answer::Hang } else { Answer::Fail { class, code, retry_after_s: wish } });
        }
        self.deployment.ledger.script(name, answers);
    }

    fn plan_trouble(&mut self) {
        for _ in 0..self.rng.below(8) {
            let at = self.moment(TROUBLE);
            let length = Millis([500, 8_000, 30_000, 200_000][self.rng.index(4)]);
            let deed = match self.rng.below(9) {
                0 | 1 => Deed::Kill,
                2 => Deed::Freeze(length),
                3 => Deed::Isolate(length),
                4 => Deed::Stop,
                5 => Deed::Start,
                6 => Deed::Down(["store", "objects", "speech", "log"][self.rng.index(4)], length),
                7 => Deed::Redrive,
                _ => Deed::Behind(length),
            };
            self.plan(at, deed);
        }
    }

    fn one(&mut self) -> Option<String> {
        let running = self.deployment.running();
        let place = self.rng.index(running.len());
        running.into_iter().nth(place)
    }

    fn happen(&mut self, deed: Deed) {
        match deed {
            Deed::Upload { chunk, put, shift } => {
                let upload = self.producer.upload(&chunk, put);
                self.producer.send(upload.into(), shift);
            }
            Deed::Abandon(chunk) => {
                self.producer.upload(&chunk, true);
            }
            Deed::Sweep => self.deployment.sweep("sweep", false),
            Deed::Say(record) => {
                self.producer.send(*record, 0);
            }
            Deed::Poison(conversation) => {
                self.producer.poison(&conversation, Some(&conversation));
            }
            Deed::Redrive => {
                self.producer.redrive(None, None);
            }
            Deed::Down(service, length) => {
                let until = self.deployment.world.now() + length;
                self.deployment.world.take_down(service, until);
            }
            Deed::Start => {
                self.moves += 1;
                self.start();
            }
            Deed::CrashCommitted(skip) => {
                self.moves += 1;
                let (process, call) = (String::new(), "log.txn.end".to_owned());
                self.deployment.world.set_trap(Trap { process, call, skip, action: Action::CrashAfter });
            }
            _ => {
                self.moves += 1;
                let Some(name) = self.one() else { return };
                match deed {
                    Deed::Kill => self.deployment.kill(&name),
                    Deed::Freeze(length) => self.deployment.freeze(&name, length),
                    Deed::Isolate(length) => self.deployment.isolate(&name, length),
                    Deed::Behind(length) => self.deployment.set_skew(&name, Millis(-length.0)),
                    _ => self.deployment.stop(&name),
                }
            }
        }
    }

    /// The world that it happens in.
    pub(super) fn world(&self) -> hansard_runtime::driver::World {
        self.deployment.world.clone()
    }

    /// Lives through it; what does not hold in the end, with the trace.
    pub(crate) fn live(mut self) -> Result<(), String> {
        self.deployment.world.set_faults(self.faults);
        let end = START + Millis(TROUBLE);
        while let Some(((at, _), deed)) = self.deeds.pop_first() {
            let at: Timestamp = START + Millis(at);
            self.deployment.run_until(at.max(self.deployment.world.now()));
            self.happen(deed);
        }
        self.deployment.run_until(end.max(self.deployment.world.now()));
        self.deployment.world.set_faults(Faults::NONE);
        // Somebody runs every job from now on.
        self.start();
        let settled = self.deployment.world.now() + Millis(3_600_000);
        self.deployment.run_until(settled);
        if self.rng.chance(5000) {
            self.producer.redrive(None, None);
        }
        for _ in 0..SWEEPS {
            let quiet = self.deployment.world.now() + Millis(PEACE.0 / SWEEPS);
            self.deployment.run_until(quiet);
            self.deployment.sweep("sweep", false);
        }
        let swept = self.deployment.world.now() + Millis(600_000);
        self.deployment.run_until(swept);
        let moves = self.moves + usize::try_from(self.starts).unwrap_or(0);
        let wrong = Checks::of(&self.deployment, self.faults, moves).wrong();
        if wrong.is_empty() {
            return Ok(());
        }
        let trace = self.deployment.world.trace_tail(250);
        Err(format!("{}\n--- {:?}\n--- the end of the trace:\n{trace}", wrong.join("\n"), self.faults))
    }

    /// The stages whose groups must have read everything in the end.
    pub(super) const READERS: [Stage; 6] = JOBS;
}
