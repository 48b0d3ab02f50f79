//! The provider of speech recognition of a world: it answers at once, or works in jobs, lists them, and calls back when one
//! has ended; what it hears follows from the bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Millis, Partition, Timestamp};
use hansard_core::redelivery::Class;
use hansard_jobs::budget::Budget;
use hansard_jobs::callback::{CallbackUrls, Token};
use hansard_jobs::ports::{JobState, Speech, SpeechReply, SpeechRequest, Submitted};
use hansard_jobs::providers::{Provider, ProviderMetrics, Providers};
use hansard_jobs::transcribe::Links;
use hansard_runtime::driver::World;
use hansard_runtime::pace::{Pace, PaceLimits, Permit};
use hansard_runtime::ports::Ports;
use hansard_runtime::ports::log::{Outgoing, TopicPartition};
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::stage::Failed;
use hansard_schemas::{Callback, Record, Topic, Word, encode, partition_for};

use super::fakes::{Answer, Fakes, hash, refused};

/// What the provider is called.
const NAME: &str = "simulated";
/// How long jobs of a history take.
const LENGTHS: [Millis; 4] = [Millis(1_500), Millis(40_000), Millis::minutes(4), Millis::minutes(20)];

/// A job that the provider works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// What it is to hear.
    audio: String,
    began: Timestamp,
    /// When it ends; nothing for one that never does.
    ends: Option<Timestamp>,
    /// What it ends in, unless that is what was heard.
    failure: Option<(Class, &'static str)>,
    /// Where it calls back.
    callback: Option<String>,
}

/// How the provider behaves, beside what single answers say.
#[derive(Debug, Default)]
pub(crate) struct Manner {
    /// Some segments become jobs by themselves: those of a history.
    pub(crate) by_name: bool,
    /// It calls back so long after a job has ended, each time that is listed; nothing where nobody asked for it.
    pub(crate) calls_back: Option<Vec<Millis>>,
    /// Jobs whose ids got lost cannot be looked for.
    pub(crate) unlisted: bool,
    /// Its jobs, by their ids.
    pub(crate) jobs: BTreeMap<String, Job>,
    /// How often it was asked for a job.
    pub(crate) checks: usize,
    pub(crate) forgotten: BTreeSet<String>,
    /// How much audio a day it may be given.
    pub(crate) budget: Option<Millis>,
    /// Whether another provider is asked where this one is exhausted.
    pub(crate) second: bool,
}

impl Manner {
    /// The last job of a segment, and where it calls back.
    pub(crate) fn last_of(&self, segment: &str) -> Option<(String, String)> {
        let own = self.jobs.iter().filter(|(_, job)| job.audio.split(' ').next() == Some(segment));
        own.rev().find_map(|(id, job)| Some((id.clone(), job.callback.clone()?)))
    }
}

/// The deployment's providers: this one alone.
pub(crate) fn providers(fakes: &Fakes, ports: &Ports) -> Arc<Providers> {
    let limits = PaceLimits { per_second: 1e9, at_once: 1_000 };
    let metrics = ProviderMetrics::register(&prometheus::Registry::new()).expect("a fresh registry");
    let (budget, second) = {
        let ledger = fakes.ledger.open();
        (ledger.manner.budget, ledger.manner.second)
    };
    let provider = |speech: Arc<dyn Speech>, budget: Option<Millis>| Provider {
        speech,
        pace: Pace::new(limits, Arc::clone(&ports.clock)),
        deadline: Millis::minutes(30),
        give_up_after: Millis::hours(12),
        price: None,
        budget: budget.map(|day_max| Budget::new(NAME, day_max)),
    };
    let mut by_name = BTreeMap::from([(NAME.to_owned(), provider(Arc::new(fakes.clone()), budget))]);
    let mut order = vec![NAME.to_owned()];
    if second {
        by_name.insert("second".to_owned(), provider(Arc::new(Second(fakes.clone())), None));
        order.push("second".to_owned());
    }
    Arc::new(Providers::new(by_name, order, Millis::minutes(4), Arc::clone(&ports.clock), metrics))
}

/// URLs that only this provider understands.
pub(crate) fn callbacks(fakes: &Fakes) -> Option<CallbackUrls> {
    fakes.ledger.open().manner.calls_back.as_ref()?;
    Some(CallbackUrls::new(|_, effect| effect.to_owned()))
}

