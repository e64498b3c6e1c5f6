//! What is refused, with what it says.

use super::*;

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
fn a_central_configuration_that_cannot_be_kept_is_refused() {
    let file = |lines: &str| format!("node.name = \"a\"\n{lines}");
    for (lines, expected) in [
        (
            "config.holder = \"a\"",
            "FILE: `config.path` is missing; node a holds the configuration, and keeps it in that file",
        ),
        (
            "config.holder = \"a b\"",
            "FILE:2: `config.holder` cannot be used: node name \"a b\" contains ' '; ",
        ),
        (
            "config.etcd = [\"e:2379\"]\nconfig.holder = \"b\"",
            "FILE:3: `config.holder` stands beside `config.etcd`; ",
        ),
        ("config.history = 0", "FILE:2: `config.history` is zero; more is needed"),
        ("config.max_keys = 0", "FILE:2: `config.max_keys` is zero; more is needed"),
        (
            "config = { holder = \"b\", max_value = \"33 MiB\" }",
            "FILE:2: `config.max_value` is 34603008 bytes; 1 to 33554432 are possible, half of `transport.max_message`",
        ),
        (
            "config.max_total = 1",
            "FILE:2: `config.max_total` is 1 bytes; at least `config.max_value` is needed",
        ),
    ] {
        let error = parse(&file(lines), &[]).unwrap_err().to_string();
        assert!(error.starts_with(&expected.replace("FILE", FILE)), "{error}");
    }
    settings(&file("config.holder = \"b\"")); // another one's file is not this one's matter
}

#[test]
fn what_needs_a_feature_is_refused_without_it() {
    let file = |lines: &str| format!("node.name = \"a\"\n{lines}");
    let (etcd, metrics) = (("etcd", cfg!(feature = "etcd")), ("metrics", cfg!(feature = "metrics")));
    let dashboard = ("dashboard", cfg!(feature = "dashboard"));
    for (key, value, (feature, is_there)) in [
        ("topology.etcd", "[\"e:2379\"]", etcd),
        ("topology.etcd_prefix", "\"/shop\"", etcd),
        ("admin.metrics", "\"127.0.0.1:0\"", metrics),
        ("admin.dashboard", "\"127.0.0.1:0\"", dashboard),
        ("admin.token_file", "\"token\"", metrics),
        ("config.etcd", "[\"e:2379\"]", etcd),
    ] {
        let refused = parse(&file(&format!("{key} = {value}")), &[]).err().map(|error| error.to_string());
        let expected = format!(
            "FILE:2: `{key}` needs the feature `{feature}`, and this program was built without it\n2 | {key} = "
        );
        let expected = (!is_there).then(|| expected.replace("FILE", FILE));
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
