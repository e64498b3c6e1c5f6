//! Files that are read again.

use std::time::Duration;

use skyhold::prelude::*;
use skyhold::{Effect, Event, ReloadError};

use super::{Counter, CounterHandle, Folder, SECRET, open, shown};
use crate::raw::{has_peers, refusal};

#[tokio::test]
async fn a_plan_says_what_a_reload_then_does() {
    let folder = Folder::new();
    let node = folder.start("a.toml", &open("a")).await;
    let cluster = node.cluster();
    let unchanged = cluster.reload().await.unwrap();
    assert_eq!((unchanged.version, shown(&unchanged)), (1, vec![]));

    let changed = open("b").replace("127.0.0.1:0", "127.0.0.1:1");
    folder.write(
        "a.toml",
        &(changed + "closed = true\n[transport]\nheartbeat = \"2s\"\n[calls]\ntimeout = \"1s\"\n"),
    );
    let expected = [
        "node.name from a to b (needs a restart)",
        "node.listen from 127.0.0.1:0 to 127.0.0.1:1 (needs a restart)",
        "transport.heartbeat from 1s to 2s (for connections to come)",
        "security.closed from false to true (live)",
        "calls.timeout from 30s to 1s (live)",
    ];
    for _ in 0..2 {
        let plan = cluster.plan().await.unwrap();
        assert_eq!((plan.version, shown(&plan)), (2, expected.map(str::to_owned).to_vec()));
    }
    let reload = cluster.reload().await.unwrap();
    assert_eq!((reload.version, shown(&reload)), (2, expected.map(str::to_owned).to_vec()));
    let restart: Vec<_> = reload.needs_restart().map(|change| &*change.key).collect();
    assert_eq!(restart, ["node.name", "node.listen"]);

    let again = cluster.reload().await.unwrap();
    assert_eq!((again.version, again.changes.len()), (2, 2), "what needs a restart is named again");
    assert!(again.changes.iter().all(|change| change.effect == Effect::Restart));
    assert_eq!(node.id().as_str(), "a");
}

#[tokio::test(start_paused = true)]
async fn timeouts_of_calls_and_of_shutdowns_are_live() {
    let folder = Folder::new();
    let node = folder.start("a.toml", "node.name = \"a\"").await;
    let counter = node.spawn(Counter::default());
    let timed = async |counter: &CounterHandle| {
        let start = tokio::time::Instant::now();
        assert!(matches!(counter.never().await, Err(CallError::Timeout(_))));
        start.elapsed().as_secs()
    };
    assert_eq!(timed(&counter).await, 30);
    folder.write("a.toml", "node.name = \"a\"\ncalls = { timeout = \"2s\", shutdown_timeout = \"3s\" }");
    node.cluster().reload().await.unwrap();
    assert_eq!(timed(&counter).await, 2);

    counter.never().timeout(Duration::from_secs(600)).send().await.unwrap();
    let start = tokio::time::Instant::now();
    let error = node.shutdown().await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 3, "{error}");
}

