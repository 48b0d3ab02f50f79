//! What an orchestrator and Prometheus ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hansard_core::id::Partition;
use hansard_runtime::ports::Ports;
use hansard_runtime::ports::log::TopicPartition;
use hansard_schemas::Topic;
use prometheus::TextEncoder;
use serde_json::json;
use tokio::sync::watch;

use crate::caller::{Caller, Role};
use crate::problem::{Code, Problem};
use crate::{Gateway, Surface};

/// How long a probe waits for a dependency.
const PATIENCE: Duration = Duration::from_secs(3);

/// The process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// The probes of a process that cannot begin yet: it is alive, and not ready for want of what `awaited` names.
pub fn starting(awaited: watch::Receiver<&'static str>) -> Router {
    let readyz = async move || {
        let why = BTreeMap::from([(*awaited.borrow(), "is waited for")]);
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "why": why })))
    };
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// Whether this process does its work. A gateway serves calls; without the database uploads still are served, so that
/// alone does not take it out. A process without one is ready when every job has been assigned its partitions, and neither
/// a job nor a probe finds a dependency down, of which the registry is one where the deployment has it. Why it is not is
/// told to operators only: it names hosts.
pub(crate) async fn readyz(
    State(gateway): State<Arc<Gateway>>,
    Extension(surface): Extension<Surface>,
    caller: Result<Caller, Problem>,
) -> Response {
    let place = [TopicPartition { topic: Topic::Uploads, partition: Partition(0) }];
    let Ports { log, objects, facts, schemas, .. } = &gateway.ports;
    let dependencies = tokio::join!(
        in_time(async { log.ends(&place).await.map(drop).map_err(|error| error.to_string()) }),
        in_time(async {
            // A bucket that is not there cannot be told from an object that is not, but by looking into it.
            let found = objects.list(&gateway.config.bucket, "uploads/", None, 1).await;
            found.map(drop).map_err(|error| error.to_string())
        }),
        in_time(async { facts.conversations(None, 1).await.map(drop).map_err(|error| error.to_string()) }),
        in_time(async {
            match schemas {
                Some(registry) => registry.probe().await.map_err(|error| error.to_string()),
                None => Ok(()),
            }
        }),
    );
    let (log, objects, database, registry) = &dependencies;
    let named = [("log", log), ("objects", objects), ("database", database), ("registry", registry)];
    let down = named.iter().filter_map(|(name, answer)| Some((*name, answer.as_ref().err()?.clone())));
    let standings = gateway.families.standings();
    let idle = standings.iter().filter_map(|(job, standing)| Some((*job, standing.why_not()?)));
    let why: BTreeMap<&str, String> = down.chain(idle).collect();
    let ready = match surface {
        Surface::Probes => why.is_empty(),
        Surface::Everything | Surface::Public => log.is_ok() && objects.is_ok(),
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({
        "ready": ready,
        "log": log.is_ok(),
        "objects": objects.is_ok(),
        "database": database.is_ok(),
    });
    if schemas.is_some() {
        body["registry"] = json!(registry.is_ok());
    }
    if is_operator(surface, caller).is_ok() {
        body["why"] = json!(why);
    }
    (status, Json(body)).into_response()
}

/// A listener for probes alone is for operators alone.
fn is_operator(surface: Surface, caller: Result<Caller, Problem>) -> Result<(), Problem> {
    match surface {
        Surface::Probes => Ok(()),
        Surface::Public => Err(Problem::new(Code::NoRoute, "there is no such call, see /openapi.json")),
        Surface::Everything => caller?.demand(Role::Operator),
    }
}

async fn in_time(probe: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, probe).await.unwrap_or_else(|_| late())
}

/// All metrics of the process in Prometheus' text format.
pub(crate) async fn metrics(
    State(gateway): State<Arc<Gateway>>,
    Extension(surface): Extension<Surface>,
    caller: Result<Caller, Problem>,
) -> Result<Response, Problem> {
    is_operator(surface, caller)?;
    let text = TextEncoder::new()
        .encode_to_string(&gateway.families.registry().gather())
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
