//! The console as its user runs it: the real program against nodes of this process.

#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own tasks")]
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::unused_self, reason = "a method is a message")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use skyhold::prelude::*;
use skyhold::{Restart, Strategy, Supervisor};
use tempfile::TempDir;

#[derive(Default)]
struct Counter {
    total: u64,
}

#[derive(serde::Deserialize)]
struct Settings {
    from: u64,
}

#[service]
impl Counter {
    /// Adds `by` and gives the new total.
    pub fn add(&mut self, by: u64) -> u64 {
        self.total += by;
        self.total
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn fail(&mut self) {
        panic!("boom");
    }
}

/// Two nodes, and what the console needs to reach them.
struct Stage {
    nodes: Vec<Node>,
    folder: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let key = folder.path().join("cluster.key");
        fs::write(&key, "a secret of the tests of the console").unwrap();
        fs::write(folder.path().join("other.key"), "another secret, which nobody else has").unwrap();
        let mut nodes: Vec<Node> = Vec::new();
        for (name, zone) in [("a", "eu"), ("b", "us")] {
            let builder = Node::builder(name)
                .cluster("shop")
                .listen("127.0.0.1:0")
                .label("zone", zone)
                .config_holder("a");
            let builder =
                if name == "a" { builder.config_path(folder.path().join("settings")) } else { builder };
            let builder = builder
                .secret(Secret::from_file(&key).unwrap())
                .kind("counter", |from: &Settings| Counter { total: from.from });
            let seed = nodes.first().and_then(Node::address).map(|address| address.to_string());
            nodes.push(seed.into_iter().fold(builder, skyhold::NodeBuilder::seed).start().await.unwrap());
        }
        let mut watch = nodes[0].cluster().watch();
        while watch.next().await.unwrap().members.len() < 2 {}
        nodes[0].service("counter", Counter::default).instances(2).start().await.unwrap();
        CounterHandle::lookup(&nodes[1], "counter").await.unwrap();
        Self { nodes, folder }
    }

