//! The topics of a deployment as the cluster has them, held against the catalogue. A topic is never deleted, and a
//! partition count never changed: keys would go elsewhere, and their facts would be in two hands.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use hansard_schemas::Topic;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, OwnedResourceSpecifier,
    ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::{Reporting, explain, metadata};
use crate::config::{ConfigError, KafkaConfig};

/// What has to be done so that the cluster is as the catalogue says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The topic is missing.
    Create {
        /// Its full name.
        topic: String,
        /// Its settings.
        settings: BTreeMap<&'static str, String>,
    },
    /// Settings have other values.
    Alter {
        /// The topic's full name.
        topic: String,
        /// The settings that differ: what each is, and what it is to be.
        settings: BTreeMap<&'static str, (Option<String>, String)>,
        /// All settings that it is to have, also those that somebody else gave it.
        all: BTreeMap<String, String>,
    },
    /// It has another partition count, which nobody can mend.
    Partitions {
        /// The topic's full name.
        topic: String,
        /// What it has.
        found: usize,
        /// What it should have.
        wanted: u32,
    },
}

/// Why topics cannot be compared or changed.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The client cannot be set up.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cluster does not answer, or refuses.
    #[error("the brokers do not answer as asked: {cause}")]
    Kafka {
        /// What was seen.
        cause: String,
    },
    /// The user may not work on a topic.
    #[error(
        "topic {topic} is forbidden to kafka.set's sasl.username; allow it to create, describe and alter the \
         deployment's topics"
    )]
    Forbidden {
        /// Its full name.
        topic: String,
    },
    /// The cluster refuses one topic.
    #[error("topic {topic} is refused: {code}")]
    Refused {
        /// Its full name.
        topic: String,
        /// Why.
        code: RDKafkaErrorCode,
    },
    /// Some topic has another partition count.
    #[error(
        "{0}; a partition count cannot be changed: set topics.partitions to it, or take another topics.prefix"
    )]
    Partitions(Change),
}

impl Change {
    /// The full name of its topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        match self {
            Self::Create { topic, .. } | Self::Alter { topic, .. } | Self::Partitions { topic, .. } => topic,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { topic, settings } => {
                write!(f, "create {topic}:")?;
                settings.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
            Self::Alter { topic, settings, .. } => {
                write!(f, "alter {topic}:")?;
                settings.iter().try_for_each(|(name, (from, to))| {
                    write!(f, " {name}={to} (is {})", from.as_deref().unwrap_or("not set"))
                })
            }
            Self::Partitions { topic, found, wanted } => {
                write!(f, "{topic} has {found} partitions, not {wanted}")
            }
        }
    }
}

/// Compares and changes topics.
pub struct TopicAdmin {
    client: AdminClient<DefaultClientContext>,
    /// Asks what there is; an admin client does not tell why it cannot connect.
    asking: BaseConsumer<Reporting>,
    config: KafkaConfig,
    replication: i32,
}

impl TopicAdmin {
    /// A client; topics that it creates have so many replicas.
    ///
    /// # Errors
    /// A setting that librdkafka refuses.
    pub fn new(config: &KafkaConfig, replication: i32) -> Result<Self, ConfigError> {
        config.check()?;
        let refused = |error: KafkaError| ConfigError::Client { cause: error.to_string() };
        let client = config.watermarks().create().map_err(refused)?;
        let asking = config.watermarks().create_with_context(Reporting::default()).map_err(refused)?;
        Ok(Self { client, asking, config: config.clone(), replication })
    }

    fn options(&self) -> AdminOptions {
        let within = Some(self.config.request_timeout);
        AdminOptions::new().request_timeout(within).operation_timeout(within)
    }

    fn failed(&self, error: &KafkaError) -> TopicsError {
        TopicsError::Kafka { cause: explain(&self.asking, error) }
    }

    /// What has to be done, in the order of the catalogue; nothing where all is as it says.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses to.
    pub async fn diff(&self) -> Result<Vec<Change>, TopicsError> {
        let found = self.partitions()?;
        let topics: Vec<(Topic, String)> =
            Topic::all().map(|topic| (topic, format!("{}{topic}", self.config.prefix))).collect();
        let present: Vec<&str> =
            topics.iter().map(|(_, name)| name.as_str()).filter(|name| found.contains_key(*name)).collect();
        let given = self.settings(&present).await?;
        let mut changes = Vec::new();
        for (topic, name) in &topics {
            let wanted: BTreeMap<&'static str, String> = topic.config().into_iter().collect();
            let Some(partitions) = found.get(name) else {
                changes.push(Change::Create { topic: name.clone(), settings: wanted });
                continue;
            };
            if u32::try_from(*partitions) != Ok(self.config.partitions) {
                let (topic, wanted) = (name.clone(), self.config.partitions);
                changes.push(Change::Partitions { topic, found: *partitions, wanted });
            }
            let given = given.get(name).cloned().unwrap_or_default();
            changes.extend(altered(name, wanted, given));
        }
        Ok(changes)
    }

