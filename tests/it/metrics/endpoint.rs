//! Who is answered, and with what.

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Event, NodeBuilder, StartError};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::{Counter, CounterHandle, ask, node, scrape};
use crate::config::{Folder, open};

const TOKEN: &str = "the-token.of~this_test=";

#[tokio::test]
async fn a_scrape_tells_what_runs_what_waits_and_what_has_failed() {
    let node = |node: NodeBuilder| node.expected_nodes(2).metrics("127.0.0.1:0").connections_per_peer(1);
    let cluster = Cluster::start_with(2, node).await;
    let (here, there) = (&cluster[0], &cluster[1]);
    let mut events = here.events();
    let counter = here.service("counter", Counter::default).instances(2).start().await.unwrap();
    here.service("idle", Counter::default).instances(3).start().await.unwrap();
    let remote = CounterHandle::lookup(there, "counter").await.unwrap();
    assert!(remote.fail().await.is_err(), "it panics");
    while !matches!(events.next().await, Some(Event::Restarted { .. })) {}
    // Both instances are taken up, and three more messages wait.
    let in_turns = counter.balance(Balance::RoundRobin);
    for _ in 0..5 {
        in_turns.never().send().await.unwrap();
    }
    let mut told = scrape(here).await;
    for _ in 0..1000 {
        if told.value("skyhold_service_mailbox_messages", &[("service", "counter")]) == 3.0 {
            break;
        }
        told = scrape(here).await;
    }
    for (name, labels, expected) in [
        ("skyhold_service_instances", &[("service", "counter")][..], 2.0),
        ("skyhold_service_instances", &[("service", "idle")], 3.0),
        ("skyhold_service_busy_instances", &[("service", "idle")], 0.0),
        ("skyhold_service_mailbox_messages", &[("service", "counter")], 3.0),
        ("skyhold_service_mailbox_capacity_messages", &[("service", "counter")], 32.0),
        ("skyhold_service_restarts", &[("service", "counter")], 1.0),
        ("skyhold_service_restarts", &[("service", "idle")], 0.0),
        ("skyhold_panics_total", &[], 1.0),
        ("skyhold_restarts_total", &[], 1.0),
        ("skyhold_instances_started_total", &[], 5.0),
        ("skyhold_instances_ended_total", &[], 1.0),
        ("skyhold_members", &[("state", "alive")], 2.0),
        ("skyhold_members", &[("state", "suspected")], 0.0),
        ("skyhold_has_quorum", &[], 1.0),
        ("skyhold_connections", &[("peer", "n1")], 1.0),
        ("skyhold_connection_calls", &[("peer", "n1"), ("direction", "received")], 0.0),
        ("skyhold_connections_ended_total", &[("reason", "silent")], 0.0),
        ("skyhold_expired_messages_total", &[("phase", "invoke")], 0.0),
    ] {
        assert_eq!(told.value(name, labels), expected, "{name} {labels:?}");
    }
    let round_trip = told.value("skyhold_connection_round_trip_seconds", &[("peer", "n1")]);
    assert!(round_trip < 1.0, "it answers: {round_trip}");
    assert_eq!(told.labelled("node"), ["n0"].into());
    assert_eq!(scrape(there).await.labelled("node"), ["n1"].into(), "many nodes in a process");
    assert!(told.kinds.len() >= 30, "{:?}", told.kinds);
    for (name, kind) in &told.kinds {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    }
}

#[tokio::test]
async fn a_name_with_signs_is_told_as_it_is() {
    let node = node(|node| node).await;
    let name = r#"a"b\c{d}=,"#;
    node.service(name, Counter::default).start().await.unwrap();
    assert_eq!(scrape(&node).await.value("skyhold_service_instances", &[("service", name)]), 1.0);
}

#[tokio::test]
async fn without_the_token_nothing_is_told() {
    let node = node(|node| node.admin_token(Secret::new(TOKEN).unwrap())).await;
    let address = node.metrics_address().unwrap();
    let wrong = [
        vec![],
        vec!["Authorization: Bearer ".to_owned()],
        vec![format!("Authorization: {TOKEN}")],
        vec![format!("Authorization: Basic {TOKEN}")],
        vec![format!("Authorization: Bearer {}", &TOKEN[..TOKEN.len() - 1])],
        vec![format!("Authorization: Bearer {TOKEN}x")],
        vec![format!("Authorization: Bearer {}", TOKEN.to_uppercase())],
        vec![format!("X-Authorization: Bearer {TOKEN}")],
    ];
    for lines in wrong {
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        for request in ["GET /metrics", "HEAD /metrics", "POST /metrics", "GET /"] {
            let answer = ask(address, request, &lines).await;
            assert_eq!(answer.status, "HTTP/1.1 401 Unauthorized", "{request} {lines:?}");
            assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
            assert!(!answer.body.contains("skyhold_"), "{}", answer.body);
        }
    }
    for scheme in ["Bearer", "bearer"] {
        let answer = ask(address, "GET /metrics", &[&format!("Authorization: {scheme} {TOKEN}")]).await;
        assert_eq!(answer.status, "HTTP/1.1 200 OK");
        assert!(answer.body.contains("skyhold_panics_total{node=\"a\"} 0\n"), "{}", answer.body);
    }
}

