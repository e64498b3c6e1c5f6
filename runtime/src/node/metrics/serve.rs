//! The endpoint that Prometheus asks: one page of plain HTTP, in the text format.
//!
//! Invariant: a stranger learns nothing and holds nothing: few connections at a time, each with little time.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::Semaphore;

use crate::net::io::{Listener, Stream, Tcp, Transport};
use crate::node::metrics::gather::gather;
use crate::node::node::{Inner, Node};
use crate::time;

/// Where Prometheus fetches a node's metrics: `http://ADDRESS/metrics`. Needs the feature `metrics`. What they are says
/// [`Node::record_metrics`].
///
/// ```no_run
/// # use skyhold::prelude::*;
/// # async fn example(node: Node) -> Result<(), skyhold::PrometheusError> {
/// let address = skyhold::Prometheus::new("127.0.0.1:9100").serve(&node).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "it serves nothing before `.serve(&node).await`"]
pub struct Prometheus {
    address: String,
    token: Option<String>,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrometheusError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Others than this machine would reach it, and could read it: a token is needed.
    #[error("{address} is reached from other machines, and there is no token: `.token(..)` is needed")]
    Open {
        /// The address.
        address: SocketAddr,
    },
}

/// How many connections there may be at a time.
const CONNECTIONS: usize = 16;

/// How long a connection may last: one that scrapes again and again makes another one.
const LIFE: Duration = Duration::from_secs(120);

/// How long to wait after an error of the listener.
const PAUSE: Duration = Duration::from_millis(100);

impl Prometheus {
    /// An endpoint on this address, as `host:port`; port 0 takes a free one.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), token: None }
    }

    /// The token that a request must show, as `Authorization: Bearer TOKEN`. Needed where others than this machine reach the address. Default: none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Serves until the node ends. Gives the address, with the real port. It listens when this returns.
    ///
    /// # Errors
    /// [`PrometheusError`]. Then nothing is served.
    ///
    /// # Cancel safety
    /// Dropping the future before it ends leaves nothing behind.
    pub async fn serve(self, node: &Node) -> Result<SocketAddr, PrometheusError> {
        let cannot = |source| PrometheusError::Listen { address: self.address.clone(), source };
        let listener = Tcp.listen(&self.address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        if !address.ip().is_loopback() && self.token.is_none() {
            return Err(PrometheusError::Open { address });
        }
        let inner = Arc::clone(node.inner());
        let expected = self.token.map(|token| format!("Bearer {token}"));
        let tasks = node.inner().host.tasks.clone();
        tasks.spawn(accept(listener, Arc::downgrade(&inner), expected.map(Arc::from), tasks.clone()));
        Ok(address)
    }
}

type WeakInner = std::sync::Weak<Inner>;

async fn accept(
    mut listener: Box<dyn Listener>,
    inner: WeakInner,
    expected: Option<Arc<str>>,
    tasks: crate::service::tasks::Tasks,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            // Who finds no place is closed.
            Ok((stream, _)) => {
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    let (inner, expected) = (inner.clone(), expected.clone());
                    tasks.spawn(async move {
                        let _ = time::timeout(LIFE, connection(stream, inner, expected)).await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the metrics was not accepted");
                time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: Stream, inner: WeakInner, expected: Option<Arc<str>>) {
    let io = TokioIo::new(tokio::io::join(stream.reader, stream.writer));
    let answer = service_fn(|request: Request<Incoming>| {
        let page = page(&request, &inner, expected.as_deref());
        async move { Ok::<_, Infallible>(page) }
    });
    let served = http1::Builder::new().keep_alive(true).max_buf_size(16 * 1024).serve_connection(io, answer);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection to the metrics ended");
    }
}

fn page(request: &Request<Incoming>, inner: &WeakInner, expected: Option<&str>) -> Response<Full<Bytes>> {
    let shown = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    if expected.is_some_and(|expected| !shown.is_some_and(|shown| is_same(shown, expected.as_bytes()))) {
        return answer(
            StatusCode::UNAUTHORIZED,
            "a token is needed: Authorization: Bearer TOKEN\n".to_owned(),
        );
    }
    if request.uri().path() != "/metrics" {
        return answer(StatusCode::NOT_FOUND, "there is /metrics, and nothing else\n".to_owned());
    }
    if request.method() != Method::GET {
        return answer(StatusCode::METHOD_NOT_ALLOWED, "GET is expected\n".to_owned());
    }
    let Some(inner) = inner.upgrade() else {
        return answer(StatusCode::SERVICE_UNAVAILABLE, "the node has ended\n".to_owned());
    };
    // A recorder for each page: it has no series of what is gone.
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || gather(&inner));
    answer(StatusCode::OK, handle.render())
}

fn answer(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Compares without telling by its time how much is the same.
fn is_same(shown: &[u8], expected: &[u8]) -> bool {
    let differing = shown.iter().zip(expected).fold(0, |all, (one, other)| all | (one ^ other));
    shown.len() == expected.len() && differing == 0
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus").field("address", &self.address).finish_non_exhaustive()
    }
}
