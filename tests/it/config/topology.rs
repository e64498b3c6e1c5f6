//! Who is dialled and who is let in, by a file that changes.

use std::net::SocketAddr;
use std::time::Duration;

use skyhold::prelude::*;
use skyhold::{Event, Events};
use tokio::net::TcpListener;

use super::{Counter, CounterHandle, Folder, open, shown};
use crate::raw::{has_peers, refusal, soon};

pub(super) async fn listening(name: &str) -> Node {
    let node = Node::builder(name).listen("127.0.0.1:0").insecure_without_secret().start().await.unwrap();
    node.service("counter", Counter::default).start().await.unwrap();
    node
}

fn at(node: &Node) -> SocketAddr {
    node.address().unwrap()
}

pub(super) async fn reload(folder: &Folder, node: &Node, more: &str) -> Vec<String> {
    let name = node.id().as_str();
    folder.write(&format!("{name}.toml"), &(open(name) + more));
    shown(&node.cluster().reload().await.unwrap())
}

async fn down(events: &mut Events) -> (NodeId, String) {
    soon("a peer that goes", async {
        loop {
            if let Event::PeerDown { peer, reason } = events.next().await.expect("the node lives") {
                return (peer, reason);
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_is_added_is_dialled_by_seed_and_by_name() {
    let folder = Folder::new();
    let (b, c) = (listening("b").await, listening("c").await);
    let a = folder.start("a.toml", &open("a")).await;
    let seed = format!("[topology]\nseeds = [\"{}\"]\n", at(&b));
    assert_eq!(
        reload(&folder, &a, &seed).await,
        [format!("topology.seeds from nothing to {} (live)", at(&b))]
    );
    has_peers(&a, 1).await;
    let both = format!("{seed}[topology.nodes]\nc = \"{}\"\na = \"127.0.0.1:1\"", at(&c));
    assert_eq!(reload(&folder, &a, &both).await.len(), 2);
    has_peers(&a, 2).await;
}

#[tokio::test]
async fn what_is_taken_away_is_not_dialled_any_more() {
    let folder = Folder::new();
    // It closes whatever comes, and so is dialled again and again.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let a = folder.start("a.toml", &format!("{}[topology]\nseeds = [\"{address}\"]", open("a"))).await;
    for _ in 0..2 {
        drop(soon("a dial", listener.accept()).await.unwrap());
    }
    reload(&folder, &a, "").await;
    // One may be under way. With pauses that double from 100 ms the next would come within a second.
    let mut dials = 0;
    while let Ok(dial) = tokio::time::timeout(Duration::from_secs(2), listener.accept()).await {
        drop(dial);
        dials += 1;
        assert!(dials < 2, "it is dialled on");
    }
    reload(&folder, &a, &format!("[topology]\nseeds = [\"{address}\"]")).await;
    drop(soon("a dial", listener.accept()).await.unwrap());
}

#[tokio::test]
async fn a_connection_stays_when_its_address_is_taken_away_or_changed() {
    let folder = Folder::new();
    let b = listening("b").await;
    let fixed = format!("[topology.nodes]\nb = \"{}\"", at(&b));
    let a = folder.start("a.toml", &(open("a") + &fixed)).await;
    has_peers(&a, 1).await;
    let mut events = a.events();
    let counter = CounterHandle::lookup(&a, "counter").await.unwrap();
    for (round, more) in [(1, "[topology.nodes]\nb = \"127.0.0.1:1\""), (2, ""), (3, &*fixed)] {
        assert_eq!(reload(&folder, &a, more).await.len(), 1);
        assert_eq!(counter.add(1).await, Ok(round));
    }
    tokio::task::yield_now().await;
    let came = std::iter::from_fn(|| futures_util::FutureExt::now_or_never(events.next()).flatten());
    assert_eq!(came.count(), 0);
    assert_eq!((a.peers().len(), b.peers().len()), (1, 1));
}

#[tokio::test]
async fn a_node_that_is_turned_off_is_closed_and_refused_until_it_is_turned_on() {
    let folder = Folder::new();
    let b = listening("b").await;
    let fixed = format!("[topology.nodes]\nb = \"{}\"", at(&b));
    let a = folder.start("a.toml", &(open("a") + &fixed)).await;
    has_peers(&a, 1).await;
    let counter = CounterHandle::lookup(&a, "counter").await.unwrap();
    counter.add(1).await.unwrap();
    let (mut at_a, mut at_b) = (a.events(), b.events());

    let off = "[topology.nodes]\nb = false";
    assert_eq!(reload(&folder, &a, off).await, [format!("topology.nodes.b from {} to false (live)", at(&b))]);
    let why = "the node is turned off by the configuration";
    assert_eq!(down(&mut at_a).await.1, format!("closed by this node: {why}"));
    assert_eq!(down(&mut at_b).await.1, format!("the peer said goodbye: {why}"));
    // At once: nobody waits for it to come back.
    let error = soon("an answer", async {
        loop {
            match counter.add(1).await {
                Err(error @ CallError::NoRoute(_)) => return error,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert!(!error.may_have_run());

    // Neither of the two gets through. A third one, which knows both, introduces them in vain.
    let seed = at(&a).to_string();
    let z = Node::builder("z")
        .listen("127.0.0.1:0")
        .seed(seed)
        .seed(at(&b).to_string())
        .insecure_without_secret();
    let z = z.start().await.unwrap();
    has_peers(&z, 2).await;
    let other = Node::builder("b").seed(at(&a).to_string()).insecure_without_secret().start().await.unwrap();
    assert_eq!(refusal(&mut other.events()).await, format!("refused by the peer, in its words: {why}"));
    other.shutdown().await.unwrap();
    assert_eq!(a.peers().len(), 1);

    reload(&folder, &a, &fixed).await;
    has_peers(&a, 2).await;
    let counter = CounterHandle::lookup(&a, "counter").await.unwrap();
    counter.total().await.unwrap();
}
