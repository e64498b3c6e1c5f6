//! What a node tells of itself as metrics: to the `metrics` facade, as a text for Prometheus, and over HTTP.
//!
//! Everything is read when somebody asks. Nothing here is on the way of a call.
//!
//! Invariant: what is told has at most so many different labels, whatever services and peers there are.

mod endpoint;
mod gather;
mod names;
mod places;
mod sinks;
mod traffic;

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::node::builder::NodeBuilder;
use crate::node::manager::ConnectionReport;
use crate::node::node::Node;

pub(crate) use endpoint::{Endpoint, Extra};
use places::Places;
use sinks::Told;
use traffic::Traffic;

/// What a node keeps from one question for its metrics to the next.
#[derive(Default)]
pub(crate) struct Meter {
    /// Where the endpoint listens, if it does.
    address: OnceLock<SocketAddr>,
    extra: OnceLock<Extra>,
    /// Guards the books. Held while they are written or read, never across a wait.
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    services: Places<()>,
    traffic: Traffic,
    told: Told,
}

impl Meter {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeBuilder {
    /// Where to tell the node's metrics over HTTP, under the path `/metrics`, as `host:port`; port 0 takes a free one, see
    /// [`Node::metrics_address`]. Anybody who reaches it can read them, unless there is a [token](NodeBuilder::admin_token). Without one only
    /// an address of this machine alone is taken, such as `127.0.0.1:9100`. With the feature `metrics`. Default: nowhere.
    ///
    /// Always by TCP, without TLS. At most 32 connections are open, of 10 s each.
    pub fn metrics(mut self, address: impl Into<String>) -> Self {
        self.settings.admin.metrics = Some(address.into());
        self
    }

    /// What else to tell with the metrics, such as a program's own: a text in Prometheus' format, made anew for each question. It
    /// must not block, and not begin its metrics' names with `skyhold_`. With the feature `metrics`. Default: nothing.
    ///
    /// ```
    /// # use skyhold::prelude::*;
    /// # fn render() -> String { String::new() }
    /// // With `metrics-exporter-prometheus`: let own = PrometheusBuilder::new().install_recorder()?; .. own.render()
    /// let node = Node::builder("a").metrics("127.0.0.1:9100").metrics_with(|| render());
    /// ```
    pub fn metrics_with(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.extra = Extra::new(render);
        self
    }
}

impl Node {
    /// Where the node tells its metrics, with the real port if port 0 was asked for; `None` if it does not. With the feature `metrics`.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.inner().meter.address.get().copied()
    }

    /// The node's metrics as Prometheus reads them: for a program that has an HTTP server of its own. Each peer is asked for an answer
    /// first, which may take a second. `METRICS.md` names every metric. With the feature `metrics`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn metrics_text(&self) -> String {
        let reports = ConnectionReport::all(self.inner()).await;
        let samples = gather::gather(self.inner(), &reports, &mut self.inner().meter.books());
        let mut text = sinks::render(&samples);
        if let Some(extra) = self.inner().meter.extra.get() {
            extra.add_to(&mut text);
        }
        text
    }

    /// Tells the node's metrics to the recorder of the `metrics` facade that is in force on this thread, which is mostly the one that the program
    /// has installed before the first call; without one what has come is lost to it. Call it from time to time, or before each export. The same metrics as of
    /// [`Node::metrics_text`]; counters go up by what has come since the last call, and gauges of what is gone are set to zero. With the
    /// feature `metrics`.
    ///
    /// # Cancel safety
    /// Cancel safe: it tells all or nothing.
    pub async fn record_metrics(&self) {
        let reports = ConnectionReport::all(self.inner()).await;
        let mut books = self.inner().meter.books();
        let samples = gather::gather(self.inner(), &reports, &mut books);
        metrics::with_recorder(|recorder| books.told.tell(recorder, samples));
    }
}
