//! Who may ask: whoever has the token; without one this machine, but no website that its user looks at.

use skyhold::StartError;
use skyhold::prelude::*;

use super::{Counter, JSON, TOKEN, ask, call, node};
use crate::config::{Folder, open};

/// Every way to ask for something.
const ASKED: [&str; 5] =
    ["POST /call/counter/add", "POST /calls", "GET /events", "GET /events/a", "GET /trace/a/counter"];

#[tokio::test]
async fn without_the_token_there_is_nothing_but_the_pages_looks() {
    let node = node(|node| node.admin_token(Secret::new(TOKEN).unwrap())).await;
    let counter = node.service("counter", Counter::default).start().await.unwrap();
    let page = node.dashboard_address().unwrap();
    let short = format!("Authorization: Bearer {}", &TOKEN[..TOKEN.len() - 1]);
    let basic = format!("Authorization: Basic {TOKEN}");
    for token in ["Authorization: Bearer ", &short, &basic, "X-Token: x"] {
        for request in ASKED {
            let answer = ask(page, request, &[JSON, token], "[1]").await;
            assert_eq!(answer.refusal(), (401, "Unauthorized".to_owned()), "{request} {token}");
            assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
        }
    }
    assert_eq!(counter.add(0).await.unwrap(), 0, "nothing was called");
    let token = format!("Authorization: Bearer {TOKEN}");
    // With a token it may be reached by any name.
    let lines = [JSON, &token, "Host: node-a.example:9101", "Origin: https://node-a.example:9101"];
    let answer = ask(page, "POST /call/counter/add", &lines, "[1]").await;
    assert_eq!((answer.status, &*answer.body), (200, "1"));
    for file in ["/", "/page.js", "/page.css"] {
        assert_eq!(ask(page, &format!("GET {file}"), &[], "").await.status, 200, "{file}");
    }
}

#[tokio::test]
async fn another_website_calls_nothing() {
    let node = node(|node| node).await;
    let counter = node.service("counter", Counter::default).start().await.unwrap();
    let page = node.dashboard_address().unwrap();
    let own = format!("Origin: http://{page}");
    for lines in [
        &["Origin: http://evil.example"][..],
        &["Origin: null"],
        &["Origin: http://127.0.0.1"],
        &["Origin: http://localhost:1"],
        &[&own, "Origin: http://evil.example"],
        &["Sec-Fetch-Site: cross-site"],
        &["Sec-Fetch-Site: same-site"],
        &[&own, "Sec-Fetch-Site: same-site"],
    ] {
        for request in ASKED {
            let answer = ask(page, request, &[lines, &[JSON]].concat(), "[1]").await;
            assert_eq!(answer.refusal(), (403, "ForeignOrigin".to_owned()), "{request} {lines:?}");
            assert!(!answer.head.contains("access-control"), "{}", answer.head);
        }
        let leave = ask(page, "OPTIONS /call/counter/add", lines, "").await;
        assert_ne!(leave.status, 200);
        assert!(!leave.head.contains("access-control"), "{}", leave.head);
    }
    assert_eq!(counter.add(0).await.unwrap(), 0, "nothing was called");
    for lines in [&[JSON, &own, "Sec-Fetch-Site: same-origin"][..], &[JSON, "Sec-Fetch-Site: none"]] {
        assert_eq!(ask(page, "POST /call/counter/add", lines, "[1]").await.status, 200, "{lines:?}");
    }
}

#[tokio::test]
async fn a_name_that_somebody_leads_to_this_machine_is_refused() {
    let node = node(|node| node).await;
    node.service("counter", Counter::default).start().await.unwrap();
    let page = node.dashboard_address().unwrap();
    for host in [
        "evil.example",
        "evil.example:9101",
        "localhost.evil.example",
        "192.0.2.1",
        "127.0.0.1@evil.example",
        "",
    ] {
        for request in ["GET /", "GET /page.js", "POST /call/counter/add", "GET /events", "GET /nothing"] {
            let answer = ask(page, request, &[JSON, &format!("Host: {host}")], "[1]").await;
            assert_eq!(answer.refusal(), (403, "ForeignHost".to_owned()), "{request} {host:?}");
        }
    }
    let twice =
        ask(page, "POST /call/counter/add", &[JSON, "Host: localhost", "Host: evil.example"], "[1]").await;
    assert!([400, 403].contains(&twice.status), "{}", twice.status);
    for host in ["localhost", "LOCALHOST:9101", "127.0.0.1:9101", "127.8.9.1", "[::1]:9101", "[::1]"] {
        let answer = ask(page, "POST /call/counter/add", &[JSON, &format!("Host: {host}")], "[1]").await;
        assert_eq!(answer.status, 200, "{host}");
    }
}

