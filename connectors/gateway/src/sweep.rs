//! Sweeping on an operator's word: the port to the job, and the call.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use crate::Gateway;
use crate::caller::{Caller, Role};
use crate::problem::Problem;
use crate::request::Asked;

/// The job sweep, for a run beside those by its clock.
///
/// An implementation must give: one run and its report, which says what was done or, with `dry_run`, would be; with it
/// nothing is changed. A run that is dropped midway, or meets another, does no harm.
#[async_trait]
pub trait Sweeper: Send + Sync {
    /// Runs once.
    async fn sweep(&self, dry_run: bool) -> Result<Value, Problem>;
}

#[derive(Deserialize)]
pub(crate) struct Asking {
    #[serde(default)]
    dry_run: bool,
}

/// Runs sweep once, and answers with its report.
pub(crate) async fn sweep(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Asked(asked): Asked<Asking>,
) -> Result<Json<Value>, Problem> {
    caller.demand(Role::Operator)?;
    tracing::info!(dry_run = asked.dry_run, by = caller.name(), "a sweep was asked for");
    gateway.sweeper.sweep(asked.dry_run).await.map(Json)
}
