//! What changes or removes a conversation from outside: running a stage again, and erasing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hansard_schemas::{Erase, Keep, Options, Rerun, Topic};
use serde::{Deserialize, Serialize};

use crate::Gateway;
use crate::caller::{Caller, Role};
use crate::problem::Problem;
use crate::request::{Call, Named, Sent};

const DAY_MS: i64 = 86_400_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Again {
    stage: String,
    #[serde(default = "failed")]
    only: String,
    options: Option<Options>,
}

fn failed() -> String {
    "failed".to_owned()
}

#[derive(Serialize)]
pub(crate) struct RerunAccepted {
    id: String,
    stage: String,
    generation: i64,
}

/// Runs a stage again under a new generation.
pub(crate) async fn rerun(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    call: Call,
    Named { id, .. }: Named,
    sent: Sent,
) -> Result<(StatusCode, Json<RerunAccepted>), Problem> {
    caller.demand(Role::Operator)?;
    let again: Again = sent.json().await?;
    // A rerun of something unknown would open a window that nobody ever fills.
    gateway.rows(&id).await?;
    let record = Rerun {
        conversation_id: id.clone(),
        stage: again.stage.clone(),
        only: again.only,
        options: again.options,
        ..Default::default()
    };
    let offset = gateway.append(call, record).await?;
    let accepted = RerunAccepted { id, stage: again.stage, generation: offset.generation().0 };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erasing {
    reason: Option<String>,
}

/// Says what is gone when.
#[derive(Serialize)]
pub(crate) struct Receipt {
    id: String,
    accepted_at: i64,
    offset: i64,
    /// By then sweep has deleted the recordings, segments, documents and providers' copies; it goes on later while a
    /// dependency is down. Null where it is configured to delete nothing.
    objects_gone_by: Option<i64>,
    /// From then on no topic holds what was said.
    texts_gone_by: i64,
    /// From then on no topic holds any record, but the tombstone of the status.
    records_gone_by: i64,
}

/// Erases a conversation for good. The jobs carry it out; the receipt says by when the objects are gone, by the times of
/// sweep, and the log's copies, by the catalogue's retention.
pub(crate) async fn erase(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    call: Call,
    Named { id, .. }: Named,
    sent: Sent,
) -> Result<(StatusCode, Json<Receipt>), Problem> {
    caller.demand(Role::Operator)?;
    let erasing: Erasing = sent.json().await?;
    let record = Erase {
        conversation_id: id.clone(),
        requested_by: Some(caller.name().to_owned()),
        reason: Some(erasing.reason.unwrap_or_else(|| "request".to_owned())),
        ..Default::default()
    };
    let offset = gateway.append(call, record).await?;
    let now = gateway.ports.clock.now().0;
    let gone_by = |topics: &dyn Fn(&Topic) -> bool| {
        let days = Topic::all().filter(topics).filter_map(|topic| match topic.keep() {
            Keep::Days(days) => Some(i64::from(days)),
            Keep::Latest => None,
        });
        now + days.max().unwrap_or(0) * DAY_MS
    };
    let receipt = Receipt {
        id,
        accepted_at: now,
        offset: offset.0,
        objects_gone_by: gateway.config.objects_gone_within.map(|within| now + within.0),
        texts_gone_by: gone_by(&|topic| topic.carries_text()),
        records_gone_by: gone_by(&|_| true),
    };
    Ok((StatusCode::ACCEPTED, Json(receipt)))
}