#[tokio::test]
async fn what_a_form_of_another_website_could_send_is_refused() {
    let node = node(|node| node).await;
    let counter = node.service("counter", Counter::default).start().await.unwrap();
    let page = node.dashboard_address().unwrap();
    for kind in [
        "X-Kind: none",
        "Content-Type: text/plain",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: multipart/form-data",
        "Content-Type: text/plain; application/json",
        "Content-Type: application/jsonp",
    ] {
        for request in ["POST /call/counter/add", "POST /calls"] {
            let answer = ask(page, request, &[kind], "[1]").await;
            assert_eq!(answer.refusal(), (415, "NoJson".to_owned()), "{request} {kind}");
        }
    }
    assert_eq!(ask(page, "GET /call/counter/add", &[JSON], "").await.status, 405);
    assert_eq!(counter.add(0).await.unwrap(), 0, "nothing was called");
    let spoken =
        ask(page, "POST /call/counter/add", &["Content-Type: Application/JSON; charset=utf-8"], "[1]").await;
    assert_eq!(spoken.status, 200);
}

#[tokio::test]
async fn every_answer_forbids_the_browser_what_the_page_does_not_need() {
    let node = node(|node| node).await;
    let page = node.dashboard_address().unwrap();
    for request in
        ["GET /", "GET /page.js", "GET /nothing", "POST /call/skyhold%2Fmanager/node", "POST /calls"]
    {
        let answer = ask(page, request, &[], "").await;
        for line in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(answer.head.contains(line), "{request}: {line}: {}", answer.head);
        }
    }
    assert_eq!(ask(page, "GET /nothing", &[], "").await.refusal(), (404, "NoPage".to_owned()));
}

#[tokio::test]
async fn others_than_this_machine_need_a_token() {
    let start = |address: &str| Node::builder("a").dashboard(address);
    let error = start("0.0.0.0:0").start().await.unwrap_err();
    assert!(matches!(error, StartError::InvalidSetting { setting: "dashboard", .. }), "{error}");
    assert!(error.to_string().contains("a token is needed, `admin.token_file`"), "{error}");
    let node = start("localhost:0").start().await.unwrap();
    assert!(node.dashboard_address().unwrap().ip().is_loopback());
    let token = Secret::new(TOKEN).unwrap();
    let node = start("0.0.0.0:0").admin_token(token).start().await.unwrap();
    let taken = node.dashboard_address().unwrap();
    assert!(taken.ip().is_unspecified());
    let error = start(&format!("127.0.0.1:{}", taken.port())).start().await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    assert!(Node::builder("b").start().await.unwrap().dashboard_address().is_none(), "only when asked");
}

#[tokio::test]
async fn a_file_says_where_and_with_which_token() {
    let folder = Folder::new();
    folder.write("admin.token", &format!("{TOKEN}\n"));
    let file = open("a") + "[admin]\ndashboard = \"0.0.0.0:0\"\n";
    let error = folder.start_error("a.toml", &file).await;
    assert!(error.contains("a token is needed"), "{error}");
    let node = folder.start("a.toml", &(file + "token_file = \"admin.token\"\n")).await;
    let page = ([127, 0, 0, 1], node.dashboard_address().unwrap().port()).into();
    assert_eq!(call(page, "skyhold%2Fmanager/node", "").await.status, 401);
    let token = format!("Authorization: Bearer {TOKEN}");
    let answer = ask(page, "POST /call/skyhold%2Fmanager/node", &[JSON, &token], "").await;
    assert_eq!(answer.json()["node"], "a");
}
