//! From text and environment to settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{ACCESS, KEYS, LABELS, NODES, ROUTE, RULE, SERVICE};
use super::routes::FIELDS;
use super::services;
use super::{Asked, Change, ConfigError, Effect, Read, Settings, adopt, changes, read};

mod refused;

const FILE: &str = "/etc/skyhold/node.toml";

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Read, ConfigError> {
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    read(Path::new(FILE), text, &environment)
}

fn settings(text: &str) -> Settings {
    parse(text, &[]).unwrap_or_else(|error| panic!("{error}")).settings
}

/// Each key with a value that is not its default, and how that is shown.
fn values() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("node.name", "\"a\"", "a"),
        ("node.cluster", "\"shop\"", "shop"),
        ("node.listen", "\"127.0.0.1:7001\"", "127.0.0.1:7001"),
        ("node.monitoring", "\"precise\"", "precise"),
        ("transport.heartbeat", "\"250ms\"", "250ms"),
        ("transport.silence", "\"1m 30s\"", "90s"),
        ("transport.handshake_timeout", "\"2s\"", "2s"),
        ("transport.max_message", "\"1 MiB\"", "1 MiB"),
        ("transport.connections_per_peer", "4", "4"),
        ("security.secret_file", "\"cluster.key\"", "/etc/skyhold/cluster.key"),
        ("security.also_accept_file", "\"/old.key\"", "/old.key"),
        ("security.certificate", "\"a.pem\"", "/etc/skyhold/a.pem"),
        ("security.key", "\"tls/a.key\"", "/etc/skyhold/tls/a.key"),
        ("security.authorities", "\"../ca.pem\"", "/etc/skyhold/../ca.pem"),
        ("security.insecure_without_secret", "true", "true"),
        ("security.closed", "true", "true"),
        ("topology.seeds", "[\"b:1\", \"[::1]:2\"]", "b:1, [::1]:2"),
        ("topology.expected_nodes", "5", "5"),
        ("topology.dns", "[\"peers.local:1\"]", "peers.local:1"),
        ("topology.file", "\"peers\"", "/etc/skyhold/peers"),
        ("topology.etcd", "[\"e1:2379\", \"e2:2379\"]", "e1:2379, e2:2379"),
        ("topology.etcd_prefix", "\"/shop\"", "/shop"),
        ("topology.refresh", "\"1m\"", "60s"),
        ("config.holder", "\"a\"", "a"),
        ("config.path", "\"skyhold.settings\"", "/etc/skyhold/skyhold.settings"),
        ("config.etcd", "[\"e1:2379\"]", "e1:2379"),
        ("config.max_value", "\"1 KiB\"", "1 KiB"),
        ("config.max_keys", "13", "13"),
        ("config.max_total", "\"2 MiB\"", "2 MiB"),
        ("config.history", "3", "3"),
        ("calls.timeout", "\"1s\"", "1s"),
        ("calls.shutdown_timeout", "\"0s\"", "0ns"),
        ("limits.connections", "1", "1"),
        ("limits.connections_per_address", "2", "2"),
        ("limits.strangers", "3", "3"),
        ("limits.strangers_per_address", "4", "4"),
        ("limits.credit_messages", "16", "16"),
        ("limits.credit_bytes", "65536", "64 KiB"),
        ("limits.pieces", "\"64 KiB\"", "64 KiB"),
        ("limits.send_buffer", "\"128 KiB\"", "128 KiB"),
        ("limits.long_send_buffer", "\"256 KiB\"", "256 KiB"),
        ("limits.unread", "\"1 GiB\"", "1 GiB"),
        ("limits.requests", "5", "5"),
        ("limits.streams", "6", "6"),
        ("limits.stream_items", "7", "7"),
        ("limits.stream_bytes", "\"8 B\"", "8 B"),
        ("limits.watches", "9", "9"),
        ("limits.names", "10", "10"),
        ("limits.instances", "12", "12"),
        ("limits.events", "11", "11"),
        ("admin.metrics", "\"127.0.0.1:9100\"", "127.0.0.1:9100"),
        ("admin.dashboard", "\"127.0.0.1:9101\"", "127.0.0.1:9101"),
        ("admin.token_file", "\"admin.token\"", "/etc/skyhold/admin.token"),
    ]
}

