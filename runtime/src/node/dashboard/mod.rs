//! The web page of a node, and the little HTTP of which it is made: calls by name with JSON, and what happens as a stream.
//!
//! What it tells and does are calls of managers. It knows no service and no report of theirs: those who ask do.
//!
//! Invariant: whoever may not ask causes nothing, and learns no more than what the page looks like.

mod calls;
mod guard;
mod live;
mod page;
mod refusal;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Router, middleware};
use hyper::service::{Service, service_fn};
use hyper::{Request, body::Incoming};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use crate::config::{Secret, Settings};
use crate::error::StartError;
use crate::node::admin::server::Server;
use crate::node::admin::token::Token;
use crate::node::builder::NodeBuilder;
use crate::node::node::{Inner, Node};

/// How many streams may be open.
const MOST_STREAMS: usize = 16;

/// Where the page is.
#[derive(Default)]
pub(crate) struct Shown {
    address: OnceLock<SocketAddr>,
}

/// The page of a node that is about to start.
pub(crate) struct Dashboard {
    server: Option<Server>,
    token: Option<Token>,
}

/// What those who answer share.
#[derive(Clone)]
struct Desk {
    node: Arc<Node>,
    token: Option<Token>,
    /// The places for streams.
    streams: Arc<Semaphore>,
}

impl Dashboard {
    /// Listens, if the settings say where.
    pub(crate) async fn bind(settings: &Settings, token: Option<&Secret>) -> Result<Self, StartError> {
        let token = token.map(Token::of).transpose()?;
        let server = match &settings.admin.dashboard {
            Some(address) => Some(Server::bind("dashboard", address, token.is_some()).await?),
            None => None,
        };
        Ok(Self { server, token })
    }

    /// Answers as long as the node lives.
    pub(crate) fn start(self, inner: &Arc<Inner>) {
        let Some(server) = self.server else { return };
        let address = server.address();
        // A node starts once: it is not set yet.
        let _ = inner.shown.address.set(address);
        tracing::info!(node = %inner.host.node, %address, "the web page is shown");
        let node = Arc::new(Node::without_owner_of(Arc::clone(inner)));
        let desk = Desk { node, token: self.token, streams: Arc::new(Semaphore::new(MOST_STREAMS)) };
        let router = TowerToHyperService::new(routes(desk));
        server.start(inner, move |_, patience| {
            let router = router.clone();
            service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(patience.clone());
                router.call(request)
            })
        });
    }
}

/// What is where.
fn routes(desk: Desk) -> Router {
    let asked = Router::new()
        .route("/call/{service}/{method}", post(calls::call))
        .route("/calls", post(calls::calls))
        .route("/events", get(live::all_events))
        .route("/events/{node}", get(live::events))
        .route("/trace/{node}/{service}", get(live::trace))
        .route_layer(from_fn_with_state(desk.clone(), guard::asks));
    let shown = page::FILES
        .iter()
        .fold(Router::new(), |router, file| router.route(file.path, get(|| async { file.answer() })));
    asked
        .merge(shown)
        .fallback(refusal::nothing_there)
        .layer(from_fn_with_state(desk.clone(), guard::comes))
        .layer(middleware::map_response(guard::with_headers))
        .with_state(desk)
}

impl NodeBuilder {
    /// Where to show the web page of the cluster, as `host:port`; port 0 takes a free one, see [`Node::dashboard_address`]. It shows what managers
    /// tell, and does what they do: whoever reaches it may do there what this node may, and needs the [token](NodeBuilder::admin_token) for it if
    /// there is one. Without one only an address of this machine alone is taken, such as `127.0.0.1:9101`. With the feature `dashboard`.
    /// Default: nowhere.
    ///
    /// Always by TCP, without TLS. At most 32 connections are open, of 10 s each before a token was said on them, and 16 streams. `DASHBOARD.md`
    /// has the rest.
    pub fn dashboard(mut self, address: impl Into<String>) -> Self {
        self.settings.admin.dashboard = Some(address.into());
        self
    }
}

impl Node {
    /// Where the node shows its web page, with the real port if port 0 was asked for; `None` if it does not. With the feature `dashboard`.
    pub fn dashboard_address(&self) -> Option<SocketAddr> {
        self.inner().shown.address.get().copied()
    }
}
