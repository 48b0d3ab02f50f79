//! What a conversation is waiting for: core's explanation, with the attempts and offsets behind each awaited piece.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use hansard_core::status::{Awaited, explain as explained};
use serde::Serialize;
use serde_json::Value;

use crate::Gateway;
use crate::caller::{Caller, Role};
use crate::problem::Problem;
use crate::read::as_json;
use crate::request::Named;
use crate::shape::Cause;
use crate::view::View;

#[derive(Serialize)]
struct Explanation<'a> {
    id: &'a str,
    status: &'static str,
    revision: i32,
    conflicting_revision: bool,
    awaited_total: u64,
    awaited: Vec<Owed<'a>>,
    closing_at: Option<i64>,
    look_at: Option<i64>,
    judged_at: i64,
    partition: i32,
}

#[derive(Serialize)]
struct Owed<'a> {
    owner: &'static str,
    since: Option<i64>,
    track: Option<&'a str>,
    chunk_id: Option<&'a str>,
    sequence: Option<u32>,
    segment: Option<u32>,
    generation: i64,
    /// Of the record that is being worked on: the Upload in `uploads`, or the Split in `splits`.
    input_offset: Option<i64>,
    last_failure: Option<Cause<'a>>,
}

impl<'a> Owed<'a> {
    fn of(view: &'a View<'a>, awaited: &'a Awaited) -> Self {
        let chunk = awaited.chunk.as_ref();
        let upload = chunk.and_then(|chunk| view.window.standing_upload(chunk)).map(|upload| upload.offset.0);
        let split = chunk.and_then(|chunk| view.window.standing_split(chunk)).map(|cut| cut.offset.0);
        let failure = chunk.and_then(|chunk| view.last_failure(chunk.as_str(), awaited.segment));
        Self {
            owner: awaited.owner.as_str(),
            since: awaited.since.map(|since| since.0),
            track: awaited.track.as_ref().map(|track| track.as_str()),
            chunk_id: chunk.map(|chunk| chunk.as_str()),
            sequence: awaited.sequence,
            segment: awaited.segment,
            generation: awaited.generation.0,
            input_offset: if awaited.segment.is_some() { split } else { upload },
            last_failure: failure.map(Cause::of),
        }
    }
}

/// What is awaited, since when, who owes it, and when it is looked at next.
pub(crate) async fn explain(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Named { id, .. }: Named,
) -> Result<Json<Value>, Problem> {
    caller.demand_for(Role::Reader, &id)?;
    let rows = gateway.rows(&id).await?;
    let view = gateway.view(&rows);
    let explanation = explained(&view.window, &view.rules, view.now);
    let answer = Explanation {
        id: &id,
        status: explanation.status.as_str(),
        revision: explanation.revision.0,
        conflicting_revision: view.window.contents_of_revision() > 1,
        awaited_total: explanation.awaited_total,
        awaited: explanation.awaited.iter().map(|awaited| Owed::of(&view, awaited)).collect(),
        closing_at: explanation.closing_at.map(|at| at.0),
        look_at: explanation.look_at.map(|at| at.0),
        judged_at: view.now.0,
        partition: gateway.partition(&id).0,
    };
    as_json(&answer).map(Json)
}
