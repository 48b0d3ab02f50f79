//! The calls over real HTTP, against the embedded engine and the embedded object server.

mod access;
mod callback;
mod events;
mod ingest;
mod operators;
mod parts;
mod reading;
mod results;
mod sweep;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use hansard_core::id::{Millis, Offset, Partition, Timestamp};
use hansard_core::redelivery::Class;
use hansard_embedded::Engine;
use hansard_jobs::effects::Storage;
use hansard_jobs::ports::{Speech, SpeechRequest, Submitted};
use hansard_jobs::providers::{Provider, ProviderMetrics, Providers};
use hansard_jobs::sweep::{Reach, Sweep, SweepConfig, SweepError, SweepMetrics};
use hansard_runtime::metrics::Families;
use hansard_runtime::pace::{Pace, PaceLimits, Permit};
use hansard_runtime::ports::clock::{Clock, Entropy};
use hansard_runtime::ports::facts::{Erasure, Facts, Row};
use hansard_runtime::ports::log::{Committed, Event, Group, Outgoing, TopicPartition, Transaction};
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::ports::{PortError, Ports};
use hansard_runtime::stage::Failed;
use hansard_s3::{ObjectServer, S3Config, S3Objects, SignedRequest};
use hansard_schemas::{Framing, Record, Stage, Topic, decode, encode, partition_for, topic_of};
use prometheus::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{Config, Gateway, Link, PartLink, Presign, Problem, SigningKey, Surface, Sweeper, Wanted};

const BUCKET: &str = "hansard";

/// The system's time, moved ahead where a test says so. The gateway never sleeps, so nothing ever wakes.
#[derive(Default)]
struct Moving(AtomicI64);

impl Moving {
    fn ahead(&self, by: Millis) {
        self.0.store(by.0, Ordering::SeqCst);
    }
}

impl Clock for Moving {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let now = i64::try_from(since.as_millis()).expect("before the year 292 million");
        Timestamp(now + self.0.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

struct Random;

impl Entropy for Random {
    fn id(&self) -> [u8; 16] {
        uuid::Uuid::new_v4().into_bytes()
    }
}

/// The S3 connector's links as the gateway's port, as the program wires them.
struct Links(S3Objects);

fn link(request: SignedRequest) -> Link {
    Link { method: request.method, url: request.url, headers: request.headers.into_iter().collect() }
}

#[async_trait]
impl Presign for Links {
    async fn put(&self, wanted: &Wanted, lifetime: Duration) -> Result<Link, PortError> {
        let Wanted { name, content_type, bytes, sha256 } = wanted;
        self.0.presign_put(name, content_type, *bytes, sha256.as_deref(), lifetime).await.map(link)
    }

    async fn begin_parts(
        &self,
        wanted: &Wanted,
        part_bytes: u64,
        lifetime: Duration,
    ) -> Result<(String, Vec<PartLink>), PortError> {
        let Wanted { name, content_type, bytes, .. } = wanted;
        let begun = self.0.presign_multipart(name, content_type, *bytes, part_bytes, lifetime).await?;
        let parts = begun.parts.into_iter().map(|part| PartLink {
            number: part.number,
            bytes: part.bytes,
            link: link(part.request),
        });
        Ok((begun.upload_id, parts.collect()))
    }

    async fn join_parts(
        &self,
        name: &ObjectName,
        upload_id: &str,
        parts: &[(i32, String)],
    ) -> Result<(), PortError> {
        self.0.complete_multipart(name, upload_id, parts).await.map(|_| ())
    }

    async fn get(&self, name: &ObjectName, file_name: &str, lifetime: Duration) -> Result<Link, PortError> {
        self.0.presign_get(name, Some(file_name), lifetime).await.map(link)
    }
}

/// The job sweep as it ships, as the program wires it.
struct Job(Sweep);

#[async_trait]
impl Sweeper for Job {
    async fn sweep(&self, dry_run: bool) -> Result<Value, Problem> {
        let report = self.0.run(dry_run).await.map_err(|error| match error {
            SweepError::Port(error) => Problem::from(error),
            SweepError::Log(error) => Problem::from(error),
        })?;
        Ok(serde_json::to_value(report).expect("a report is JSON"))
    }
}

/// No segment comes here, and nothing is kept.
struct Deaf;

#[async_trait]
impl Speech for Deaf {
    async fn submit(&self, _: &SpeechRequest, _: &Permit<'_>) -> Result<Submitted, Failed> {
        Err(Failed::new(Class::Defect, "deaf", "nothing is transcribed here"))
    }

    async fn probe(&self, _: &Permit<'_>) -> Result<(), Failed> {
        Ok(())
    }
}

fn deaf(ports: &Ports, registry: &Registry) -> Arc<Providers> {
    let clock = Arc::clone(&ports.clock);
    let pace = Pace::new(PaceLimits { per_second: 1.0, at_once: 1 }, Arc::clone(&clock));
    let (deadline, give_up_after) = (Millis::minutes(1), Millis::ZERO);
    let deaf = Provider { speech: Arc::new(Deaf), pace, deadline, give_up_after, price: None, budget: None };
    let (by_name, order) = (BTreeMap::from([("deaf".to_owned(), deaf)]), vec!["deaf".to_owned()]);
    let metrics = ProviderMetrics::register(registry).expect("a fresh registry");
    Arc::new(Providers::new(by_name, order, Millis::minutes(1), clock, metrics))
}

/// A gateway on a free port, and what stands behind it.
struct Fixture {
    base: String,
    /// The same gateway on a listener of each other surface.
    public: String,
    probes: String,
    http: reqwest::Client,
    ports: Ports,
    clock: Arc<Moving>,
    serving: Vec<tokio::task::JoinHandle<()>>,
    _engine: Engine,
    _server: ObjectServer,
    _directory: TempDir,
}

/// Serves a surface of the gateway; its address.
async fn serve(
    gateway: &Arc<Gateway>,
    surface: Surface,
    serving: &mut Vec<tokio::task::JoinHandle<()>>,
) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let router = gateway.router(surface);
    serving.push(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            panic!("the gateway stopped: {error}");
        }
    }));
    address
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.serving.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// An answer, read.
#[derive(Debug)]
struct Answered {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }

    /// The status and the stable code of a problem.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        let body = self.json();
        assert_eq!(body["status"], self.status);
        (self.status, body["code"].as_str().expect("a code").to_owned())
    }

    #[track_caller]
    fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.problem(), (status, code.to_owned()), "{}", self.text);
    }

    #[track_caller]
    fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

