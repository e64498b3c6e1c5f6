//! The web page of a node: who is answered, with what, and what a real browser makes of it.

mod browser;
mod calls;
mod guard;
mod live;
mod page;

use std::net::SocketAddr;

use serde_json::Value;
use skyhold::NodeBuilder;
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOKEN: &str = "the-token.of~this_test=";

/// Counts.
#[derive(Default)]
struct Counter {
    total: u64,
}

#[service(mailbox = 16)]
impl Counter {
    pub fn add(&mut self, by: u64) -> u64 {
        self.total += by;
        self.total
    }

    /// Long enough to be seen.
    pub async fn think(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    pub fn fail(&mut self) {
        panic!("as it was told to");
    }

    pub async fn never(&self) {
        std::future::pending().await
    }
}

/// Asks a counter.
#[derive(Default)]
struct Gate;

#[service]
impl Gate {
    pub async fn enter(&self, context: &Context) -> Result<u64, String> {
        let counter = CounterHandle::lookup(&context.node(), "counter").await;
        let counter = counter.map_err(|error| error.to_string())?;
        counter.think().await.map_err(|error| error.to_string())?;
        counter.add(1).await.map_err(|error| error.to_string())
    }
}

/// A node with a page.
async fn node(configure: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Node {
    configure(Node::builder("a").dashboard("127.0.0.1:0")).start().await.unwrap()
}

/// Two nodes with pages, and the first one's.
async fn two() -> (Cluster, SocketAddr) {
    two_with(|node| node).await
}

async fn two_with(
    configure: impl Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static,
) -> (Cluster, SocketAddr) {
    let cluster = Cluster::start_with(2, move |node| configure(node.dashboard("127.0.0.1:0"))).await;
    cluster.connected().await;
    let page = cluster[0].dashboard_address().unwrap();
    (cluster, page)
}

/// An answer: its status, the lines of its head in small letters, and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Its status, and the kind of its error.
    fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["kind"].as_str().unwrap().to_owned())
    }
}

/// Sends a request, as HTTP/1.0, so that the answer ends with the connection. These lines are in its head, with `Host` unless they say it.
async fn send(address: SocketAddr, request: &str, lines: &[&str], body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!("{request} HTTP/1.0\r\n");
    if !lines.iter().any(|line| line.starts_with("Host:")) {
        head += &format!("Host: {address}\r\n");
    }
    for line in lines {
        head += &format!("{line}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await.unwrap();
    stream
}

/// Sends a request and reads the answer to its end.
async fn ask(address: SocketAddr, request: &str, lines: &[&str], body: &str) -> Answer {
    let mut stream = send(address, request, lines, body).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

const JSON: &str = "Content-Type: application/json";

/// Calls a method of a service.
async fn call(address: SocketAddr, path: &str, arguments: &str) -> Answer {
    ask(address, &format!("POST /call/{path}"), &[JSON], arguments).await
}
