//! Server-sent events: what happens to one conversation, as it enters the log, without what was said.
//!
//! An event's id holds the positions behind it in the topics that are read, so that a browser that comes back with
//! `Last-Event-ID` misses nothing and any instance can serve it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt};
use hansard_core::id::Offset;
use hansard_runtime::ports::log::{LogError, LogRecord, TopicPartition};
use hansard_schemas::{Record, Topic};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::Gateway;
use crate::caller::{Caller, Role};
use crate::problem::{Code, Problem};
use crate::request::Named;

/// What is read, in the order of the positions in an event's id.
const TOPICS: [Topic; 8] = [
    Topic::Uploads,
    Topic::Splits,
    Topic::Transcripts,
    Topic::Failures,
    Topic::Finalizes,
    Topic::Merges,
    Topic::Summaries,
    Topic::Conversations,
];
/// Bytes of one read of a topic.
const READ_BYTES: usize = 1 << 20;
/// How long a read waits for the next record.
const READ_WAIT: Duration = Duration::from_secs(15);
/// Events that wait for a slow reader; then reading waits.
const WAITING_MAX: usize = 64;

/// A record of one topic, and the position behind it.
struct Arrived {
    topic: usize,
    position: Offset,
    /// None where only the position moved.
    told: Option<(&'static str, Value)>,
}

/// Streams the events of a conversation from now on, or from behind `Last-Event-ID`.
pub(crate) async fn events(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    Named { id, .. }: Named,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    caller.demand_for(Role::Reader, &id)?;
    let permit = gateway.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::new(Code::TooManyStreams, "too many event streams are open, poll the status instead")
    })?;
    let seen =
        headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(read_positions).transpose()?;
    let from = match seen {
        Some(positions) => positions,
        None => gateway.ends(&id).await?,
    };
    let stream = gateway.stream(id, from, permit);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

fn read_positions(id: &str) -> Result<[Offset; TOPICS.len()], Problem> {
    let unknown = || Problem::new(Code::InvalidCursor, "send `Last-Event-ID` as an event gave it");
    let offsets = id.split('-').map(|offset| offset.parse().map(Offset).map_err(|_| unknown()));
    let offsets: Vec<Offset> = offsets.collect::<Result<_, _>>()?;
    offsets.try_into().map_err(|_| unknown())
}

fn write_positions(positions: &[Offset]) -> String {
    let texts: Vec<String> = positions.iter().map(|position| position.0.to_string()).collect();
    texts.join("-")
}

impl Gateway {
    /// The high watermarks of the conversation's partitions: from here on is now.
    async fn ends(&self, id: &str) -> Result<[Offset; TOPICS.len()], Problem> {
        let places = TOPICS.map(|topic| self.place(topic, id));
        let ends: Vec<Offset> =
            self.ports.log.ends(&places).await?.into_iter().map(|range| range.end).collect();
        ends.try_into().map_err(|_| Problem::new(Code::Internal, "the log gave other partitions"))
    }

    fn stream(
        self: Arc<Self>,
        id: String,
        mut positions: [Offset; TOPICS.len()],
        permit: OwnedSemaphorePermit,
    ) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
        let (sender, mut arriving) = mpsc::channel::<Arrived>(WAITING_MAX);
        for (topic, (of, from)) in TOPICS.into_iter().zip(positions).enumerate() {
            let tail = Tail { gateway: self.clone(), id: id.clone(), topic, place: self.place(of, &id) };
            tokio::spawn(tail.run(from, sender.clone()));
        }
        // The first event carries an id at once, so that even a reader who saw nothing yet comes back to its place.
        let hello = Event::default().event("hello").id(write_positions(&positions)).data("{}");
        let rest = futures::stream::poll_fn(move |context| {
            let _held = &permit;
            arriving.poll_recv(context)
        });
        let rest = rest.filter_map(move |arrived| {
            positions[arrived.topic] = positions[arrived.topic].max(arrived.position);
            let event = arrived.told.map(|(name, data)| {
                Ok(Event::default().event(name).id(write_positions(&positions)).data(data.to_string()))
            });
            futures::future::ready(event)
        });
        futures::stream::once(futures::future::ready(Ok(hello))).chain(rest)
    }
}

/// Reads one topic's partition until the reader of the events is gone.
struct Tail {
    gateway: Arc<Gateway>,
    id: String,
    topic: usize,
    place: TopicPartition,
}

