//! Who waits for whom, over nodes.

use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{ManagerHandle, WaitReport};

use super::instance;
use crate::gate::{Gate, settle};

/// Calls the next one, if there is one; else it waits at the gate.
#[derive(Clone)]
struct Hop {
    next: Option<HopHandle>,
    gate: Gate,
}

#[service]
impl Hop {
    pub async fn ask(&mut self) {
        match &self.next {
            Some(next) => next.ask().await.unwrap(),
            None => self.gate.pass().await,
        }
    }

    pub async fn read(&self) {
        match &self.next {
            Some(next) => next.read().await.unwrap(),
            None => self.gate.pass().await,
        }
    }
}

async fn hop(node: &Node, name: &str, next: Option<HopHandle>, gate: &Gate) {
    let hop = Hop { next, gate: gate.clone() };
    node.service(name, move || hop.clone()).start().await.unwrap();
}

/// A chain of calls from `a` on one node over `b` on another to `c` on the first, where it hangs.
async fn hangs(shared: bool) {
    let cluster = Cluster::start(2).await;
    let gate = Gate::new();
    hop(&cluster[0], "c", None, &gate).await;
    let c_address = instance(&cluster[0].manager(), "c").await.address;
    let c = HopHandle::lookup(&cluster[1], "c").await.unwrap();
    hop(&cluster[1], "b", Some(c), &gate).await;
    let b_address = instance(&cluster[1].manager(), "b").await.address;
    let b = HopHandle::lookup(&cluster[0], "b").await.unwrap();
    hop(&cluster[0], "a", Some(b), &gate).await;
    let a = HopHandle::lookup(&cluster[0], "a").await.unwrap();
    let method = if shared { "read" } else { "ask" };
    let call = if shared { a.read() } else { a.ask() }.timeout(Duration::from_secs(20));
    let hung = tokio::spawn(call.into_future());
    gate.reached(1).await;
    settle().await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let manager = ManagerHandle::on(&cluster[1], "n0").await.unwrap();
    let report = instance(&manager, "a").await;
    let [WaitReport { method: by, address, called, age, service, .. }] = &report.waits[..] else {
        panic!("{report:?}");
    };
    assert_eq!((by.as_str(), called.as_str()), (method, format!("hop.{method}").as_str()));
    assert_eq!(address.as_ref(), Some(&b_address));
    assert_eq!(service.as_deref(), Some("b"));
    let about = Duration::from_secs(3)..Duration::from_millis(3500);
    assert!(about.contains(age), "{age:?}");
    let a_address = report.address;

    let report = instance(&cluster[1].manager(), "b").await;
    assert_eq!(report.waits[0].address.as_ref(), Some(&c_address));
    assert_eq!(report.handlers[0].callers, [format!("hop.{method}@{a_address}")]);
    let report = instance(&manager, "c").await;
    assert!(report.waits.is_empty(), "it waits for nobody who is known");
    let [handler] = &report.handlers[..] else { panic!("{report:?}") };
    assert_eq!(handler.method, method);
    assert!(about.contains(&handler.age.unwrap()), "{handler:?}");
    let callers = [format!("hop.{method}@{a_address}"), format!("hop.{method}@{b_address}")];
    assert_eq!(handler.callers, callers);

    gate.open();
    hung.await.unwrap().unwrap();
    for (node, name) in [(0, "a"), (1, "b"), (0, "c")] {
        let report = instance(&cluster[node].manager(), name).await;
        assert!(report.waits.is_empty() && report.handlers.is_empty(), "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_calls_that_hangs_is_followed_over_nodes() {
    for shared in [false, true] {
        hangs(shared).await;
    }
}

#[derive(Clone)]
struct Many(HopHandle);

#[service(local, name = "many")]
impl Many {
    pub async fn ask_all(&self) {
        let asked = (0..10).map(|_| self.0.read().into_future());
        futures_util::future::join_all(asked).await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_beside_one_another_are_all_shown_and_taken_back_when_they_are_dropped() {
    let node = crate::gate::local_node().await;
    let gate = Gate::new();
    hop(&node, "hop", None, &gate).await;
    let many = node.spawn(Many(HopHandle::lookup(&node, "hop").await.unwrap()));
    let asks = tokio::spawn(many.ask_all().into_future());
    gate.reached(10).await;
    let waits = instance(&node.manager(), "many").await.waits;
    assert_eq!(waits.len(), 10);
    assert!(
        waits.iter().all(|wait| wait.called == "hop.read" && wait.service.as_deref() == Some("hop")),
        "{waits:?}"
    );
    gate.open();
    asks.await.unwrap().unwrap();
    assert!(instance(&node.manager(), "many").await.waits.is_empty());
    drop(node);
}
