//! The page, as a browser shows it to its user.

use std::fmt::Write as _;

use serde_json::json;
use skyhold::ManagerHandle;
use skyhold::prelude::*;

use super::browser::Browser;
use super::{Counter, CounterHandle, Gate, GateHandle, TOKEN, ask, node, two_with};
use crate::config::Folder;

#[tokio::test]
async fn the_page_is_whole_and_asks_nobody_else() {
    let node = node(|node| node).await;
    let page = node.dashboard_address().unwrap();
    let html = ask(page, "GET /", &[], "").await;
    assert!(html.head.contains("content-type: text/html; charset=utf-8"), "{}", html.head);
    let mut files = vec!["/page.css".to_owned(), "/icon.svg".to_owned(), "/page.js".to_owned()];
    let mut all = html.body;
    let mut index = 0;
    while let Some(file) = files.get(index).cloned() {
        let answer = ask(page, &format!("GET {file}"), &[], "").await;
        assert_eq!(answer.status, 200, "{file}");
        // What a script imports stands at its beginning.
        let imported =
            answer.body.lines().filter_map(|line| line.split_once("from \"./")?.1.strip_suffix("\";"));
        for name in imported.map(|name| format!("/{name}")) {
            if !files.contains(&name) {
                files.push(name);
            }
        }
        write!(all, "{}", answer.body).unwrap();
        index += 1;
    }
    assert!(files.len() >= 9, "{files:?}");
    for never in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "https://",
        "style=\"",
        "onclick=",
    ] {
        assert!(!all.contains(never), "{never}");
    }
    let names = all.replace("http://www.w3.org/2000/svg", "");
    assert!(!names.contains("http://"), "it names no other host");
}