    /// Does what [`Self::diff`] found; nothing at all if a topic has another partition count.
    ///
    /// # Errors
    /// [`TopicsError::Partitions`], or the cluster does not answer or refuses.
    pub async fn apply(&self, changes: &[Change]) -> Result<(), TopicsError> {
        if let Some(other) = changes.iter().find(|change| matches!(change, Change::Partitions { .. })) {
            return Err(TopicsError::Partitions(other.clone()));
        }
        let partitions = i32::try_from(self.config.partitions).unwrap_or(i32::MAX);
        let (mut create, mut alter) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Create { topic, settings } => {
                    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(self.replication));
                    create.push(settings.iter().fold(new, |new, (name, value)| new.set(name, value)));
                }
                Change::Alter { topic, all, .. } => {
                    let config = AlterConfig::new(ResourceSpecifier::Topic(topic));
                    alter.push(all.iter().fold(config, |config, (name, value)| config.set(name, value)));
                }
                Change::Partitions { .. } => {}
            }
        }
        if !create.is_empty() {
            let created = self.client.create_topics(&create, &self.options()).await;
            for created in created.map_err(|error| self.failed(&error))? {
                match created {
                    // Two may apply at the same time.
                    Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                        return Err(TopicsError::Forbidden { topic });
                    }
                    Err((topic, code)) => return Err(TopicsError::Refused { topic, code }),
                }
            }
        }
        if !alter.is_empty() {
            let altered = self.client.alter_configs(&alter, &self.options()).await;
            for altered in altered.map_err(|error| self.failed(&error))? {
                altered.map_err(|(of, code)| TopicsError::Refused { topic: format!("{of:?}"), code })?;
            }
        }
        Ok(())
    }

    /// The partition count of each topic that the cluster has.
    fn partitions(&self) -> Result<HashMap<String, usize>, TopicsError> {
        let metadata = metadata(&self.asking, None, self.config.request_timeout);
        let metadata = metadata.map_err(|error| self.failed(&error))?;
        let topics = metadata.topics().iter();
        Ok(topics.map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
    }

    /// The settings that each topic was given, without the cluster's defaults.
    async fn settings(&self, of: &[&str]) -> Result<HashMap<String, BTreeMap<String, String>>, TopicsError> {
        if of.is_empty() {
            return Ok(HashMap::new());
        }
        let asked: Vec<_> = of.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let answers = self.client.describe_configs(&asked, &self.options()).await;
        let answers = answers.map_err(|error| self.failed(&error))?;
        let mut found = HashMap::new();
        for answer in answers {
            let resource = answer.map_err(|code| self.failed(&KafkaError::AdminOp(code)))?;
            let OwnedResourceSpecifier::Topic(name) = resource.specifier else { continue };
            let own = resource.entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
            found.insert(name, own.filter_map(|entry| Some((entry.name, entry.value?))).collect());
        }
        Ok(found)
    }
}

/// The cluster replaces all settings of a topic at once, so that those of others are given again.
fn altered(
    topic: &str,
    wanted: BTreeMap<&'static str, String>,
    given: BTreeMap<String, String>,
) -> Option<Change> {
    let mut all = given.clone();
    let mut settings = BTreeMap::new();
    for (name, value) in wanted {
        all.insert(name.to_owned(), value.clone());
        let is = given.get(name);
        if is != Some(&value) {
            settings.insert(name, (is.cloned(), value));
        }
    }
    (!settings.is_empty()).then(|| Change::Alter { topic: topic.to_owned(), settings, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_others_stay_and_ours_are_mended() {
        let wanted =
            || BTreeMap::from([("retention.ms", "7".to_owned()), ("cleanup.policy", "delete".to_owned())]);
        let own = |retention: &str| {
            let pairs =
                [("retention.ms", retention), ("cleanup.policy", "delete"), ("min.insync.replicas", "2")];
            BTreeMap::from(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
        };
        assert_eq!(altered("t", wanted(), own("7")), None);
        let change = altered("t", wanted(), own("5")).expect("one differs");
        assert_eq!(change.to_string(), "alter t: retention.ms=7 (is 5)");
        let Change::Alter { all, .. } = change else { panic!("{change}") };
        assert_eq!(all, own("7"));
    }
}
