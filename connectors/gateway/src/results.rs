//! What a conversation gave: transcript, summary, merged audio; and before that, why not yet.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use hansard_core::document::{Document, Gap, Line, Word};
use hansard_core::export::{to_srt, to_text, to_vtt};
use hansard_core::id::Millis;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::objects::ObjectName;
use hansard_schemas::{Failure, Summary};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Gateway;
use crate::caller::{Caller, Role};
use crate::problem::{Code, Problem};
use crate::read::as_json;
use crate::request::{Asked, Named};
use crate::view::View;

/// A transcript document is read whole: 10,000 segments with words take about 20 MB.
const DOCUMENT_BYTES_MAX: usize = 256 << 20;

#[derive(Deserialize)]
pub(crate) struct TranscriptAsked {
    format: Option<String>,
    revision: Option<i32>,
}

#[derive(Deserialize)]
pub(crate) struct RevisionAsked {
    revision: Option<i32>,
    redirect: Option<bool>,
}

/// The forms of a transcript.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Text,
    Srt,
    Vtt,
}

impl Format {
    fn of(name: Option<&str>) -> Result<Self, Problem> {
        match name.unwrap_or("json") {
            "json" => Ok(Self::Json),
            "txt" => Ok(Self::Text),
            "srt" => Ok(Self::Srt),
            "vtt" => Ok(Self::Vtt),
            _ => Err(Problem::new(Code::InvalidRequest, "format must be json, txt, srt or vtt")),
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
            Self::Srt => "application/x-subrip; charset=utf-8",
            Self::Vtt => "text/vtt; charset=utf-8",
        }
    }
}

/// The transcript of the newest revision that has one, or of the one asked for.
pub(crate) async fn transcript(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Named { id, .. }: Named,
    Asked(asked): Asked<TranscriptAsked>,
) -> Result<Response, Problem> {
    caller.demand(Role::Reader)?;
    let format = Format::of(asked.format.as_deref())?;
    let rows = gateway.rows(&id).await?;
    let view = gateway.view(&rows);
    let revision = wanted(&view, asked.revision)?;
    let key = gateway.document_key(&view, &id, asked.revision, revision).await?;
    let bytes = gateway.document(key).await?;
    let body = match format {
        Format::Json => bytes,
        _ => {
            let document: Wire = serde_json::from_slice(&bytes).map_err(|error| {
                tracing::error!(%error, conversation = id, "a transcript document cannot be read");
                Problem::new(Code::Internal, "the transcript document cannot be read")
            })?;
            let document = Document::from(document);
            let text = match format {
                Format::Srt => to_srt(&document),
                Format::Vtt => to_vtt(&document),
                Format::Json | Format::Text => to_text(&document),
            };
            text.into_bytes()
        }
    };
    let media_type = HeaderValue::from_static(format.media_type());
    Ok(([(header::CONTENT_TYPE, media_type)], body).into_response())
}

/// The revision asked for, or the latest; an error where there is none.
fn wanted(view: &View<'_>, revision: Option<i32>) -> Result<i32, Problem> {
    let latest = view.window.revision().0;
    match revision {
        _ if latest == 0 => {
            let detail = format!("the conversation is {}, see explain for what is awaited", view.status());
            Err(Problem::new(Code::NotFinalized, detail))
        }
        None => Ok(latest),
        Some(revision) if (1..=latest).contains(&revision) => Ok(revision),
        Some(_) => Err(Problem::new(Code::UnknownRevision, format!("the latest revision is {latest}"))),
    }
}

impl Gateway {
    /// The document's key: from the Summary; where the summary is late or failed, from the store, since the document is
    /// written before the summary is asked for.
    async fn document_key(
        &self,
        view: &View<'_>,
        id: &str,
        asked: Option<i32>,
        revision: i32,
    ) -> Result<String, Problem> {
        let of = |summary: &&&Summary| asked.is_none_or(|asked| summary.revision == asked);
        let summaries = view.summaries.iter().rev().filter(of);
        let newest = summaries
            .filter(|summary| summary.transcript_key.is_some())
            .max_by_key(|summary| summary.revision);
        if let Some(summary) = newest.filter(|summary| summary.revision == revision || asked.is_some()) {
            return Ok(summary.transcript_key.clone().unwrap_or_default());
        }
        let prefix = format!("transcripts/{id}/{revision}-");
        let found = self.ports.objects.list(&self.config.bucket, &prefix, None, 1).await?;
        if let Some((key, _)) = found.into_iter().next() {
            return Ok(key);
        }
        if let Some(key) = newest.and_then(|summary| summary.transcript_key.clone()) {
            return Ok(key);
        }
        Err(match view.terminal("summarize", revision) {
            Some(failure) => failed(Code::TranscriptFailed, failure),
            None => {
                Problem::new(Code::TranscriptPending, "the transcript of the revision is not written yet")
            }
        })
    }

