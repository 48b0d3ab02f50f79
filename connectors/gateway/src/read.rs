//! Reading about conversations: the list and the status.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use hansard_runtime::ports::facts::Row;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Gateway;
use crate::append::erased;
use crate::caller::{Caller, Role};
use crate::problem::{Code, Problem};
use crate::request::{Asked, Named};
use crate::view::View;

/// Conversations in a page, where the caller does not say.
const PAGE_DEFAULT: usize = 20;
/// Conversations that are read from the database at a time.
const READ_AT_ONCE: usize = 8;

#[derive(Deserialize)]
pub(crate) struct Page {
    cursor: Option<String>,
    limit: Option<usize>,
}

/// A page of conversations, in an order of the database's own.
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Asked(page): Asked<Page>,
) -> Result<Json<Value>, Problem> {
    caller.demand(Role::Reader)?;
    let cursor = page.cursor.as_deref().map(read_cursor).transpose()?;
    let limit = page.limit.unwrap_or(PAGE_DEFAULT).clamp(1, gateway.config.limits.page);
    let (ids, next) = gateway.ports.facts.conversations(cursor.map(Bytes::from), limit).await?;
    let listed = futures::stream::iter(ids).map(|id| {
        let gateway = gateway.clone();
        async move {
            let rows = gateway.ports.facts.read(&id).await?;
            // Erased between the two reads.
            if rows.is_empty() {
                return Ok(None);
            }
            as_json(&gateway.view(&rows).listed(&id)).map(Some)
        }
    });
    let listed: Vec<Option<Value>> = listed.buffered(READ_AT_ONCE).try_collect().await?;
    let conversations: Vec<Value> = listed.into_iter().flatten().collect();
    Ok(Json(json!({ "conversations": conversations, "next": next.map(|next| BASE64.encode(next)) })))
}

pub(crate) fn read_cursor(text: &str) -> Result<Vec<u8>, Problem> {
    let unknown = |_| Problem::new(Code::InvalidCursor, "send `cursor` as `next` gave it");
    BASE64.decode(text).map_err(unknown)
}

pub(crate) fn as_json(value: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

#[derive(Deserialize)]
pub(crate) struct Detail {
    segments: Option<bool>,
}

/// Everything about one conversation; `segments=false` leaves the segments out.
pub(crate) async fn status(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Named { id, .. }: Named,
    Asked(detail): Asked<Detail>,
) -> Result<Json<Value>, Problem> {
    caller.demand_for(Role::Reader, &id)?;
    let rows = gateway.rows(&id).await?;
    let view = gateway.view(&rows);
    as_json(&view.conversation(&id, detail.segments.unwrap_or(true))).map(Json)
}

impl Gateway {
    /// The rows of a conversation that is known and not erased.
    pub(crate) async fn rows(&self, id: &str) -> Result<Vec<Row>, Problem> {
        if let Some(marker) = self.ports.facts.erasure(id).await? {
            return Err(erased(&marker));
        }
        let rows = self.ports.facts.read(id).await?;
        if rows.is_empty() {
            return Err(Problem::new(Code::UnknownConversation, "nothing is known of this conversation yet"));
        }
        Ok(rows)
    }

    /// The rows, joined under the deployment's rules at the present time.
    pub(crate) fn view<'a>(&self, rows: &'a [Row]) -> View<'a> {
        View::of(rows, self.config.rules, self.ports.clock.now())
    }
}
