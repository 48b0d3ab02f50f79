//! What an orchestrator and Prometheus ask.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hansard_core::id::Partition;
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::log::TopicPartition;
use hansard_runtime::ports::objects::ObjectName;
use hansard_schemas::Topic;
use prometheus::TextEncoder;
use serde_json::json;

use crate::Gateway;
use crate::caller::{Caller, Role};
use crate::problem::{Code, Problem};

/// How long a probe waits for a dependency.
const PATIENCE: Duration = Duration::from_secs(3);

/// The process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether calls can be served. Without the database uploads still are, so it alone does not take the instance out.
pub(crate) async fn readyz(State(gateway): State<Arc<Gateway>>) -> Response {
    let place = [TopicPartition { topic: Topic::Uploads, partition: Partition(0) }];
    let nothing = ObjectName { bucket: gateway.config.bucket.clone(), key: "readiness".to_owned() };
    let (log, objects, database) = tokio::join!(
        in_time(async { gateway.ports.log.ends(&place).await.is_ok() }),
        in_time(async {
            matches!(gateway.ports.objects.head(&nothing).await, Ok(_) | Err(PortError::NotFound { .. }))
        }),
        in_time(async { gateway.ports.facts.conversations(None, 1).await.is_ok() }),
    );
    let ready = log && objects;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": ready, "log": log, "objects": objects, "database": database });
    (status, Json(body)).into_response()
}

async fn in_time(probe: impl Future<Output = bool>) -> bool {
    tokio::time::timeout(PATIENCE, probe).await.unwrap_or(false)
}

/// All metrics of the process in Prometheus' text format.
pub(crate) async fn metrics(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.demand(Role::Operator)?;
    let text = TextEncoder::new()
        .encode_to_string(&gateway.registry.gather())
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
