//! What a manager tells of its node's connections.
//!
//! Invariant: it waits for nobody but the peers' answers, and not long.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, InstanceId, NodeId};
use crate::node::node::Inner;
use crate::port::{Link, Seen};
use crate::time;

/// How long a peer may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A connection at one moment. Got from [`ManagerHandle::connections`](crate::ManagerHandle::connections). What is counted is counted from the
/// connection's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConnectionReport {
    /// The node at the other end.
    pub peer: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Which of the [connections](crate::NodeBuilder::connections_per_peer) to it this is, from 0.
    pub number: usize,
    /// How long it has stood.
    pub age: Duration,
    /// How many connections to this life of the peer, of this number, were lost before. 0 where there are several connections and this is not the first.
    pub reconnects: u32,
    /// How many bytes were read from it, the handshake included, before decryption where there is any.
    pub bytes_received: u64,
    /// How many frames: messages, replies, pieces of long ones, and what the nodes say themselves.
    pub frames_received: u64,
    /// How many bytes were written.
    pub bytes_sent: u64,
    /// How many frames were written, or wait to be.
    pub frames_sent: u64,
    /// What waits to be written.
    pub queue: QueueReport,
    /// How many calls of this node wait there for their replies.
    pub calls: usize,
    /// How many calls of the peer wait here for theirs.
    pub served: usize,
    /// How many instances of the peer take no more from this node for the moment: it has no credit left for them.
    pub without_credit: usize,
    /// For which instances callers wait until they may send, and how many for each. At most 64 instances.
    pub waiting: Vec<(InstanceId, usize)>,
    /// How long the peer took to answer a question just now, over this connection; `None` if it did not within a second.
    pub round_trip: Option<Duration>,
}

/// What waits to be written to a connection, in bytes, by lane. A lane goes before those after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueReport {
    /// What the nodes say themselves: members, names, credit.
    pub control: usize,
    /// Replies of up to 64 KiB.
    pub replies: usize,
    /// Messages of up to 64 KiB.
    pub calls: usize,
    /// Longer ones.
    pub bulk: usize,
}

impl ConnectionReport {
    /// All connections, by peer and number.
    pub(in crate::node) async fn all(inner: &Inner) -> Vec<Self> {
        let mut nodes = inner.table.nodes();
        nodes.sort();
        let links = nodes.iter().filter_map(|(node, _)| inner.table.link(node));
        let reports = links.flat_map(|first| {
            let links = first.family().into_iter().enumerate();
            links.map(|(number, link)| async move { Self::of(&link, number).await })
        });
        join_all(reports).await
    }

    async fn of(link: &Arc<Link>, number: usize) -> Self {
        let asked = time::now();
        let answer = time::timeout(ANSWERS_WITHIN, link.round_trip()).await.flatten();
        let now = time::now();
        let round_trip = answer.map(|()| now.saturating_duration_since(asked));
        let Seen {
            age,
            before,
            bytes_read,
            frames_read,
            bytes_written,
            frames_written,
            waiting,
            requests: (calls, served),
            without_credit,
            lines,
        } = link.seen(now);
        Self {
            peer: link.peer().node.clone(),
            incarnation: link.peer().incarnation,
            number,
            age,
            reconnects: before,
            bytes_received: bytes_read,
            frames_received: frames_read,
            bytes_sent: bytes_written,
            frames_sent: frames_written,
            queue: QueueReport {
                control: waiting.control,
                replies: waiting.replies,
                calls: waiting.calls,
                bulk: waiting.bulk,
            },
            calls,
            served,
            without_credit,
            waiting: lines,
            round_trip,
        }
    }
}
