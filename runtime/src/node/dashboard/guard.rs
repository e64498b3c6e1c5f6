//! Who may ask. A page without a token is reached by every website that the user looks at, through the user's own browser: it must do nothing for them.
//!
//! Invariant: no answer allows another origin anything, and each request is looked at before a call is made for it.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode};

use super::Desk;
use super::refusal::Refusal;

/// What every answer says to the browser: nothing from elsewhere, nothing inline, in nobody's frame.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Held against every request.
pub(super) async fn comes(
    State(desk): State<Desk>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if desk.token.is_none() && !is_for_this_machine(request.headers()) {
        // Somebody's name leads to this machine, so that the browser takes the page for somebody's.
        let problem = "without a token this page is asked as localhost or by an address of this machine";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "ForeignHost", problem));
    }
    Ok(next.run(request).await)
}

/// Held against every request but for the page's own files.
pub(super) async fn asks(
    State(desk): State<Desk>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if !is_from_the_page(request.headers()) {
        let problem = "another website asks, and may not";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "ForeignOrigin", problem));
    }
    if desk.token.is_some_and(|token| !token.is_in(&request)) {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", "a token is needed"));
    }
    if request.method() == Method::POST && !is_json(request.headers()) {
        // A form of another website cannot say this, and its script would have to ask for leave first.
        let problem = "`Content-Type: application/json` is expected";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "NoJson", problem));
    }
    Ok(next.run(request).await)
}

pub(super) async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = only(headers, &HOST) else { return false };
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether the browser says that the page itself asks, or the user; or no browser asks.
fn is_from_the_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    if !headers.contains_key(ORIGIN) {
        return true;
    }
    let (Some(origin), Some(host)) = (only(headers, &ORIGIN), only(headers, &HOST)) else { return false };
    // Something before the node may speak TLS.
    let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    own.is_some_and(|own| own.eq_ignore_ascii_case(host))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = only(headers, &CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}
