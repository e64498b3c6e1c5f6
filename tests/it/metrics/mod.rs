//! What nodes tell as metrics.

mod endpoint;
mod sums;
mod text;

use std::net::SocketAddr;

use skyhold::NodeBuilder;
use skyhold::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) use text::Text;

/// Counts.
#[derive(Default)]
struct Counter {
    total: u64,
}

#[service(mailbox = 16)]
impl Counter {
    pub fn add(&mut self, n: u64) -> u64 {
        self.total += n;
        self.total
    }

    pub async fn never(&mut self) {
        std::future::pending().await
    }

    pub fn fail(&mut self) {
        panic!("as it was told to");
    }
}

/// A node with an endpoint.
async fn node(configure: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Node {
    configure(Node::builder("a").metrics("127.0.0.1:0")).start().await.unwrap()
}

/// An answer: its first line, its other lines up to the empty one in small letters, and its body.
struct Answer {
    status: String,
    head: String,
    body: String,
}

/// Asks with these lines of a head beside the usual ones.
async fn ask(address: SocketAddr, request: &str, lines: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("{request} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, head) = head.split_once("\r\n").unwrap();
    Answer { status: status.to_owned(), head: head.to_lowercase(), body: body.to_owned() }
}

/// What Prometheus reads of a node.
async fn scrape(node: &Node) -> Text {
    let answer = ask(node.metrics_address().unwrap(), "GET /metrics", &[]).await;
    assert_eq!(answer.status, "HTTP/1.1 200 OK");
    Text::read(&answer.body)
}
