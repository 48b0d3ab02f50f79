//! Whose fault it is when a provider does not answer, what is asked instead, and what an answer costs.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use hansard_runtime::pace::{PaceLimits, Permit};

use super::*;
use crate::ports::SegmentAudio;

/// Time that moves when somebody waits for it, and nothing else is left to be done.
#[derive(Default)]
struct Jumping(Arc<Mutex<i64>>);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        Timestamp(*self.0.lock().expect("no test panics in here"))
    }

    fn sleep_until(&self, until: Timestamp) -> BoxFuture<'static, ()> {
        let now = Arc::clone(&self.0);
        async move { *now.lock().expect("no test panics in here") = until.0 }.boxed()
    }
}

struct Silence;

#[async_trait]
impl SegmentAudio for Silence {
    async fn bytes(&self) -> Result<Bytes, Failed> {
        Ok(Bytes::new())
    }

    async fn link(&self) -> Result<String, Failed> {
        Ok("https://objects/silence".to_owned())
    }
}

/// Refuses every call in one class, or never answers; and answers probes or does not.
struct Refusing {
    class: Option<Class>,
    answers_probes: bool,
    retry_after: Option<Duration>,
}

#[async_trait]
impl Speech for Refusing {
    async fn submit(&self, _: &SpeechRequest, _: &Permit<'_>) -> Result<Submitted, Failed> {
        let Some(class) = self.class else { return std::future::pending().await };
        let retry_after = self.retry_after;
        Err(Failed { retry_after, http_status: Some(500), ..Failed::new(class, "refused", "refused") })
    }

    async fn probe(&self, _: &Permit<'_>) -> Result<(), Failed> {
        match self.answers_probes {
            true => Ok(()),
            false => std::future::pending().await,
        }
    }
}

