//! What a provider does wrongly concerns nobody.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::{Cluster, Names};
use skyhold::{AskingNode, Discovery, DiscoveryFuture, StartError};
use tracing::Level;

use super::{Answer, Told, peers, wait};
use crate::logged::Logged;

#[tokio::test(start_paused = true)]
async fn an_error_a_panic_and_silence_keep_what_was_found() {
    for answer in [
        Answer::Fails("no such region".to_owned()),
        Answer::Panics,
        Answer::Hangs,
        Answer::Found(vec!["10.0.0.9:7000".to_owned(), "nonsense".to_owned()]),
    ] {
        let told = Told::default();
        told.finds("n0", &["10.0.0.2:7000"]);
        let asked = told.clone();
        let mut cluster = Cluster::without_seeds(move |node| node.discover(asked.clone()));
        cluster.add().await;
        wait(15).await;
        told.node("n0", answer);
        wait(60).await;
        cluster.add().await;
        cluster.connected().await;
        // And it is asked on.
        told.finds("n0", &["10.0.0.3:7000"]);
        wait(30).await;
        cluster.add().await;
        cluster.connected().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_from_the_beginning_does_not_keep_another_from_finding() {
    let [good, panics, hangs] = [(); 3].map(|()| Told::default());
    panics.node("n0", Answer::Panics);
    hangs.node("n0", Answer::Hangs);
    good.finds("n0", &["10.0.0.2:7000"]);
    let mut cluster = Cluster::without_seeds(move |node| {
        node.discover(panics.clone()).discover(hangs.clone()).discover(good.clone())
    });
    cluster.add().await;
    cluster.add().await;
    cluster.connected().await;
    // Nor does it hold the end up.
    let began = tokio::time::Instant::now();
    cluster[0].shutdown().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_fails_keeps_the_last_answer_and_is_logged_once() {
    let warnings =
        Logged::new(|metadata| *metadata.level() <= Level::WARN && metadata.target().contains("seeker"));
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let names = Names::new();
    let dns = names.dns("peers.local:7000");
    let mut cluster = Cluster::without_seeds(move |node| match node {
        node if format!("{node:?}").contains("\"n0\"") => node.discover(dns.clone()),
        node => node,
    });
    cluster.add().await;
    wait(60).await;
    assert_eq!(warnings.count(), 1, "the name is not known yet");
    names.set("peers.local", ["10.0.0.2"]);
    wait(30).await;
    for round in 2..4 {
        names.remove("peers.local");
        wait(60).await;
        assert_eq!(warnings.count(), round);
        names.set("peers.local", if round == 2 { vec!["10.0.0.2"] } else { vec![] });
        wait(30).await;
    }
    assert_eq!(warnings.count(), 4, "a name without addresses is another error");
    cluster.add().await;
    cluster.connected().await;
}

/// Writes down what it is told.
#[derive(Debug, Clone, Default)]
struct Register(Arc<Mutex<Vec<String>>>);

impl Register {
    fn said(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn add(&self, what: String) -> DiscoveryFuture<'_, ()> {
        Box::pin(async move {
            self.0.lock().unwrap().push(what);
            Ok(())
        })
    }
}

impl Discovery for Register {
    fn find<'a>(&'a self, _node: &'a AskingNode) -> DiscoveryFuture<'a, Vec<String>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn pause(&self, usual: Duration) -> Duration {
        usual * 3
    }

    fn announce<'a>(&'a self, node: &'a AskingNode, address: SocketAddr) -> DiscoveryFuture<'a, ()> {
        self.add(format!("{}/{} at {address}", node.cluster, node.id))
    }

    fn withdraw<'a>(&'a self, node: &'a AskingNode) -> DiscoveryFuture<'a, ()> {
        self.add(format!("not {}", node.id))
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_listens_is_announced_for_as_long_as_it_lives() {
    let register = Register::default();
    let given = register.clone();
    let mut cluster = Cluster::without_seeds(move |node| {
        node.cluster("shop").discovery_interval(Duration::from_secs(2)).discover(given.clone())
    });
    cluster.add().await;
    wait(15).await;
    assert_eq!(register.said(), ["shop/n0 at 10.0.0.1:7000"; 3], "at 0 s, 6 s and 12 s");
    cluster[0].shutdown().await.unwrap();
    wait(60).await;
    assert_eq!(register.said(), ["not n0"]);

    // One that dies does not get to it; one that does not listen is not announced.
    cluster.add().await;
    wait(1).await;
    cluster.kill(1).await;
    assert_eq!(register.said(), ["shop/n1 at 10.0.0.2:7000"]);
    let silent =
        Node::builder("silent").insecure_without_secret().discover(register.clone()).start().await.unwrap();
    wait(60).await;
    silent.shutdown().await.unwrap();
    assert_eq!(register.said(), [""; 0]);
    assert_eq!(peers(&silent), [""; 0]);
}

#[tokio::test]
async fn a_node_that_looks_for_peers_needs_a_secret_and_an_interval() {
    let builder = || Node::builder("a").discover(Told::default());
    let refused = |error| match error {
        StartError::InvalidSetting { setting, .. } => setting,
        error => panic!("{error}"),
    };
    assert_eq!(refused(builder().start().await.err().unwrap()), "secret");
    let never = builder().insecure_without_secret().discovery_interval(Duration::ZERO);
    assert_eq!(refused(never.start().await.err().unwrap()), "discovery_interval");
}