#[tokio::test(start_paused = true)]
async fn how_many_nodes_are_expected_is_live() {
    let folder = Folder::new();
    let node = folder.start("a.toml", "node.name = \"a\"").await;
    let mut watch = node.cluster().watch();
    assert!(!watch.next().await.unwrap().has_quorum);
    for (expected, has_quorum) in [(1, true), (2, false), (1, true), (0, false)] {
        folder.write("a.toml", &format!("node.name = \"a\"\ntopology.expected_nodes = {expected}"));
        node.cluster().reload().await.unwrap();
        assert_eq!(watch.next().await.unwrap().has_quorum, has_quorum);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_file_changes_nothing_and_the_error_says_why() {
    let folder = Folder::new();
    let node = folder.start("a.toml", "node.name = \"a\"").await;
    let path =
        folder.write("a.toml", "[node]\nname = \"a\"\n[calls]\ntimeout = \"1s\"\nshutdown_timeout = 5\n");
    for result in [node.cluster().plan().await, node.cluster().reload().await] {
        assert_eq!(
            result.unwrap_err().to_string(),
            format!(
                "{}:5: `calls.shutdown_timeout` is the integer 5; expected a duration such as \"5s\", \"250ms\" or \
                 \"1m 30s\", at most \"8760h\"\n5 | shutdown_timeout = 5\n  |                    ^",
                path.display()
            )
        );
    }
    for (content, expected) in [
        ("", "`node.name` is missing"),
        ("[no", "unclosed table"),
        ("node.name = \"a\"\nsecurity.secret_file = \"none\"\ncalls.timeout = \"1s\"", "No such file"),
        ("node.name = \"a\"\ntopology.seeds = [\"b:1\"]\ncalls.timeout = \"1s\"", "a secret is needed"),
    ] {
        folder.write("a.toml", content);
        let error = node.cluster().reload().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = node.cluster().reload().await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read the configuration file {}", path.display()));

    let start = tokio::time::Instant::now();
    CounterHandle::lookup(&node, "none").await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 30, "the old timeout");
    folder.write("a.toml", "node.name = \"a\"");
    assert_eq!(node.cluster().reload().await.unwrap().version, 1, "nothing was changed in between");
}

#[tokio::test(start_paused = true)]
async fn what_code_has_set_stays_until_the_file_changes_it() {
    let folder = Folder::new();
    let file = |more: &str| format!("node.name = \"a\"\n{more}");
    let builder = folder.builder("a.toml", &file("calls.timeout = \"20s\"")).unwrap();
    let node =
        builder.call_timeout(Duration::from_secs(4)).silence(Duration::from_secs(9)).start().await.unwrap();
    let timeout = async || {
        let start = tokio::time::Instant::now();
        CounterHandle::lookup(&node, "none").await.unwrap_err();
        start.elapsed().as_secs()
    };
    assert_eq!(timeout().await, 4);
    folder.write("a.toml", &file("calls.timeout = \"20s\"\ncalls.shutdown_timeout = \"1s\""));
    assert_eq!(node.cluster().reload().await.unwrap().changes.len(), 1);
    assert_eq!(timeout().await, 4);
    folder.write("a.toml", &file("calls.timeout = \"7s\""));
    node.cluster().reload().await.unwrap();
    assert_eq!(timeout().await, 7);

    // It goes together with what code has set, as the silence is 9 s.
    folder.write("a.toml", &file("transport = { heartbeat = \"4s\" }"));
    node.cluster().reload().await.unwrap();
    let path = folder.write("a.toml", &file("transport = { heartbeat = \"9s\", silence = \"10s\" }"));
    node.cluster().reload().await.unwrap();
    folder.write("a.toml", &file("transport = { heartbeat = \"9s\", silence = \"9s\" }"));
    let error = node.cluster().reload().await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}:2: `transport.silence` is 9s; more than", path.display())),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_without_a_file_and_one_that_has_ended_say_so() {
    let node = Node::builder("a").start().await.unwrap();
    let error = node.cluster().reload().await.unwrap_err();
    assert!(matches!(error, ReloadError::NoFile(_)));
    assert_eq!(error.to_string(), "node a was not started from a configuration file");
    let folder = Folder::new();
    let node = folder.start("a.toml", "node.name = \"a\"").await;
    node.shutdown().await.unwrap();
    assert_eq!(node.cluster().reload().await.unwrap_err().to_string(), "node a has shut down");
}

/// A node with a counter that has a secret, and one that has met it.
async fn two(folder: &Folder, more: &str) -> (Node, Node) {
    folder.write("cluster.key", SECRET);
    let file = format!(
        "[node]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\n[security]\nsecret_file = \"cluster.key\"\n{more}"
    );
    let a = folder.start("a.toml", &file).await;
    a.service("counter", Counter::default).start().await.unwrap();
    let b = calling("b", &a, SECRET).await;
    has_peers(&b, 1).await;
    (a, b)
}

async fn calling(name: &str, to: &Node, secret: &str) -> Node {
    let seed = to.address().unwrap().to_string();
    Node::builder(name).seed(seed).secret(Secret::new(secret).unwrap()).start().await.unwrap()
}

#[tokio::test]
async fn a_secret_that_changes_is_for_connections_to_come() {
    let folder = Folder::new();
    let (a, b) = two(&folder, "").await;
    let mut events = b.events();
    let counter = CounterHandle::lookup(&b, "counter").await.unwrap();
    folder.write("cluster.key", "another secret of this test");
    let reload = a.cluster().reload().await.unwrap();
    let path = folder.path("cluster.key").display().to_string();
    assert_eq!(
        shown(&reload),
        [format!(
            "security.secret_file from {path} to {path} (its content has changed) (for connections to come)"
        )]
    );
    assert!(!format!("{reload:?}").contains("secret of this test"));
    assert_eq!(reload.version, 2);
    let late = calling("late", &a, SECRET).await;
    assert_eq!(refusal(&mut late.events()).await, "refused by the peer, in its words: wrong secret");
    has_peers(&calling("new", &a, "another secret of this test").await, 1).await;
    assert_eq!(counter.add(1).await, Ok(1));

    folder.write("old.key", SECRET);
    let file = std::fs::read_to_string(folder.path("a.toml")).unwrap();
    folder.write("a.toml", &(file + "also_accept_file = \"old.key\"\n"));
    assert_eq!(a.cluster().reload().await.unwrap().version, 3);
    has_peers(&late, 1).await;
    assert_eq!(counter.add(1).await, Ok(2));
    let lost = std::iter::from_fn(|| futures_util::FutureExt::now_or_never(events.next()).flatten());
    assert_eq!(lost.filter(|event| matches!(event, Event::PeerDown { .. })).count(), 0);
}

#[tokio::test]
async fn certificates_that_change_are_for_connections_to_come() {
    let folder = Folder::new();
    let (a, b) = two(&folder, "").await;
    let counter = CounterHandle::lookup(&b, "counter").await.unwrap();
    let authority = crate::security::Authority::new("ca");
    let (certificate, key) = authority.issue(&["a"]);
    folder.write("a.pem", &certificate);
    folder.write("a.key", &key);
    folder.write("ca.pem", &authority.pem());
    let file = std::fs::read_to_string(folder.path("a.toml")).unwrap();
    let with = file.clone() + "certificate = \"a.pem\"\nkey = \"a.key\"\nauthorities = \"ca.pem\"\n";
    folder.write("a.toml", &with);
    let reload = a.cluster().reload().await.unwrap();
    assert_eq!((reload.version, reload.changes.len()), (2, 3));
    let (certificate, key) = authority.issue(&["c"]);
    let tls = skyhold::Tls::from_pem(certificate, key, authority.pem()).unwrap();
    let seed = a.address().unwrap().to_string();
    let secret = Secret::new(SECRET).unwrap();
    let c = Node::builder("c").seed(&seed).secret(secret).tls(tls).start().await.unwrap();
    has_peers(&c, 1).await;
    assert_eq!(counter.add(1).await, Ok(1), "a connection that stands is not touched");

    // The certificate of another node is refused as a whole.
    let (certificate, key) = authority.issue(&["z"]);
    folder.write("a.pem", &certificate);
    folder.write("a.key", &key);
    let error = a.cluster().reload().await.unwrap_err().to_string();
    assert!(
        error.contains("`security.certificate` cannot be used: the certificate is not for node a"),
        "{error}"
    );

    folder.write("a.toml", &file);
    assert_eq!(a.cluster().reload().await.unwrap().version, 3);
    has_peers(&calling("d", &a, SECRET).await, 1).await;
}

#[tokio::test]
async fn rules_of_access_are_live_on_connections_that_stand() {
    let folder = Folder::new();
    let (a, b) = two(&folder, "").await;
    let counter = CounterHandle::lookup(&b, "counter").await.unwrap();
    counter.add(1).await.unwrap();
    let file = std::fs::read_to_string(folder.path("a.toml")).unwrap();
    let rule = "[[access]]\npeers = \"b\"\nservice = \"counter\"\nmethods = [\"total\"]\n";
    folder.write("a.toml", &format!("{file}{rule}"));
    let reload = a.cluster().reload().await.unwrap();
    assert_eq!(shown(&reload), ["access from nothing to b may call counter.{total} (live)"]);
    assert!(matches!(counter.add(1).await, Err(CallError::Denied(_))));
    assert_eq!(counter.total().await, Ok(1));
    folder.write("a.toml", &format!("{file}closed = true\n"));
    a.cluster().reload().await.unwrap();
    assert!(matches!(counter.total().await, Err(CallError::Denied(_))));
    folder.write("a.toml", &file);
    assert_eq!(a.cluster().reload().await.unwrap().version, 4);
    assert_eq!(counter.add(1).await, Ok(2));
}

#[tokio::test]
async fn limits_and_sizes_are_for_connections_to_come() {
    let folder = Folder::new();
    let (a, b) = two(&folder, "").await;
    let file = std::fs::read_to_string(folder.path("a.toml")).unwrap();
    folder.write("a.toml", &format!("{file}[limits]\nconnections = 1\nevents = 7\n"));
    let reload = a.cluster().reload().await.unwrap();
    assert_eq!(
        shown(&reload),
        [
            "limits.connections from 1024 to 1 (for connections to come)",
            "limits.events from 1024 to 7 (needs a restart)",
        ]
    );
    let late = calling("late", &a, SECRET).await;
    assert_eq!(refusal(&mut late.events()).await, "refused by the peer, in its words: too many connections");
    folder.write("a.toml", &format!("{file}[limits]\nconnections = 2\n"));
    a.cluster().reload().await.unwrap();
    has_peers(&late, 1).await;
    assert_eq!(CounterHandle::lookup(&b, "counter").await.unwrap().add(1).await, Ok(1));
}
