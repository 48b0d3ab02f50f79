//! Providers call back: what they say of a job goes into the log, for whoever owns its conversation.
//!
//! A provider that gets an answer it does not like stops calling, so that whatever comes here is taken: what is not ours, or
//! tells of no job, is counted and forgotten. Only a log that is away is told, so that the provider tries again.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use futures::StreamExt as _;
use hansard_core::id::Timestamp;
use hansard_schemas::{Callback, RecordName, event_id};
use serde::{Deserialize, Serialize};

use crate::Gateway;
use crate::problem::Problem;
use crate::request::Call;
use crate::token::{Claims, SigningKey, sign, verify};

/// Bytes of what a provider says that are read, at most.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What a callback's URL holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CallbackClaims {
    /// The submission, as the stage transcribe reads it; it ends in `:` and the conversation.
    effect: String,
}

impl Claims for CallbackClaims {
    const PURPOSE: &'static str = "hansard callback 1";
    /// As long as the effect itself: what has ended is not asked for again.
    fn expires(&self) -> Timestamp {
        Timestamp(i64::MAX)
    }
}

/// The token by which a provider tells of an effect.
#[must_use]
pub fn callback_token(key: &SigningKey, effect: &str) -> String {
    sign(key, &CallbackClaims { effect: effect.to_owned() })
}

/// Of a provider's name and a body the job's id.
type Reads = dyn Fn(&str, &[u8]) -> Option<String> + Send + Sync;

/// Finds the job that the body of a provider's webhook tells of.
#[derive(Clone)]
pub struct Told(Arc<Reads>);

impl Told {
    /// By a function of the provider's name and the body.
    pub fn new(told: impl Fn(&str, &[u8]) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

/// `POST /v1/callbacks/{provider}/{token}`
pub(crate) async fn callback(
    State(gateway): State<Arc<Gateway>>,
    Path((provider, token)): Path<(String, String)>,
    call: Call,
    request: Request,
) -> Result<StatusCode, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.map(|text| text.chars().take(128).collect());
    let count = |result: &str| gateway.callbacks.with_label_values(&[result]).inc();
    let now = gateway.ports.clock.now();
    let Ok(claims) = verify::<CallbackClaims>(&gateway.config.signing_key, &token, now) else {
        count("foreign");
        return Ok(StatusCode::ACCEPTED);
    };
    let Some(body) = read(request).await else {
        count("unread");
        return Ok(StatusCode::ACCEPTED);
    };
    let told = gateway.config.told.as_ref().and_then(|told| (told.0)(&provider, &body));
    let Some((job_id, conversation)) = told.zip(claims.effect.splitn(5, ':').last()) else {
        count("of_no_job");
        return Ok(StatusCode::ACCEPTED);
    };
    let parts = [claims.effect.as_bytes(), job_id.as_bytes(), &body];
    let record = Callback {
        conversation_id: conversation.to_owned(),
        event_id: event_id(RecordName::Callback, &parts),
        journal_key: claims.effect.clone(),
        provider,
        job_id,
        body,
        content_type,
        ..Callback::default()
    };
    gateway.append(call, record).await?;
    count("taken");
    Ok(StatusCode::ACCEPTED)
}

/// The body; nothing where it is too long or breaks off.
async fn read(request: Request) -> Option<Vec<u8>> {
    let (mut body, mut stream) = (Vec::new(), request.into_body().into_data_stream());
    while let Some(part) = stream.next().await {
        body.extend_from_slice(&part.ok()?);
        if body.len() > BODY_BYTES_MAX {
            return None;
        }
    }
    Some(body)
}