/// Appends what the gateway would, when a provider calls.
pub(crate) fn call_back(world: &World, partitions: u32, effect: &str, job: &str) {
    let token: Token = effect.parse().expect("a token of ours");
    let conversation_id = token.key.conversation;
    let key = Bytes::copy_from_slice(conversation_id.as_bytes());
    let partition = Partition(partition_for(&key, partitions));
    let record = Record::Callback(Callback {
        conversation_id,
        event_id: format!("callback-{job}"),
        occurred_at: world.now().0,
        journal_key: effect.to_owned(),
        provider: NAME.to_owned(),
        job_id: job.to_owned(),
        body: Vec::new(),
        ..Callback::default()
    });
    let to = TopicPartition { topic: Topic::Callbacks, partition };
    world.produce(&Outgoing { to, key: Some(key), value: Some(encode(&record)), headers: Vec::new() });
}

fn heard(audio: &str, request: &SpeechRequest, answer: &Answer) -> SpeechReply {
    SpeechReply {
        words: words(answer, request),
        text: match answer {
            Answer::Long => "l".repeat(1_000_000),
            Answer::Says(text) => text.clone(),
            _ => format!("said in {audio}"),
        },
        model: "one".to_owned(),
        language: Some("en".to_owned()),
        audio_ms: request.end_ms - request.start_ms,
        ..SpeechReply::default()
    }
}

/// The words of a text that somebody says, a tenth of a second each.
fn words(answer: &Answer, request: &SpeechRequest) -> Vec<Word> {
    let Answer::Says(text) = answer else { return Vec::new() };
    let timed = text.split(' ').zip((request.start_ms..).step_by(100));
    let word = |(text, start_ms): (&str, i64)| Word {
        text: text.to_owned(),
        start_ms,
        end_ms: start_ms + 100,
        ..Word::default()
    };
    timed.map(word).collect()
}

impl Fakes {
    /// Takes a job, and calls back when it has ended.
    fn begin_job(&self, audio: &str, job: &Answer, request: &SpeechRequest) -> String {
        let Answer::Job { takes, failure, .. } = job else { unreachable!("it is asked of jobs alone") };
        let (world, began) = (self.process.world(), self.process.world_now());
        let ends = takes.map(|takes| began + takes);
        let mut ledger = self.ledger.open();
        let id = format!("job-{}", ledger.manner.jobs.len());
        let callback = request.callback.clone();
        let delays = ledger.manner.calls_back.clone().unwrap_or_default();
        let told =
            Job { audio: audio.to_owned(), began, ends, failure: *failure, callback: callback.clone() };
        ledger.manner.jobs.insert(id.clone(), told);
        drop(ledger);
        if let (Some(ends), Some(effect)) = (ends, callback) {
            for delay in delays {
                let provider = world.boot("provider");
                let (clock, partitions) = (provider.ports().clock, provider.ports().log.partitions());
                let (world, effect, id) = (world.clone(), effect.clone(), id.clone());
                let call = async move {
                    clock.sleep_until(ends + delay).await;
                    call_back(&world, partitions, &effect, &id);
                };
                self.process.world().spawn(provider.id, Box::pin(call));
            }
        }
        id
    }

    /// What is said when nothing was told for a segment: in a history some are jobs.
    fn usual(&self, name: &str) -> Answer {
        let drawn = hash(name);
        match self.ledger.open().manner.by_name && drawn[0].is_multiple_of(3) {
            true => Answer::Job {
                takes: Some(LENGTHS[usize::from(drawn[1]) % LENGTHS.len()]),
                failure: None,
                silent: false,
            },
            false => Answer::Ok,
        }
    }
}

/// The job of which nothing readable is told.
const GARBLED: &str = "garbled";