/// Answers with a job of this id, and tells of it.
struct Jobs(&'static str);

#[async_trait]
impl Speech for Jobs {
    async fn submit(&self, _: &SpeechRequest, _: &Permit<'_>) -> Result<Submitted, Failed> {
        Ok(Submitted::Job(self.0.to_owned()))
    }

    async fn probe(&self, _: &Permit<'_>) -> Result<(), Failed> {
        Ok(())
    }

    fn told(&self, _: &[u8]) -> Option<String> {
        Some(self.0.to_owned())
    }
}

fn of(speakers: Vec<(&str, Arc<dyn Speech>)>, order: &[&str]) -> Providers {
    let clock: Arc<dyn Clock> = Arc::new(Jumping::default());
    let named = speakers.into_iter().map(|(name, speech)| {
        let pace = Pace::new(PaceLimits { per_second: 1_000.0, at_once: 9 }, Arc::clone(&clock));
        let price = Some(Price { micros_per_hour: 360_000, currency: "EUR".to_owned() });
        let (deadline, give_up_after) = (Millis::minutes(30), Millis::hours(12));
        (name.to_owned(), Provider { speech, pace, deadline, give_up_after, price, budget: None })
    });
    let metrics = ProviderMetrics::register(&Registry::new()).expect("a fresh registry");
    let order = order.iter().map(|name| (*name).to_owned()).collect();
    Providers::new(named.collect(), order, Millis::minutes(2), Arc::clone(&clock), metrics)
}

fn request() -> SpeechRequest {
    SpeechRequest {
        audio: Arc::new(Silence),
        start_ms: 0,
        end_ms: 1_000,
        options: Options::default(),
        redact: false,
        idempotency_key: String::new(),
        callback: None,
    }
}

#[test]
fn what_a_conversation_leaves_open_is_the_deployments() {
    let text = |text: &str| Some(text.to_owned());
    let defaults = Options {
        language: text("de"),
        diarize: Some(true),
        keyterms: vec!["Wörth".to_owned()],
        // These have settings of their own.
        provider: text("two"),
        model: text("large"),
        redact_pii: Some(true),
    };
    let providers = of(vec![("one", Arc::new(Jobs("1")))], &["one"]).with_defaults(defaults.clone());
    let open = Options { provider: None, model: None, redact_pii: None, ..defaults };
    assert_eq!(providers.completed(&Options { provider: text("one"), ..Options::default() }), open);
    let own = Options {
        language: text("fr"),
        diarize: Some(false),
        keyterms: vec!["Loire".to_owned()],
        provider: text("two"),
        model: text("small"),
        redact_pii: Some(false),
    };
    assert_eq!(providers.completed(&own), own);
}

async fn submitted(speech: impl Speech + 'static) -> Result<Submitted, Failed> {
    let providers = of(vec![("one", Arc::new(speech))], &["one"]);
    let named = providers.named("one")?;
    let permit = named.provider.pace.permit().await;
    named.submit(&request(), &permit).await
}

#[tokio::test]
async fn a_failure_is_the_providers_where_a_probe_fails_too() {
    use Class::{Permanent, Transient, Unavailable};
    let table = [
        (Transient, true, None, Transient),
        (Transient, false, None, Unavailable),
        // Who asks for time has answered.
        (Transient, false, Some(7), Transient),
        (Permanent, false, None, Permanent),
        (Unavailable, true, None, Unavailable),
    ];
    for (class, answers_probes, wait_s, told) in table {
        let retry_after = wait_s.map(Duration::from_secs);
        let refusing = Refusing { class: Some(class), answers_probes, retry_after };
        let failed = submitted(refusing).await.expect_err("it refuses");
        assert_eq!(failed.class, told, "{class:?}, probes answered: {answers_probes}");
        assert_eq!((failed.http_status, failed.retry_after), (Some(500), retry_after));
        assert_eq!(failed.provider.as_deref(), Some("one"));
    }
}

#[tokio::test]
async fn a_provider_that_never_answers_is_told_within_the_jobs_bound() {
    for (answers_probes, class, by) in
        [(true, Class::Transient, 90_000), (false, Class::Unavailable, 105_000)]
    {
        let silent = Arc::new(Refusing { class: None, answers_probes, retry_after: None });
        let providers = of(vec![("one", silent)], &["one"]);
        let named = providers.named("one").expect("it is there");
        let permit = named.provider.pace.permit().await;
        let failed = named.submit(&request(), &permit).await;
        let failed = failed.expect_err("nobody answers");
        assert_eq!((failed.class, failed.code), (class, "timeout"), "{failed}");
        // Of two minutes, and a probe takes an eighth of them.
        assert_eq!(providers.asking.clock.now(), Timestamp(by));
    }
}

#[tokio::test]
async fn a_job_without_an_id_of_use_is_a_bad_response() {
    let long: &'static str = Box::leak("j".repeat(JOB_BYTES_MAX + 1).into_boxed_str());
    for id in ["", "a/b", "../x", "a b", "ä", long] {
        let failed = submitted(Jobs(id)).await.expect_err(id);
        assert_eq!((failed.class, failed.code), (Class::Transient, "bad_response"), "{id:?}");
        let providers = of(vec![("one", Arc::new(Jobs(id)))], &["one"]);
        assert_eq!(providers.told("one", b""), None, "{id:?}");
    }
    assert_eq!(submitted(Jobs(&long[1..])).await, Ok(Submitted::Job(long[1..].to_owned())));
    let providers = of(vec![("one", Arc::new(Jobs("j-1")))], &["one"]);
    assert_eq!(providers.told("one", b"").as_deref(), Some("j-1"));
    assert_eq!(providers.told("two", b""), None);
}

#[test]
fn a_conversation_that_names_a_provider_gets_that_one_alone() {
    let speakers: Vec<(&str, Arc<dyn Speech>)> =
        ["one", "two", "three"].map(|name| (name, Arc::new(Jobs("j")) as Arc<dyn Speech>)).into();
    let providers = of(speakers, &["one", "two"]);
    let chain = |wanted: Option<&str>| {
        let options = Options { provider: wanted.map(str::to_owned), ..Options::default() };
        providers.chain(&options).map(|chain| chain.into_iter().map(|named| named.name).collect::<Vec<_>>())
    };
    assert_eq!(chain(None), Ok(vec!["one", "two"]));
    assert_eq!(chain(Some("one")), Ok(vec!["one", "two"]), "as everybody");
    assert_eq!(chain(Some("three")), Ok(vec!["three"]));
    let failed = chain(Some("four")).expect_err("there is none");
    assert_eq!((failed.class, failed.code), (Class::Permanent, "unknown_provider"));
    assert!(failed.cause.contains("one, three, two"), "{failed}");
}

#[test]
fn an_hour_costs_its_price() {
    let providers = of(vec![("one", Arc::new(Jobs("j")))], &["one"]);
    let named = providers.named("one").expect("it is there");
    let cost = |audio_ms| named.cost(&SpeechReply { audio_ms, ..SpeechReply::default() });
    assert_eq!(cost(3_600_000), Some((360_000, "EUR")));
    assert_eq!((cost(10_000), cost(0), cost(-5)), (Some((1_000, "EUR")), Some((0, "EUR")), Some((0, "EUR"))));
}
