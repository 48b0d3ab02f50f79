//! Reads outside any group, by a few consumers that keep their places, so that reading on from where the last call
//! ended costs no new fetch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hansard_core::id::Offset;
use hansard_runtime::ports::log::{Fetched, LogError, TopicPartition};
use rdkafka::Offset as KafkaOffset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::Reporting;
use crate::config::KafkaConfig;
use crate::convert::{Batch, Names, partition_error, positions, unavailable};
use crate::ends::Watermarks;

/// Consumers at rest; each holds a connection and at most 2 MiB of records.
const IDLE_MAX: usize = 4;
/// How often a read that waits looks whether the position moved past control records, which wake nobody.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Readers {
    config: KafkaConfig,
    watermarks: Arc<Watermarks>,
    idle: Mutex<Vec<Reader>>,
}

struct Reader {
    consumer: BaseConsumer<Reporting>,
    at: Option<(TopicPartition, Offset)>,
}

impl Readers {
    pub(crate) fn new(config: KafkaConfig, watermarks: Arc<Watermarks>) -> Self {
        Self { config, watermarks, idle: Mutex::default() }
    }

    /// See [`hansard_runtime::ports::log::Log::read`]. Blocks up to `wait` and a request.
    pub(crate) fn read(
        &self,
        from: TopicPartition,
        offset: Offset,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Fetched, LogError> {
        let mut reader = self.take((from, offset))?;
        let fetched = self.read_with(&mut reader, from, offset, bytes_max, Instant::now() + wait)?;
        reader.at = Some((from, fetched.position));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(reader);
        }
        Ok(fetched)
    }

    fn take(&self, at: (TopicPartition, Offset)) -> Result<Reader, LogError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.iter().position(|reader| reader.at == Some(at));
        let full = (idle.len() == IDLE_MAX).then_some(0);
        if let Some(index) = found.or(full) {
            return Ok(idle.remove(index));
        }
        drop(idle);
        let consumer = self
            .config
            .reader()
            .create_with_context(Reporting::default())
            .map_err(|error| unavailable(&error))?;
        Ok(Reader { consumer, at: None })
    }

    fn read_with(
        &self,
        reader: &mut Reader,
        from: TopicPartition,
        offset: Offset,
        bytes_max: usize,
        until: Instant,
    ) -> Result<Fetched, LogError> {
        let names = Names::new(&self.config.prefix, &[from.topic]);
        if reader.at != Some((from, offset)) {
            let list = names.list(std::iter::once((from, KafkaOffset::Offset(offset.0))));
            reader.consumer.assign(&list).map_err(|error| unavailable(&error))?;
        }
        let mut batch = Batch::new(from);
        let mut position = offset.0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let step = if batch.len() > 0 { Duration::ZERO } else { left.min(LOOK) };
            match reader.consumer.poll(step) {
                Some(Ok(message)) => batch.push(&message, from.topic)?,
                Some(Err(error)) => self.judge(from, offset, &error)?,
                None => {
                    let list = reader.consumer.position().map_err(|error| unavailable(&error))?;
                    position = positions(&names, &list).get(&from).copied().unwrap_or(position).max(offset.0);
                    if batch.len() > 0 || position > offset.0 || left.is_zero() {
                        break;
                    }
                }
            }
            if batch.len() > 0 && batch.bytes() >= bytes_max {
                break;
            }
        }
        Ok(batch.finish(position))
    }

    /// Passing errors are librdkafka's to get over; it reports them and tries again.
    fn judge(&self, from: TopicPartition, position: Offset, error: &KafkaError) -> Result<(), LogError> {
        use RDKafkaErrorCode::{AutoOffsetReset, UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
        match error.rdkafka_error_code() {
            Some(AutoOffsetReset) => {
                let begins = self.watermarks.beginnings(&[from])?[0];
                if position < begins {
                    return Err(LogError::OutOfRange { from, position, begins });
                }
                Err(LogError::Unavailable { cause: format!("{from} does not reach {position:?}") })
            }
            Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition) => {
                Err(partition_error(from, error))
            }
            _ => {
                tracing::warn!(%error, %from, "reading");
                Ok(())
            }
        }
    }
}
