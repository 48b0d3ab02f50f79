//! Reading what callers send: JSON bodies, queries and paths, each refusal with its code.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use hansard_core::id::Timestamp;
use hansard_runtime::trace::{self, TraceParent};
use hansard_schemas::limits::{check_chunk_id, check_conversation_id};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Gateway;
use crate::problem::{Code, Problem};

/// A body that is not read yet: first the question who may, then what they say.
pub(crate) struct Sent(Request);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self(request))
    }
}

impl Sent {
    /// The JSON body. An absent one counts as `{}`, so that calls without anything to say need none.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let json = is_json(self.0.headers());
        let bytes = Bytes::from_request(self.0, &()).await.map_err(|rejection| {
            let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
            let code = if too_large { Code::BodyTooLarge } else { Code::InvalidRequest };
            Problem::new(code, rejection.body_text())
        })?;
        if bytes.is_empty() {
            return read(b"{}");
        }
        if !json {
            return Err(Problem::new(Code::UnsupportedMediaType, "send application/json"));
        }
        read(&bytes)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::new(Code::InvalidRequest, error.to_string()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    essence.and_then(|value| value.split(';').next()).is_some_and(|value| value.trim() == "application/json")
}

/// The query, with the refusal as a problem. `access_token` belongs to the caller and is in none of these.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(query)| Self(query))
            .map_err(|rejection| Problem::new(Code::InvalidRequest, rejection.body_text()))
    }
}

/// When a call came, and where in its caller's trace it stands, if that said so.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) begun: Timestamp,
    pub(crate) trace: Option<TraceParent>,
}

impl FromRequestParts<Arc<Gateway>> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Infallible> {
        let given = parts.headers.get(trace::HEADER);
        let trace = given.and_then(|given| TraceParent::parse(given.as_bytes()));
        Ok(Self { begun: gateway.ports.clock.now(), trace })
    }
}

#[derive(Deserialize)]
struct ConversationPath {
    id: String,
    chunk: Option<String>,
}

/// The conversation that a path names, checked; and the chunk, where it names one.
pub(crate) struct Named {
    pub(crate) id: String,
    pub(crate) chunk: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<ConversationPath>::from_request_parts(parts, state).await;
        let Path(path) = path.map_err(|rejection| Problem::new(Code::InvalidId, rejection.body_text()))?;
        check_id(&path.id)?;
        let chunk = path.chunk.unwrap_or_default();
        if !chunk.is_empty() {
            check_chunk(&chunk)?;
        }
        Ok(Self { id: path.id, chunk })
    }
}

/// A conversation's id by the records' rule, without the two names that a URL or a path would swallow.
pub(crate) fn check_id(id: &str) -> Result<(), Problem> {
    check_conversation_id(id)?;
    no_dots(id)
}

/// A chunk's id that stands in URLs and keys: as a conversation's, at most 64 bytes. Direct producers may use others.
pub(crate) fn check_chunk(id: &str) -> Result<(), Problem> {
    check_chunk_id(id)?;
    if id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        no_dots(id)
    } else {
        Err(Problem::new(Code::InvalidId, "chunk_id must be of A-Z a-z 0-9 . _ - only"))
    }
}

fn no_dots(id: &str) -> Result<(), Problem> {
    if matches!(id, "." | "..") {
        return Err(Problem::new(Code::InvalidId, "an id must not be . or .., which no URL can hold"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fit_into_urls_and_keys() {
        for good in ["a", "A-1_2.3", "...", &"x".repeat(128)] {
            check_id(good).expect(good);
        }
        for bad in ["", ".", "..", "a b", "a/b", "ü", &"x".repeat(129)] {
            assert_eq!(check_id(bad).expect_err(bad).code, Code::InvalidId);
        }
        check_chunk(&"x".repeat(64)).expect("64 bytes");
        for bad in ["..", "a/b", &"x".repeat(65)] {
            assert_eq!(check_chunk(bad).expect_err(bad).code, Code::InvalidId);
        }
    }
}
