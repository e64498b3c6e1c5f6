//! The end of a node, in phases: its peers are told, what is under way ends, the rest is refused, tasks are cut off.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::cluster::coordinator::{leave, withdraw};
use crate::cluster::withdrawal::Withdraw;
use crate::error::ShutdownError;
use crate::net::news::News;
use crate::node::node::Node;
use crate::node::registrar::PEERS_KNOW_WITHIN;
use crate::node::reload::log;
use crate::node::seeker::WITHDRAWN_WITHIN;
use crate::node::signals::{Signals, Wanted};
use crate::service::core::Order;
use crate::service::supervisor::child::{Halt, Lever};
use crate::time;

/// How long peers may take to hear the goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

impl Node {
    /// Shuts the node down, in phases:
    ///
    /// 1. Nothing new is started or looked up here. The peers are told that this node's names are gone, and their callers go
    ///    elsewhere. It waits until each of them knows, at most 2 s.
    /// 2. It drains: services end one after the other, the last one started first, each after it has run what is queued,
    ///    or after its [`stop_within`](crate::ServiceBuilder::stop_within) (5 s unless set), so that what it calls meanwhile is
    ///    still there. Anonymous instances follow, all at once. Whoever calls a
    ///    service that has ended is answered `Stopped`.
    /// 3. After `shutdown_timeout`, counted from the beginning, what still runs is cut off, and what is queued answered `Stopped`.
    /// 4. The last replies go out, the peers hear a goodbye (at most 2 s), and every task ends.
    ///
    /// A second call waits for the first. A handler must not wait for it: it would wait for its own end, and be cut off half-way
    /// together with the shutdown. It gives `context.node()` to a task of tokio's, which is no child of its instance.
    ///
    /// # Errors
    /// [`ShutdownError::CutOff`]: phase 3 was needed. The node is down all the same.
    ///
    /// # Cancel safety
    /// Not cancel safe: a shutdown that is dropped half-way leaves a node that takes nothing new and is not down. It may
    /// be called again.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.inner().host.shutting_down.store(true, Ordering::Release);
        let limit = self.inner().in_force.shutdown_timeout.get();
        let in_time = time::timeout(limit, self.drain_all()).await.is_some();
        let left = self.inner().host.all_residents().len();
        self.close().await;
        if in_time { Ok(()) } else { Err(ShutdownError::CutOff { tasks: left, limit }) }
    }

    /// Runs until this process is asked to end, by SIGTERM or Ctrl-C, then shuts the node down. A second signal cuts the
    /// shutdown short. Ends as well when somebody else has shut the node down.
    ///
    /// A node that was started from a file reloads it on SIGHUP, and the log says what came of it.
    ///
    /// ```no_run
    /// # use skyhold::prelude::*;
    /// # #[derive(Default)] struct Counter;
    /// # #[service] impl Counter { pub fn total(&self) -> u64 { 0 } }
    /// #[tokio::main]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let node = Node::builder("a").secret(Secret::from_file("cluster.key")?).listen("127.0.0.1:7001").start().await?;
    ///     node.service("counter", Counter::default).start().await?;
    ///     node.run_until_signal().await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// It listens from the call on, before it is polled; a signal that comes before that ends the process as if there were
    /// no node. Afterwards these signals do not end the process by themselves any more: tokio keeps their handlers.
    ///
    /// # Errors
    /// As [`Node::shutdown`]; [`ShutdownError::Interrupted`] after a second signal; [`ShutdownError::Signals`] if the system
    /// lets nobody listen to signals, and then the node still runs.
    ///
    /// # Cancel safety
    /// Cancel safe until a signal comes; then as [`Node::shutdown`].
    pub fn run_until_signal(&self) -> impl Future<Output = Result<(), ShutdownError>> + Send + '_ {
        let signals = Signals::new(self.inner().configured.is_some())
            .map_err(|error| ShutdownError::Signals(error.to_string()));
        async move { self.run_until(signals?).await }
    }

    async fn run_until(&self, mut signals: Signals) -> Result<(), ShutdownError> {
        let name = loop {
            let wanted = tokio::select! {
                wanted = signals.next() => wanted,
                () = self.inner().host.tasks.aborted() => return Ok(()),
            };
            match wanted {
                Wanted::End(name) => break name,
                Wanted::Reload => {
                    if let Some(name) = self.reload_by_signal(&mut signals).await {
                        break name;
                    }
                }
            }
        };
        tracing::info!(node = %self.id(), signal = name, "shutting down");
        tokio::select! {
            ended = self.shutdown() => ended,
            name = signals.end() => {
                tracing::warn!(node = %self.id(), signal = name, "a second signal cuts the shutdown short");
                let left = self.inner().host.all_residents().len();
                self.close().await;
                Err(ShutdownError::Interrupted { tasks: left })
            }
        }
    }

    /// Reloads the configuration, and once more if that is asked for meanwhile: what was read may be older than the question. A disk that does not answer
    /// keeps nobody from ending the process: gives the signal that asks for it.
    async fn reload_by_signal(&self, signals: &mut Signals) -> Option<&'static str> {
        let cluster = self.cluster();
        loop {
            let mut is_asked_again = false;
            let mut reload = pin!(cluster.reload());
            let reload = loop {
                tokio::select! {
                    reload = &mut reload => break reload,
                    wanted = signals.next() => match wanted {
                        Wanted::End(name) => return Some(name),
                        Wanted::Reload => is_asked_again = true,
                    },
                }
            };
            log(self.id(), "SIGHUP", &reload);
            if !is_asked_again {
                return None;
            }
        }
    }

    /// Ends everything in order, however long that takes.
    async fn drain_all(&self) {
        let inner = self.inner();
        // Peers first: while names still lead here on this node, what is under way can call what it needs.
        self.retreat().await;
        // The last one started ends first: what it needs was started before it.
        for supervisor in inner.supervisors().iter().rev() {
            supervisor.pull(Halt::Drain);
            supervisor.ended().await;
        }
        // Nobody on another node waits for these, but services here did until now.
        let residents = inner.host.all_residents();
        for core in &residents {
            core.order(Order::Drain);
        }
        join_all(residents.iter().map(|core| core.ended())).await;
    }

    /// Sends nobody here any more.
    pub(super) async fn retreat(&self) {
        let inner = self.inner();
        let withdrawn = withdraw(&inner.register, Withdraw::All, PEERS_KNOW_WITHIN);
        let discovery = time::timeout(WITHDRAWN_WITHIN, inner.in_force.discovering.end());
        tokio::join!(withdrawn, discovery);
    }

    /// Says goodbye to everybody.
    pub(super) async fn disconnect(&self) {
        let inner = self.inner();
        leave(&inner.register, GOODBYE).await;
        let (done, is_done) = oneshot::channel();
        if inner.peers.send(News::Close(done)).await.is_ok() {
            let _ = time::timeout(GOODBYE, is_done).await; // a peer that does not listen is cut off
        }
    }

    /// Closes the connections and cuts off what is left.
    async fn close(&self) {
        // Connections after instances: the last replies go out first.
        self.disconnect().await;
        self.inner().host.tasks.abort();
        self.inner().host.tasks.ended().await;
    }
}
