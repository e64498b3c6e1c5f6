//! From text and environment to settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{ACCESS, KEYS, LABELS, NODES, ROUTE, RULE, SERVICE};
use super::routes::FIELDS;
use super::services;
use super::{Asked, Change, ConfigError, Effect, Read, Settings, adopt, changes, read};

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
    ]
}

/// Whether a key needs a feature that this build does not have.
fn is_left_out(key: &str) -> bool {
    let certificates = ["security.certificate", "security.key", "security.authorities"];
    let registry = ["topology.etcd", "topology.etcd_prefix"];
    !cfg!(feature = "tls") && certificates.contains(&key)
        || !cfg!(feature = "etcd") && registry.contains(&key)
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

/// Checks what is said of a file.
fn refused(text: &str, expected: &str) {
    let error = parse(text, &[]).unwrap_err();
    assert_eq!(error.to_string(), expected.replace("FILE", FILE), "\n{text}");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
    refused(
        "[node]\nname = \"a\"\n\nlisen = \"127.0.0.1:7001\"\n",
        "FILE:4: there is no key `node.lisen`; did you mean `node.listen`?\n\
         4 | lisen = \"127.0.0.1:7001\"\n  | ^^^^^",
    );
    refused(
        "[node]\nname = \"a\"\nheartbeat = \"1s\"",
        "FILE:3: there is no key `node.heartbeat`; did you mean `transport.heartbeat`?\n\
         3 | heartbeat = \"1s\"\n  | ^^^^^^^^^",
    );
    refused(
        "[transprot]\nheartbeat = \"1s\"",
        "FILE:1: there is no key `transprot`; did you mean `transport`?\n1 | [transprot]\n  |  ^^^^^^^^^",
    );
    refused("[weather]\nsun = true", "FILE:1: there is no key `weather`\n1 | [weather]\n  |  ^^^^^^^");
    refused("name = \"a\"", "FILE:1: there is no key `name`\n1 | name = \"a\"\n  | ^^^^");
    refused(
        "[[access]]\npeer = \"b\"\nservice = \"s\"",
        "FILE:2: there is no key `access.peer`; did you mean `access.peers`?\n2 | peer = \"b\"\n  | ^^^^",
    );
    refused(
        "[node]\nname = \"a\"\n[topology]\nnode.b = \"b:1\"",
        "FILE:4: there is no key `topology.node`; did you mean `topology.nodes`?\n4 | node.b = \"b:1\"\n  | ^^^^",
    );
}

#[test]
fn the_first_error_of_the_file_is_the_one_that_is_told() {
    refused(
        "[transport]\nsilence = 1\n[node]\nname = 2\n[calls]\ntimeout = 3",
        "FILE:2: `transport.silence` is the integer 1; expected a duration such as \"5s\", \"250ms\" or \"1m 30s\", at most \"8760h\"\n\
         2 | silence = 1\n  |           ^",
    );
}

#[test]
fn a_value_of_another_type_is_refused_with_what_was_expected() {
    let duration = "expected a duration such as \"5s\", \"250ms\" or \"1m 30s\", at most \"8760h\"";
    let size = "expected a size such as \"64 MiB\" or \"512 KiB\", or a number of bytes";
    for (key, value, expected) in [
        ("node.name", "1", "is the integer 1; expected a name in quotes"),
        ("node.listen", "7001", "is the integer 7001; expected an address such as \"127.0.0.1:7001\""),
        ("node.listen", "\"here\"", "is the string \"here\"; expected an address such as \"127.0.0.1:7001\""),
        ("transport.heartbeat", "\"1 second\"", &format!("is the string \"1 second\"; {duration}")),
        ("transport.heartbeat", "1.5", &format!("is a number with a fraction; {duration}")),
        ("transport.heartbeat", "07:32:00", &format!("is a date; {duration}")),
        ("transport.max_message", "\"64 MB\"", &format!("is the string \"64 MB\"; {size}")),
        ("transport.max_message", "-1", &format!("is the integer -1; {size}")),
        ("transport.max_message", "99999999999999999999", &format!("is an integer out of range; {size}")),
        ("security.secret_file", "\"\"", "is the string \"\"; expected the path of a file, in quotes"),
        ("security.closed", "\"true\"", "is the string \"true\"; expected true or false"),
        (
            "topology.seeds",
            "\"b:1\"",
            "is the string \"b:1\"; expected a list of addresses such as [\"10.0.0.2:7001\"]",
        ),
        (
            "topology.seeds",
            "[\"b:1\", 2]",
            "has the integer 2; expected a list of addresses such as [\"10.0.0.2:7001\"]",
        ),
        (
            "topology.seeds",
            "[\"b:0\"]",
            "has the string \"b:0\"; expected a list of addresses such as [\"10.0.0.2:7001\"]",
        ),
        ("topology.nodes", "[]", "is a list; expected a table of nodes by name"),
        (
            "topology.nodes.b",
            "true",
            "is the boolean true; expected the node's address such as \"10.0.0.2:7001\", or false to turn it off",
        ),
        (
            "topology.nodes.\"a b\"",
            "false",
            "cannot be used: node name \"a b\" contains ' '; white space and control characters are not allowed",
        ),
        ("limits.connections", "{ a = 1 }", "is a table; expected a whole number"),
        ("limits.connections", "true", "is the boolean true; expected a whole number"),
    ] {
        let error = parse(&format!("{key} = {value}"), &[]).unwrap_err();
        let ConfigError::Invalid { key: named, problem, .. } = &error else { panic!("{error}") };
        assert_eq!(format!("{named}: {problem}"), format!("{}: {expected}", key.replace('"', "")), "{error}");
        assert_eq!((error.line(), error.file()), (Some(1), Path::new(FILE)));
    }
    refused(
        "node = 1",
        "FILE:1: `node` is the integer 1; expected a section, as in `[node]`\n1 | node = 1\n  |        ^",
    );
    refused(
        "access = 1",
        "FILE:1: `access` is the integer 1; expected rules, each under its own `[[access]]`\n1 | access = 1\n  |          ^",
    );
    refused(
        "[[access]]\npeers = \"b\"",
        "FILE:1: `access.service` is missing: what they may call\n1 | [[access]]\n  | ^^^^^^^^^^",
    );
    refused(
        "[[access]]\nservice = \"b\"",
        "FILE:1: `access.peers` is missing: whom the rule is for\n1 | [[access]]\n  | ^^^^^^^^^^",
    );
    refused(
        "[[access]]\npeers = \"b\"\nservice = 1",
        "FILE:3: `access.service` is the integer 1; expected a name, or the beginning of one with a `*` behind it\n\
         3 | service = 1\n  |           ^",
    );
    refused(
        "[[access]]\npeers = \"b\"\nservice = \"s\"\nmethods = \"m\"",
        "FILE:4: `access.methods` is the string \"m\"; expected a list of names\n4 | methods = \"m\"\n  |           ^^^",
    );
}

#[test]
fn what_is_no_toml_is_shown_where_it_ceases_to_be() {
    refused(
        "[node]\nname = \"a\nlisten = \"b:1\"",
        "FILE:2: invalid basic string, expected `\"`\n2 | name = \"a\n  |          ^",
    );
    refused("[node]\nname = \"a\"\nname = \"b\"", "FILE:3: duplicate key\n3 | name = \"b\"\n  | ^^^^");
}

#[test]
fn values_that_do_not_go_together_are_refused_at_the_key_that_is_to_blame() {
    refused("", "FILE: `node.name` is missing; expected the node's name, as in `name = \"a\"`");
    refused(
        "node.name = \"a b\"",
        "FILE:1: `node.name` cannot be used: node name \"a b\" contains ' '; white space and control characters are not allowed\n\
         1 | node.name = \"a b\"\n  |             ^^^^^",
    );
    let named = |rest: &str, expected: &str| refused(&format!("node.name = \"a\"\n{rest}"), expected);
    named(
        "transport.silence = \"1s\"",
        "FILE:2: `transport.silence` is 1s; more than the heartbeat of 1s is needed\n\
         2 | transport.silence = \"1s\"\n  |                     ^^^^",
    );
    named(
        "transport.heartbeat = \"6s\"",
        "FILE: `transport.silence` is 5s; more than the heartbeat of 6s is needed",
    );
    named(
        "calls.timeout = \"0s\"",
        "FILE:2: `calls.timeout` is zero; more is needed\n2 | calls.timeout = \"0s\"\n  |                 ^^^^",
    );
    named(
        "transport.max_message = 1",
        "FILE:2: `transport.max_message` is 1 bytes; 65536 to 67108864 are possible\n\
         2 | transport.max_message = 1\n  |                         ^",
    );
    named(
        "transport.connections_per_peer = 3",
        "FILE:2: `transport.connections_per_peer` is 3; 1, 2, 4 or 8 is expected\n\
         2 | transport.connections_per_peer = 3\n  |                                  ^",
    );
    named(
        "limits.credit_messages = 15",
        "FILE:2: `limits.credit_messages` is 15; at least 16 is needed\n\
         2 | limits.credit_messages = 15\n  |                          ^^",
    );
    named(
        "security.also_accept_file = \"b\"",
        "FILE:2: `security.also_accept_file` needs `security.secret_file`: the secret by which this node dials\n\
         2 | security.also_accept_file = \"b\"\n  |                             ^^^",
    );
    named(
        "security.certificate = \"b\"",
        "FILE: `security.key` is missing; `certificate`, `key` and `authorities` go together",
    );
}

#[test]
fn what_needs_a_feature_is_refused_without_it() {
    let file = |lines: &str| format!("node.name = \"a\"\n{lines}");
    for (key, value) in [("topology.etcd", "[\"e:2379\"]"), ("topology.etcd_prefix", "\"/shop\"")] {
        let refused = parse(&file(&format!("{key} = {value}")), &[]).err().map(|error| error.to_string());
        let expected = format!(
            "FILE:2: `{key}` needs the feature `etcd`, and this program was built without it\n2 | {key} = "
        );
        let expected = (!cfg!(feature = "etcd")).then(|| expected.replace("FILE", FILE));
        let is_expected = match (&refused, &expected) {
            (Some(refused), Some(expected)) => refused.starts_with(expected),
            (refused, expected) => refused == expected,
        };
        assert!(is_expected, "{refused:?}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, expected) in [
        ("SKYHOLD__NODE__LISEN", "hunter2", "there is no key `node.lisen`; did you mean `node.listen`?"),
        (
            "SKYHOLD__LIMITS__STREAMS",
            "many",
            "`limits.streams` is the string \"many\"; expected a whole number",
        ),
        (
            "SKYHOLD__SECURITY__CLOSED",
            "yes",
            "`security.closed` is the string \"yes\"; expected true or false",
        ),
        ("SKYHOLD__ACCESS", "x", "`access` can be set in the file alone"),
        ("SKYHOLD__SECURITY__SECRET", "hunter2", "there is no key `security.secret`"),
    ] {
        let error = parse("node.name = \"a\"", &[(name, value)]).unwrap_err();
        assert_eq!(error.to_string(), format!("environment variable {name}: {expected}"));
        let (ConfigError::Invalid { place, .. } | ConfigError::UnknownKey { place, .. }) = &error else {
            panic!("{error}")
        };
        assert_eq!((place.variable(), error.line()), (Some(name), None));
    }
}

#[test]
fn a_secret_in_the_file_itself_is_refused_and_not_shown() {
    let error = parse("[security]\nsecret = \"correct horse battery\"", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{FILE}:2: there is no key `security.secret`\n2 | secret = ..\n  | ^^^^^^")
    );
    assert!(!format!("{error:?}").contains("horse"));
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
fn any_text_is_read_or_refused() {
    let whole = "[node]\nname = \"é\" # x\n[topology.nodes]\nb = false\n[[access]]\npeers = '''\nb'''\n";
    for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
        for tail in ["", "\"", "[", "= 1", "\n= ", "{", "\u{0}", "\r"] {
            if let Err(error) = parse(&format!("{}{tail}", &whole[..end]), &[]) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
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
