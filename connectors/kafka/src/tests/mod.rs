//! Tests against a real broker, whose address is in `HANSARD_TEST_KAFKA`.

mod contract;
mod faults;
mod parts;
mod progress;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hansard_contract::log::{Harness, TOPICS};
use hansard_core::id::Partition;
use hansard_runtime::ports::log::{Log, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::{KafkaConfig, KafkaLog};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A deployment with topics of its own on the shared broker.
pub(crate) struct Deployment {
    pub(crate) config: KafkaConfig,
    pub(crate) log: Arc<KafkaLog>,
}

pub(crate) fn brokers() -> String {
    std::env::var("HANSARD_TEST_KAFKA").expect("HANSARD_TEST_KAFKA is not set; tests/run starts the services")
}

/// A prefix that nobody has used on this broker.
fn prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    format!("t{}-{}-{}.", std::process::id(), now.as_nanos(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Deployment {
    pub(crate) async fn new(partitions: u32) -> Self {
        let mut config = KafkaConfig::new(brokers(), prefix(), partitions);
        config.release_within = Duration::from_millis(1500);
        config.transaction_timeout = Duration::from_secs(5);
        // The least that a broker allows by default.
        config.overrides = BTreeMap::from([("consumer.session.timeout.ms".to_owned(), "6000".to_owned())]);
        Self::with(config).await
    }

    pub(crate) async fn with(config: KafkaConfig) -> Self {
        let names: Vec<String> = TOPICS.iter().map(|topic| format!("{}{topic}", config.prefix)).collect();
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &config.brokers).create().expect("an admin client");
        let partitions = i32::try_from(config.partitions).expect("few partitions");
        let topics = names.iter().map(|name| {
            NewTopic::new(name, partitions, TopicReplication::Fixed(1))
                .set("message.timestamp.type", "LogAppendTime")
        });
        let made = admin.create_topics(topics.collect::<Vec<_>>().iter(), &AdminOptions::new()).await;
        for result in made.expect("topics") {
            result.expect("a topic");
        }
        let log = Arc::new(KafkaLog::new(config.clone()).expect("a log"));
        // The broker answers before it has told itself of new topics.
        let everything: Vec<TopicPartition> = TOPICS
            .into_iter()
            .flat_map(|topic| (0..partitions).map(move |partition| (topic, partition)))
            .map(|(topic, partition)| TopicPartition { topic, partition: Partition(partition) })
            .collect();
        let known = async { while log.ends(&everything).await.is_err() {} };
        tokio::time::timeout(PATIENCE, known).await.expect("the topics are known in time");
        Self { config, log }
    }

    /// A transactional producer that is none of the connector's.
    pub(crate) fn stranger(&self, id: &str) -> BaseProducer {
        let id = format!("{}{id}", self.config.prefix);
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.config.brokers)
            .set("transactional.id", id)
            .create()
            .expect("a producer");
        producer.init_transactions(PATIENCE).expect("initialised");
        producer.begin_transaction().expect("begun");
        producer
    }

    /// Leaves one record in an open transaction.
    pub(crate) fn open_record(&self, producer: &BaseProducer, to: TopicPartition) {
        let topic = format!("{}{}", self.config.prefix, to.topic);
        let record = BaseRecord::to(&topic).partition(to.partition.0).key("k").payload("open");
        producer.send(record).map_err(|(error, _)| error).expect("sent");
        producer.flush(PATIENCE).expect("flushed");
    }
}

#[async_trait]
impl Harness for Deployment {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }

    async fn abort(&self, to: TopicPartition) {
        let producer = self.stranger("stranger");
        self.open_record(&producer, to);
        producer.abort_transaction(PATIENCE).expect("aborted");
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}
