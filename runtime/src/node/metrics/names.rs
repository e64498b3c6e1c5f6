//! Every metric, in one table: `METRICS.md` is held to it.
//!
//! Invariant: names as Prometheus has them: what they are of first, then their unit, and `_total` for what only goes up.

use metrics::Unit;

/// A metric.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    /// Whether it only goes up.
    pub(super) is_counter: bool,
    pub(super) unit: Unit,
    pub(super) help: &'static str,
}

pub(super) static START_TIME: Metric =
    gauge("skyhold_node_start_time_seconds", Unit::Seconds, "When the node's life began, since the epoch.");
pub(super) static MEMBERS: Metric = gauge(
    "skyhold_members",
    Unit::Count,
    "Members of the cluster as this node sees it, itself included, by state.",
);
pub(super) static QUORUM: Metric = gauge(
    "skyhold_has_quorum",
    Unit::Count,
    "1 if more than half of the expected nodes answer this node, else 0.",
);
pub(super) static DEAD_LETTERS: Metric = count("skyhold_dead_letters_total", "Messages that reached nobody.");
pub(super) static DISPLACED: Metric =
    count("skyhold_displaced_messages_total", "Sends that were dropped to make room for newer messages.");
pub(super) static SHED: Metric =
    count("skyhold_shed_calls_total", "Calls that were refused because their deadline could not be met.");
pub(super) static EXPIRED: Metric = count(
    "skyhold_expired_messages_total",
    "Messages that were too late, by the phase in which that was seen.",
);
pub(super) static PANICS: Metric = count("skyhold_panics_total", "Handlers and hooks that panicked.");
pub(super) static STARTED: Metric = count("skyhold_instances_started_total", "Instances that were started.");
pub(super) static ENDED: Metric =
    count("skyhold_instances_ended_total", "Instances that have ended, and lives of supervised ones.");
pub(super) static RESTARTS: Metric =
    count("skyhold_restarts_total", "Children that a supervisor began another life of.");
pub(super) static GAVE_UP: Metric = count(
    "skyhold_supervisors_gave_up_total",
    "Supervisors that saw more failures than their intensity allows.",
);
pub(super) static SLOW: Metric =
    count("skyhold_slow_handlers_total", "Handlers that have run for longer than their service's `slow`.");
pub(super) static STUCK: Metric =
    count("skyhold_stuck_handlers_total", "Handlers that have run for longer than their service's `stuck`.");
pub(super) static HIGH_WATERS: Metric = count(
    "skyhold_mailbox_high_waters_total",
    "Mailboxes that have filled up to their service's `high_water`.",
);
pub(super) static REFUSED: Metric =
    count("skyhold_connections_refused_total", "Connections refused in the handshake, by either side.");
pub(super) static ENDED_CONNECTIONS: Metric =
    count("skyhold_connections_ended_total", "Connections that have ended, by what ended them.");

pub(super) static INSTANCES: Metric =
    gauge("skyhold_service_instances", Unit::Count, "Instances that run here.");
pub(super) static BUSY: Metric =
    gauge("skyhold_service_busy_instances", Unit::Count, "Instances of which a handler runs now.");
pub(super) static WAITING: Metric =
    gauge("skyhold_service_mailbox_messages", Unit::Count, "Messages that wait in the mailboxes.");
pub(super) static CAPACITY: Metric = gauge(
    "skyhold_service_mailbox_capacity_messages",
    Unit::Count,
    "Messages that may wait in the mailboxes.",
);
pub(super) static SOJOURN: Metric = gauge(
    "skyhold_service_mailbox_sojourn_seconds",
    Unit::Seconds,
    "How long messages have lately waited in the mailbox, of the instance with the longest time.",
);
pub(super) static LIVES: Metric =
    gauge("skyhold_service_restarts", Unit::Count, "Restarts that the instances that run now have had.");

pub(super) static POLLED: Metric = gauge(
    "skyhold_service_polled_seconds",
    Unit::Seconds,
    "How long the instances that run now have been polled, by the clock.",
);
pub(super) static CPU: Metric = gauge(
    "skyhold_service_cpu_seconds",
    Unit::Seconds,
    "How long the instances that run now have run on processors.",
);

pub(super) static METHOD_CALLS: Metric =
    count("skyhold_method_calls_total", "Calls whose handler has begun.");
pub(super) static METHOD_SENDS: Metric =
    count("skyhold_method_sends_total", "Sends whose handler has begun.");
pub(super) static METHOD_ENDED: Metric =
    count("skyhold_method_ended_messages_total", "Messages that have ended, by how.");
pub(super) static METHOD_RUNNING: Metric =
    gauge("skyhold_method_running_handlers", Unit::Count, "Handlers that run now, those that wait included.");
