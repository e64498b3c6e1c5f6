//! Streams over HTTP.

use std::net::SocketAddr;

use serde_json::Value;
use skyhold::prelude::*;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{Counter, CounterHandle, ask, node, send, two};
use crate::raw::soon;

/// A stream that is read line by line.
struct Lines(mpsc::UnboundedReceiver<String>);

impl Lines {
    /// Opens one, and reads its head.
    async fn open(address: SocketAddr, path: &str) -> Self {
        let mut stream = BufReader::new(send(address, &format!("GET {path}"), &[], "").await);
        let (heard, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap_or(0) > 0
                && heard.send(std::mem::take(&mut line)).is_ok()
            {}
        });
        let mut lines = Self(lines);
        let first = lines.line().await.unwrap();
        assert!(first.contains(" 200 "), "{first}");
        while lines.line().await.unwrap() != "\r\n" {}
        lines
    }

    /// The next line; `None` at the end. Cancel safe.
    async fn line(&mut self) -> Option<String> {
        soon("a line", self.0.recv()).await
    }

    /// The next item that fits.
    async fn item(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.line().await.expect("the stream goes on");
            if let Ok(item) = serde_json::from_str(&line)
                && fits(&item)
            {
                return item;
            }
        }
    }
}

#[tokio::test]
async fn events_of_all_members_come_in_one_stream_and_of_one_in_another() {
    let (mut cluster, page) = two().await;
    let mut all = Lines::open(page, "/events").await;
    let mut one = Lines::open(page, "/events/n1").await;
    // A node of which the stream learns later.
    cluster.add().await;
    cluster.connected().await;
    for index in [0, 2, 1] {
        let name = format!("n{index}");
        let is_ended = |item: &Value| {
            item["node"] == *name && item["item"]["Happened"]["event"].get("InstanceEnded").is_some()
        };
        // It is heard from some moment on.
        let ends = async {
            loop {
                let counter = cluster[index].spawn(Counter::default());
                cluster[index].stop(&counter).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = soon("an end that is heard", ends) => {}
            heard = all.item(is_ended) => assert_eq!(heard["item"]["Happened"]["node"], *name),
        }
    }
    let ended = one.item(|item| item["item"]["Happened"]["event"].get("InstanceEnded").is_some()).await;
    assert_eq!(ended["node"], "n1", "and no other's: {ended}");
}

#[tokio::test]
async fn the_messages_of_a_service_are_shown_as_they_come() {
    let (cluster, page) = two().await;
    cluster[1].service("counter", Counter::default).start().await.unwrap();
    let counter = CounterHandle::lookup(&cluster[0], "counter").await.unwrap();
    let mut messages = Lines::open(page, "/trace/n1/counter").await;
    counter.add(7).await.unwrap();
    let begun = messages.item(|item| item["item"]["event"].get("Begun").is_some()).await;
    assert_eq!((&begun["node"], &begun["item"]["method"]), (&"n1".into(), &"add".into()));
    assert_eq!(begun["item"]["event"]["Begun"]["arguments"], "{\"by\":7}");
}

#[tokio::test]
async fn a_stream_of_nobody_is_refused() {
    let (_cluster, page) = two().await;
    for (path, status) in [("/trace/n1/nobody", 404), ("/events/away", 404), ("/trace/away/counter", 404)] {
        let answer = ask(page, &format!("GET {path}"), &[], "").await;
        assert_eq!(answer.refusal(), (status, "NoRoute".to_owned()), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn streams_have_a_bounded_number_of_places_which_their_readers_give_back() {
    let node = node(|node| node).await;
    let page = node.dashboard_address().unwrap();
    let mut open = Vec::new();
    for index in 0..16 {
        open.push(Lines::open(page, if index % 2 == 0 { "/events" } else { "/events/a" }).await);
    }
    let refused = ask(page, "GET /events", &[], "").await;
    assert_eq!(refused.refusal(), (503, "Overloaded".to_owned()));
    let asked = super::call(page, "skyhold%2Fmanager/node", "").await;
    assert_eq!(asked.status, 200, "calls are answered still");
    open.truncate(15);
    let is_free = async {
        loop {
            let mut again = BufReader::new(send(page, "GET /events", &[], "").await);
            let mut first = String::new();
            again.read_line(&mut first).await.unwrap();
            if first.contains(" 200 ") {
                return;
            }
        }
    };
    soon("a place", is_free).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlasts_the_time_of_other_connections_and_ends_with_its_node() {
    let node = node(|node| node).await;
    let page = node.dashboard_address().unwrap();
    let began = tokio::time::Instant::now();
    let mut events = Lines::open(page, "/events").await;
    for _ in 0..4 {
        // Nothing happens, and an empty line is said each 15 s.
        assert!(events.0.is_empty());
        assert_eq!(events.0.recv().await.as_deref(), Some("\n"));
    }
    assert!(began.elapsed().as_secs() >= 60, "{:?}", began.elapsed());
    node.shutdown().await.unwrap();
    while let Some(line) = events.line().await {
        assert!(line == "\n" || line.starts_with('{'), "{line}");
    }
    assert!(TcpStream::connect(page).await.is_err(), "nobody listens any more");
}
