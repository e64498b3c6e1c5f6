//! Tells the metrics over HTTP.
//!
//! Invariant: whoever has no token, where one is needed, learns nothing; and strangers cost a bounded number of connections, of a bounded time each.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::config::{Secret, Settings};
use crate::error::StartError;
use crate::net::io::{Listener, Stream, Tcp, Transport};
use crate::node::node::{Inner, Node};
use crate::time;

/// How many connections may be open. Others are closed at once.
const MOST_CONNECTIONS: usize = 32;

/// How long a connection may take, from its first byte to the last one of the answer.
const CONNECTION: Duration = Duration::from_secs(10);

/// How long to pause after an error of the listener, which is most often that no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(50);

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// What Prometheus calls its text.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a token may be made of beside letters and digits (RFC 6750).
const SIGNS: &[u8] = b"-._~+/=";

/// What a program tells beside the node's own metrics.
#[derive(Clone, Default)]
pub(crate) struct Extra(Option<Arc<dyn Fn() -> String + Send + Sync>>);

/// The endpoint of a node that is about to start.
pub(crate) struct Endpoint {
    listener: Option<Box<dyn Listener>>,
    token: Option<Token>,
    extra: Extra,
}

/// A token's hash, so that how long a comparison takes says nothing about it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Token([u8; 32]);

impl Extra {
    pub(super) fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(render)))
    }

    pub(super) fn add_to(&self, text: &mut String) {
        if let Some(render) = &self.0 {
            text.push_str(&render());
        }
    }
}

impl Endpoint {
    /// Listens, if the settings say where.
    pub(crate) async fn bind(
        settings: &Settings,
        token: Option<&Secret>,
        extra: Extra,
    ) -> Result<Self, StartError> {
        let token = token.map(Token::of).transpose()?;
        let mut listener = None;
        if let Some(address) = &settings.admin.metrics {
            let cannot = |source| StartError::Listen { address: address.clone(), source };
            let bound = Tcp.listen(address).await.map_err(cannot)?;
            let at = bound.local_addr().map_err(cannot)?;
            if token.is_none() && !at.ip().is_loopback() {
                return Err(open_to_all(address));
            }
            listener = Some(bound);
        }
        Ok(Self { listener, token, extra })
    }

    /// Answers as long as the node lives.
    pub(crate) fn start(self, inner: &Arc<Inner>) {
        let Self { listener, token, extra } = self;
        // A node starts once: these are not set yet.
        let _ = inner.meter.extra.set(extra);
        let Some(listener) = listener else { return };
        if let Ok(address) = listener.local_addr() {
            let _ = inner.meter.address.set(address);
            tracing::info!(node = %inner.host.node, %address, "metrics are told");
        }
        inner.host.tasks.spawn(listen(listener, token, Arc::clone(inner)));
    }
}

impl Token {
    fn of(secret: &Secret) -> Result<Self, StartError> {
        let bytes = secret.as_bytes();
        let is_usable = |byte: &u8| byte.is_ascii_alphanumeric() || SIGNS.contains(byte);
        if !bytes.iter().all(is_usable) {
            let problem =
                "has what cannot stand in a header; letters, digits and `-._~+/=` are expected".to_owned();
            return Err(StartError::InvalidSetting { setting: "admin_token", problem });
        }
        Ok(Self(Sha256::digest(bytes).into()))
    }

    /// Whether a request has said it.
    fn is_in<B>(self, request: &Request<B>) -> bool {
        let said = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let token = said.and_then(|said| said.split_at_checked(BEARER.len()));
        token.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case(BEARER) && self == Self(Sha256::digest(token).into())
        })
    }
}

const BEARER: &[u8] = b"Bearer ";

fn open_to_all(address: &str) -> StartError {
    let problem = format!(
        "is to be told on {address}, which others than this machine may reach: a token is needed, `admin.token_file` in the file or \
         `.admin_token(..)`; or an address such as 127.0.0.1:9100"
    );
    StartError::InvalidSetting { setting: "metrics", problem }
}

/// Accepts for ever. Cancel safe.
async fn listen(mut listener: Box<dyn Listener>, token: Option<Token>, inner: Arc<Inner>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let node = Node::without_owner_of(Arc::clone(&inner));
                inner.host.tasks.spawn(async move {
                    // Who is too slow is cut off, and who is gone has had no answer: nobody is left to be told.
                    let _ = time::timeout(CONNECTION, serve(stream, token, node)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection for metrics");
                time::sleep(PAUSE).await;
            }
        }
    }
}

/// One request, and its answer.
async fn serve(stream: Stream, token: Option<Token>, node: Node) -> Result<(), hyper::Error> {
    let stream = TokioIo::new(tokio::io::join(stream.reader, stream.writer));
    let answers = service_fn(|request| answer(request, token, &node));
    http1::Builder::new().keep_alive(false).max_buf_size(MAX_HEAD).serve_connection(stream, answers).await
}

async fn answer(
    request: Request<Incoming>,
    token: Option<Token>,
    node: &Node,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if token.is_some_and(|token| !token.is_in(&request)) {
        return Ok(says(StatusCode::UNAUTHORIZED, "a token is needed\n", (WWW_AUTHENTICATE, "Bearer")));
    }
    if request.uri().path() != "/metrics" {
        return Ok(says(
            StatusCode::NOT_FOUND,
            "the metrics are under /metrics\n",
            (CONTENT_TYPE, "text/plain"),
        ));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Ok(says(StatusCode::METHOD_NOT_ALLOWED, "ask by GET\n", (ALLOW, "GET, HEAD")));
    }
    Ok(says(StatusCode::OK, node.metrics_text().await, (CONTENT_TYPE, FORMAT)))
}

fn says(
    status: StatusCode,
    text: impl Into<Bytes>,
    (name, value): (HeaderName, &'static str),
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(name, HeaderValue::from_static(value));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Extra")
    }
}
