//! Who calls, and what that allows: keys with roles, upload tokens, or, without keys, whoever reaches the loopback port.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use crate::problem::{Code, Problem};
use crate::routes::PROBES;
use crate::token::{TokenError, UploadClaims, verify};
use crate::{Gateway, Surface};

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens conversations and uploads.
    Producer,
    /// Reads everything about conversations.
    Reader,
    /// Everything, and what changes or removes: rerun, erase, dead letters.
    Operator,
}

/// The keys of a deployment. Only their hashes are kept.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    entries: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    name: Arc<str>,
    roles: Vec<Role>,
    sha256: [u8; 32],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl Keys {
    /// Adds a key; its name shows who did something and is no secret.
    pub fn add(&mut self, name: &str, roles: &[Role], secret: &str) {
        let sha256 = Sha256::digest(secret.as_bytes()).into();
        self.entries.push(Key { name: name.into(), roles: roles.to_vec(), sha256 });
    }

    /// Whether everybody may do everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Compares hashes: what the time of a comparison tells about a hash helps nobody to a key.
    fn find(&self, secret: &str) -> Option<&Key> {
        let sha256: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        self.entries.iter().find(|key| key.sha256 == sha256)
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// No keys are configured.
    Anybody,
    /// The holder of a key.
    Key { name: Arc<str>, roles: Vec<Role> },
    /// The holder of a conversation's upload token.
    Uploader(UploadClaims),
}

impl Caller {
    /// Who did it, for the record.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Anybody => "anybody",
            Self::Key { name, .. } => name,
            Self::Uploader(_) => "uploader",
        }
    }

    /// Whether this role, or operator, is the caller's.
    pub(crate) fn demand(&self, role: Role) -> Result<(), Problem> {
        match self {
            Self::Anybody => Ok(()),
            Self::Key { roles, .. } if roles.contains(&role) || roles.contains(&Role::Operator) => Ok(()),
            _ => Err(Problem::new(Code::Forbidden, "this key or token does not allow the call")),
        }
    }

    /// Whether the caller may do what an upload token of this conversation allows, or has the role.
    pub(crate) fn demand_for(&self, role: Role, conversation: &str) -> Result<(), Problem> {
        match self {
            Self::Uploader(claims) if claims.conversation == conversation => Ok(()),
            Self::Uploader(_) => {
                Err(Problem::new(Code::Forbidden, "the upload token is for another conversation"))
            }
            _ => self.demand(role),
        }
    }
}

impl FromRequestParts<Arc<Gateway>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        let keys = &gateway.config.keys;
        let Some(secret) = presented(parts) else {
            return if keys.is_empty() {
                Ok(Self::Anybody)
            } else {
                Err(Problem::new(Code::Unauthorized, "send a key or upload token as a bearer"))
            };
        };
        if let Some(key) = keys.find(&secret) {
            return Ok(Self::Key { name: key.name.clone(), roles: key.roles.clone() });
        }
        match verify(&gateway.config.signing_key, &secret, gateway.ports.clock.now()) {
            Ok(claims) => Ok(Self::Uploader(claims)),
            Err(TokenError::Expired) => Err(Problem::new(
                Code::TokenExpired,
                "the upload token has expired, open the conversation again",
            )),
            Err(TokenError::Foreign) => Err(Problem::new(Code::Unauthorized, "the key or token is unknown")),
        }
    }
}

/// The bearer of the request; in the query too, since a browser's EventSource sends no headers.
fn presented(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(header) = header {
        let (scheme, secret) = header.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim().to_owned());
    }
    let mut pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == "access_token").map(|(_, secret)| secret.to_owned())
}

/// Without keys the loopback port is open to every program of this machine, and so to every page in its browsers: a page
/// from elsewhere, or one whose name was bent to this address, is refused. Probes are not, nor is a listener for them alone:
/// an orchestrator asks by whatever address the process has.
pub(crate) async fn guard(
    State(gateway): State<Arc<Gateway>>,
    Extension(surface): Extension<Surface>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    // A provider comes from elsewhere, with a token of ours.
    let probe = surface == Surface::Probes || PROBES.contains(&path) || path.starts_with("/v1/callbacks/");
    if gateway.config.keys.is_empty() && !probe && !is_local(request.headers(), &gateway.config.cors_origins)
    {
        let detail = "without keys only this machine may call; configure keys to allow others";
        return Problem::new(Code::ForeignOrigin, detail).into_response();
    }
    next.run(request).await
}

fn is_local(headers: &HeaderMap, origins: &[String]) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).is_none_or(is_loopback);
    let origin = match text(header::ORIGIN) {
        None => true,
        Some(origin) => {
            let listed = origins.iter().any(|listed| listed == origin);
            listed || origin.split_once("://").is_some_and(|(_, host)| is_loopback(host))
        }
    };
    host && origin
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_local() {
        let cases = [
            ("localhost", None, true),
            ("localhost:8080", Some("http://localhost:8080"), true),
            ("127.0.0.1:1", Some("http://[::1]:3000"), true),
            ("[::1]:8080", None, true),
            ("evil.example", None, false),
            ("localhost.evil.example:80", None, false),
            ("127.0.0.1", Some("https://evil.example"), false),
            ("127.0.0.1", Some("null"), false),
            ("127.0.0.1", Some("https://listed.example"), true),
        ];
        for (host, origin, local) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("a header"));
            }
            let listed = ["https://listed.example".to_owned()];
            assert_eq!(is_local(&headers, &listed), local, "{host} {origin:?}");
        }
    }

    #[test]
    fn roles_allow_what_they_say() {
        let mut keys = Keys::default();
        keys.add("app", &[Role::Producer], "s3cret");
        assert!(!format!("{keys:?}").contains("s3cret"));
        let key = keys.find("s3cret").expect("known");
        assert!(keys.find("S3cret").is_none());
        let producer = Caller::Key { name: key.name.clone(), roles: key.roles.clone() };
        let operator = Caller::Key { name: "o".into(), roles: vec![Role::Operator] };
        let claims = UploadClaims { conversation: "c".to_owned(), options: None, expires_at: 1 };
        let uploader = Caller::Uploader(claims);
        let cases = [
            (&producer, Role::Producer, true),
            (&producer, Role::Reader, false),
            (&producer, Role::Operator, false),
            (&operator, Role::Reader, true),
            (&uploader, Role::Producer, false),
            (&Caller::Anybody, Role::Operator, true),
        ];
        for (caller, role, allowed) in cases {
            assert_eq!(caller.demand(role).is_ok(), allowed, "{caller:?} {role:?}");
        }
        assert!(uploader.demand_for(Role::Producer, "c").is_ok());
        assert!(uploader.demand_for(Role::Producer, "d").is_err());
    }
}
