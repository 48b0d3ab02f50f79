//! Hansard's log on Apache Kafka, by librdkafka. It never decides what is read, produced or committed, and never
//! interprets a record: that is the runtime's, behind whose port this stands.
//!
//! A member consists of a polling thread (`poll`), a thread for transactions (`transact`), one that watches whether the
//! first makes progress (`progress`), what they share with the loop (`seat`) and the queue to it (`outbox`).

mod append;
mod client;
mod config;
mod convert;
mod ends;
mod generation;
mod member;
mod outbox;
mod poll;
mod progress;
mod read;
mod seat;
#[cfg(test)]
mod tests;
mod topics;
mod transact;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hansard_core::id::Offset;
use hansard_runtime::ports::log::{Fetched, Group, Log, LogError, Member, Outgoing, TopicPartition};

pub use config::{ConfigError, KafkaConfig};
pub use topics::{Change, TopicAdmin, TopicsError};

/// The log on a Kafka cluster.
pub struct KafkaLog {
    config: KafkaConfig,
    appender: append::Appender,
    watermarks: Arc<ends::Watermarks>,
    readers: Arc<read::Readers>,
}

impl KafkaLog {
    /// Sets the clients up. They connect by themselves and keep trying, so that brokers may come later.
    ///
    /// # Errors
    /// A setting that librdkafka refuses, or that must not be overridden.
    pub fn new(config: KafkaConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let watermarks = Arc::new(ends::Watermarks::new(&config)?);
        let appender = append::Appender::new(&config)?;
        let readers = Arc::new(read::Readers::new(config.clone(), watermarks.clone()));
        Ok(Self { config, appender, watermarks, readers })
    }
}

#[async_trait]
impl Log for KafkaLog {
    fn partitions(&self) -> u32 {
        self.config.partitions
    }

    async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Offset>, LogError> {
        self.appender.append(&records).await
    }

    async fn read(
        &self,
        from: TopicPartition,
        offset: Offset,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Fetched, LogError> {
        let readers = self.readers.clone();
        blocking(move || readers.read(from, offset, bytes_max, wait)).await
    }

    async fn ends(&self, of: &[TopicPartition]) -> Result<Vec<Range<Offset>>, LogError> {
        let (watermarks, of) = (self.watermarks.clone(), of.to_vec());
        blocking(move || {
            let (first, ends) = (watermarks.beginnings(&of)?, watermarks.ends(&of)?);
            Ok(first.into_iter().zip(ends).map(|(first, end)| first..end).collect())
        })
        .await
    }

    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Offset>, LogError> {
        let (watermarks, group, of) = (self.watermarks.clone(), group.to_owned(), of.to_vec());
        blocking(move || watermarks.committed(&group, &of)).await
    }

    async fn join(&self, group: Group) -> Result<Box<dyn Member>, LogError> {
        let (config, watermarks) = (self.config.clone(), self.watermarks.clone());
        let member = blocking(move || member::join(&config, &watermarks, &group)).await?;
        Ok(Box::new(member))
    }
}

/// librdkafka's requests block, so they run off the async threads.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(run).await.unwrap_or(Err(LogError::Closed))
}
