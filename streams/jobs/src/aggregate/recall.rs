//! What was told before a take-over: the newest status records, read back from the log, since only they prove that a
//! status was committed. A status written anywhere else, before its transaction, may be one that was never told.

use std::collections::HashMap;
use std::time::Duration;

use hansard_core::id::{Offset, Partition};
use hansard_core::redelivery::Class;
use hansard_runtime::ports::Ports;
use hansard_runtime::ports::log::{LogError, TopicPartition};
use hansard_runtime::ports::windows::OpenWindow;
use hansard_runtime::stage::Failed;
use hansard_schemas::{Record, Topic};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;
/// How long a read waits for an open transaction to end.
const READ_WAIT: Duration = Duration::from_secs(1);

/// The open windows of a partition, each with the `event_id` of its last status, if that is within the last `recall_max`
/// offsets of the partition's statuses.
pub(super) async fn open_windows(
    ports: Ports,
    partition: Partition,
    since_day: i32,
    recall_max: i64,
) -> Result<Vec<(OpenWindow, Option<String>)>, Failed> {
    let entries = ports.windows.list(partition, since_day).await?;
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let told = last_told(&ports, partition, recall_max).await?;
    let recalled = |entry: OpenWindow| {
        let told = told.get(&entry.conversation).cloned();
        (entry, told)
    };
    Ok(entries.into_iter().map(recalled).collect())
}

/// The last status of each conversation, read to the end, whatever transactions are still open there: what a predecessor
/// is yet to have committed may be newer.
async fn last_told(
    ports: &Ports,
    partition: Partition,
    recall_max: i64,
) -> Result<HashMap<String, String>, Failed> {
    let from = TopicPartition { topic: Topic::Conversations, partition };
    let mut told = HashMap::new();
    for range in ports.log.ends(&[from]).await.map_err(unavailable)? {
        let mut position = range.start.max(Offset(range.end.0.saturating_sub(recall_max)));
        while position < range.end {
            let fetched = ports.log.read(from, position, READ_BYTES, READ_WAIT).await.map_err(unavailable)?;
            for value in fetched.records.iter().filter_map(|record| record.value.as_ref()) {
                match ports.decode(value).await {
                    Ok(Record::Conversation(status)) => {
                        told.insert(status.conversation_id, status.event_id);
                    }
                    Err(failed) if failed.class != Class::Permanent => return Err(failed),
                    // Not ours: nobody else writes here, and it tells nothing.
                    Ok(_) | Err(_) => {}
                }
            }
            position = fetched.position;
        }
    }
    Ok(told)
}

fn unavailable(error: LogError) -> Failed {
    Failed::new(Class::Unavailable, "log_unavailable", error.to_string())
}
