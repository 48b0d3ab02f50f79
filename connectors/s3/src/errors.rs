//! The client's errors as the port's, by status and code only: nobody reads an error's text to classify it.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use hansard_runtime::ports::PortError;

/// How the service is called in errors.
pub(crate) const SERVICE: &str = "s3";

/// Maps an error of a call about `what`.
pub(crate) fn port_error<E>(error: &SdkError<E, HttpResponse>, what: impl FnOnce() -> String) -> PortError
where
    E: ProvideErrorMetadata + RequestId,
{
    let unavailable = |cause: &str| PortError::Unavailable { service: SERVICE, cause: cause.to_owned() };
    match error {
        SdkError::TimeoutError(_) => unavailable("timed out"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => unavailable("timed out"),
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error().and_then(|error| hansard_tls::refusal(error, "s3.ca"));
            unavailable(cause.as_deref().unwrap_or("no connection"))
        }
        SdkError::ResponseError(response) => answered(response.raw().status().as_u16(), None, None, what),
        SdkError::ServiceError(service) => {
            let (status, error) = (service.raw().status().as_u16(), service.err());
            answered(status, error.code(), error.request_id(), what)
        }
        // The request could not be built: a value of ours that the protocol does not allow.
        _ => PortError::Refused { service: SERVICE, cause: "the request cannot be expressed".to_owned() },
    }
}

/// The answer's meaning. A missing bucket is a refusal, since every object in it would be called missing.
fn answered(
    status: u16,
    code: Option<&str>,
    request: Option<&str>,
    what: impl FnOnce() -> String,
) -> PortError {
    let code = code.unwrap_or("none");
    let cause = match request {
        Some(request) => format!("status {status}, code {code}, request {request}"),
        None => format!("status {status}, code {code}"),
    };
    match (status, code) {
        (_, "NoSuchBucket") => {
            PortError::Refused { service: SERVICE, cause: format!("{cause}; create the bucket") }
        }
        (404, _) => PortError::NotFound { what: what() },
        (412, _) | (400, "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall") => {
            PortError::Differs { what: what(), difference: cause }
        }
        (_, "RequestTimeTooSkewed" | "SlowDown" | "RequestTimeout") | (408 | 429 | 500..=599, _) => {
            PortError::Unavailable { service: SERVICE, cause }
        }
        _ => PortError::Refused { service: SERVICE, cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_meaning() {
        let cases = [
            (404, "NoSuchKey", "object a is not there"),
            (404, "NoSuchBucket", "s3 refuses: status 404, code NoSuchBucket; create the bucket"),
            (
                412,
                "PreconditionFailed",
                "object a differs from what was expected: status 412, code PreconditionFailed",
            ),
            (400, "InvalidPart", "object a differs from what was expected: status 400, code InvalidPart"),
            (503, "SlowDown", "s3 is unavailable: status 503, code SlowDown"),
            (500, "InternalError", "s3 is unavailable: status 500, code InternalError"),
            (429, "TooManyRequests", "s3 is unavailable: status 429, code TooManyRequests"),
            (403, "RequestTimeTooSkewed", "s3 is unavailable: status 403, code RequestTimeTooSkewed"),
            (403, "AccessDenied", "s3 refuses: status 403, code AccessDenied"),
            (400, "EntityTooLarge", "s3 refuses: status 400, code EntityTooLarge"),
        ];
        for (status, code, text) in cases {
            let error = answered(status, Some(code), None, || "object a".to_owned());
            assert_eq!(error.to_string(), text);
        }
    }
}