impl Tail {
    async fn run(self, mut from: Offset, sender: mpsc::Sender<Arrived>) {
        loop {
            let read = self.gateway.ports.log.read(self.place, from, READ_BYTES, READ_WAIT);
            let fetched = tokio::select! {
                fetched = read => fetched,
                () = sender.closed() => return,
            };
            let fetched = match fetched {
                Ok(fetched) => fetched,
                Err(LogError::OutOfRange { begins, .. }) => {
                    // What the log no longer holds cannot be told; the status still shows it.
                    from = begins;
                    continue;
                }
                Err(error) => {
                    // The stream ends, and the reader comes back with the last id when the log does.
                    tracing::warn!(%error, "an event stream ends");
                    return;
                }
            };
            for record in &fetched.records {
                if record.key.as_deref() != Some(self.id.as_bytes()) {
                    continue;
                }
                let position = Offset(record.offset.0 + 1);
                let arrived = Arrived { topic: self.topic, position, told: self.told(record).await };
                if sender.send(arrived).await.is_err() {
                    return;
                }
            }
            from = fetched.position;
            let moved = Arrived { topic: self.topic, position: from, told: None };
            if sender.send(moved).await.is_err() {
                return;
            }
        }
    }

    async fn told(&self, record: &LogRecord) -> Option<(&'static str, Value)> {
        let value = record.value.as_ref()?;
        let decoded = self.gateway.ports.decode(value).await.ok()?;
        Some(told(&decoded, record.time.0))
    }
}

/// The name and content of an event: what happened to which piece, never what was said.
fn told(record: &Record, at: i64) -> (&'static str, Value) {
    match record {
        Record::Open(_) => ("open", json!({ "at": at })),
        Record::Upload(upload) => {
            ("upload", json!({ "at": at, "chunk_id": upload.chunk_id, "bytes": upload.object.bytes }))
        }
        Record::Finish(finish) => ("finish", json!({ "at": at, "expected_chunks": finish.expected_chunks })),
        Record::Rerun(rerun) => ("rerun", json!({ "at": at, "stage": rerun.stage, "only": rerun.only })),
        Record::Erase(_) => ("erase", json!({ "at": at })),
        Record::Split(split) => (
            "split",
            json!({ "at": at, "chunk_id": split.chunk_id, "segments": split.segments.len(), "duration_ms": split.duration_ms }),
        ),
        Record::Transcript(transcript) => (
            "transcript",
            json!({ "at": at, "chunk_id": transcript.chunk_id, "segment": transcript.segment, "generation": transcript.generation }),
        ),
        Record::Failure(failure) => (
            "failure",
            json!({
                "at": at, "stage": failure.stage, "class": failure.class, "code": failure.code,
                "chunk_id": failure.chunk_id, "segment": failure.segment, "revision": failure.revision,
                "attempt": failure.attempt, "terminal": failure.terminal, "retry_at": failure.retry_at,
            }),
        ),
        Record::Finalize(finalize) => (
            "finalize",
            json!({
                "at": at, "revision": finalize.revision, "outcome": finalize.outcome, "cause": finalize.cause,
                "counts": finalize.counts,
            }),
        ),
        Record::Merge(merge) => (
            "merge",
            json!({ "at": at, "revision": merge.revision, "outcome": merge.outcome, "code": merge.code }),
        ),
        Record::Summary(summary) => (
            "summary",
            json!({ "at": at, "revision": summary.revision, "outcome": summary.outcome, "code": summary.code }),
        ),
        Record::Conversation(conversation) => (
            "conversation",
            json!({
                "at": at, "status": conversation.status, "revision": conversation.revision,
                "outcome": conversation.outcome, "erased": conversation.erased,
            }),
        ),
        Record::Segment(_) | Record::Callback(_) | Record::Delivery(_) => ("other", json!({ "at": at })),
    }
}

#[cfg(test)]
mod tests {
    use hansard_schemas::{Summary, Transcript};

    use super::*;

    #[test]
    fn positions_are_read_back() {
        let positions = [0, 1, 2, 3, 4, 5, 6, 9_000_000].map(Offset);
        assert_eq!(read_positions(&write_positions(&positions)).expect("ours"), positions);
        for bad in ["", "1", "1-2-3-4-5-6-7-x", "1-2-3-4-5-6-7-8-9"] {
            assert_eq!(read_positions(bad).expect_err(bad).code, Code::InvalidCursor);
        }
    }

    #[test]
    fn events_never_carry_what_was_said() {
        let transcript = Transcript { text: "secret words".to_owned(), ..Default::default() };
        let summary = Summary { text: Some("secret words".to_owned()), ..Default::default() };
        for record in [Record::from(transcript), Record::from(summary)] {
            let (_, data) = told(&record, 0);
            assert!(!data.to_string().contains("secret"), "{data}");
        }
    }
}
