//! Whether aggregate has read the log: only then do the rows say what an object is for.

use std::time::Duration;

use hansard_core::id::{Millis, Offset, Partition};
use hansard_runtime::ports::log::{LogError, TopicPartition};
use hansard_schemas::Stage;

use super::Sweep;
use crate::aggregate::FACTS;

/// Between two looks at how far aggregate has come.
const LOOK: Millis = Millis(1_000);
/// How long a look waits for the records behind a position.
const PROBE: Duration = Duration::from_secs(1);

impl Sweep {
    /// Whether aggregate has by now read everything that was in the log when this was asked. A record that came in a
    /// wrong partition is read once more, as the copy that aggregate forwards: hence twice.
    pub(super) async fn log_is_read(&self) -> Result<bool, LogError> {
        #[cfg(feature = "mutants")]
        if hansard_runtime::mutants::is_in(hansard_runtime::mutants::Mutant::SweepUnread) {
            return Ok(true);
        }
        let until = self.ports.clock.now() + self.config.read_within;
        for _ in 0..2 {
            let mut unread = self.ends().await?;
            loop {
                unread = self.still_unread(unread).await?;
                if unread.is_empty() {
                    break;
                }
                let now = self.ports.clock.now();
                if now >= until {
                    let (from, end) = unread[0];
                    tracing::info!(%from, end = end.0, "aggregate has not read the log yet");
                    return Ok(false);
                }
                self.ports.clock.sleep_until(now + LOOK).await;
            }
        }
        Ok(true)
    }

    /// The present ends of all partitions with facts.
    async fn ends(&self) -> Result<Vec<(TopicPartition, Offset)>, LogError> {
        let partitions = i32::try_from(self.ports.log.partitions()).unwrap_or(i32::MAX);
        let of = |topic| (0..partitions).map(move |n| TopicPartition { topic, partition: Partition(n) });
        let all: Vec<TopicPartition> = FACTS.into_iter().flat_map(of).collect();
        let ends = self.ports.log.ends(&all).await?;
        Ok(all.into_iter().zip(ends).map(|(from, range)| (from, range.end)).collect())
    }

    async fn still_unread(
        &self,
        ends: Vec<(TopicPartition, Offset)>,
    ) -> Result<Vec<(TopicPartition, Offset)>, LogError> {
        let of: Vec<TopicPartition> = ends.iter().map(|(from, _)| *from).collect();
        let committed = self.ports.log.committed(Stage::Aggregate.as_str(), &of).await?;
        let mut unread = Vec::new();
        for ((from, end), committed) in ends.into_iter().zip(committed) {
            if self.has_records(from, committed, end).await? {
                unread.push((from, end));
            }
        }
        Ok(unread)
    }

    /// Whether there is a record between two positions. Aggregate commits no offset for control records alone.
    async fn has_records(
        &self,
        from: TopicPartition,
        mut position: Offset,
        end: Offset,
    ) -> Result<bool, LogError> {
        while position < end {
            let fetched = self.ports.log.read(from, position, 1, PROBE).await?;
            let first = fetched.records.first().map(|record| record.offset);
            // A position that stands still waits for a transaction that is open.
            if first.is_some_and(|first| first < end) || fetched.position == position {
                return Ok(true);
            }
            position = fetched.position;
        }
        Ok(false)
    }
}