/// Whether a key needs a feature that this build does not have, or does not go together with the others.
fn is_left_out(key: &str) -> bool {
    let certificates = ["security.certificate", "security.key", "security.authorities"];
    let registry = ["topology.etcd", "topology.etcd_prefix"];
    !cfg!(feature = "tls") && certificates.contains(&key)
        || !cfg!(feature = "etcd") && registry.contains(&key)
        || key == "config.etcd"
        || !cfg!(feature = "dashboard") && key == "admin.dashboard"
        || !cfg!(feature = "metrics") && key.starts_with("admin.")
}

#[test]
#[cfg(feature = "etcd")]
fn a_registry_may_keep_the_central_configuration_in_the_place_of_a_holder() {
    let settings = settings("node.name = \"a\"\nconfig.etcd = [\"e1:2379\"]");
    assert_eq!(
        (settings.central.etcd.as_slice(), &*settings.central.holder),
        (&["e1:2379".to_owned()][..], "")
    );
    assert!(!settings.opens_sockets(), "to no peer");
}

/// A file of `section.key = value` lines, without those that need a feature that is not there.
fn file(values: &[(&str, &str)]) -> String {
    let lines = values.iter().filter(|(key, _)| !is_left_out(key));
    lines.map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_key_is_read_and_shown_and_no_other() {
    let values = values();
    assert!(
        KEYS.iter().map(|key| key.path).eq(values.iter().map(|(key, ..)| *key)),
        "the test has every key"
    );
    let lines: Vec<_> = values.iter().map(|(key, value, _)| (*key, *value)).collect();
    let mut all = settings(&file(&lines));
    let mut default = Settings::new(String::new());
    for (key, (_, _, shown)) in KEYS.iter().zip(&values) {
        let is_set = key.field.show(&mut all).as_deref() == Some(shown);
        assert!(is_set || is_left_out(key.path), "{}: {:?}", key.path, key.field.show(&mut all));
        assert_ne!(
            key.field.show(&mut default).as_deref(),
            Some(*shown),
            "{}: tell it from its default",
            key.path
        );
    }
}

#[test]
fn each_key_can_be_given_by_the_environment() {
    let from_environment = |(key, value, _): &(&str, &str, &str)| {
        let value = value.trim_matches(['[', ']']).replace('"', "");
        (format!("SKYHOLD__{}", key.to_uppercase().replace('.', "__")), value)
    };
    // A list that begins with a bracket would lose it above.
    let values = values().into_iter().map(|(key, value, shown)| match key {
        "topology.seeds" => (key, "b:1, c:2", "b:1, c:2"),
        _ => (key, value, shown),
    });
    let values: Vec<_> = values.filter(|(key, ..)| !is_left_out(key)).collect();
    let environment: Vec<_> = values.iter().map(from_environment).collect();
    let read = read(Path::new(FILE), "", &environment).unwrap_or_else(|error| panic!("{error}"));
    let mut settings = read.settings;
    for (key, _, shown) in values {
        let field = KEYS.iter().find(|known| known.path == key).unwrap().field;
        assert_eq!(field.show(&mut settings).as_deref(), Some(shown), "{key}");
    }
}

#[test]
fn the_environment_goes_before_the_file() {
    let text = "[node]\nname = \"a\"\ncluster = \"shop\"\n[topology.nodes]\nb = \"b:1\"\nc = \"c:1\"";
    let environment = [
        ("SKYHOLD__NODE__CLUSTER", "test"),
        ("SKYHOLD__TOPOLOGY__NODES__B", "false"),
        ("SKYHOLD__TOPOLOGY__NODES__D", "d:1"),
    ];
    let settings = parse(text, &environment).unwrap().settings;
    assert_eq!((&*settings.name, &*settings.cluster), ("a", "test"));
    let nodes: Vec<_> = settings.nodes.iter().map(|(name, at)| (&**name, at.as_deref())).collect();
    assert_eq!(nodes, [("b", None), ("c", Some("c:1")), ("d", Some("d:1"))]);
}

#[test]
fn a_file_with_a_name_is_enough_and_has_the_defaults_of_the_builder() {
    let found = changes(&Settings::new("a".to_owned()), &settings("[node]\nname = \"a\""));
    assert_eq!(found, []);
    assert!(!settings("[node]\nname = \"a\"").opens_sockets());
}

#[test]
fn rules_of_access_are_those_of_the_builder() {
    let text = "node.name = \"a\"\nsecurity.closed = true\n[[access]]\npeers = \"gate-*\"\nservice = \"accounts\"\n\
                [[access]]\npeers = \"metrics\"\nservice = \"accounts\"\nmethods = [\"count\"]";
    let access = settings(text).access;
    assert!(access.allows("gate-1", "accounts", Asked::Method("close")));
    assert!(access.allows("metrics", "accounts", Asked::Method("count")));
    assert!(!access.allows("metrics", "accounts", Asked::Method("close")));
    assert!(!access.allows("gate-1", "chat", Asked::Method("say")), "closed");
}

#[test]
fn changes_are_named_with_both_values_and_what_becomes_of_them() {
    let old =
        settings("node.name = \"a\"\ntopology.nodes = { b = \"b:1\", c = \"c:1\" }\ncalls.timeout = \"1s\"");
    let new = settings(
        "node = { name = \"z\", listen = \"a:1\" }\ntransport.heartbeat = \"2s\"\n\
         topology.nodes = { b = false, d = \"d:1\" }\ncalls.timeout = \"1000ms\"\n\
         [[access]]\npeers = \"*\"\nservice = \"s\"\nmethods = [\"m\", \"n\"]",
    );
    let found = changes(&old, &new);
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "node.name from a to z (needs a restart)",
            "node.listen from nothing to a:1 (needs a restart)",
            "transport.heartbeat from 1s to 2s (for connections to come)",
            "topology.nodes.b from b:1 to false (live)",
            "topology.nodes.c from c:1 to nothing (live)",
            "topology.nodes.d from nothing to d:1 (live)",
            "access from nothing to * may call s.{m, n} (live)",
        ]
    );
    let mut in_force = old.clone();
    in_force.call_timeout = Duration::from_secs(7); // by code
    adopt(&mut in_force, &new, &found);
    let left: Vec<_> =
        changes(&in_force, &new).iter().map(|Change { key, effect, .. }| (key.clone(), *effect)).collect();
    let restart = |key: &str| (key.to_owned(), Effect::Restart);
    assert_eq!(
        left,
        [restart("node.name"), restart("node.listen"), ("calls.timeout".to_owned(), Effect::Live)]
    );
}