pub(super) static METHOD_TIME: Metric = gauge(
    "skyhold_method_handler_seconds",
    Unit::Seconds,
    "How long handlers have taken, by quantile of all since the start; 1 is the longest.",
);
pub(super) static METHOD_SOJOURN: Metric = gauge(
    "skyhold_method_sojourn_seconds",
    Unit::Seconds,
    "How long messages have waited in the mailbox, likewise.",
);

pub(super) static CONNECTIONS: Metric = gauge("skyhold_connections", Unit::Count, "Connections that stand.");
pub(super) static RECEIVED: Metric =
    bytes("skyhold_connection_received_bytes_total", "Bytes that were read.");
pub(super) static SENT: Metric = bytes("skyhold_connection_sent_bytes_total", "Bytes that were written.");
pub(super) static FRAMES_RECEIVED: Metric =
    count("skyhold_connection_received_frames_total", "Frames that were read.");
pub(super) static FRAMES_SENT: Metric =
    count("skyhold_connection_sent_frames_total", "Frames that were written, or wait to be.");
pub(super) static QUEUE: Metric =
    gauge("skyhold_connection_queue_bytes", Unit::Bytes, "Bytes that wait to be written, by lane.");
pub(super) static CALLS: Metric = gauge(
    "skyhold_connection_calls",
    Unit::Count,
    "Calls that wait for their replies: `sent` by this node, or `received`.",
);
pub(super) static STARVED: Metric = gauge(
    "skyhold_connection_instances_without_credit",
    Unit::Count,
    "Instances of the peer that take no more from this node for the moment.",
);
pub(super) static CALLERS: Metric = gauge(
    "skyhold_connection_waiting_callers",
    Unit::Count,
    "Callers that wait for credit of the peer's instances.",
);
pub(super) static RECONNECTS: Metric = gauge(
    "skyhold_connection_reconnects",
    Unit::Count,
    "Connections to this life of the peer that were lost before.",
);
pub(super) static ROUND_TRIP: Metric = gauge(
    "skyhold_connection_round_trip_seconds",
    Unit::Seconds,
    "How long the peer took to answer just now, of the slowest connection; 1 if it took a second or more.",
);

/// All of them, in the order of the documentation.
pub(super) static ALL: [&Metric; 42] = [
    &START_TIME,
    &MEMBERS,
    &QUORUM,
    &DEAD_LETTERS,
    &DISPLACED,
    &SHED,
    &EXPIRED,
    &PANICS,
    &STARTED,
    &ENDED,
    &RESTARTS,
    &GAVE_UP,
    &SLOW,
    &STUCK,
    &HIGH_WATERS,
    &REFUSED,
    &ENDED_CONNECTIONS,
    &INSTANCES,
    &BUSY,
    &WAITING,
    &CAPACITY,
    &SOJOURN,
    &LIVES,
    &POLLED,
    &CPU,
    &METHOD_CALLS,
    &METHOD_SENDS,
    &METHOD_ENDED,
    &METHOD_RUNNING,
    &METHOD_TIME,
    &METHOD_SOJOURN,
    &CONNECTIONS,
    &RECEIVED,
    &SENT,
    &FRAMES_RECEIVED,
    &FRAMES_SENT,
    &QUEUE,
    &CALLS,
    &STARVED,
    &CALLERS,
    &RECONNECTS,
    &ROUND_TRIP,
];

const fn count(name: &'static str, help: &'static str) -> Metric {
    Metric { name, is_counter: true, unit: Unit::Count, help }
}

const fn bytes(name: &'static str, help: &'static str) -> Metric {
    Metric { name, is_counter: true, unit: Unit::Bytes, help }
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { name, is_counter: false, unit, help }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn names_are_as_prometheus_has_them() {
        for Metric { name, is_counter, unit, help } in ALL {
            assert!(name.starts_with("skyhold_") && help.ends_with('.'), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), *is_counter, "{name}");
            let base = name.trim_end_matches("_total");
            assert_eq!(base.ends_with("_bytes"), *unit == Unit::Bytes, "{name}");
            assert_eq!(base.ends_with("_seconds"), *unit == Unit::Seconds, "{name}");
        }
    }

    #[test]
    fn the_documentation_names_every_metric_and_no_other() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("METRICS.md");
        let text = std::fs::read_to_string(path).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| `skyhold_"));
        let row = |metric: &&Metric| {
            let kind = if metric.is_counter { "counter" } else { "gauge" };
            format!("| `{}` | {kind} | ", metric.name)
        };
        let expected: Vec<_> = ALL.iter().map(row).collect();
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows.len(), expected.len());
        for ((row, expected), metric) in rows.iter().zip(&expected).zip(ALL) {
            assert!(
                row.starts_with(expected) && row.contains(metric.help),
                "{row}\n{expected}{}",
                metric.help
            );
        }
    }
}
