//! The records of a topic as JSON lines, for operators: with everything in them, also what was said.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hansard_core::id::{Offset, Partition};
use hansard_runtime::ports::log::{LogError, LogRecord, TopicPartition};
use hansard_schemas::Topic;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::Gateway;
use crate::caller::{Caller, Role};
use crate::problem::{Code, Problem};
use crate::read::as_json;
use crate::request::Asked;

/// Bytes of one read of a partition.
const READ_BYTES: usize = 1 << 20;
/// How long a read waits for the next record.
const READ_WAIT: Duration = Duration::from_secs(15);
/// Lines that wait for a slow reader; then reading waits.
const WAITING_MAX: usize = 64;

#[derive(Deserialize)]
pub(crate) struct TailAsked {
    /// From the beginning of the log instead of its present end.
    #[serde(default)]
    from_beginning: bool,
    /// Only up to the present end of the log.
    #[serde(default)]
    once: bool,
}

/// Streams a topic's records, one JSON object a line: the record's own fields, and in `log` where it stands. Partitions
/// are in order each, and mixed with one another.
pub(crate) async fn tail(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Path(topic): Path<String>,
    Asked(asked): Asked<TailAsked>,
) -> Result<Response, Problem> {
    caller.demand(Role::Operator)?;
    let topic: Topic = topic.parse().map_err(|_| Problem::new(Code::NoRoute, "there is no such topic"))?;
    let permit = gateway.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::new(Code::TooManyStreams, "too many streams are open, end one or try again later")
    })?;
    let count = i32::try_from(gateway.ports.log.partitions()).unwrap_or(i32::MAX);
    let places: Vec<TopicPartition> =
        (0..count).map(|number| TopicPartition { topic, partition: Partition(number) }).collect();
    let ranges = gateway.ports.log.ends(&places).await?;
    let (sender, mut lines) = mpsc::channel(WAITING_MAX);
    for (place, range) in places.into_iter().zip(ranges) {
        let from = if asked.from_beginning { range.start } else { range.end };
        let until = asked.once.then_some(range.end);
        tokio::spawn(gateway.clone().read_on(place, from, until, sender.clone()));
    }
    drop(sender);
    let stream = futures::stream::poll_fn(move |context| {
        let _held = &permit;
        lines.poll_recv(context).map(|line| line.map(Ok::<Bytes, Infallible>))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response())
}

impl Gateway {
    /// Reads one partition until its reader is gone, or up to `until`.
    async fn read_on(
        self: Arc<Self>,
        place: TopicPartition,
        mut from: Offset,
        until: Option<Offset>,
        sender: mpsc::Sender<Bytes>,
    ) {
        while until.is_none_or(|until| from < until) {
            let read = self.ports.log.read(place, from, READ_BYTES, READ_WAIT);
            let fetched = tokio::select! {
                fetched = read => fetched,
                () = sender.closed() => return,
            };
            let fetched = match fetched {
                Ok(fetched) => fetched,
                Err(LogError::OutOfRange { begins, .. }) => {
                    // Retention went past this place meanwhile.
                    from = begins;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "a tail ends");
                    return;
                }
            };
            let wanted = |record: &&LogRecord| until.is_none_or(|until| record.offset < until);
            for record in fetched.records.iter().filter(wanted) {
                let line = format!("{}\n", self.shown(place, record).await);
                if sender.send(Bytes::from(line)).await.is_err() {
                    return;
                }
            }
            from = fetched.position;
        }
    }

    /// A record with where it stands; what cannot be read is shown as that.
    async fn shown(&self, place: TopicPartition, record: &LogRecord) -> Value {
        let mut shown = match &record.value {
            None => json!({ "record": null }),
            Some(value) => match self.ports.decode(value).await {
                Ok(decoded) => as_json(&decoded).unwrap_or_default(),
                Err(error) => json!({ "record": null, "undecodable": error.cause }),
            },
        };
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let headers = record.headers.iter().map(|(name, value)| (name.clone(), Value::from(text(value))));
        shown["log"] = json!({
            "topic": place.topic.to_string(),
            "partition": place.partition.0,
            "offset": record.offset.0,
            "at": record.time.0,
            "key": record.key.as_ref().map(text),
            "headers": Value::Object(headers.collect()),
        });
        shown
    }
}
