//! A record of the log as an input, or why it is none. The same for every job, so that a bad record has one fate.

use hansard_core::id::Partition;
use hansard_core::redelivery::{Class, HeaderError, Headers};
use hansard_schemas::{Topic, partition_for, validate};

use crate::ports::Ports;
use crate::ports::log::{LogRecord, Outgoing, TopicPartition};
use crate::stage::{Failed, Input};
use crate::trace::TraceParent;

/// What a record of the log is.
pub(crate) enum Intake {
    /// A record of ours, in its place.
    Fact(Box<Input>),
    /// Its key belongs to another partition.
    Misrouted {
        /// That partition.
        to: Partition,
    },
    /// It can never be taken; always permanent.
    Refused(Failed),
}

/// Reads a record.
///
/// # Errors
/// The schema registry is needed and unavailable; the record is to be read again later.
pub(crate) async fn read(ports: &Ports, from: TopicPartition, record: &LogRecord) -> Result<Intake, Failed> {
    let refused = |code, cause: String| Ok(Intake::Refused(Failed::new(Class::Permanent, code, cause)));
    let Some(key) = &record.key else {
        return refused("no_key", "the record has no key; it must be the conversation's id".to_owned());
    };
    let to = Partition(partition_for(key, ports.log.partitions()));
    if to != from.partition {
        return Ok(Intake::Misrouted { to });
    }
    let Some(value) = &record.value else {
        return refused(
            "no_value",
            "the record has no value; only compacted topics may hold tombstones".to_owned(),
        );
    };
    let decoded = match ports.decode(value).await {
        Ok(decoded) => decoded,
        Err(failed) if failed.class == Class::Permanent => return Ok(Intake::Refused(failed)),
        Err(failed) => return Err(failed),
    };
    if decoded.conversation_id().as_bytes() != &key[..] {
        let cause = format!("the key is {:?}, the body's id {:?}", text(key), decoded.conversation_id());
        return refused("key_mismatch", cause);
    }
    if let Err(invalid) = validate(&decoded) {
        return refused(invalid.code(), invalid.to_string());
    }
    let history = match history(from, record) {
        Ok(history) => history,
        Err(error) => return refused("bad_headers", error.to_string()),
    };
    let origin = history.as_ref().map(|history| &history.origin);
    Ok(Intake::Fact(Box::new(Input {
        from,
        offset: record.offset,
        origin: origin.map_or(record.offset, |origin| origin.offset),
        time: origin.map_or(record.time, |origin| origin.timestamp),
        record: Box::new(decoded),
        trace: TraceParent::read(&record.headers),
        history,
    })))
}

/// The failure of a record in the wrong partition of a topic that only we write.
pub(crate) fn misrouted(from: TopicPartition, to: Partition) -> Failed {
    let cause = format!("{from} holds a key of partition {}; produce with the murmur2 partitioner", to.0);
    Failed::new(Class::Permanent, "misrouted", cause)
}

/// The unchanged copy of a misrouted record for its right partition.
pub(crate) fn forward(from: TopicPartition, to: Partition, record: &LogRecord) -> Outgoing {
    Outgoing {
        to: TopicPartition { topic: from.topic, partition: to },
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    }
}

fn text(key: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&key[..key.len().min(128)])
}

/// The history of a redelivered record. Only the stage's own topics are believed: a producer can write what it
/// likes into the headers of an upload.
pub(crate) fn history(from: TopicPartition, record: &LogRecord) -> Result<Option<Headers>, HeaderError> {
    if !matches!(from.topic, Topic::Retry(..) | Topic::DeadLetter(_)) {
        return Ok(None);
    }
    Headers::read(|name| {
        let value = record.headers.iter().find(|(own, _)| own == name).map(|(_, value)| &value[..]);
        value.and_then(|value| std::str::from_utf8(value).ok())
    })
}
