//! The JSON that callers read about a conversation; described in `openapi.json`.

use std::collections::BTreeMap;

use hansard_runtime::ports::facts::Row;
use hansard_schemas::Failure;
use serde::Serialize;

/// A conversation with all its pieces.
#[derive(Serialize)]
pub(crate) struct Conversation<'a> {
    #[serde(flatten)]
    pub(crate) summary: Listed<'a>,
    pub(crate) chunks: Vec<Chunk<'a>>,
    pub(crate) failures: Vec<Failed<'a>>,
    pub(crate) failures_total: usize,
    pub(crate) links: Links,
}

/// A conversation in a list.
#[derive(Serialize)]
pub(crate) struct Listed<'a> {
    pub(crate) id: String,
    pub(crate) title: Option<&'a str>,
    pub(crate) external_ref: Option<&'a str>,
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
    pub(crate) status: &'static str,
    pub(crate) revision: i32,
    pub(crate) outcome: Option<&'a str>,
    pub(crate) cause: Option<&'a str>,
    /// Two contents of the latest revision were read; the next one settles it.
    pub(crate) conflicting_revision: bool,
    pub(crate) finish_received: bool,
    pub(crate) progress: Progress,
    pub(crate) merge: Option<Answer<'a>>,
    pub(crate) summary: Option<Answer<'a>>,
}

#[derive(Serialize)]
pub(crate) struct Progress {
    pub(crate) chunks: u64,
    pub(crate) split: usize,
    pub(crate) segments: u64,
    pub(crate) transcribed: u64,
    pub(crate) failed: u64,
    pub(crate) missing: u64,
}

#[derive(Serialize)]
pub(crate) struct Answer<'a> {
    pub(crate) outcome: &'a str,
    pub(crate) code: Option<&'a str>,
}

#[derive(Serialize)]
pub(crate) struct Chunk<'a> {
    pub(crate) chunk_id: &'a str,
    pub(crate) track: &'a str,
    pub(crate) sequence: Option<i64>,
    pub(crate) status: &'static str,
    pub(crate) recorded_at: i64,
    pub(crate) received_at: i64,
    pub(crate) offset: i64,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) bytes: i64,
    pub(crate) key: &'a str,
    pub(crate) upload_digest: String,
    pub(crate) duration_ms: Option<i64>,
    pub(crate) truncated: bool,
    pub(crate) segments_total: usize,
    pub(crate) transcribed: usize,
    pub(crate) failed: usize,
    pub(crate) failure: Option<Cause<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segments: Option<Vec<Segment<'a>>>,
}

#[derive(Serialize)]
pub(crate) struct Segment<'a> {
    pub(crate) index: i32,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) status: &'static str,
    pub(crate) generation: Option<i64>,
    pub(crate) provider: Option<&'a str>,
    pub(crate) model: Option<&'a str>,
    pub(crate) language: Option<&'a str>,
    pub(crate) failure: Option<Cause<'a>>,
}

/// Why a piece is not there.
#[derive(Serialize)]
pub(crate) struct Cause<'a> {
    pub(crate) stage: &'a str,
    pub(crate) class: &'a str,
    pub(crate) code: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) provider: Option<&'a str>,
    pub(crate) http_status: Option<i32>,
    pub(crate) attempts: i32,
    pub(crate) terminal: bool,
    pub(crate) retry_at: Option<i64>,
}

impl<'a> Cause<'a> {
    pub(crate) fn of(failure: &'a Failure) -> Self {
        Self {
            stage: &failure.stage,
            class: &failure.class,
            code: &failure.code,
            reason: &failure.message,
            provider: failure.provider.as_deref(),
            http_status: failure.http_status,
            attempts: failure.attempt,
            terminal: failure.terminal,
            retry_at: failure.retry_at,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Failed<'a> {
    pub(crate) at: i64,
    pub(crate) chunk_id: Option<&'a str>,
    pub(crate) segment: Option<i32>,
    pub(crate) revision: Option<i32>,
    pub(crate) generation: i64,
    #[serde(flatten)]
    pub(crate) cause: Cause<'a>,
}

impl<'a> Failed<'a> {
    pub(crate) fn of(row: &Row, failure: &'a Failure) -> Self {
        Self {
            at: row.time.0,
            chunk_id: failure.chunk_id.as_deref(),
            segment: failure.segment,
            revision: failure.revision,
            generation: failure.generation,
            cause: Cause::of(failure),
        }
    }
}

/// Where to go on from here, relative to the gateway.
#[derive(Serialize)]
pub(crate) struct Links {
    #[serde(rename = "self")]
    pub(crate) own: String,
    pub(crate) explain: String,
    pub(crate) events: String,
    pub(crate) transcript: Option<String>,
    pub(crate) audio: Option<String>,
    pub(crate) summary: Option<String>,
}

impl Links {
    pub(crate) fn of(id: &str, finalized: bool) -> Self {
        let at = |call: &str| format!("/v1/conversations/{id}/{call}");
        let result = |call: &str| finalized.then(|| at(call));
        Self {
            own: format!("/v1/conversations/{id}"),
            explain: at("explain"),
            events: at("events"),
            transcript: result("transcript"),
            audio: result("audio"),
            summary: result("summary"),
        }
    }
}
