//! Every key of a configuration file, in one table: `CONFIGURATION.md` is held to it.

use super::field::Field::{self, Address, Addresses, Count, Duration, Flag, Monitoring, Name, Path, Size};
use super::plan::Effect::{self, Live, NewConnections, Restart};

/// A key.
pub(super) struct Key {
    /// Its section, a dot, and its name.
    pub(super) path: &'static str,
    /// What a reload does with a change.
    pub(super) effect: Effect,
    pub(super) field: Field,
}

/// The keys that have one value each. Besides them there are [`LABELS`], [`NODES`], [`ACCESS`], [`ROUTE`] and [`SERVICE`].
pub(super) const KEYS: [Key; 53] = [
    key("node.name", Restart, Name(|s| &mut s.name)),
    key("node.cluster", Restart, Name(|s| &mut s.cluster)),
    key("node.listen", Restart, Address(|s| &mut s.listen)),
    key("node.monitoring", Restart, Monitoring(|s| &mut s.monitoring)),
    key("transport.heartbeat", NewConnections, Duration(|s| &mut s.heartbeat)),
    key("transport.silence", NewConnections, Duration(|s| &mut s.silence)),
    key("transport.handshake_timeout", NewConnections, Duration(|s| &mut s.handshake_timeout)),
    key("transport.max_message", NewConnections, Size(|s| &mut s.max_message)),
    key("transport.connections_per_peer", NewConnections, Count(|s| &mut s.connections_per_peer)),
    key("security.secret_file", NewConnections, Path(|s| &mut s.secret_file)),
    key("security.also_accept_file", NewConnections, Path(|s| &mut s.also_accept_file)),
    key("security.certificate", NewConnections, Path(|s| &mut s.certificate)),
    key("security.key", NewConnections, Path(|s| &mut s.key)),
    key("security.authorities", NewConnections, Path(|s| &mut s.authorities)),
    key("security.insecure_without_secret", NewConnections, Flag(|s| &mut s.is_insecure)),
    key("security.closed", Live, Flag(|s| &mut s.access.is_closed)),
    key("topology.seeds", Live, Addresses(|s| &mut s.seeds)),
    key("topology.expected_nodes", Live, Count(|s| &mut s.expected_nodes)),
    key("topology.dns", Live, Addresses(|s| &mut s.discovery.dns)),
    key("topology.file", Live, Path(|s| &mut s.discovery.file)),
    key("topology.etcd", Live, Addresses(|s| &mut s.discovery.etcd)),
    key("topology.etcd_prefix", Live, Name(|s| &mut s.discovery.etcd_prefix)),
    key("topology.refresh", Live, Duration(|s| &mut s.discovery.refresh)),
    key("config.holder", Restart, Name(|s| &mut s.central.holder)),
    key("config.path", Restart, Path(|s| &mut s.central.path)),
    key("config.etcd", Restart, Addresses(|s| &mut s.central.etcd)),
    key("config.max_value", Restart, Size(|s| &mut s.central.max_value)),
    key("config.max_keys", Restart, Count(|s| &mut s.central.max_keys)),
    key("config.max_total", Restart, Size(|s| &mut s.central.max_total)),
    key("config.history", Restart, Count(|s| &mut s.central.history)),
    key("calls.timeout", Live, Duration(|s| &mut s.call_timeout)),
    key("calls.shutdown_timeout", Live, Duration(|s| &mut s.shutdown_timeout)),
    key("limits.connections", NewConnections, Count(|s| &mut s.limits.connections)),
    key("limits.connections_per_address", NewConnections, Count(|s| &mut s.limits.connections_per_address)),
    key("limits.strangers", NewConnections, Count(|s| &mut s.limits.strangers)),
    key("limits.strangers_per_address", NewConnections, Count(|s| &mut s.limits.strangers_per_address)),
    key("limits.credit_messages", NewConnections, Count(|s| &mut s.limits.credit_messages)),
    key("limits.credit_bytes", NewConnections, Size(|s| &mut s.limits.credit_bytes)),
    key("limits.pieces", NewConnections, Size(|s| &mut s.limits.pieces)),
    key("limits.send_buffer", NewConnections, Size(|s| &mut s.limits.send_buffer)),
    key("limits.long_send_buffer", NewConnections, Size(|s| &mut s.limits.long_send_buffer)),
    key("limits.unread", NewConnections, Size(|s| &mut s.limits.unread)),
    key("limits.requests", NewConnections, Count(|s| &mut s.limits.requests)),
    key("limits.streams", NewConnections, Count(|s| &mut s.limits.streams)),
    key("limits.stream_items", NewConnections, Count(|s| &mut s.limits.stream_items)),
    key("limits.stream_bytes", NewConnections, Size(|s| &mut s.limits.stream_bytes)),
    key("limits.watches", NewConnections, Count(|s| &mut s.limits.watches)),
    key("limits.names", Restart, Count(|s| &mut s.limits.names)),
    key("limits.instances", Restart, Count(|s| &mut s.limits.instances)),
    key("limits.events", Restart, Count(|s| &mut s.limits.events)),
    key("admin.metrics", Restart, Address(|s| &mut s.admin.metrics)),
    key("admin.dashboard", Restart, Address(|s| &mut s.admin.dashboard)),
    key("admin.token_file", Restart, Path(|s| &mut s.admin.token_file)),
];

/// The table of nodes by name.
pub(super) const NODES: &str = "topology.nodes";

/// The table of the node's labels by key.
pub(super) const LABELS: &str = "node.labels";

/// The list of rules of access.
pub(super) const ACCESS: &str = "access";

/// The list of rules for routing. Their keys are in `routes::read`.
pub(super) const ROUTE: &str = "route";

/// The list of services to start. Their keys are in `services::read`.
pub(super) const SERVICE: &str = "service";

/// The keys of one rule of access.
pub(super) const RULE: [&str; 3] = ["peers", "service", "methods"];

const fn key(path: &'static str, effect: Effect, field: Field) -> Key {
    Key { path, effect, field }
}

/// The key of that path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The names of the sections, some more than once.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    let of_keys = KEYS.iter().filter_map(|key| key.path.split('.').next());
    of_keys.chain([ACCESS, ROUTE, SERVICE])
}
