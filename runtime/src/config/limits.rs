//! The bounds of what a node keeps for its peers, and for strangers.

/// How much a node keeps for its peers and for strangers on its port, at most: `Node::builder("a").limits(Limits::default()
/// .connections(64))`. Every queue, table and buffer between nodes has its bound here. A service's mailbox and its
/// concurrency are settings of the service.
///
/// What one peer can make a node hold is the sum of: [`unread`](Self::unread); for each instance whose mailbox is full, the
/// [credit](Self::credit) and one message; [`max_message`](crate::NodeBuilder::max_message) for what is under way in
/// pieces; for each stream its [credit](Self::stream_credit) and one item; and its open requests, watches, names and instances. With several
/// [connections](crate::NodeBuilder::connections_per_peer) to it, each of them has all of that but the names and instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub(crate) connections: usize,
    pub(crate) connections_per_address: usize,
    pub(crate) strangers: usize,
    pub(crate) strangers_per_address: usize,
    pub(crate) credit_messages: usize,
    pub(crate) credit_bytes: usize,
    pub(crate) pieces: usize,
    pub(crate) send_buffer: usize,
    pub(crate) long_send_buffer: usize,
    pub(crate) unread: usize,
    pub(crate) requests: usize,
    pub(crate) streams: usize,
    pub(crate) stream_items: usize,
    pub(crate) stream_bytes: usize,
    pub(crate) watches: usize,
    pub(crate) names: usize,
    pub(crate) instances: usize,
    pub(crate) events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_address: 256,
            strangers: 128,
            strangers_per_address: 16,
            credit_messages: 4096,
            credit_bytes: 4 << 20,
            pieces: 1 << 20,
            send_buffer: 1 << 20,
            long_send_buffer: 4 << 20,
            unread: 256 << 20,
            requests: 65_536,
            streams: 4096,
            stream_items: 256,
            stream_bytes: 1 << 20,
            watches: 65_536,
            names: 65_536,
            instances: 65_536,
            events: 1024,
        }
    }
}

impl Limits {
    /// Connections that peers have made. Who comes above the limit is refused. Default: 1024.
    #[must_use]
    pub fn connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// Connections that come from one address, of peers and of strangers. Who comes above the limit is closed at once.
    /// Default: 256.
    #[must_use]
    pub fn connections_per_address(self, connections: usize) -> Self {
        Self { connections_per_address: connections, ..self }
    }

    /// Connections that have not proven yet that they are of a peer. Who comes above the limit takes the place of the one that
    /// has had the most time. Default: 128.
    #[must_use]
    pub fn strangers(self, connections: usize) -> Self {
        Self { strangers: connections, ..self }
    }

    /// Such connections from one address. Who comes above the limit takes the place of the one from there that has had the most
    /// time. Default: 16.
    #[must_use]
    pub fn strangers_per_address(self, connections: usize) -> Self {
        Self { strangers_per_address: connections, ..self }
    }

    /// How many messages, and how many bytes of their arguments, each instance takes from each peer ahead of the room in its
    /// mailbox. The last message may overdraw the bytes. At least 16 messages and 64 KiB. Default: 4096 messages, 4 MiB.
    #[must_use]
    pub fn credit(self, messages: usize, bytes: usize) -> Self {
        Self { credit_messages: messages, credit_bytes: bytes, ..self }
    }

    /// How many bytes of long messages may be on their way from a peer that this node has not taken off the stream. More
    /// makes them faster where the network's delay is long, and what is short and comes behind them slower. At least 64
    /// KiB. Default: 1 MiB.
    #[must_use]
    pub fn pieces(self, bytes: usize) -> Self {
        Self { pieces: bytes, ..self }
    }

    /// How many bytes of requests may wait to be sent to a peer before callers wait. At least 64 KiB. Default: 1 MiB.
    #[must_use]
    pub fn send_buffer(self, bytes: usize) -> Self {
        Self { send_buffer: bytes, ..self }
    }

    /// How many bytes of long requests may wait to be sent to a peer before callers wait. One may always. At least 64 KiB.
    /// Default: 4 MiB.
    #[must_use]
    pub fn long_send_buffer(self, bytes: usize) -> Self {
        Self { long_send_buffer: bytes, ..self }
    }

