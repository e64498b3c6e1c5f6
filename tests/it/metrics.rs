//! Metrics, as Prometheus fetches them.

use std::collections::BTreeMap;

use skyhold::prelude::*;
use skyhold::{Prometheus, PrometheusError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::raw::{has_peers, soon};

#[derive(Default)]
struct Counter(u64);

#[service]
impl Counter {
    pub fn add(&mut self, by: u64) -> u64 {
        self.0 += by;
        self.0
    }

    pub fn fail(&mut self) {
        panic!("boom");
    }
}

/// What the endpoint answers: its status and its body.
async fn get(address: std::net::SocketAddr, path: &str, header: &str) -> (u16, String) {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = soon("an answer", asked).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The series of a page, each with its value; a line that is none fails.
fn series(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no series: {line}"));
            assert!(name.starts_with("skyhold_") && name.contains("node=\"a\""), "{line}");
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        })
        .collect()
}

async fn two_nodes() -> (Node, Node) {
    let secret = Secret::new("a secret of these two nodes").unwrap();
    let a = Node::builder("a").listen("127.0.0.1:0").secret(secret.clone()).start().await.unwrap();
    let seed = a.address().unwrap().to_string();
    let b = Node::builder("b").seed(seed).secret(secret).start().await.unwrap();
    has_peers(&a, 1).await;
    has_peers(&b, 1).await;
    (a, b)
}

#[tokio::test]
async fn what_services_have_done_is_fetched_by_prometheus() {
    let (a, b) = two_nodes().await;
    a.service("counter", Counter::default).instances(2).start().await.unwrap();
    let counter = CounterHandle::lookup(&b, "counter").await.unwrap();
    for _ in 0..7 {
        counter.add(1).await.unwrap();
    }
    counter.fail().await.unwrap_err();
    let address = Prometheus::new("127.0.0.1:0").serve(&a).await.unwrap();
    let (status, page) = get(address, "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(page.contains("# TYPE skyhold_calls_total counter"), "{page}");
    let all = series(&page);
    let of = |name: &str, labels: &[&str]| {
        let is_it = |key: &&String| {
            key.split('{').next() == Some(name) && labels.iter().all(|label| key.contains(label))
        };
        let found: Vec<_> = all.keys().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        all[found[0]]
    };
    let add = ["service=\"counter\"", "method=\"add\""];
    let values = [
        (of("skyhold_calls_total", &add), 7.0),
        (of("skyhold_messages_ended_total", &[&add[..], &["outcome=\"done\""]].concat()), 7.0),
        (of("skyhold_messages_ended_total", &["method=\"fail\"", "outcome=\"panicked\""]), 1.0),
        (of("skyhold_instances", &["service=\"counter\""]), 2.0),
        (of("skyhold_mailbox_waiting", &["service=\"counter\""]), 0.0),
        (of("skyhold_panics_total", &[]), 1.0),
        (of("skyhold_peers", &[]), 1.0),
        (of("skyhold_members", &[]), 2.0),
        (of("skyhold_left_out", &[]), 0.0),
        (of("skyhold_queued_bytes", &["peer=\"b\"", "lane=\"bulk\""]), 0.0),
    ];
    for (at, (seen, expected)) in values.into_iter().enumerate() {
        assert!((seen - expected).abs() < 0.5, "{at}: {seen}, not {expected}");
    }
    assert!(of("skyhold_received_bytes_total", &["peer=\"b\""]) > 100.0);
    assert!(of("skyhold_process_resident_bytes", &[]) > 1e6);
    // What is gone has no series any more.
    assert!(a.stop_service("counter").await);
    let (_, page) = get(address, "/metrics", "").await;
    assert!(!page.contains("skyhold_instances{node=\"a\",service=\"counter\"}"), "{page}");
}

#[tokio::test]
async fn who_has_no_token_learns_nothing() {
    let node = Node::builder("a").start().await.unwrap();
    let address = Prometheus::new("127.0.0.1:0").token("open sesame").serve(&node).await.unwrap();
    for (path, header, expected) in [
        ("/metrics", "", 401),
        ("/other", "", 401),
        ("/metrics", "Authorization: Bearer open sesam\r\n", 401),
        ("/metrics", "Authorization: Bearer open sesamo\r\n", 401),
        ("/metrics", "Authorization: Bearer open sesame\r\n", 200),
        ("/other", "Authorization: Bearer open sesame\r\n", 404),
    ] {
        let (status, body) = get(address, path, header).await;
        assert_eq!(status, expected, "{path} {header}");
        assert_eq!(body.contains("skyhold_"), expected == 200);
    }
    let open = Prometheus::new("0.0.0.0:0").serve(&node).await.unwrap_err();
    assert!(matches!(open, PrometheusError::Open { .. }), "{open}");
    let taken = Prometheus::new(address.to_string()).serve(&node).await.unwrap_err();
    assert!(matches!(taken, PrometheusError::Listen { .. }), "{taken}");
    Prometheus::new("0.0.0.0:0").token("t").serve(&node).await.unwrap();
}

#[tokio::test]
async fn more_services_than_have_series_are_counted_and_left_out() {
    let node = Node::builder("a").start().await.unwrap();
    for number in 0..260 {
        node.service(format!("s{number:03}"), Counter::default).start().await.unwrap();
    }
    let address = Prometheus::new("127.0.0.1:0").serve(&node).await.unwrap();
    let (_, page) = get(address, "/metrics", "").await;
    let all = series(&page);
    let services = all.keys().filter(|key| key.starts_with("skyhold_instances{")).count();
    assert_eq!(services, 256);
    assert!(
        (all["skyhold_left_out{node=\"a\"}"] - 4.0).abs() < 0.5,
        "{:?}",
        all["skyhold_left_out{node=\"a\"}"]
    );
}
