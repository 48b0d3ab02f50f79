//! Producers outside, and the operator who redrives: they put objects, and append records as any client would.

use bytes::Bytes;
use hansard_core::id::{Offset, Partition};
use hansard_runtime::driver::World;
use hansard_runtime::ports::log::{Outgoing, TopicPartition};
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::trace::TraceParent;
use hansard_schemas::{
    Finalize, Object, Record, Topic, Topics, Upload, decode, encode, partition_for, topic_of,
};

use super::fakes::recording;

/// A chunk that is to be uploaded.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChunkSpec {
    pub(crate) conversation: String,
    pub(crate) chunk: String,
    /// The recording: `segments=2 ms=1000`, or `broken`.
    pub(crate) what: String,
    pub(crate) track: String,
    pub(crate) sequence: Option<i64>,
    pub(crate) recorded_at: i64,
    /// A slice without its own header.
    pub(crate) continues: bool,
    /// Bytes that the record claims; those of the object where nothing.
    pub(crate) bytes: Option<i64>,
    /// The key's prefix, below which uploads are allowed unless it is another.
    pub(crate) prefix: Option<String>,
}

/// Appends to the log.
pub(crate) struct Producer {
    world: World,
    partitions: u32,
    events: u64,
    /// Where in a trace its records say that they stand.
    pub(crate) trace: Option<TraceParent>,
}

impl Producer {
    pub(crate) fn new(world: World, partitions: u32) -> Self {
        Self { world, partitions, events: 0, trace: None }
    }

    /// The partition number of a conversation.
    pub(crate) fn partition(&self, conversation: &str) -> Partition {
        Partition(partition_for(conversation.as_bytes(), self.partitions))
    }

    /// Puts the object and gives the record that confirms it.
    pub(crate) fn upload(&self, chunk: &ChunkSpec, put: bool) -> Upload {
        let body = recording(&chunk.conversation, &chunk.chunk, &chunk.what);
        let prefix = chunk.prefix.as_deref().unwrap_or("uploads");
        let what = chunk.what.replace(' ', "-");
        let key = format!("{prefix}/{}/{}-{what}", chunk.conversation, chunk.chunk);
        let bytes = i64::try_from(body.len()).unwrap_or(0);
        let name = ObjectName { bucket: "b".to_owned(), key: key.clone() };
        let etag = if put { self.world.put_object(&name, body).etag } else { "0".to_owned() };
        Upload {
            conversation_id: chunk.conversation.clone(),
            chunk_id: chunk.chunk.clone(),
            object: Object {
                bucket: "b".to_owned(),
                key,
                etag,
                bytes: chunk.bytes.unwrap_or(bytes),
                ..Object::default()
            },
            recorded_at: chunk.recorded_at,
            track: chunk.track.clone(),
            sequence: chunk.sequence,
            continues: chunk.continues,
            ..Upload::default()
        }
    }

    /// Begins a multipart upload that nobody joins.
    pub(crate) fn begin_parts(&self, conversation: &str, chunk: &str) {
        let key = format!("uploads/{conversation}/{chunk}");
        self.world.begin_parts(&ObjectName { bucket: "b".to_owned(), key });
    }

    /// Appends a record in its partition, or `shift` partitions beside it, as with another partitioner.
    pub(crate) fn send(&mut self, mut record: Record, shift: i32) -> Offset {
        self.events += 1;
        if record.event_id().is_empty() {
            record.set_event_id(format!("event-{}", self.events));
        }
        record.stamp("producer", self.world.now().0);
        let own = self.partition(record.conversation_id());
        let partitions = i32::try_from(self.partitions).unwrap_or(1);
        let partition = Partition((own.0 + shift).rem_euclid(partitions));
        let key = Some(Bytes::copy_from_slice(record.conversation_id().as_bytes()));
        let to = TopicPartition { topic: topic_of(record.name()), partition };
        let headers = self.trace.iter().map(TraceParent::header).collect();
        self.world.produce(&Outgoing { to, key, value: Some(encode(&record)), headers })
    }

    /// Appends the conversation's last Finalize with another content under the same revision, as a torn transaction may.
    pub(crate) fn tear_revision(&mut self, conversation: &str) {
        let last = self.world.log().into_iter().rev().find_map(|stored| {
            let record = stored.record.value.as_ref().and_then(|value| decode(value).ok());
            record.filter(|record| {
                matches!(record, Record::Finalize(_)) && record.conversation_id() == conversation
            })
        });
        let Some(Record::Finalize(finalize)) = last else { panic!("{conversation} has no Finalize") };
        let other = Finalize { cause: "deadline".to_owned(), ..finalize };
        self.send(other.into(), 0);
    }

    /// Appends bytes that are no record, in the partition of the conversation.
    pub(crate) fn poison(&self, conversation: &str, key: Option<&str>) -> Offset {
        let to = TopicPartition { topic: Topic::Uploads, partition: self.partition(conversation) };
        let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        self.world.produce(&Outgoing {
            to,
            key,
            value: Some(Bytes::from_static(b"poison")),
            headers: Vec::new(),
        })
    }

    /// Sends all dead letters of a stage, or of all, through again; says how many.
    pub(crate) fn redrive(&self, stage: Option<hansard_schemas::Stage>, conversation: Option<&str>) -> usize {
        let mut letters = self.world.dead_letters();
        letters.retain(|letter| {
            stage.is_none_or(|stage| stage == letter.id.stage)
                && conversation.is_none_or(|id| id == letter.conversation)
        });
        for letter in &letters {
            let topic = Topics::default().name(letter.id.origin.topic);
            assert!(
                letter
                    .headers
                    .iter()
                    .any(|(name, value)| name == "redelivery.origin.topic" && *value == topic)
            );
            let redrives = letter.redrives + 1;
            let headers = letter.headers.iter().map(|(name, value)| match name.as_str() {
                "redelivery.attempt" => (name.clone(), Bytes::from_static(b"0")),
                "redelivery.redrives" => (name.clone(), Bytes::from(redrives.to_string())),
                _ => (name.clone(), value.clone()),
            });
            let partition = letter.id.origin.partition;
            let to = TopicPartition { topic: Topic::Retry(letter.id.stage, 1), partition };
            let out = Outgoing {
                to,
                key: letter.key.clone(),
                value: letter.value.clone(),
                headers: headers.collect(),
            };
            self.world.produce(&out);
            self.world.judge_redriven(letter);
        }
        letters.len()
    }
}