    /// How many bytes may wait to be sent to a peer in all, with the answers that it has asked for. A peer that lets more
    /// gather asks without reading, and is cut off. More than both send buffers and the longest message together.
    /// Default: 256 MiB.
    #[must_use]
    pub fn unread(self, bytes: usize) -> Self {
        Self { unread: bytes, ..self }
    }

    /// Requests that wait for their answer on one connection, each way. Default: 65536.
    #[must_use]
    pub fn requests(self, requests: usize) -> Self {
        Self { requests, ..self }
    }

    /// Streams that are open on one connection, each way. Default: 4096.
    #[must_use]
    pub fn streams(self, streams: usize) -> Self {
        Self { streams, ..self }
    }

    /// How many items, and how many of their bytes, each stream takes ahead of who reads it. The last item may overdraw the
    /// bytes. At least 1 and 1. Default: 256 items, 1 MiB.
    #[must_use]
    pub fn stream_credit(self, items: usize, bytes: usize) -> Self {
        Self { stream_items: items, stream_bytes: bytes, ..self }
    }

    /// Watches that are open on one connection, each way. Default: 65536.
    #[must_use]
    pub fn watches(self, watches: usize) -> Self {
        Self { watches, ..self }
    }

    /// Names that a peer may make known. Further ones are passed over. Default: 65536.
    #[must_use]
    pub fn names(self, names: usize) -> Self {
        Self { names, ..self }
    }

    /// Instances that a peer may make known under its names, all names together. Further ones are passed over. Default: 65536.
    #[must_use]
    pub fn instances(self, instances: usize) -> Self {
        Self { instances, ..self }
    }

    /// Events that a slow reader of [`Node::events`](crate::Node::events) may lag behind. Default: 1024.
    #[must_use]
    pub fn events(self, events: usize) -> Self {
        Self { events, ..self }
    }

    /// What cannot be used: the limit, and why.
    pub(crate) fn problem(&self, max_message: usize) -> Option<(&'static str, String)> {
        let unread = self.send_buffer.saturating_add(self.long_send_buffer).saturating_add(max_message);
        let least = [
            ("limits.connections", self.connections, 1),
            ("limits.connections_per_address", self.connections_per_address, 1),
            ("limits.strangers", self.strangers, 1),
            ("limits.strangers_per_address", self.strangers_per_address, 1),
            ("limits.credit_messages", self.credit_messages, LEAST_CREDIT.0),
            ("limits.credit_bytes", self.credit_bytes, LEAST_CREDIT.1),
            ("limits.pieces", self.pieces, LEAST_BYTES),
            ("limits.send_buffer", self.send_buffer, LEAST_BYTES),
            ("limits.long_send_buffer", self.long_send_buffer, LEAST_BYTES),
            ("limits.unread", self.unread, unread),
            ("limits.requests", self.requests, 1),
            ("limits.streams", self.streams, 1),
            ("limits.stream_items", self.stream_items, 1),
            ("limits.stream_bytes", self.stream_bytes, 1),
            ("limits.watches", self.watches, 1),
            ("limits.names", self.names, 1),
            ("limits.instances", self.instances, 1),
            ("limits.events", self.events, 1),
        ];
        let (limit, value, least) = least.into_iter().find(|(_, value, least)| value < least)?;
        Some((limit, format!("is {value}; at least {least} is needed")))
    }
}

/// The smallest credit, in messages and bytes: what a sender may assume before it is told.
pub(crate) const LEAST_CREDIT: (usize, usize) = (16, LEAST_BYTES);

/// The smallest buffer, in bytes: one piece of a long message.
const LEAST_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_small_is_named_with_what_is_needed() {
        let max_message = 1 << 20;
        assert_eq!(Limits::default().problem(64 << 20), None);
        for (limits, expected) in [
            (Limits::default().connections(0), "limits.connections is 0; at least 1 is needed"),
            (Limits::default().credit(15, 1 << 20), "limits.credit_messages is 15; at least 16 is needed"),
            (Limits::default().credit(16, 1), "limits.credit_bytes is 1; at least 65536 is needed"),
            (Limits::default().unread(1 << 20), "limits.unread is 1048576; at least 6291456 is needed"),
        ] {
            let (limit, problem) = limits.problem(max_message).unwrap();
            assert_eq!(format!("{limit} {problem}"), expected);
        }
    }
}