#[async_trait]
impl Speech for Fakes {
    async fn submit(&self, request: &SpeechRequest, permit: &Permit<'_>) -> Result<Submitted, Failed> {
        permit.turn().await;
        let audio = String::from_utf8_lossy(&request.audio.bytes().await?).into_owned();
        let name = audio.split(' ').next().unwrap_or_default();
        let now = self.process.world_now();
        let (call, answer) = self.ledger.begin(name, &request.idempotency_key, now);
        let answer = if answer == Answer::Ok { self.usual(name) } else { answer };
        let called = self.process.call("speech.call", |_| ()).await;
        let answer = match (answer, called) {
            (Answer::Hang, _) => std::future::pending().await,
            (Answer::Fail { class, code, retry_after_s }, _) => Err(Failed {
                retry_after: retry_after_s.map(Duration::from_secs),
                ..Failed::new(class, code, "as told")
            }),
            (Answer::Refuses(cause), _) => Err(Failed::new(Class::Permanent, "http_400", cause)),
            (_, Err(_)) => Err(refused("http_500")),
            (job @ Answer::Job { silent, .. }, Ok(())) => {
                let id = self.begin_job(&audio, &job, request);
                let answered = if silent {
                    std::future::pending().await
                } else {
                    self.process.call("speech.taken", |_| ()).await
                };
                answered.map(|()| Submitted::Job(id)).map_err(|_| refused("http_500"))
            }
            (Answer::Garbled, Ok(())) => Ok(Submitted::Job(GARBLED.to_owned())),
            (Answer::Misnamed, Ok(())) => Ok(Submitted::Job("nobodys".to_owned())),
            (well, Ok(())) => Ok(Submitted::Reply(heard(&audio, request, &well))),
        };
        self.ledger.end(call, self.process.world_now(), answer.is_ok());
        answer
    }

    async fn check(
        &self,
        job: &str,
        request: &SpeechRequest,
        permit: &Permit<'_>,
    ) -> Result<JobState, Failed> {
        permit.turn().await;
        let asked = self.process.call("speech.check", |now| now).await;
        let now = asked.map_err(|_| refused("http_500"))?;
        let mut ledger = self.ledger.open();
        ledger.manner.checks += 1;
        if job == GARBLED {
            return Err(refused("http_500"));
        }
        let Some(job) = ledger.manner.jobs.get(job) else {
            return Err(Failed::new(Class::Permanent, "http_400", "there is no such job"));
        };
        if job.ends.is_none_or(|ends| now < ends) {
            return Ok(JobState::UnderWay);
        }
        Ok(match job.failure {
            Some((class, code)) => JobState::Ended(Failed::new(class, code, "as told")),
            None => JobState::Done(heard(&job.audio, request, &Answer::Ok)),
        })
    }

    async fn find(
        &self,
        request: &SpeechRequest,
        since: Timestamp,
        permit: &Permit<'_>,
    ) -> Result<Option<String>, Failed> {
        permit.turn().await;
        let asked = self.process.call("speech.find", |_| ()).await;
        asked.map_err(|_| refused("http_500"))?;
        let audio = String::from_utf8_lossy(&request.audio.bytes().await?).into_owned();
        let ledger = self.ledger.open();
        if ledger.manner.unlisted {
            return Ok(None);
        }
        let mut listed = ledger.manner.jobs.iter();
        let found = listed.find(|(_, job)| job.audio == audio && job.began >= since);
        Ok(found.map(|(id, _)| id.clone()))
    }

    async fn forget(&self, job: &str, permit: &Permit<'_>) -> Result<(), Failed> {
        permit.turn().await;
        let name = format!("forget/{job}");
        let (call, answer) = self.ledger.begin(&name, "", self.process.world_now());
        let called = self.process.call("speech.forget", |_| ()).await;
        let answer = match (answer, called) {
            (Answer::Ok, Ok(())) => Ok(()),
            _ => Err(refused("http_500")),
        };
        if answer.is_ok() {
            self.ledger.open().manner.forgotten.insert(job.to_owned());
        }
        self.ledger.end(call, self.process.world_now(), answer.is_ok());
        answer
    }

    async fn probe(&self, permit: &Permit<'_>) -> Result<(), Failed> {
        permit.turn().await;
        self.process.call("speech.probe", |_| ()).await.map_err(|_| refused("http_500"))
    }
}

/// Another provider, which answers everything at once; its calls are those of the conversation `second`.
struct Second(Fakes);

#[async_trait]
impl Speech for Second {
    async fn submit(&self, request: &SpeechRequest, permit: &Permit<'_>) -> Result<Submitted, Failed> {
        permit.turn().await;
        let audio = String::from_utf8_lossy(&request.audio.bytes().await?).into_owned();
        let now = self.0.process.world_now();
        let name = format!("second/{}", audio.split(' ').next().unwrap_or_default());
        let (call, _) = self.0.ledger.begin(&name, &request.idempotency_key, now);
        self.0.ledger.end(call, now, true);
        Ok(Submitted::Reply(heard(&audio, request, &Answer::Ok)))
    }

    async fn probe(&self, _: &Permit<'_>) -> Result<(), Failed> {
        Ok(())
    }
}

#[async_trait]
impl Links for Fakes {
    async fn link(&self, object: &ObjectName) -> Result<String, Failed> {
        Ok(format!("https://objects/{}", object.key))
    }
}
