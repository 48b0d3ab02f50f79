//! Where partitions begin and end, by a client that reads uncommitted: to one that reads committed, the end of a
//! partition with an open transaction is where that transaction began.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hansard_core::id::Offset;
use hansard_runtime::ports::log::{LogError, TopicPartition};
use hansard_schemas::Topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::client::{Reporting, explain, metadata};
use crate::config::{ConfigError, KafkaConfig};
use crate::convert::{Names, partition_error, unavailable};

/// The wait before a question is asked again.
const AGAIN: Duration = Duration::from_millis(100);

pub(crate) struct Watermarks {
    client: BaseConsumer<Reporting>,
    config: KafkaConfig,
}

impl Watermarks {
    pub(crate) fn new(config: &KafkaConfig) -> Result<Self, ConfigError> {
        let client = config
            .watermarks()
            .create_with_context(Reporting::default())
            .map_err(|error| ConfigError::Client { cause: error.to_string() })?;
        Ok(Self { client, config: config.clone() })
    }

    /// The first offset that each partition still holds. Blocks; one request a broker.
    pub(crate) fn beginnings(&self, of: &[TopicPartition]) -> Result<Vec<Offset>, LogError> {
        self.ask(of, KafkaOffset::Beginning)
    }

    /// The high watermark of each partition. Blocks; one request a broker.
    pub(crate) fn ends(&self, of: &[TopicPartition]) -> Result<Vec<Offset>, LogError> {
        self.ask(of, KafkaOffset::End)
    }

    /// The last stable offset of each partition, before which every transaction has ended. Blocks; on a connection of its
    /// own, since it is rarely asked.
    pub(crate) fn stable_ends(&self, of: &[TopicPartition]) -> Result<Vec<Offset>, LogError> {
        let client: BaseConsumer<Reporting> = self
            .config
            .reader()
            .create_with_context(Reporting::default())
            .map_err(|error| unavailable(&error))?;
        self.ask_once(&client, of, KafkaOffset::End)
    }

    /// What a group has committed, asked for as one of its own would, but without joining it; where it has committed
    /// nothing, where the partition begins. Blocks; one request, on a connection of its own, since it is rarely asked.
    pub(crate) fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Offset>, LogError> {
        let begin = self.beginnings(of)?;
        if of.is_empty() {
            return Ok(begin);
        }
        let names = self.names(of);
        let client: BaseConsumer<Reporting> = self
            .config
            .member(group, None)
            .create_with_context(Reporting::default())
            .map_err(|error| unavailable(&error))?;
        let asked = names.list(of.iter().map(|at| (*at, KafkaOffset::Invalid)));
        let answer = client
            .committed_offsets(asked, self.config.request_timeout)
            .map_err(|error| unavailable(&error))?;
        let found = offsets(&names, &answer)?;
        let committed = of.iter().zip(begin);
        Ok(committed.map(|(at, begin)| found.get(at).copied().unwrap_or(begin)).collect())
    }

    fn names(&self, of: &[TopicPartition]) -> Names {
        let mut topics: Vec<Topic> = of.iter().map(|at| at.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        Names::new(&self.config.prefix, &topics)
    }

    fn ask(&self, of: &[TopicPartition], which: KafkaOffset) -> Result<Vec<Offset>, LogError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        // Serves the client's own events, which nobody else polls for.
        drop(self.client.poll(Duration::ZERO));
        let until = Instant::now() + self.config.request_timeout;
        loop {
            match self.ask_once(&self.client, of, which) {
                // A leader that has just changed is found by asking again.
                Err(LogError::Unavailable { cause }) if Instant::now() < until => {
                    tracing::debug!(cause, "asking again");
                    std::thread::sleep(AGAIN);
                }
                result => return result,
            }
        }
    }

    fn ask_once(
        &self,
        client: &BaseConsumer<Reporting>,
        of: &[TopicPartition],
        which: KafkaOffset,
    ) -> Result<Vec<Offset>, LogError> {
        let names = self.names(of);
        // `offsets_for_times` takes the beginning and the end for times, and asks each broker once for all its own.
        let asked = names.list(of.iter().map(|at| (*at, which)));
        let answer = client
            .offsets_for_times(asked, self.config.request_timeout)
            .map_err(|error| LogError::Unavailable { cause: explain(client, &error) })?;
        let found = offsets(&names, &answer)?;
        let missing =
            |at: &TopicPartition| LogError::Unavailable { cause: format!("no offset known for {at}") };
        of.iter().map(|at| found.get(at).copied().ok_or_else(|| missing(at))).collect()
    }

    /// Refuses a topic that is not there or has another partition count than the deployment's. Blocks.
    pub(crate) fn check_topic(&self, topic: Topic) -> Result<(), LogError> {
        let name = Names::new(&self.config.prefix, &[topic]).full(topic);
        let metadata = metadata(&self.client, Some(&name), self.config.request_timeout)
            .map_err(|error| LogError::Unavailable { cause: explain(&self.client, &error) })?;
        let found = metadata.topics().iter().find(|found| found.name() == name);
        let refused = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
        let problem = match found.map_or(0, |found| found.partitions().len()) {
            _ if refused == Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                "is forbidden to kafka.set's sasl.username; allow it there".to_owned()
            }
            0 => "does not exist".to_owned(),
            found if found == self.config.partitions as usize => return Ok(()),
            found => format!("has {found} partitions where the deployment has {}", self.config.partitions),
        };
        Err(LogError::Topic { topic: topic.to_string(), problem })
    }
}

/// The offsets that an answer names.
fn offsets(names: &Names, answer: &TopicPartitionList) -> Result<HashMap<TopicPartition, Offset>, LogError> {
    let mut found = HashMap::new();
    for line in answer.elements() {
        let Some(at) = names.place(&line) else { continue };
        line.error().map_err(|error| partition_error(at, &error))?;
        if let KafkaOffset::Offset(offset) = line.offset() {
            found.insert(at, Offset(offset));
        }
    }
    Ok(found)
}
