//! What a deployment says about its Kafka, and the settings of the four kinds of clients that follow from it. The
//! settings on which correctness rests are fixed; every other one of librdkafka can be overridden.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;

/// How to reach the log. Passwords may stand in it, so that it has no `Debug`.
#[derive(Clone)]
pub struct KafkaConfig {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// Stands before the name of every topic, group and transactional id.
    pub prefix: String,
    /// The deployment's partition count, the same for all topics.
    pub partitions: u32,
    /// How long a rebalance waits for the loop to let its work go. All members of the group wait with it.
    pub release_within: Duration,
    /// `transaction.timeout.ms`: how long a dead instance's open transaction can hold up those who read committed.
    pub transaction_timeout: Duration,
    /// How long one request other than a transaction may take.
    pub request_timeout: Duration,
    /// A member of which some partition hands over nothing for so long, although records are there and the loop wants them,
    /// is thrown away, and the group joined anew. It is noticed within half as much again.
    pub progress_within: Duration,
    /// Records that were fetched and not yet taken, in bytes, before fetching stops.
    pub fetched_bytes_max: usize,
    /// Whether members are static (`group.instance.id`), named after their instance: one that comes back under its name
    /// within the session's timeout has its partitions again at once, and nobody else loses any. Names must be stable.
    pub static_members: bool,
    /// Settings of librdkafka (TLS and SASL among them). A name beginning with `consumer.` or `producer.` is given,
    /// without that, to those clients only.
    pub overrides: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// The defaults for the given brokers.
    #[must_use]
    pub fn new(brokers: impl Into<String>, prefix: impl Into<String>, partitions: u32) -> Self {
        Self {
            brokers: brokers.into(),
            prefix: prefix.into(),
            partitions,
            release_within: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            progress_within: Duration::from_secs(60),
            fetched_bytes_max: 8 << 20,
            static_members: false,
            overrides: BTreeMap::new(),
        }
    }
}

/// Why the connector cannot be set up as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The setting is one that delivery rests on.
    #[error("kafka setting {setting} cannot be overridden; delivery rests on its value")]
    Fixed {
        /// Its name.
        setting: String,
    },
    /// librdkafka refuses a setting.
    #[error("kafka client: {cause}; see librdkafka's CONFIGURATION.md for names and values")]
    Client {
        /// What it says.
        cause: String,
    },
}

/// A group member reads what is committed, commits only within transactions, and keeps partition n of all topics in
/// one hand (`range`, which the newer group protocol does not offer).
const MEMBER: &[(&str, &str)] = &[
    ("group.protocol", "classic"),
    ("partition.assignment.strategy", "range"),
    ("isolation.level", "read_committed"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
];
/// The reader for `Log::read` is a group of nobody: its offsets are given with each call.
const READER: &[(&str, &str)] = &[
    ("isolation.level", "read_committed"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
];
/// Under `read_committed` the end of a partition means the last stable offset; the high watermark needs this one.
const WATERMARKS: &[(&str, &str)] =
    &[("isolation.level", "read_uncommitted"), ("allow.auto.create.topics", "false")];
/// An acknowledged record is on all in-sync replicas, once, and in order.
const PRODUCER: &[(&str, &str)] = &[("enable.idempotence", "true"), ("acks", "all")];

impl KafkaConfig {
    /// The clients' settings, checked once so that a bad name is found at start.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for setting in self.overrides.keys() {
            let bare = setting.trim_start_matches("consumer.").trim_start_matches("producer.");
            let fixed = [MEMBER, READER, PRODUCER].into_iter().flatten().any(|(name, _)| *name == bare);
            if fixed
                || ["group.id", "group.instance.id", "transactional.id", "bootstrap.servers"].contains(&bare)
            {
                return Err(ConfigError::Fixed { setting: setting.clone() });
            }
        }
        let all = [
            self.member("check", Some("check")),
            self.reader(),
            self.watermarks(),
            self.appender(),
            self.transactional("check"),
        ];
        for config in all {
            config
                .create_native_config()
                .map_err(|error| ConfigError::Client { cause: error.to_string() })?;
        }
        Ok(())
    }

    /// A consumer of a group: a member where an instance is named, else one that only asks for its offsets.
    pub(crate) fn member(&self, group: &str, instance: Option<&str>) -> ClientConfig {
        let defaults = [
            ("session.timeout.ms", "10000".to_owned()),
            ("heartbeat.interval.ms", "2000".to_owned()),
            // The bound is looked at before each fetch, and one answer is as large as the second.
            ("queued.max.messages.kbytes", "8192".to_owned()),
            ("fetch.max.bytes", (8 << 20).to_string()),
            // So much of each partition: one answer has something of all, and none runs far ahead of the others.
            ("fetch.message.max.bytes", (128 << 10).to_string()),
            // A partition that is fetched from again waits for the answer about the others: not for the default of 500 ms.
            ("fetch.wait.max.ms", "100".to_owned()),
            // A full queue stops fetching for this long; the default of a second leaves the loop idle.
            ("fetch.queue.backoff.ms", "5".to_owned()),
            ("group.id", format!("{}{group}", self.prefix)),
        ];
        let mut config = self.build("consumer.", &defaults, MEMBER);
        if let Some(instance) = instance.filter(|_| self.static_members) {
            config.set("group.instance.id", instance);
        }
        config
    }

    pub(crate) fn reader(&self) -> ClientConfig {
        let defaults = [
            ("queued.max.messages.kbytes", "2048".to_owned()),
            ("group.id", format!("{}reader", self.prefix)),
        ];
        self.build("consumer.", &defaults, READER)
    }

    pub(crate) fn watermarks(&self) -> ClientConfig {
        self.build("consumer.", &[], WATERMARKS)
    }

    pub(crate) fn appender(&self) -> ClientConfig {
        let defaults = [("linger.ms", "1".to_owned()), ("message.timeout.ms", millis(self.request_timeout))];
        self.build("producer.", &defaults, PRODUCER)
    }

    pub(crate) fn transactional(&self, id: &str) -> ClientConfig {
        let defaults = [
            ("linger.ms", "1".to_owned()),
            // Transactions back to back meet the end of the one before and retry; 100 ms would be lost each time.
            ("retry.backoff.ms", "2".to_owned()),
            ("retry.backoff.max.ms", "100".to_owned()),
            // Every report must be in before the broker gives the transaction up.
            ("message.timeout.ms", millis(self.transaction_timeout.mul_f32(0.8))),
            ("transaction.timeout.ms", millis(self.transaction_timeout)),
            ("transactional.id", format!("{}{id}", self.prefix)),
        ];
        self.build("producer.", &defaults, PRODUCER)
    }

    fn build(&self, kind: &str, defaults: &[(&str, String)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        for (name, value) in defaults {
            config.set(*name, value);
        }
        for (name, value) in &self.overrides {
            if let Some(own) = name.strip_prefix(kind) {
                config.set(own, value);
            } else if !name.starts_with("consumer.") && !name.starts_with("producer.") {
                config.set(name, value);
            }
        }
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        config
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
