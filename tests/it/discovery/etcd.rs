//! The real etcd, as Debian's `etcd-server` has it. Where there is none these tests print that they were not run, and pass:
//! `.ci/run` installs it where it can.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use skyhold::prelude::*;
use skyhold::{Etcd, NodeBuilder};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::peers;
use crate::raw::{has_peers, soon};

/// An etcd of one member. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    pub(crate) endpoint: String,
    peer: String,
    folder: TempDir,
}

/// Where etcd is, if it is.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin", "/usr/local/bin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join("etcd")).find(|program| program.is_file());
    if found.is_none() {
        writeln_to_the_test(
            "there is no etcd on this machine (Debian: etcd-server): discovery by etcd was NOT tested",
        );
    }
    found
}

#[allow(clippy::print_stderr, reason = "a test that was not run says so")]
fn writeln_to_the_test(text: &str) {
    eprintln!("{text}");
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Server {
    /// Starts etcd and waits until it answers. Should somebody take one of its ports, others are tried.
    pub(crate) async fn start() -> Option<Self> {
        let program = program()?;
        for _ in 0..5 {
            let folder = TempDir::new().unwrap();
            let (endpoint, peer) = (free_address(), free_address());
            if let Some(child) = run(&program, &folder, &endpoint, &peer).await {
                return Some(Self { child, endpoint, peer, folder });
            }
        }
        panic!("etcd did not start five times");
    }

    /// Kills it, so that nobody answers.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again where it was, with what it had.
    pub(crate) async fn again(&mut self) {
        let program = program().unwrap();
        self.child =
            run(&program, &self.folder, &self.endpoint, &self.peer).await.expect("its ports are free");
    }

    /// Deletes a key.
    pub(crate) async fn take_out(&self, key: &str) {
        self.post("/v3/kv/deleterange", &json!({ "key": encoded(key) })).await;
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let mut stream = self.ask(path, body).await;
        let mut answer = String::new();
        soon("etcd's answer", stream.read_to_string(&mut answer)).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// HTTP by hand: of version 1.0, so that what comes back is not cut into pieces.
    async fn ask(&self, path: &str, body: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(&self.endpoint).await.unwrap();
        let body = body.to_string();
        let request = format!("POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// All keys of the cluster `shop` with their values, and the lease of each.
    async fn entries(&self) -> Vec<(String, String, String)> {
        let range = json!({ "key": encoded("/skyhold/shop/"), "range_end": encoded("/skyhold/shop0") });
        let answer = self.post("/v3/kv/range", &range).await;
        let entry = |entry: &Value| {
            (
                decoded(&entry["key"]),
                decoded(&entry["value"]),
                entry["lease"].as_str().unwrap_or("0").to_owned(),
            )
        };
        answer["kvs"].as_array().map(|entries| entries.iter().map(entry).collect()).unwrap_or_default()
    }

    async fn keys(&self) -> Vec<String> {
        self.entries().await.into_iter().map(|(key, ..)| key).collect()
    }

    /// Ends when something below `/skyhold/shop/` has been written or has gone after `change` began, and `is_done` then.
    async fn until(&self, is_done: impl AsyncFn() -> bool) {
        let create = json!({ "create_request": { "key": encoded("/skyhold/shop/"), "range_end": encoded("/skyhold/shop0") } });
        let mut changes = BufReader::new(self.ask("/v3/watch", &create).await).lines();
        soon("a change in etcd", async {
            // The first lines are the head and that the watch is there: from then on nothing is missed.
            while !changes.next_line().await.unwrap().expect("etcd lives").contains("\"created\":true") {}
            while !is_done().await {
                changes.next_line().await.unwrap().expect("etcd lives");
            }
        })
        .await;
    }

    fn node(&self, name: &str) -> NodeBuilder {
        let node = Node::builder(name).cluster("shop").listen("127.0.0.1:0").insecure_without_secret();
        node.discovery_interval(Duration::from_millis(200))
    }

    /// A registry whose first endpoint never answers.
    fn etcd(&self) -> Etcd {
        Etcd::new(["127.0.0.1:1", &self.endpoint])
    }
}

/// Runs etcd until it says that it serves; `None` if it ends before.
async fn run(program: &PathBuf, folder: &TempDir, endpoint: &str, peer: &str) -> Option<Child> {
    let (client, peer) = (format!("http://{endpoint}"), format!("http://{peer}"));
    let mut command = Command::new(program);
    command
        .args(["--name", "one", "--data-dir"])
        .arg(folder.path().join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}"), "--logger", "zap", "--unsafe-no-fsync"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let serves = soon("etcd is up", async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains("serving client traffic") {
                return true;
            }
        }
        false
    });
    let serves = serves.await;
    // Read on, or it would wait for room to write.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    serves.then_some(child)
}

fn encoded(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encode = |bytes: &[u8]| {
        let number = (0..3).fold(0_u32, |number, at| number << 8 | u32::from(*bytes.get(at).unwrap_or(&0)));
        let digits = (0..4).map(|at| DIGITS[(number >> (18 - 6 * at)) as usize & 63] as char);
        digits.enumerate().map(|(at, digit)| if at <= bytes.len() { digit } else { '=' }).collect::<String>()
    };
    text.as_bytes().chunks(3).map(encode).collect()
}

