//! Tells the metrics over HTTP.
//!
//! Invariant: whoever has no token, where one is needed, learns nothing.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use crate::config::{Secret, Settings};
use crate::error::StartError;
use crate::node::admin::server::Server;
use crate::node::admin::token::Token;
use crate::node::node::{Inner, Node};

/// What Prometheus calls its text.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a program tells beside the node's own metrics.
#[derive(Clone, Default)]
pub(crate) struct Extra(Option<Arc<dyn Fn() -> String + Send + Sync>>);

/// The endpoint of a node that is about to start.
pub(crate) struct Endpoint {
    server: Option<Server>,
    token: Option<Token>,
    extra: Extra,
}

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
        let server = match &settings.admin.metrics {
            Some(address) => Some(Server::bind("metrics", address, token.is_some()).await?),
            None => None,
        };
        Ok(Self { server, token, extra })
    }

    /// Answers as long as the node lives.
    pub(crate) fn start(self, inner: &Arc<Inner>) {
        let Self { server, token, extra } = self;
        // A node starts once: these are not set yet.
        let _ = inner.meter.extra.set(extra);
        let Some(server) = server else { return };
        let address = server.address();
        let _ = inner.meter.address.set(address);
        tracing::info!(node = %inner.host.node, %address, "metrics are told");
        server.start(inner, move |node, _| {
            let node = Arc::new(node);
            service_fn(move |request| {
                let node = Arc::clone(&node);
                async move { Ok::<_, Infallible>(answer(request, token, &node).await) }
            })
        });
    }
}

async fn answer(request: Request<Incoming>, token: Option<Token>, node: &Node) -> Response<Full<Bytes>> {
    if token.is_some_and(|token| !token.is_in(&request)) {
        return says(StatusCode::UNAUTHORIZED, "a token is needed\n", (WWW_AUTHENTICATE, "Bearer"));
    }
    if request.uri().path() != "/metrics" {
        return says(StatusCode::NOT_FOUND, "the metrics are under /metrics\n", (CONTENT_TYPE, "text/plain"));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return says(StatusCode::METHOD_NOT_ALLOWED, "ask by GET\n", (ALLOW, "GET, HEAD"));
    }
    says(StatusCode::OK, node.metrics_text().await, (CONTENT_TYPE, FORMAT))
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
