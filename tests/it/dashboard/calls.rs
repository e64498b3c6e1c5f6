//! Calls by name over HTTP.

use serde_json::{Value, json};
use skyhold::ManagerHandle;
use skyhold::prelude::*;

use super::{Counter, CounterHandle, JSON, ask, call, node, two, two_with};

#[tokio::test]
async fn managers_and_services_of_all_nodes_are_called_by_name() {
    let (cluster, page) = two().await;
    cluster[1].service("counter", Counter::default).start().await.unwrap();
    CounterHandle::lookup(&cluster[0], "counter").await.unwrap();

    let here = call(page, "skyhold%2Fmanager/node", "").await;
    assert_eq!((here.status, &here.json()["node"]), (200, &json!("n0")));
    assert!(here.head.contains("content-type: application/json"), "{}", here.head);
    let there = call(page, "n1%230/node", "[]").await;
    assert_eq!((there.status, &there.json()["services"]), (200, &json!(["counter"])));
    assert_eq!(call(page, "counter/add", r#"{"by": 2}"#).await.json(), json!(2));
    assert_eq!(call(page, "counter/add", "[40]").await.json(), json!(42));
    let scaled = call(page, "n1%230/scale", r#"["counter", 3]"#).await;
    assert_eq!(scaled.json(), json!({"Ok": true}));
    let manager = ManagerHandle::on(&cluster[0], "n1").await.unwrap();
    assert_eq!(manager.stats("counter".to_owned()).await.unwrap().unwrap().instances, 3);
}

#[tokio::test]
async fn an_error_says_what_it_is_and_whether_something_may_have_run() {
    let (cluster, page) = two().await;
    cluster[0].service("counter", Counter::default).start().await.unwrap();
    for (path, arguments, status, kind, may_have_run) in [
        ("nobody/add", "[1]", 404, "NoRoute", false),
        ("n0%2377/add", "[1]", 404, "NoRoute", false),
        ("counter/ad", "[1]", 404, "Incompatible", false),
        ("counter/add", "[\"one\"]", 400, "Codec", false),
        ("counter/add", "{", 400, "Codec", false),
        ("counter/fail", "[]", 500, "Panicked", true),
        ("n0%230/events", "[]", 404, "Incompatible", false),
    ] {
        let answer = call(page, path, arguments).await;
        assert_eq!(answer.refusal(), (status, kind.to_owned()), "{path}: {}", answer.body);
        assert_eq!(answer.json()["may_have_run"], may_have_run, "{path}");
        assert!(!answer.json()["error"].as_str().unwrap().is_empty());
    }
    let answer = ask(page, "POST /call/counter/never", &[JSON, "Timeout: 1"], "[]").await;
    assert_eq!(answer.refusal(), (504, "Timeout".to_owned()), "{}", answer.body);
    assert_eq!(answer.json()["may_have_run"], true);
    for timeout in ["Timeout: 0", "Timeout: 601", "Timeout: soon"] {
        let answer = ask(page, "POST /call/counter/add", &[JSON, timeout], "[1]").await;
        assert_eq!(answer.refusal(), (400, "Codec".to_owned()), "{timeout}");
    }
}

#[tokio::test]
async fn a_node_that_is_not_there_holds_up_none_of_the_others() {
    let (cluster, page) = two().await;
    cluster[1].service("counter", Counter::default).start().await.unwrap();
    CounterHandle::lookup(&cluster[0], "counter").await.unwrap();
    let asked = json!([
        {"service": "away#0", "method": "node", "arguments": []},
        {"service": "n1#0", "method": "node"},
        {"service": "counter", "method": "add", "arguments": {"by": 3}},
        {"service": "counter", "method": "fail"},
    ]);
    let answer = ask(page, "POST /calls", &[JSON, "Timeout: 1"], &asked.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lines: Vec<Value> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[3]["call"], 0, "the others came before: {}", answer.body);
    assert_eq!(lines[3]["kind"], "Timeout");
    let of = |call: u64| lines.iter().find(|line| line["call"] == call).unwrap();
    assert_eq!(of(1)["reply"]["node"], "n1");
    assert_eq!(of(2)["reply"], 3);
    assert_eq!((&of(3)["kind"], &of(3)["may_have_run"]), (&json!("Panicked"), &json!(true)));

    let many = vec![json!({"service": "n1#0", "method": "node"}); 513];
    let answer = ask(page, "POST /calls", &[JSON], &json!(many).to_string()).await;
    assert_eq!(answer.refusal(), (413, "TooLarge".to_owned()));
    let answer = ask(page, "POST /calls", &[JSON], "{}").await;
    assert_eq!(answer.refusal(), (400, "Codec".to_owned()));
}

#[tokio::test]
async fn a_body_of_more_than_a_mebibyte_calls_nothing() {
    let node = node(|node| node).await;
    let counter = node.service("counter", Counter::default).start().await.unwrap();
    let page = node.dashboard_address().unwrap();
    let long = format!("[{}1]", " ".repeat(1024 * 1024 - 3));
    let largest = call(page, "counter/add", &long).await;
    assert_eq!(largest.json(), json!(1), "as long as it may be");
    let refused = call(page, "counter/add", &format!("{long} ")).await;
    assert_eq!(refused.refusal(), (413, "TooLarge".to_owned()));
    assert_eq!(counter.add(0).await.unwrap(), 1);
}

#[tokio::test]
async fn rules_of_access_hold_for_the_page_as_for_its_node() {
    let access = || skyhold::Access::open().allow("n0", "counter").allow_methods("n0", "closed", ["total"]);
    let (cluster, page) = two_with(move |node| node.access(access())).await;
    let there = cluster[1].dashboard_address().unwrap();
    cluster[1].service("counter", Counter::default).start().await.unwrap();
    cluster[1].service("closed", Counter::default).start().await.unwrap();
    CounterHandle::lookup(&cluster[0], "closed").await.unwrap();
    assert_eq!(call(page, "counter/add", "[1]").await.status, 200);
    let denied = call(page, "closed/add", "[1]").await;
    assert_eq!(denied.refusal(), (403, "Denied".to_owned()), "{}", denied.body);
    assert_eq!(call(there, "closed/add", "[1]").await.status, 200, "a node may call its own");
}
