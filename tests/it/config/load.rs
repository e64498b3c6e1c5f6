//! Reloads under full load.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use skyhold::prelude::*;
use skyhold::{Event, Events};

use super::{Counter, CounterHandle, Folder, open};
use crate::raw::has_peers;

/// How many reloads there are.
const RELOADS: u64 = 1000;

/// How many callers there are in each direction.
const CALLERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_under_full_load_fail_no_call_and_drop_no_connection() {
    let folder = Folder::new();
    let server =
        Node::builder("server").listen("127.0.0.1:0").insecure_without_secret().start().await.unwrap();
    let at = server.address().unwrap().to_string();
    let node = folder.start("node.toml", &configuration(&at, 0)).await;
    for node in [&server, &node] {
        let name = format!("on-{}", node.id());
        node.service(name, Counter::default).instances(2).start().await.unwrap();
        has_peers(node, 1).await;
    }
    let mut events = [server.events(), node.events()];
    let (ends, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = Vec::new();
    for (from, name) in [(&server, "on-node"), (&node, "on-server")] {
        let handle = CounterHandle::lookup(from, name).await.unwrap();
        for _ in 0..CALLERS {
            let (handle, ends, calls) = (handle.clone(), Arc::clone(&ends), Arc::clone(&calls));
            callers.push(tokio::spawn(async move {
                while !ends.load(Ordering::Relaxed) {
                    handle.add(1).await.unwrap_or_else(|error| panic!("{error}"));
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    }
    let cluster = node.cluster();
    for round in 1..=RELOADS {
        let before = calls.load(Ordering::Relaxed);
        folder.write("node.toml", &configuration(&at, round));
        let reload = cluster.reload().await.unwrap_or_else(|error| panic!("{round}: {error}"));
        assert_eq!(reload.version, round + 1);
        let changed: Vec<_> = reload.changes.iter().map(|change| &*change.key).collect();
        for key in [
            "calls.timeout",
            "transport.silence",
            "topology.seeds",
            "topology.nodes.other",
            "access",
            "route",
        ] {
            assert!(changed.contains(&key), "{round}: {key} was to change: {changed:?}");
        }
        // The load is in force: each reload has calls beside it.
        while calls.load(Ordering::Relaxed) == before {
            tokio::task::yield_now().await;
        }
    }
    ends.store(true, Ordering::Relaxed);
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls >= RELOADS, "{calls} calls");
    assert_eq!(events.iter_mut().flat_map(lost).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(node.cluster().reload().await.unwrap().changes, []);
}

/// A configuration in which something of everything is another in each round. The server's own address comes and goes.
fn configuration(server: &str, round: u64) -> String {
    let mut text = open("node");
    let nobody = format!("127.0.0.1:{}", 1 + round % 7);
    let seeds = if round.is_multiple_of(2) { format!("{server}\", \"{nobody}") } else { nobody };
    write!(text, "[topology]\nseeds = [\"{seeds}\"]\n[topology.nodes]\n").unwrap();
    let other = if round.is_multiple_of(3) {
        "false".to_owned()
    } else {
        format!("\"127.0.0.1:{}\"", 10 + round % 3)
    };
    writeln!(text, "other = {other}").unwrap();
    writeln!(text, "[calls]\ntimeout = \"{}s\"", 20 + round % 11).unwrap();
    writeln!(text, "[transport]\nsilence = \"{}s\"", 10 + round % 5).unwrap();
    write!(text, "[[access]]\npeers = \"server\"\nservice = \"on-*\"\n").unwrap();
    let weights = (1 + round % 9, 1 + round % 2);
    let split = format!(
        "[{{ to = {{ node = \"server\" }}, weight = {} }}, {{ to = {{ version = \"{}\" }}, weight = {} }}]",
        weights.0, round, weights.1
    );
    write!(text, "[[route]]\nservice = \"on-server\"\nsplit = {split}\notherwise = \"any\"\n").unwrap();
    write!(text, "[[access]]\npeers = \"p{}\"\nservice = \"on-node\"\n", round % 2).unwrap();
    text
}

/// The connections that were lost.
fn lost(events: &mut Events) -> Vec<String> {
    let came = std::iter::from_fn(|| events.next().now_or_never().flatten());
    came.filter_map(|event| match event {
        Event::PeerDown { peer, reason } => Some(format!("{peer}: {reason}")),
        _ => None,
    })
    .collect()
}
