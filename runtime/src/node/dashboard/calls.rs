//! Calls by name, one or many in a request. They are the manager's: [`ManagerHandle::call_json`](crate::ManagerHandle::call_json).
//!
//! Invariant: a request is read to its end, within a bound and a time, before anything is called.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::{Extension, extract::Request};
use futures_util::{StreamExt, stream};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;

use super::Desk;
use super::refusal::Refusal;
use crate::error::CallError;
use crate::node::admin::server::Patience;

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// How many calls one request may ask for.
const MOST_CALLS: usize = 512;

/// How many of a request's calls are under way at one time: fewer than a manager takes, so that others are heard.
const AT_ONCE: usize = 64;

/// The header with the time that a call may take, in whole seconds, and the largest.
const TIMEOUT: (&str, u64) = ("timeout", 600);

/// How much longer than the call its reply may take on its way from the manager, so that it is the call's own error that is told.
const GRACE: Duration = Duration::from_millis(500);

/// One of many calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    service: String,
    method: String,
    #[serde(default)]
    arguments: Option<Value>,
}

/// One call: its reply, as JSON.
pub(super) async fn call(
    State(desk): State<Desk>,
    Extension(patience): Extension<Patience>,
    Path((service, method)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (timeout, arguments) = read(request).await?;
    patience.lift();
    let arguments = if arguments.trim().is_empty() { "[]".to_owned() } else { arguments };
    let reply = make(&desk, service, method, arguments, timeout).await?;
    Ok(json("application/json", reply))
}

/// Many calls at once: a line of JSON for each as its reply comes, with its place in the request.
pub(super) async fn calls(
    State(desk): State<Desk>,
    Extension(patience): Extension<Patience>,
    request: Request,
) -> Result<Response, Refusal> {
    let (timeout, body) = read(request).await?;
    let asked: Vec<Asked> = serde_json::from_str(&body).map_err(|error| {
        let problem = format!("a list of `{{service, method, arguments}}` is expected: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, "Codec", problem)
    })?;
    if asked.len() > MOST_CALLS {
        let problem = format!("{} calls in one request; at most {MOST_CALLS} are made", asked.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", problem));
    }
    patience.lift();
    let replies = stream::iter(asked.into_iter().enumerate()).map(move |(number, asked)| {
        let desk = desk.clone();
        async move {
            let Asked { service, method, arguments } = asked;
            let arguments = arguments.map_or_else(|| "[]".to_owned(), |arguments| arguments.to_string());
            let line = match make(&desk, service, method, arguments, timeout).await {
                Ok(reply) => format!("{{\"call\":{number},\"reply\":{reply}}}\n"),
                Err(error) => format!("{{\"call\":{number},{}}}\n", Refusal::from(error).fields()),
            };
            Ok::<_, std::convert::Infallible>(line)
        }
    });
    Ok(json("application/x-ndjson", Body::from_stream(replies.buffer_unordered(AT_ONCE))))
}

/// Makes a call. Cancel safe: dropped, it takes the request back.
async fn make(
    desk: &Desk,
    service: String,
    method: String,
    arguments: String,
    timeout: Option<Duration>,
) -> Result<String, CallError> {
    let call = desk.node.manager().call_json(service, method, arguments, timeout);
    match timeout {
        Some(timeout) => call.timeout(timeout + GRACE).await?,
        None => call.await?,
    }
}

/// How long a request's calls may take, and its body.
async fn read(request: Request) -> Result<(Option<Duration>, String), Refusal> {
    let (parts, body) = request.into_parts();
    let timeout = timeout(&parts)?;
    let bytes = to_bytes(body, MAX_BODY).await.map_err(|_| {
        let problem = format!("the body is cut off, or has more than {MAX_BODY} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", problem)
    })?;
    let text = String::from_utf8(bytes.into())
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "Codec", "the body is no UTF-8"))?;
    Ok((timeout, text))
}

fn timeout(parts: &Parts) -> Result<Option<Duration>, Refusal> {
    let (name, longest) = TIMEOUT;
    let Some(value) = parts.headers.get(name) else { return Ok(None) };
    let seconds = value.to_str().ok().and_then(|value| value.parse().ok());
    match seconds {
        Some(seconds) if (1..=longest).contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
        _ => {
            let problem = format!("`{name}` is a number of seconds from 1 to {longest}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, "Codec", problem))
        }
    }
}

fn json(kind: &'static str, body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, kind)], body.into()).into_response()
}
