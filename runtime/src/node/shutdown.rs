//! The end of a node, in order: names, instances, connections, tasks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::cluster::coordinator::withdraw;
use crate::cluster::withdrawal::Withdraw;
use crate::error::ShutdownError;
use crate::net::news::News;
use crate::node::node::Node;
use crate::node::registrar::PEERS_KNOW_WITHIN;
use crate::service::core::Order;
use crate::service::supervisor::child::{Halt, Lever};
use crate::time;

/// How long peers may take to hear the goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

impl Node {
    /// Shuts the node down: takes its names back so that nobody is sent here any more, lets running handlers end, answers
    /// what is queued `Stopped`, says goodbye to the peers, and ends every task. A second call waits for the first.
    ///
    /// # Errors
    /// [`ShutdownError::CutOff`]: some handlers did not end within `shutdown_timeout`, and were dropped. The node is down
    /// all the same.
    ///
    /// # Cancel safety
    /// Not cancel safe: a shutdown that is dropped half-way leaves a node that takes nothing new and is not down. It may
    /// be called again.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        let inner = self.inner();
        let host = &inner.host;
        host.shutting_down.store(true, Ordering::Release);

        let orderly = async {
            // Peers first: while names still lead here on this node, what is under way can call what it needs.
            withdraw(&inner.register, Withdraw::All, PEERS_KNOW_WITHIN).await;
            // The last one started ends first: what it needs was started before it.
            for supervisor in inner.supervisors().iter().rev() {
                supervisor.pull(Halt::Drain);
                supervisor.ended().await;
            }
            let residents = host.all_residents();
            for core in &residents {
                core.order(Order::Drain);
            }
            join_all(residents.iter().map(|core| core.ended())).await;
        };
        let limit = inner.shutdown_timeout;
        let in_time = time::timeout(limit, orderly).await.is_some();
        let left = host.all_residents().len();

        // Connections after instances: the last replies go out first.
        let (done, is_done) = oneshot::channel();
        if inner.peers.send(News::Close(done)).await.is_ok() {
            let _ = time::timeout(GOODBYE, is_done).await; // a peer that does not listen is cut off
        }
        host.tasks.abort();
        host.tasks.ended().await;
        if in_time { Ok(()) } else { Err(ShutdownError::CutOff { tasks: left, limit }) }
    }
}