    async fn document(&self, key: String) -> Result<Vec<u8>, Problem> {
        let name = ObjectName { bucket: self.config.bucket.clone(), key };
        let mut body = self.ports.objects.get(&name, None).await?;
        let mut whole = Vec::new();
        while let Some(bytes) = body.try_next().await? {
            if whole.len() + bytes.len() > DOCUMENT_BYTES_MAX {
                return Err(Problem::new(Code::Internal, "the transcript document is too large to be read"));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}

fn failed(code: Code, failure: &Failure) -> Problem {
    Problem::new(code, failure.message.clone()).because(Some(failure.code.clone()))
}

/// The summary of the newest revision that has one, or of the one asked for.
pub(crate) async fn summary(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Named { id, .. }: Named,
    Asked(asked): Asked<RevisionAsked>,
) -> Result<Json<Value>, Problem> {
    caller.demand(Role::Reader)?;
    let rows = gateway.rows(&id).await?;
    let view = gateway.view(&rows);
    let revision = wanted(&view, asked.revision)?;
    let found = view
        .summaries
        .iter()
        .rev()
        .find(|summary| asked.revision.is_none_or(|asked| summary.revision == asked));
    let failure = view.terminal("summarize", revision);
    match (found, failure) {
        (Some(summary), _) if summary.outcome == "done" => {
            let mut answer = as_json(summary)?;
            // The newest summary may be that of an older revision while the latest one's is made.
            answer["latest_revision"] = view.window.revision().0.into();
            Ok(Json(answer))
        }
        (Some(summary), _) => {
            Err(Problem::new(Code::SummaryFailed, "the summary failed").because(summary.code.clone()))
        }
        (None, Some(failure)) => Err(failed(Code::SummaryFailed, failure)),
        (None, None) => {
            Err(Problem::new(Code::SummaryPending, "the summary of the revision is not made yet"))
        }
    }
}

/// A link to the merged audio of the newest revision that has one, or of the one asked for; with `redirect=true` the
/// answer leads there at once, as a player needs it.
pub(crate) async fn audio(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Named { id, .. }: Named,
    Asked(asked): Asked<RevisionAsked>,
) -> Result<Response, Problem> {
    caller.demand(Role::Reader)?;
    let rows = gateway.rows(&id).await?;
    let view = gateway.view(&rows);
    let revision = wanted(&view, asked.revision)?;
    let found =
        view.merges.iter().rev().find(|merge| asked.revision.is_none_or(|asked| merge.revision == asked));
    let (merge, key) = match (found, view.terminal("merge", revision)) {
        (Some(merge), _) if merge.outcome == "done" && merge.key.is_some() => {
            (merge, merge.key.clone().unwrap_or_default())
        }
        (Some(merge), _) if merge.code.as_deref() == Some("no_audio") => {
            return Err(Problem::new(Code::NoAudio, "no recording of the conversation could be used"));
        }
        (Some(merge), _) => {
            return Err(
                Problem::new(Code::MergeFailed, "the audio could not be merged").because(merge.code.clone())
            );
        }
        (None, Some(failure)) => return Err(failed(Code::MergeFailed, failure)),
        (None, None) => return Err(Problem::new(Code::MergePending, "the audio is not merged yet")),
    };
    let name = ObjectName { bucket: gateway.config.bucket.clone(), key };
    let file_name = format!("{id}-{}.{}", merge.revision, merge.format.as_deref().unwrap_or("bin"));
    let lifetime = gateway.config.limits.link_lifetime;
    let link = gateway.presign.get(&name, &file_name, lifetime).await?;
    if asked.redirect.unwrap_or(false) {
        let location = HeaderValue::from_str(&link.url)
            .map_err(|_| PortError::Refused { service: "s3", cause: "a link is no header".to_owned() })?;
        return Ok((StatusCode::FOUND, [(header::LOCATION, location)]).into_response());
    }
    let lifetime_ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
    let peaks_url = match &merge.peaks_key {
        Some(key) => {
            let name = ObjectName { bucket: gateway.config.bucket.clone(), key: key.clone() };
            let file_name = format!("{id}-{}.peaks.json", merge.revision);
            Some(gateway.presign.get(&name, &file_name, lifetime).await?.url)
        }
        None => None,
    };
    Ok(Json(json!({
        "url": link.url,
        "peaks_url": peaks_url,
        "expires_at": view.now.0.saturating_add(lifetime_ms),
        "revision": merge.revision,
        "latest_revision": view.window.revision().0,
        "format": merge.format,
        "bytes": merge.bytes,
        "duration_ms": merge.duration_ms,
        "sha256": merge.sha256,
        "inputs": merge.inputs,
    }))
    .into_response())
}

/// The document as it is kept; core writes it and, being without serde, does not read it.
#[derive(Deserialize)]
struct Wire {
    conversation_id: String,
    revision: i32,
    outcome: String,
    finalize_digest: String,
    duration_ms: i64,
    language: Option<String>,
    lines: Vec<WireLine>,
    gaps: Vec<WireGap>,
    gaps_truncated: bool,
}

#[derive(Deserialize)]
struct WireLine {
    track: String,
    chunk_id: String,
    segment: u32,
    start_ms: i64,
    end_ms: i64,
    speaker: Option<String>,
    text: String,
    words: Vec<WireWord>,
}

#[derive(Deserialize)]
struct WireWord {
    text: String,
    start_ms: i64,
    end_ms: i64,
    confidence: Option<f32>,
    speaker: Option<String>,
}

#[derive(Deserialize)]
struct WireGap {
    track: String,
    status: String,
    code: String,
    chunk_id: Option<String>,
    segment: Option<u32>,
    sequence: Option<u32>,
}

impl From<Wire> for Document {
    fn from(wire: Wire) -> Self {
        Self {
            conversation: wire.conversation_id,
            revision: wire.revision,
            outcome: wire.outcome,
            finalize_digest: wire.finalize_digest,
            duration: Millis(wire.duration_ms),
            language: wire.language,
            lines: wire.lines.into_iter().map(line).collect(),
            gaps: wire.gaps.into_iter().map(gap).collect(),
            gaps_truncated: wire.gaps_truncated,
        }
    }
}

fn line(wire: WireLine) -> Line {
    let word = |wire: WireWord| Word {
        text: wire.text,
        start: Millis(wire.start_ms),
        end: Millis(wire.end_ms),
        confidence: wire.confidence,
        speaker: wire.speaker,
    };
    Line {
        track: wire.track,
        chunk: wire.chunk_id,
        segment: wire.segment,
        start: Millis(wire.start_ms),
        end: Millis(wire.end_ms),
        speaker: wire.speaker,
        text: wire.text,
        words: wire.words.into_iter().map(word).collect(),
    }
}

fn gap(wire: WireGap) -> Gap {
    Gap {
        track: wire.track,
        status: wire.status,
        code: wire.code,
        chunk: wire.chunk_id,
        segment: wire.segment,
        sequence: wire.sequence,
    }
}

#[cfg(test)]
mod tests {
    use hansard_core::export::to_json;

    use super::*;

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let word =
            Word { text: "a".to_owned(), start: Millis(1), confidence: Some(0.5), ..Default::default() };
        let document = Document {
            conversation: "c".to_owned(),
            revision: 2,
            outcome: "incomplete".to_owned(),
            finalize_digest: "1:00".to_owned(),
            duration: Millis(9),
            language: Some("en".to_owned()),
            lines: vec![Line {
                text: "a \"b\"\n".to_owned(),
                segment: 3,
                words: vec![word],
                ..Default::default()
            }],
            gaps: vec![Gap { code: "too_large".to_owned(), sequence: Some(4), ..Default::default() }],
            gaps_truncated: true,
        };
        let wire: Wire = serde_json::from_str(&to_json(&document)).expect("reads");
        assert_eq!(Document::from(wire), document);
    }
}