fn decoded(value: &Value) -> String {
    let digit = |c: char| match c {
        'A'..='Z' => c as u32 - 'A' as u32,
        'a'..='z' => c as u32 - 'a' as u32 + 26,
        '0'..='9' => c as u32 - '0' as u32 + 52,
        '+' => 62,
        _ => 63,
    };
    let text = value.as_str().unwrap().trim_end_matches('=');
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for c in text.chars() {
        (bits, count) = (bits << 6 | digit(c), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xFF) as u8);
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn texts_are_encoded_as_etcd_has_them() {
    for (text, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("/a~", "L2F+")] {
        assert_eq!(encoded(text), expected);
        assert_eq!(decoded(&json!(expected)), text);
    }
}

#[tokio::test]
async fn nodes_find_each_other_by_etcd_and_are_gone_from_it_when_they_shut_down() {
    let Some(server) = Server::start().await else { return };
    let a = server.node("a").discover(server.etcd()).start().await.unwrap();
    // By a file, with the same registry.
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("b.toml");
    let text = format!(
        "[node]\nname = \"b\"\ncluster = \"shop\"\nlisten = \"127.0.0.1:0\"\n[security]\ninsecure_without_secret = true\n\
         [topology]\netcd = [\"{}\"]\nrefresh = \"200ms\"\n",
        server.endpoint
    );
    std::fs::write(&file, &text).unwrap();
    let b = NodeBuilder::from_config_with(&file, [("", ""); 0]).unwrap().start().await.unwrap();
    has_peers(&a, 1).await;
    // One that does not listen reads only.
    let c = Node::builder("c").cluster("shop").insecure_without_secret().discover(server.etcd());
    let c = c.start().await.unwrap();
    has_peers(&c, 2).await;
    let mut entries = server.entries().await;
    let leases: Vec<_> = entries.iter_mut().map(|(_, _, lease)| std::mem::take(lease)).collect();
    let at = |node: &Node| node.address().unwrap().to_string();
    let listed = |node: &Node| (format!("/skyhold/shop/{}", node.id()), at(node), String::new());
    assert_eq!(entries, [listed(&a), listed(&b)]);
    assert!(leases.iter().all(|lease| lease != "0"), "{leases:?}");

    // Another cluster has other keys.
    let other = server.node("a").cluster("other").discover(server.etcd()).start().await.unwrap();
    a.shutdown().await.unwrap();
    assert_eq!(server.keys().await, ["/skyhold/shop/b"]);
    // A key that is taken out of the configuration is taken back.
    std::fs::write(&file, text.replace("etcd = ", "seeds = ").replace("refresh", "# ")).unwrap();
    b.cluster().reload().await.unwrap();
    server.until(async || server.keys().await.is_empty()).await;
    assert_eq!(peers(&b), ["c"], "its connections stand");
    assert_eq!(peers(&other), [""; 0]);
}

#[tokio::test]
async fn a_node_that_dies_is_forgotten_by_etcd_and_one_that_lives_comes_back_to_it() {
    let Some(mut server) = Server::start().await else { return };
    let lease = Duration::from_secs(5);
    let a = server.node("a").discover(server.etcd().lease(lease)).start().await.unwrap();
    let b = server.node("b").discover(server.etcd().lease(lease)).start().await.unwrap();
    has_peers(&a, 1).await;
    drop(b); // without a word
    assert_eq!(server.keys().await.len(), 2);
    server.until(async || server.keys().await.len() == 1).await;
    assert_eq!(server.keys().await, ["/skyhold/shop/a"]);

    // Somebody takes its key, then its lease.
    let before = server.entries().await;
    server.post("/v3/kv/deleterange", &json!({ "key": encoded("/skyhold/shop/a") })).await;
    server.until(async || server.entries().await == before).await;
    server.post("/v3/lease/revoke", &json!({ "ID": before[0].2 })).await;
    server.until(async || !server.keys().await.is_empty()).await;
    let after = server.entries().await;
    assert_eq!(after[0].1, before[0].1);
    assert_ne!(after[0].2, before[0].2, "under another lease");

    // Entries of others that make no sense keep nobody from being found.
    server
        .post("/v3/kv/put", &json!({ "key": encoded("/skyhold/shop/x"), "value": encoded("nonsense") }))
        .await;
    // etcd goes and comes back: what was found counts on, and what comes then is found.
    server.kill().await;
    let c = server.node("c").discover(server.etcd()).start().await.unwrap();
    server.again().await;
    has_peers(&c, 1).await;
    has_peers(&a, 1).await;
    assert_eq!(peers(&a), ["c"]);

    // A later life has the same key, and the earlier one's end does not take it away.
    let again = server.node("c").discover(server.etcd()).start().await.unwrap();
    let at = again.address().unwrap().to_string();
    let is_there = async || server.entries().await.iter().any(|(_, address, _)| *address == at);
    server.until(is_there).await;
    drop(again);
    a.shutdown().await.unwrap();
    c.shutdown().await.unwrap();
}