async fn fixture() -> Fixture {
    Fixture::with(|_, _| {}).await
}

impl Fixture {
    async fn with(change: impl FnOnce(&mut Config, &mut Ports)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let server =
            ObjectServer::start(&directory.path().join("objects"), BUCKET, listener).await.expect("serves");
        let s3 = S3Config::at(format!("http://{}", server.address()), server.credentials().clone());
        let objects = S3Objects::new(&s3);
        let config = hansard_embedded::Config { partitions: 2, reserve_bytes: 0, ..Default::default() };
        let engine = Engine::open(&directory.path().join("engine"), config).expect("opens");
        let clock = Arc::new(Moving::default());
        let mut ports = Ports {
            log: engine.log(),
            facts: engine.facts(),
            windows: engine.windows(),
            journal: engine.journal(),
            dead_letters: engine.dead_letters(),
            objects: Arc::new(objects.clone()),
            clock: clock.clone(),
            entropy: Arc::new(Random),
            framing: Arc::new(Framing::SingleObject),
            schemas: None,
            traces: None,
        };
        let mut config = Config::new(BUCKET, SigningKey::new([3; 32]));
        change(&mut config, &mut ports);
        let registry = Registry::new();
        let families = Families::register(&registry).expect("a fresh registry");
        let metrics = SweepMetrics::register(&registry).expect("a fresh registry");
        let part_uploads = Arc::new(objects.clone());
        let reach = Reach { erasures: engine.erasures(), part_uploads, providers: deaf(&ports, &registry) };
        let storage = Arc::new(Storage::new(BUCKET));
        // Time stands still here, so that a run does not wait for aggregate.
        let sweep = SweepConfig { read_within: Millis::ZERO, ..SweepConfig::default() };
        let job = Sweep::new(ports.clone(), reach, storage, sweep, metrics);
        let presign = Arc::new(Links(objects));
        let gateway = Gateway::new(ports.clone(), presign, Arc::new(Job(job)), families, config);
        let gateway = gateway.expect("a fresh registry");
        let (gateway, mut serving) = (Arc::new(gateway), Vec::new());
        let base = serve(&gateway, Surface::Everything, &mut serving).await;
        let public = serve(&gateway, Surface::Public, &mut serving).await;
        let probes = serve(&gateway, Surface::Probes, &mut serving).await;
        let http =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        Self {
            base,
            public,
            probes,
            http,
            ports,
            clock,
            serving,
            _engine: engine,
            _server: server,
            _directory: directory,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answered {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answered { status, headers, text: response.text().await.expect("a body") }
    }

    async fn get(&self, path: &str) -> Answered {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }

    async fn post(&self, path: &str, body: Value) -> Answered {
        self.send(self.http.post(format!("{}{path}", self.base)).json(&body)).await
    }

    /// As [`Self::post`], by the holder of a key or token.
    async fn post_as(&self, bearer: &str, path: &str, body: Value) -> Answered {
        self.send(self.http.post(format!("{}{path}", self.base)).bearer_auth(bearer).json(&body)).await
    }

    /// Opens a conversation and gives its upload token.
    async fn open(&self, id: &str) -> String {
        let opened = self.post("/v1/conversations", json!({ "id": id })).await.ok(201);
        opened["upload_token"].as_str().expect("a token").to_owned()
    }

    /// Uploads bytes by a link.
    async fn put(&self, link: &Value, body: Bytes) -> Answered {
        let mut request = self.http.put(link["url"].as_str().expect("a url"));
        for (name, value) in link["headers"].as_object().expect("headers") {
            if name != "content-length" {
                request = request.header(name, value.as_str().expect("text"));
            }
        }
        self.send(request.body(body)).await
    }

    /// Declares, uploads and confirms a chunk.
    async fn chunk(&self, token: &str, id: &str, chunk: &str) -> Value {
        let declared =
            json!({ "chunk_id": chunk, "content_type": "audio/ogg", "bytes": 5, "recorded_at": 1_000 });
        let chunks = format!("/v1/conversations/{id}/chunks");
        let invitation = self.post_as(token, &chunks, declared).await.ok(201);
        assert_eq!(self.put(&invitation["put"], Bytes::from_static(b"audio")).await.status, 200);
        let confirm = format!("{chunks}/{chunk}/confirm");
        self.post_as(token, &confirm, json!({ "upload": invitation["upload"] })).await.ok(202)
    }

    fn place(&self, topic: Topic, id: &str) -> TopicPartition {
        let partition = partition_for(id.as_bytes(), self.ports.log.partitions());
        TopicPartition { topic, partition: Partition(partition) }
    }

    /// The conversation's records in a topic, with their offsets.
    async fn records(&self, topic: Topic, id: &str) -> Vec<(Offset, Timestamp, Record)> {
        let mut found = Vec::new();
        let place = self.place(topic, id);
        let mut from = Offset(0);
        let end = self.ports.log.ends(&[place]).await.expect("ends")[0].end;
        while from < end {
            let fetched = self.ports.log.read(place, from, 1 << 20, Duration::ZERO).await.expect("reads");
            from = fetched.position;
            for record in fetched.records {
                if record.key.as_deref() == Some(id.as_bytes()) {
                    let value = decode(record.value.as_ref().expect("a value")).expect("a record");
                    found.push((record.offset, record.time, value));
                }
            }
        }
        found
    }

    /// Appends what a stage would.
    async fn emit(&self, record: impl Into<Record>) -> Offset {
        let record = record.into();
        let outgoing = Outgoing {
            to: self.place(topic_of(record.name()), record.conversation_id()),
            key: Some(Bytes::from(record.conversation_id().to_owned())),
            value: Some(encode(&record)),
            headers: Vec::new(),
        };
        self.ports.log.append(vec![outgoing]).await.expect("appends")[0]
    }

    /// Commits that aggregate has read everything, as it does once it has written the rows.
    async fn read_by_aggregate(&self) {
        let topics = Stage::Aggregate.reads();
        let group = Group { name: "aggregate".to_owned(), instance: "test".to_owned(), topics };
        let mut member = self.ports.log.join(group).await.expect("joined");
        let Event::Assigned(assignment) = member.next().await.expect("an event") else {
            panic!("something came before an assignment")
        };
        let of: Vec<TopicPartition> = assignment.partitions.iter().map(|line| line.from).collect();
        let ends = self.ports.log.ends(&of).await.expect("ends");
        let line = |(from, range): (&TopicPartition, std::ops::Range<Offset>)| Committed {
            from: *from,
            offset: range.end,
            metadata: String::new(),
        };
        let offsets = of.iter().zip(ends).map(line).collect();
        let transaction = Transaction { epoch: assignment.epoch, records: Vec::new(), offsets };
        member.transact(transaction).await.expect("committed");
        member.leave().await;
    }

    /// Writes the rows of everything in the log about the conversation, as aggregate does.
    async fn absorb(&self, id: &str) {
        let topics = [
            Topic::Uploads,
            Topic::Splits,
            Topic::Transcripts,
            Topic::Failures,
            Topic::Finalizes,
            Topic::Merges,
            Topic::Summaries,
        ];
        for topic in topics {
            for (offset, time, record) in self.records(topic, id).await {
                if let Record::Erase(erase) = &record {
                    let marker = Erasure { time, reason: erase.reason.clone().unwrap_or_default() };
                    self.ports.facts.erase(id, marker).await.expect("erases");
                    return;
                }
                self.ports
                    .facts
                    .write(&[Row { offset, time, record: Box::new(record) }])
                    .await
                    .expect("writes");
            }
        }
    }
}

/// A database that is down.
struct Down;

fn down<T>() -> Result<T, PortError> {
    Err(PortError::Unavailable { service: "cql", cause: "refused".to_owned() })
}

#[async_trait]
impl Facts for Down {
    async fn write(&self, _: &[Row]) -> Result<(), PortError> {
        down()
    }
    async fn read(&self, _: &str) -> Result<Vec<Row>, PortError> {
        down()
    }
    async fn texts(
        &self,
        _: &str,
        _: &[hansard_runtime::ports::facts::TextKey],
    ) -> Result<Vec<Option<hansard_schemas::Transcript>>, PortError> {
        down()
    }
    async fn conversations(
        &self,
        _: Option<Bytes>,
        _: usize,
    ) -> Result<(Vec<String>, Option<Bytes>), PortError> {
        down()
    }
    async fn erase(&self, _: &str, _: Erasure) -> Result<(), PortError> {
        down()
    }
    async fn erasure(&self, _: &str) -> Result<Option<Erasure>, PortError> {
        down()
    }
}