#[tokio::test]
async fn only_metrics_are_there_and_only_to_be_read() {
    let node = node(|node| node).await;
    let address = node.metrics_address().unwrap();
    let got = ask(address, "GET /metrics?name=x", &[]).await;
    assert_eq!(got.status, "HTTP/1.1 200 OK");
    assert!(got.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", got.head);
    let head = ask(address, "HEAD /metrics", &[]).await;
    assert_eq!((&*head.status, &*head.body), ("HTTP/1.1 200 OK", ""));
    for (request, status) in [
        ("GET /", "HTTP/1.1 404 Not Found"),
        ("GET /metrics/", "HTTP/1.1 404 Not Found"),
        ("POST /metrics", "HTTP/1.1 405 Method Not Allowed"),
        ("DELETE /metrics", "HTTP/1.1 405 Method Not Allowed"),
    ] {
        let answer = ask(address, request, &["Content-Length: 0"]).await;
        assert_eq!(answer.status, status, "{request}");
        assert!(!answer.body.contains("skyhold_"), "{}", answer.body);
    }
}

#[tokio::test]
async fn silent_strangers_keep_a_bounded_number_of_connections() {
    let node = node(|node| node).await;
    let address = node.metrics_address().unwrap();
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut one_more = TcpStream::connect(address).await.unwrap();
    let closed = one_more.read(&mut [0; 8]).await;
    assert!(closed.as_ref().is_ok_and(|read| *read == 0) || closed.is_err(), "{closed:?}");
    drop(silent);
    let told = loop {
        if let Some(told) = try_scrape(address).await {
            break told;
        }
    };
    assert!(told.contains("skyhold_panics_total"), "their places are free again");
}

/// The body, unless the connection is closed at once.
async fn try_scrape(address: std::net::SocketAddr) -> Option<String> {
    use tokio::io::AsyncWriteExt;
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer).filter(|answer| !answer.is_empty())
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_cut_off_after_ten_seconds() {
    let node = node(|node| node).await;
    let began = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(node.metrics_address().unwrap()).await.unwrap();
    let end = stream.read(&mut [0; 8]).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert!(began.elapsed().as_secs() <= 11, "{:?}", began.elapsed());
}

#[tokio::test]
async fn others_than_this_machine_need_a_token() {
    let start = |address: &str| Node::builder("a").metrics(address);
    let error = start("0.0.0.0:0").start().await.unwrap_err();
    assert!(matches!(error, StartError::InvalidSetting { setting: "metrics", .. }), "{error}");
    assert!(error.to_string().contains("a token is needed, `admin.token_file`"), "{error}");
    for address in ["127.0.0.1:0", "localhost:0", "127.0.0.2:0"] {
        let node = start(address).start().await.unwrap();
        assert!(node.metrics_address().unwrap().ip().is_loopback());
    }
    let token = Secret::new(TOKEN).unwrap();
    let node = start("0.0.0.0:0").admin_token(token).start().await.unwrap();
    assert!(node.metrics_address().unwrap().ip().is_unspecified());

    let unusable = Secret::new("a token with spaces").unwrap();
    let error = start("127.0.0.1:0").admin_token(unusable).start().await.unwrap_err();
    assert!(matches!(error, StartError::InvalidSetting { setting: "admin_token", .. }), "{error}");
    let taken = node.metrics_address().unwrap().port();
    let error = start(&format!("127.0.0.1:{taken}")).start().await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn a_file_says_where_and_with_which_token() {
    let folder = Folder::new();
    folder.write("admin.token", &format!("{TOKEN}\n"));
    let file = open("a") + "[admin]\nmetrics = \"0.0.0.0:0\"\n";
    let error = folder.start_error("a.toml", &file).await;
    assert!(error.contains("a token is needed"), "{error}");
    let node = folder.start("a.toml", &(file + "token_file = \"admin.token\"\n")).await;
    let address = ([127, 0, 0, 1], node.metrics_address().unwrap().port()).into();
    assert_eq!(ask(address, "GET /metrics", &[]).await.status, "HTTP/1.1 401 Unauthorized");
    let told = ask(address, "GET /metrics", &[&format!("Authorization: Bearer {TOKEN}")]).await;
    assert_eq!(told.status, "HTTP/1.1 200 OK");

    folder.write("short", "short");
    let error = folder.builder("b.toml", &(open("b") + "[admin]\ntoken_file = \"short\"\n")).unwrap_err();
    assert!(error.to_string().contains("`admin.token_file` cannot be used"), "{error}");
}

#[tokio::test]
async fn a_program_tells_its_own_metrics_beside_the_nodes() {
    let own = "# HELP shop_orders_total Orders.\n# TYPE shop_orders_total counter\nshop_orders_total 7\n";
    let node = node(|node| node.metrics_with(move || own.to_owned())).await;
    let told = scrape(&node).await;
    assert_eq!(told.value("shop_orders_total", &[]), 7.0);
    assert_eq!(told.value("skyhold_panics_total", &[]), 0.0);
}

#[tokio::test]
async fn the_endpoint_ends_with_its_node() {
    let node = node(|node| node).await;
    let address = node.metrics_address().unwrap();
    scrape(&node).await;
    node.shutdown().await.unwrap();
    assert!(try_scrape(address).await.is_none());
}