/// Calls through the gate without end, until dropped.
fn load(gate: &GateHandle) -> tokio::task::JoinHandle<()> {
    let gate = gate.clone();
    tokio::spawn(async move {
        loop {
            gate.enter().await.unwrap().unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_shows_the_cluster_and_steers_it() {
    let Some(browser) = Browser::start().await else { return };
    let folder = Folder::new();
    let file = folder.path("central");
    let (cluster, page) = two_with(move |node| node.config_holder("n0").config_path(&file)).await;
    cluster[1].service("counter", Counter::default).instances(2).start().await.unwrap();
    cluster[0].service("gate", || Gate).start().await.unwrap();
    let gate = GateHandle::lookup(&cluster[1], "gate").await.unwrap();
    CounterHandle::lookup(&cluster[0], "counter").await.unwrap();
    let load = load(&gate);

    browser.open(&format!("http://{page}/")).await;
    browser
        .until("text('[data-node=n0]').includes('alive') && text('[data-node=n1]').includes('alive')")
        .await;
    browser.until("/n0n1[0-9.]+ (ms|µs)/.test(text('[aria-label=Connections] tbody tr'))").await;

    browser.click("a[href='#services']").await;
    let row = "[data-service=counter]";
    browser.until(&format!("Number(all('{row}')[0]?.dataset.rate) > 0")).await;
    browser.until(&format!("text('{row}').match(/ms|µs/g)?.length >= 2")).await;
    let points = format!("all('{row} polyline')[0].getAttribute('points').split(' ').length >= 2");
    browser.until(&points).await;

    restarts(&browser, &cluster[0]).await;
    browser.click("a[href='#tree']").await;
    browser.until("text('.tree').includes('n1#1') && text('.tree').includes('1 restart')").await;
    browser.click("a[href='#calls']").await;
    browser
        .until("/gateentercounter/.test(text('[aria-label=Calls] tbody')) && all('.graph .edge').length")
        .await;
    browser.click("a[href='#events']").await;
    browser.until("text('[data-event=Restarted]').includes('counter')").await;
    settings(&browser, &cluster[0]).await;
    browser.click("a[href='#routes']").await;
    browser.until("text('main').includes('no rules')").await;

    load.abort();
    browser.click("a[href='#nodes']").await;
    browser.until("text('[data-node=n1]').includes('alive')").await;
    cluster.pause(1).await;
    browser
        .until("!text('[data-node=n1]').includes('alive') && text('[data-node=n0]').includes('alive')")
        .await;
    let log = browser.log().await;
    assert!(log.is_empty(), "no error, and nothing that the page's policy forbids: {log:?}");
    browser.end().await;
}

/// Restarts a service by its button, and sees it on the page and by the manager.
async fn restarts(browser: &Browser, node: &Node) {
    let manager = ManagerHandle::on(node, "n1").await.unwrap();
    let restarts = async || manager.stats("counter".to_owned()).await.unwrap().unwrap().restarts;
    assert_eq!(restarts().await, 0);
    browser.click("[data-service=counter] [data-do=restart]").await;
    browser.until("text('dialog h2') === 'Restart counter?'").await;
    browser.click("dialog button[type=button]").await;
    browser.until("!all('dialog')[0].open").await;
    assert_eq!(restarts().await, 0, "nothing is done that is not confirmed");
    browser.click("[data-service=counter] [data-do=restart]").await;
    browser.click("dialog button[type=submit]").await;
    browser.until("text('#done') === 'counter restarted on n1'").await;
    assert_eq!(restarts().await, 2, "both instances");
}

/// Sets a value, another one, and goes back.
async fn settings(browser: &Browser, node: &Node) {
    browser.click("a[href='#configuration']").await;
    browser.click("[data-do=edit]").await;
    browser.write("dialog [name=key]", "limits").await;
    browser.write("dialog [name=text]", "players = ").await;
    browser.click("dialog button[type=submit]").await;
    browser.until("text('dialog [role=alert]').includes('no TOML') || text('dialog [role=alert]').includes('yntax')").await;
    browser.write("dialog [name=text]", "64").await;
    browser.click("dialog button[type=submit]").await;
    browser.until("text('[data-key=limits] pre') === 'players = 64'").await;
    // Somebody else is quicker.
    browser.click("[data-key=limits] [data-do=edit]").await;
    browser.until("all('dialog')[0].open").await;
    let manager = node.manager();
    manager.config_set("limits".to_owned(), "players = 65".to_owned(), None).await.unwrap().unwrap();
    browser.click("dialog button[type=submit]").await;
    browser.until("text('dialog [role=alert]').includes('expected 1, present 2')").await;
    browser.click("dialog button[type=button]").await;

    browser.click("[data-key=limits] a").await;
    browser.until("all('[aria-label=History] tbody tr').length === 2").await;
    browser.until("text('[aria-label=History] pre') === 'players = 65\\nplayers = 64'").await;
    browser.click("[data-do=rollBack]").await;
    browser.click("dialog button[type=submit]").await;
    browser.until("all('[aria-label=History] tbody tr').length === 3").await;
    let now = manager.config_get("limits".to_owned()).await.unwrap().unwrap().unwrap();
    assert_eq!(now.value.as_deref(), Some("players = 64"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_asks_for_the_token_and_says_when_its_node_has_gone() {
    let Some(browser) = Browser::start().await else { return };
    let node = node(|node| node.admin_token(Secret::new(TOKEN).unwrap())).await;
    let page = node.dashboard_address().unwrap();
    browser.open(&format!("http://{page}/")).await;
    browser.until("text('dialog').includes(\"This page needs the node's token\")").await;
    browser.write("dialog [name=token]", "a-token-of-another").await;
    browser.click("dialog button[type=submit]").await;
    browser.until("text('dialog').includes('not the right one')").await;
    browser.until("all('[data-node]').length === 0").await;
    browser.write("dialog [name=token]", TOKEN).await;
    browser.click("dialog button[type=submit]").await;
    browser.until("text('[data-node=a]').includes('alive')").await;
    let kept = browser
        .run("return [Object.values(sessionStorage), Object.values(localStorage), document.cookie]")
        .await;
    assert_eq!(kept, json!([[TOKEN], [], ""]));

    node.shutdown().await.unwrap();
    browser.until("text('#problem').includes('does not answer. Trying again')").await;
    browser.until("text('[data-node=a]').includes('alive')").await;
    browser.end().await;
}
