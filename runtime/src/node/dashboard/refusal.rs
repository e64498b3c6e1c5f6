//! Why there is no answer, as JSON and as a status.
//!
//! Invariant: it says whether something may have been run.

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::error::CallError;

/// Why there is no answer.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    error: String,
    /// The name of a `CallError`, or of what else was wrong.
    kind: &'static str,
    may_have_run: bool,
    #[serde(skip)]
    status: StatusCode,
}

impl Refusal {
    /// Nothing was run.
    pub(super) fn new(status: StatusCode, kind: &'static str, error: impl Into<String>) -> Self {
        Self { error: error.into(), kind, may_have_run: false, status }
    }

    /// As JSON, without the braces around it.
    pub(super) fn fields(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default(); // texts and a flag are always JSON
        let fields = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        fields.unwrap_or_default().to_owned()
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        use StatusCode as Status;
        let (kind, status) = match error {
            CallError::NoRoute(_) => ("NoRoute", Status::NOT_FOUND),
            CallError::Incompatible(_) => ("Incompatible", Status::NOT_FOUND),
            CallError::Denied(_) => ("Denied", Status::FORBIDDEN),
            CallError::Codec(_) => ("Codec", Status::BAD_REQUEST),
            CallError::TooLarge(_) => ("TooLarge", Status::PAYLOAD_TOO_LARGE),
            CallError::Deadlock(_) => ("Deadlock", Status::CONFLICT),
            CallError::Overloaded(_) => ("Overloaded", Status::SERVICE_UNAVAILABLE),
            CallError::Stopped(_) => ("Stopped", Status::SERVICE_UNAVAILABLE),
            CallError::Stale(_) => ("Stale", Status::SERVICE_UNAVAILABLE),
            CallError::Expired(_) => ("Expired", Status::GATEWAY_TIMEOUT),
            CallError::Timeout(_) => ("Timeout", Status::GATEWAY_TIMEOUT),
            CallError::Disconnected(_) => ("Disconnected", Status::BAD_GATEWAY),
            CallError::NoReply(_) => ("NoReply", Status::BAD_GATEWAY),
            CallError::BadReply(_) => ("BadReply", Status::BAD_GATEWAY),
            CallError::Panicked(_) => ("Panicked", Status::INTERNAL_SERVER_ERROR),
        };
        Self { may_have_run: error.may_have_run(), error: error.to_string(), kind, status }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{{{}}}\n", self.fields());
        let mut response = (self.status, text).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// For every other path.
pub(super) async fn nothing_there() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "NoPage", "nothing is here; the page is at /")
}
