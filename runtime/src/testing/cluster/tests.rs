//! What nodes do with each other that their users do not see, over the network in memory.

use crate::cluster::coordinator::{Command, Register, withdraw};
use crate::cluster::directory::Traits;
use crate::cluster::withdrawal::Withdraw;
use crate::id::InstanceId;

use super::*;

const LIMIT: Duration = Duration::from_secs(2);

/// Three nodes; the first has the name `x`, and all know it.
async fn scene() -> Cluster {
    let cluster = Cluster::start(3).await;
    register(&cluster[0], "x").await;
    for index in 0..3 {
        let mut changes = cluster[index].inner().names.changes();
        while !knows(&cluster[index], "x") {
            changes.changed().await.unwrap();
        }
    }
    cluster
}

async fn register(node: &Node, name: &str) {
    let (done, is_done) = tokio::sync::oneshot::channel();
    let (instances, traits) = (vec![InstanceId(1)], Traits::default());
    let register = Register { name: name.into(), interface: "I", instances, traits, done };
    node.inner().register.send(Command::Register(register)).await.unwrap();
    is_done.await.unwrap();
}

fn knows(node: &Node, name: &str) -> bool {
    !node.inner().names.current().candidates(name).is_empty()
}

async fn withdraw_all(node: &Node) -> bool {
    withdraw(&node.inner().register, Withdraw::All, LIMIT).await
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_returns_only_after_all_peers_have_published_it() {
    let cluster = scene().await;
    let way = Duration::from_millis(100);
    cluster.delay(way).await;
    let begin = time::now();
    let wait = withdraw_all(&cluster[0]);
    let before = async {
        time::sleep(way / 2).await;
        knows(&cluster[1], "x") && knows(&cluster[2], "x")
    };
    let (all, knew_before) = futures_util::join!(wait, before);
    assert!(knew_before, "the news takes its time");
    assert!(all && !knows(&cluster[1], "x") && !knows(&cluster[2], "x"));
    assert!(knows(&cluster[0], "x"), "the node itself still has it");
    let took = time::now() - begin;
    assert!(took >= 2 * way && took < 3 * way, "{took:?}");

    register(&cluster[0], "later").await;
    time::sleep(2 * way).await;
    assert!(knows(&cluster[0], "later") && !knows(&cluster[1], "later"), "what comes later stays here");
}

#[tokio::test(start_paused = true)]
async fn a_paused_peer_holds_a_withdrawal_no_longer_than_its_limit() {
    let cluster = scene().await;
    cluster.pause(2).await;
    assert!(cluster.is_paused(2));
    let begin = time::now();
    assert!(!withdraw_all(&cluster[0]).await);
    let took = time::now() - begin;
    assert!(took >= LIMIT && took < LIMIT + Duration::from_millis(100), "{took:?}");
    assert!(!knows(&cluster[1], "x") && knows(&cluster[2], "x"), "one has heard of it and one cannot");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_during_a_withdrawal_is_no_obstacle() {
    let cluster = scene().await;
    cluster.pause(2).await;
    assert!(cluster.is_paused(2));
    let begin = time::now();
    let goes = async {
        time::sleep(LIMIT / 2).await;
        cluster.kill(2).await;
    };
    let (all, ()) = futures_util::join!(withdraw_all(&cluster[0]), goes);
    let took = time::now() - begin;
    assert!(all && took >= LIMIT / 2 && took < LIMIT, "{all}, {took:?}");
}