#[test]
fn the_documentation_names_every_key() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("CONFIGURATION.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut default = Settings::new(String::new());
    let mut lines = text.lines().filter(|line| line.starts_with("| `")).peekable();
    for key in &KEYS {
        let row = lines.next().unwrap_or_default();
        let default = key
            .field
            .show(&mut default)
            .filter(|default| !default.is_empty())
            .unwrap_or_else(|| "none".to_owned());
        let beginning = format!("| `{}` | ", key.path);
        let effect = match key.effect {
            Effect::Live => "| live |",
            Effect::NewConnections => "| new connections |",
            Effect::Restart => "| restart |",
        };
        assert!(row.starts_with(&beginning) && row.ends_with(effect), "{}: {row}", key.path);
        assert!(row.contains(&format!("| {default} |")), "{}: its default is {default}: {row}", key.path);
        let table = match key.path {
            "node.listen" => format!("| `{LABELS}.KEY` | "),
            "topology.seeds" => format!("| `{NODES}.NAME` | "),
            _ => continue,
        };
        let row = lines.next().unwrap_or_default();
        assert!(row.starts_with(&table), "{row}");
    }
    for name in RULE {
        let row = lines.next().unwrap_or_default();
        assert!(row.starts_with(&format!("| `{ACCESS}.{name}` | ")), "{row}");
    }
    for name in FIELDS {
        let row = lines.next().unwrap_or_default();
        assert!(row.starts_with(&format!("| `{ROUTE}.{name}` | ")), "{row}");
    }
    for name in services::FIELDS {
        let row = lines.next().unwrap_or_default();
        assert!(row.starts_with(&format!("| `{SERVICE}.{name}` | ")), "{row}");
    }
    assert_eq!(lines.next(), None, "a row for what is no key");
}
