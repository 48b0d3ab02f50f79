//! Between the port's values and librdkafka's: names, partition lists, records in and out, and errors.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use hansard_core::id::{Offset, Partition, Timestamp};
use hansard_runtime::ports::log::{
    Committed, Fetched, Headers, LogError, LogRecord, Outgoing, TopicPartition,
};
use hansard_schemas::Topic;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{
    BorrowedMessage, Header, Headers as _, Message, OwnedHeaders, Timestamp as KafkaTimestamp,
};
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

/// Topics under the deployment's prefix, for those that a client deals with.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
    known: Vec<(String, Topic)>,
}

impl Names {
    pub(crate) fn new(prefix: &str, topics: &[Topic]) -> Self {
        let known = topics.iter().map(|topic| (full_name(prefix, *topic), *topic)).collect();
        Self { prefix: prefix.to_owned(), known }
    }

    pub(crate) fn full(&self, topic: Topic) -> String {
        full_name(&self.prefix, topic)
    }

    pub(crate) fn full_names(&self) -> Vec<&str> {
        self.known.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = Topic> {
        self.known.iter().map(|(_, topic)| *topic)
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Topic> {
        self.known.iter().find(|(known, _)| known == name).map(|(_, topic)| *topic)
    }

    /// A list with one offset for each partition.
    pub(crate) fn list(&self, of: impl Iterator<Item = (TopicPartition, KafkaOffset)>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (at, offset) in of {
            list.add_partition(&self.full(at.topic), at.partition.0)
                .set_offset(offset)
                .expect("offsets here are absolute, the beginning or the end");
        }
        list
    }

    /// What a transaction commits: offsets with their metadata.
    pub(crate) fn commits(&self, offsets: &[Committed]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for committed in offsets {
            let mut line = list.add_partition(&self.full(committed.from.topic), committed.from.partition.0);
            line.set_offset(KafkaOffset::Offset(committed.offset.0))
                .expect("a committed offset is not negative");
            line.set_metadata(&committed.metadata);
        }
        list
    }

    pub(crate) fn place(&self, line: &TopicPartitionListElem<'_>) -> Option<TopicPartition> {
        Some(TopicPartition { topic: self.topic(line.topic())?, partition: Partition(line.partition()) })
    }
}

fn full_name(prefix: &str, topic: Topic) -> String {
    format!("{prefix}{topic}")
}

/// The size that counts for bounds.
pub(crate) fn size(outgoing: &Outgoing) -> usize {
    let headers: usize = outgoing.headers.iter().map(|(key, value)| key.len() + value.len()).sum();
    let size = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    size(&outgoing.key) + size(&outgoing.value) + headers
}

/// A record for a producer, to the partition that the caller chose.
pub(crate) fn record<'a>(topic: &'a str, outgoing: &'a Outgoing) -> BaseRecord<'a, [u8], [u8], ()> {
    let mut record = BaseRecord::to(topic).partition(outgoing.to.partition.0);
    if let Some(key) = &outgoing.key {
        record = record.key(key.as_ref());
    }
    if let Some(value) = &outgoing.value {
        record = record.payload(value.as_ref());
    }
    if outgoing.headers.is_empty() { record } else { record.headers(headers(&outgoing.headers)) }
}

pub(crate) fn headers(headers: &Headers) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    headers.iter().fold(empty, |all, (key, value)| all.insert(Header { key, value: Some(value.as_ref()) }))
}

/// Records of one partition as they come in. Their bytes are copied once, into one buffer that all of them share.
pub(crate) struct Batch {
    from: TopicPartition,
    buffer: BytesMut,
    records: Vec<Place>,
}

/// Where a record's parts lie in the batch's buffer.
struct Place {
    offset: i64,
    time: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Vec<(String, Range<usize>)>,
}

impl Batch {
    pub(crate) fn new(from: TopicPartition) -> Self {
        Self { from, buffer: BytesMut::new(), records: Vec::new() }
    }

    pub(crate) fn push(&mut self, message: &BorrowedMessage<'_>, topic: Topic) -> Result<(), LogError> {
        let KafkaTimestamp::LogAppendTime(time) = message.timestamp() else {
            // A producer's clock must not be taken for the log's.
            let problem = "does not stamp records with the log's time".to_owned();
            return Err(LogError::Topic { topic: topic.to_string(), problem });
        };
        let (offset, key, value) = (message.offset(), self.copy(message.key()), self.copy(message.payload()));
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), self.copy(header.value).unwrap_or_default()))
                .collect()
        });
        self.records.push(Place { offset, time, key, value, headers });
        Ok(())
    }

    fn copy(&mut self, bytes: Option<&[u8]>) -> Option<Range<usize>> {
        let bytes = bytes?;
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        Some(start..self.buffer.len())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The records, and the position: past the last of them, or further where it is already known to be.
    pub(crate) fn finish(self, position: i64) -> Fetched {
        let buffer = self.buffer.freeze();
        let last = self.records.last().map_or(0, |place| place.offset + 1);
        let cut = |range: Range<usize>| buffer.slice(range);
        let record = |place: Place| LogRecord {
            offset: Offset(place.offset),
            time: Timestamp(place.time),
            key: place.key.map(cut),
            value: place.value.map(cut),
            headers: place.headers.into_iter().map(|(key, value)| (key, cut(value))).collect(),
        };
        let records = self.records.into_iter().map(record).collect();
        Fetched { from: self.from, records, position: Offset(position.max(last)) }
    }
}

/// Positions of the partitions that librdkafka has one for: the offset after the last record or control record that
/// this application was given or that was passed over for it.
pub(crate) fn positions(names: &Names, list: &TopicPartitionList) -> BTreeMap<TopicPartition, i64> {
    let position = |line: TopicPartitionListElem<'_>| match line.offset() {
        KafkaOffset::Offset(offset) => Some((names.place(&line)?, offset)),
        _ => None,
    };
    list.elements().into_iter().filter_map(position).collect()
}

/// An error of a request that may succeed when it is made again.
pub(crate) fn unavailable(error: &KafkaError) -> LogError {
    LogError::Unavailable { cause: error.to_string() }
}

/// An error about one partition.
pub(crate) fn partition_error(at: TopicPartition, error: &KafkaError) -> LogError {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    match error.rdkafka_error_code() {
        Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition) => LogError::Topic {
            topic: at.topic.to_string(),
            problem: format!("has no partition {}", at.partition.0),
        },
        _ => unavailable(error),
    }
}
