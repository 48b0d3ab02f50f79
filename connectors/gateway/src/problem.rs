//! Every error that a caller can see: one table of stable codes with their status, answered as problem+json (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::log::LogError;
use hansard_schemas::Invalid;
use serde_json::json;

/// Seconds that a caller is asked to wait before it tries an unavailable dependency again.
const RETRY_AFTER_S: u32 = 5;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $code:literal;)+) => {
        /// What went wrong, as a caller may rely on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The text that stands in `code`; it never changes.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }
        }
    };
}

codes! {
    /// The body, the query or a header cannot be read.
    InvalidRequest = BAD_REQUEST, "invalid_request";
    /// A conversation's or chunk's id is none.
    InvalidId = BAD_REQUEST, "invalid_id";
    /// A field breaks a limit or says what it may not.
    InvalidField = BAD_REQUEST, "invalid_field";
    /// A cursor is not one of ours.
    InvalidCursor = BAD_REQUEST, "invalid_cursor";
    /// The signed description of a chunk is not ours, or that of another chunk.
    InvalidUpload = BAD_REQUEST, "invalid_upload";
    /// The parts of a multipart upload are missing or differ from what was stored.
    InvalidParts = BAD_REQUEST, "invalid_parts";
    /// No key or token, or an unknown one.
    Unauthorized = UNAUTHORIZED, "unauthorized";
    /// The upload token has expired: open again.
    TokenExpired = UNAUTHORIZED, "token_expired";
    /// The key or token does not allow this.
    Forbidden = FORBIDDEN, "forbidden";
    /// Without keys only this machine's own pages and programs may call.
    ForeignOrigin = FORBIDDEN, "foreign_origin";
    /// There is no such call.
    NoRoute = NOT_FOUND, "no_such_call";
    /// Nothing is known of the conversation.
    UnknownConversation = NOT_FOUND, "unknown_conversation";
    /// The conversation has no such revision.
    UnknownRevision = NOT_FOUND, "unknown_revision";
    /// No dead letter of this name rests.
    UnknownDeadLetter = NOT_FOUND, "unknown_dead_letter";
    /// The call exists, but not with this method.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method_not_allowed";
    /// The conversation has no revision yet.
    NotFinalized = CONFLICT, "not_finalized";
    /// The revision is made, its transcript document not yet.
    TranscriptPending = CONFLICT, "transcript_pending";
    /// The transcript document could not be made.
    TranscriptFailed = CONFLICT, "transcript_failed";
    /// The revision is made, its summary not yet.
    SummaryPending = CONFLICT, "summary_pending";
    /// The summary failed.
    SummaryFailed = CONFLICT, "summary_failed";
    /// The revision is made, its audio not merged yet.
    MergePending = CONFLICT, "merge_pending";
    /// Merging the audio failed.
    MergeFailed = CONFLICT, "merge_failed";
    /// The conversation has no usable audio.
    NoAudio = CONFLICT, "no_audio";
    /// The object at the chunk's key is not the declared one.
    ObjectDiffers = CONFLICT, "object_differs";
    /// Nothing was uploaded to the chunk's key yet.
    NotUploaded = CONFLICT, "not_uploaded";
    /// A conversation of this id was opened otherwise.
    ConversationExists = CONFLICT, "conversation_exists";
    /// The conversation was erased.
    Erased = GONE, "erased";
    /// The uploaded object is too old to be confirmed: upload it again.
    UploadExpired = GONE, "upload_expired";
    /// The request's body is too large.
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body_too_large";
    /// The recording is larger than the deployment takes.
    UploadTooLarge = PAYLOAD_TOO_LARGE, "upload_too_large";
    /// The body is not JSON.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type";
    /// The recording is declared as something else than audio or video.
    UnsupportedAudio = UNSUPPORTED_MEDIA_TYPE, "unsupported_audio";
    /// As many event streams are open as the deployment allows.
    TooManyStreams = TOO_MANY_REQUESTS, "too_many_streams";
    /// Our own defect, or stored data that cannot be read.
    Internal = INTERNAL_SERVER_ERROR, "internal";
    /// A dependency is unavailable: try again.
    Unavailable = SERVICE_UNAVAILABLE, "unavailable";
}

/// An error on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Problem {
    /// What went wrong.
    pub code: Code,
    /// In words for people, without secrets.
    pub detail: String,
    /// The stable code of a stage's failure behind it, where there is one.
    pub reason: Option<String>,
}

impl Problem {
    /// A problem with words.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), reason: None }
    }

    /// With the code of the stage's failure behind it.
    #[must_use]
    pub fn because(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let id = matches!(invalid.field, "conversation_id" | "chunk_id");
        let code = if id { Code::InvalidId } else { Code::InvalidField };
        Self::new(code, invalid.to_string())
    }
}

/// What a store's error means where nothing in particular was looked for. Its words stay in our log.
impl From<PortError> for Problem {
    fn from(error: PortError) -> Self {
        match &error {
            PortError::Unavailable { service, .. } | PortError::Refused { service, .. } => {
                tracing::warn!(%error, "a dependency does not answer");
                Self::new(Code::Unavailable, format!("the {service} does not answer, try again"))
            }
            PortError::Differs { what, .. } => Self::new(Code::ObjectDiffers, format!("{what} differs")),
            PortError::NotFound { .. } | PortError::Corrupt { .. } => {
                tracing::error!(%error, "stored data is missing or corrupt");
                Self::new(Code::Internal, "stored data cannot be read")
            }
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::TooLarge { bytes, limit, .. } => Self::new(
                Code::BodyTooLarge,
                format!("a record of {bytes} bytes, at most {limit} are allowed"),
            ),
            error => {
                tracing::warn!(%error, "the log does not answer");
                Self::new(Code::Unavailable, "the log does not answer, try again")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let mut body = json!({
            "type": format!("urn:hansard:problem:{}", self.code.as_str()),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "code": self.code.as_str(),
            "detail": self.detail,
        });
        if let Some(reason) = self.reason {
            body["reason"] = reason.into();
        }
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_status_and_code() {
        let s3 = || ("s3", "token=abc".to_owned());
        let ((service, cause), (refusing, why)) = (s3(), s3());
        let cases: [(Problem, u16, &str); 8] = [
            (PortError::Unavailable { service, cause }.into(), 503, "unavailable"),
            (PortError::Refused { service: refusing, cause: why }.into(), 503, "unavailable"),
            (
                PortError::Differs { what: "object a/b".to_owned(), difference: "etag".to_owned() }.into(),
                409,
                "object_differs",
            ),
            (PortError::NotFound { what: "object a/b".to_owned() }.into(), 500, "internal"),
            (PortError::Corrupt { what: "row".to_owned(), cause: "cut".to_owned() }.into(), 500, "internal"),
            (LogError::Closed.into(), 503, "unavailable"),
            (
                hansard_schemas::limits::check_conversation_id("a b").expect_err("none").into(),
                400,
                "invalid_id",
            ),
            (
                hansard_schemas::limits::check_track(&"x".repeat(33)).expect_err("none").into(),
                400,
                "invalid_field",
            ),
        ];
        for (problem, status, code) in cases {
            assert_eq!((problem.code.status().as_u16(), problem.code.as_str()), (status, code), "{problem}");
            assert!(!problem.to_string().contains("abc"), "a cause's words stay with us: {problem}");
            let response = problem.into_response();
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert_eq!(response.headers().contains_key("retry-after"), status == 503);
        }
    }

    #[test]
    fn codes_are_distinct() {
        let mut codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Code::ALL.len());
    }
}