    fn key(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skyhold"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SKYHOLD_"))
        {
            command.env_remove(name);
        }
        command.env("SKYHOLD_NODE", self.nodes[0].address().unwrap().to_string());
        command.env("SKYHOLD_CLUSTER", "shop").env("SKYHOLD_SECRET_FILE", self.key("cluster.key"));
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// What it prints.
    async fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {error}");
        assert_eq!(error, "", "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it prints for programs.
    async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[&["--json"], arguments].concat()).await;
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// What it says when it ends with this code.
    async fn error(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(code == 2 || error.starts_with("skyhold: "), "{arguments:?}: {error}");
        error
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_shown_to_people_and_to_programs() {
    let stage = Stage::new().await;
    let nodes = stage.text(&["nodes"]).await;
    let lines: Vec<_> = nodes.lines().collect();
    assert!(lines[0].starts_with("NODE  STATE  ADDRESS"), "{nodes}");
    assert!(
        lines[1].starts_with("a     alive  127.0.0.1:") && lines[1].ends_with("zone=eu  counter"),
        "{nodes}"
    );
    assert_eq!(lines.len(), 3, "the console is no member: {nodes}");
    let nodes = stage.json(&["nodes"]).await;
    assert_eq!((&nodes[1][0]["node"], &nodes[1][1]["peers"][0]), (&"b".into(), &"a".into()));

    let services = stage.text(&["services"]).await;
    assert!(services.lines().nth(1).unwrap().ends_with("2          0     a\u{d7}2"), "{services}");
    assert_eq!(stage.json(&["services"]).await[0]["instances"][1]["labels"]["zone"], "eu");
    let instances = stage.json(&["instances", "counter"]).await;
    assert_eq!(instances.as_array().unwrap().len(), 2);
    assert_eq!((&instances[0]["waiting"], &instances[0]["capacity"]), (&0.into(), &1024.into()));
    assert!(stage.text(&["instances"]).await.contains("skyhold/manager"));
    assert!(stage.error(1, &["instances", "other"]).await.contains("there is no instance of \"other\""));

    let connections = stage.text(&["connections", "--on", "b"]).await;
    assert!(connections.lines().nth(1).unwrap().starts_with("b     a "), "{connections}");
    assert!(stage.json(&["counters"]).await[0][1]["instances_started"].as_u64().unwrap() >= 2);
    assert!(stage.text(&["ping"]).await.lines().count() == 3);
    assert!(stage.text(&["ping", "b"]).await.contains("\nb "));
    assert_eq!(stage.text(&["routes"]).await, "NODE  RULE  WHAT\n");

    let supervisor = Supervisor::new("game", Strategy::OneForAll)
        .child(stage.nodes[1].service("room", Counter::default).restart(Restart::always()));
    let _running = supervisor.start(&stage.nodes[1]).await.unwrap();
    let tree = stage.text(&["tree"]).await;
    assert!(
        tree.starts_with(
            "a\n\u{2514}\u{2500} counter (OneForOne, up)\n   \u{251c}\u{2500} counter (a#1, up)\n"
        ),
        "{tree}"
    );
    assert!(
        tree.contains("b\n\u{2514}\u{2500} game (OneForAll, up)\n   \u{2514}\u{2500} room (b#"),
        "{tree}"
    );
    assert!(stage.text(&["tree", "--label", "zone=us"]).await.starts_with("b\n"));
    assert!(
        stage.error(1, &["tree", "--label", "zone=asia"]).await.contains("no node has the label zone=asia")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_described_and_called() {
    let stage = Stage::new().await;
    // The one instance, so that it counts on.
    let instance = "a#1";
    assert_eq!(stage.text(&["call", instance, "add", r#"{"by": 2}"#]).await, "2\n");
    assert_eq!(stage.text(&["call", instance, "add", "[40]"]).await, "42\n");
    assert_eq!(stage.text(&["send", instance, "add", "[1]"]).await, "");
    assert_eq!(stage.text(&["call", instance, "total"]).await, "43\n");
    let interface = stage.text(&["describe", "counter"]).await;
    assert_eq!(
        interface,
        "counter: counter, on a\n\n  /// Adds `by` and gives the new total.\n  add(&mut self, by: u64) -> u64\n\n  \
         total(&self) -> u64\n\n  fail(&mut self)\n"
    );
    assert_eq!(stage.json(&["describe", "counter"]).await["methods"][0]["arguments"][0][1], "u64");
    assert!(stage.error(1, &["call", "counter", "ad"]).await.contains("did you mean `add`?"));
    assert!(
        stage.error(1, &["call", "counter", "add", "{}"]).await.contains("`by` is missing: u64 is expected")
    );
    assert!(stage.error(3, &["call", "conter", "add"]).await.contains("no instance of \"conter\" is known"));
    let panicked = stage.error(1, &["call", "counter", "fail"]).await;
    assert!(panicked.contains("boom") && panicked.contains("it may have been done"), "{panicked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_started_scaled_restarted_drained_and_stopped() {
    let stage = Stage::new().await;
    let started =
        stage.text(&["start", "counter", "more", "--settings", "from = 7", "--label", "zone=us"]).await;
    assert_eq!(started, "b: more runs\n");
    assert_eq!(stage.text(&["call", "more", "total"]).await, "7\n");
    let wrong = stage.error(1, &["start", "counter", "most", "--settings", "from = 'x'"]).await;
    assert!(wrong.contains("a: `service.config` cannot be used: invalid type: string \"x\""), "{wrong}");
    assert!(stage.error(1, &["start", "conter", "most"]).await.contains("did you mean \"counter\"?"));
    assert_eq!(stage.text(&["scale", "more", "3"]).await, "b: more has 3 instances\n");
    assert_eq!(stage.json(&["instances", "more"]).await.as_array().unwrap().len(), 3);
    assert!(stage.error(1, &["scale", "more", "0"]).await.contains("draining it ends it"));
    assert_eq!(stage.text(&["restart", "more"]).await, "b: more restarted\n");
    assert_eq!(stage.text(&["restart", "more", "--at-once"]).await, "b: more restarted\n");
    assert_eq!(stage.text(&["restart", "a#1"]).await, "a: a#1 restarted\n");
    assert_eq!(stage.json(&["instances", "counter"]).await[0]["restarts"], 1);
    assert_eq!(stage.json(&["drain", "more"]).await["b"], true);
    assert!(stage.error(1, &["drain", "more"]).await.contains("there is no \"more\" on any of 2 nodes"));
    assert_eq!(stage.text(&["stop", "counter", "--on", "a"]).await, "a: counter stopped\n");
    assert!(
        stage
            .error(1, &["stop", "counter", "--on", "a"])
            .await
            .contains("there is no \"counter\" on the node")
    );
    let plan = stage.text(&["reload", "--dry-run"]).await;
    assert_eq!(plan, "a: was not started from a file\nb: was not started from a file\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_services_have_done_is_shown_by_method() {
    let stage = Stage::new().await;
    for _ in 0..5 {
        assert!(
            stage.nodes[1]
                .manager()
                .call_json("counter".into(), "add".into(), "[1]".into(), None)
                .await
                .unwrap()
                .is_ok()
        );
    }
    stage.error(1, &["call", "counter", "fail"]).await;
    let stat = stage.json(&["stat", "counter"]).await;
    assert_eq!((stat.as_array().unwrap().len(), &stat[0][0]), (1, &"a".into()), "{stat}");
    let methods = &stat[0][1]["methods"];
    assert_eq!(
        (&methods[0]["method"], &methods[0]["calls"], &methods[0]["outcomes"]["done"]),
        (&"add".into(), &5.into(), &5.into())
    );
    assert_eq!(methods[2]["outcomes"]["panicked"], 1);
    let text = stage.text(&["stat", "counter"]).await;
    assert!(
        text.contains("\nadd     a     5      0      0 ") && text.starts_with("SERVICE  NODE  INSTANCES"),
        "{text}"
    );
    assert!(stage.text(&["stat"]).await.lines().count() == 2);
    assert!(stage.error(1, &["stat", "other"]).await.contains("there is no service \"other\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_central_configuration_is_read_and_written_from_anywhere() {
    let stage = Stage::new().await;
    let unset = stage.error(1, &["config", "get", "rooms"]).await;
    assert!(unset.contains("`rooms` is not set"), "{unset}");
    assert_eq!(stage.text(&["config", "set", "rooms", "limit = 5"]).await, "version 1\n");
    assert_eq!(stage.text(&["config", "get", "rooms"]).await.trim(), "limit = 5");
    assert_eq!(stage.json(&["config", "set", "rooms", "limit = 6", "--expect", "1"]).await, 2);
    let conflict = stage.error(1, &["config", "set", "rooms", "limit = 7", "--expect", "1"]).await;
    assert!(conflict.contains("version 2") || conflict.contains('2'), "{conflict}");
    let history = stage.text(&["config", "history", "rooms"]).await;
    assert!(history.starts_with("KEY    VERSION  BY  VALUE\n") && history.lines().count() == 3, "{history}");
    assert_eq!(stage.text(&["config", "rollback", "rooms", "1"]).await, "version 3\n");
    assert_eq!(stage.json(&["config", "list"]).await[0]["value"].as_str().unwrap().trim(), "limit = 5");
    assert_eq!(stage.text(&["config", "delete", "rooms"]).await, "version 4\n");
    stage.error(1, &["config", "get", "rooms"]).await;
    assert!(stage.error(1, &["config", "set", "rooms", "limit = "]).await.starts_with("skyhold: "));
    stage.error(2, &["config", "set", "rooms"]).await;
}

/// Reads what a program that goes on prints, and ends it.
struct Live(Child, BufReader<std::process::ChildStdout>);

impl Live {
    fn new(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_messages_are_followed() {
    let stage = Stage::new().await;
    let counter = CounterHandle::lookup(&stage.nodes[1], "counter").await.unwrap();
    let goes_on = tokio::spawn(async move {
        // Until both are listened to, which nobody else can know.
        loop {
            counter.add(1).await.ok();
            tokio::task::yield_now().await;
        }
    });
    let trace = stage.command(&["--json", "trace", "counter"]);
    let seen = tokio::task::spawn_blocking(move || {
        let mut trace = Live::new(trace);
        loop {
            let item = trace.line();
            if item["event"]["Begun"].is_object() {
                return item;
            }
        }
    });
    let seen = seen.await.unwrap();
    assert_eq!(
        (&seen["method"], &seen["event"]["Begun"]["arguments"]),
        (&"add".into(), &r#"{"by":1}"#.into())
    );
    assert_eq!(seen["event"]["Begun"]["caller"], "b");
    goes_on.abort();

    let watch = stage.command(&["--json", "watch", "--on", "b"]);
    let seen = tokio::task::spawn_blocking(move || Live::new(watch).line());
    let b = stage.nodes[1].clone();
    let happens = tokio::spawn(async move {
        loop {
            b.service("short", Counter::default).start().await.unwrap();
            b.stop_service("short").await;
        }
    });
    let seen = seen.await.unwrap();
    happens.abort();
    assert_eq!(seen["Happened"]["node"], "b");
    assert!(seen["Happened"]["event"].is_object(), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_or_does_not_let_it_in_is_named_with_what_to_do() {
    let stage = Stage::new().await;
    let key = stage.key("other.key");
    let wrong = stage.error(3, &["--secret-file", key.to_str().unwrap(), "nodes"]).await;
    assert!(
        wrong.contains("no node let it in: 127.0.0.1:") && wrong.contains("is the secret the same"),
        "{wrong}"
    );
    let wrong = stage.error(3, &["--cluster", "other", "nodes"]).await;
    assert!(wrong.contains("no node let it in"), "{wrong}");
    // Nobody listens on a port that was bound and let go.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let gone = stage.error(3, &["--node", &free, "--timeout", "0.5", "nodes"]).await;
    assert!(
        gone.contains(&format!("no node answered at {free} within 500ms: is one running there")),
        "{gone}"
    );
    let missing = stage.error(2, &["--secret-file", "/nowhere.key", "nodes"]).await;
    assert!(missing.contains("/nowhere.key"), "{missing}");
    let mut bare = stage.command(&["nodes"]);
    bare.env_remove("SKYHOLD_SECRET_FILE");
    let bare = tokio::task::spawn_blocking(move || bare.output().unwrap()).await.unwrap();
    assert_eq!(bare.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bare.stderr).contains("which secret? `--secret-file FILE`"));
    stage.error(2, &["nods"]).await;
    stage.error(2, &["scale", "counter", "many"]).await;
    assert!(stage.error(3, &["--timeout", "1", "tree", "--on", "c"]).await.contains("c: "));
    assert!(stage.error(2, &["--json", "top"]).await.contains("`top` is for a screen"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_file_says_how_it_is_reached_and_shells_complete() {
    let stage = Stage::new().await;
    let file = stage.key("skyhold.toml");
    let address = stage.nodes[1].address().unwrap();
    let text = format!(
        "[node]\nname = \"b\"\ncluster = \"shop\"\nlisten = \"{address}\"\n[security]\nsecret_file = \"cluster.key\"\n"
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_skyhold"));
    command.env_clear().args(["--config", file.to_str().unwrap(), "ping", "b"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for shell in ["bash", "zsh", "fish"] {
        assert!(stage.text(&["completion", shell]).await.contains("services"));
    }
    let help = stage.text(&["--help"]).await;
    assert!(
        help.contains("Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 nobody was reached"),
        "{help}"
    );
}
