//! Writing to the log: the only thing that the gateway changes.

use std::time::Duration;

use bytes::Bytes;
use hansard_core::id::{Offset, Partition};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::facts::Erasure;
use hansard_runtime::ports::log::{Outgoing, TopicPartition};
use hansard_runtime::ports::traces::Description;
use hansard_runtime::trace::Work;
use hansard_schemas::limits::check_record_bytes;
use hansard_schemas::{Record, Topic, partition_for, topic_of, validate};

use crate::Gateway;
use crate::problem::{Code, Problem};
use crate::request::Call;

impl Gateway {
    /// The partition of a conversation, the same in every topic.
    pub(crate) fn partition(&self, conversation: &str) -> Partition {
        Partition(partition_for(conversation.as_bytes(), self.ports.log.partitions()))
    }

    /// One of its partitions.
    pub(crate) fn place(&self, topic: Topic, conversation: &str) -> TopicPartition {
        TopicPartition { topic, partition: self.partition(conversation) }
    }

    /// A fresh name that nobody else will ever have.
    pub(crate) fn fresh(&self) -> String {
        hex::encode(self.ports.entropy.id())
    }

    /// Appends a record, as part of the caller's trace or of the conversation's own, and waits until it is durable.
    pub(crate) async fn append(&self, call: Call, record: impl Into<Record>) -> Result<Offset, Problem> {
        let mut record = record.into();
        record.stamp("gateway", self.ports.clock.now().0);
        if record.event_id().is_empty() {
            record.set_event_id(self.fresh());
        }
        validate(&record)?;
        let value = self.ports.framing.encode(&record);
        check_record_bytes(value.len())?;
        let conversation = record.conversation_id();
        let work = Work::begin(&self.ports, self.ports.place(call.trace, conversation), call.begun);
        let outgoing = Outgoing {
            to: self.place(topic_of(record.name()), conversation),
            key: Some(Bytes::copy_from_slice(conversation.as_bytes())),
            value: Some(value),
            headers: vec![work.place().header()],
        };
        let appended = self.ports.log.append(vec![outgoing]).await.map_err(Problem::from);
        work.end(self.ports.clock.now(), || Description {
            job: "gateway",
            name: format!("gateway {}", record.name().as_str()),
            attributes: vec![("hansard.conversation", conversation.to_owned())],
            failed: appended.as_ref().err().map(|problem| problem.code.as_str()),
        });
        let offsets = appended?;
        offsets.first().copied().ok_or_else(|| Problem::new(Code::Internal, "the log gave no offset"))
    }

    /// Refuses an erased conversation, as far as the database can be asked: ingest works without it, and the stages look
    /// at the marker themselves.
    pub(crate) async fn refuse_erased(&self, conversation: &str) -> Result<(), Problem> {
        match self.opinion(self.ports.facts.erasure(conversation)).await {
            Some(Some(marker)) => Err(erased(&marker)),
            _ => Ok(()),
        }
    }

    /// What the database says, if it says something in time.
    pub(crate) async fn opinion<T>(&self, asked: impl Future<Output = Result<T, PortError>>) -> Option<T> {
        let patience: Duration = self.config.limits.database_patience;
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the database was not asked, ingest goes on");
                None
            }
            Err(_) => {
                tracing::warn!("the database did not answer in time, ingest goes on");
                None
            }
        }
    }
}

/// The answer about an erased conversation.
pub(crate) fn erased(marker: &Erasure) -> Problem {
    let detail = format!("the conversation was erased at {}", marker.time.0);
    Problem::new(Code::Erased, detail).because(Some(marker.reason.clone()))
}
