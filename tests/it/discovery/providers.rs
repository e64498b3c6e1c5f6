//! What is found is dialled, and what is not found any more is not.

use std::fmt::Write as _;

use skyhold::testing::{Cluster, Names};
use skyhold::{AddressFile, FixedList};
use tempfile::TempDir;

use super::{INTERVAL, Told, peers, refusals, wait};

#[tokio::test(start_paused = true)]
async fn nodes_that_all_have_one_list_find_each_other() {
    let list = FixedList::new(["n0:7000", "n1:7000", "10.0.0.3:7000", "n3:7000"]);
    let mut cluster = Cluster::without_seeds(move |node| node.discover(list.clone()));
    for _ in 0..3 {
        cluster.add().await;
    }
    cluster.connected().await;
    // One that comes later.
    wait(60).await;
    cluster.add().await;
    cluster.connected().await;
    assert_eq!(peers(&cluster[3]), ["n0", "n1", "n2"]);
}

#[tokio::test(start_paused = true)]
async fn the_nodes_own_address_is_not_dialled_for_ever() {
    // The host's own name, an address of its own that it does not know for its own, and the one that it does.
    let told = Told::default();
    told.finds("n0", &["n0:7000", "127.0.0.1:7000", "10.0.0.1:7000"]);
    let mut cluster = Cluster::without_seeds(move |node| node.discover(told.clone()));
    cluster.add().await;
    let mut events = cluster[0].events();
    let itself = |reason: &&String| reason.ends_with("the peer is this node itself");
    wait(5).await;
    let first = refusals(&mut events);
    assert_eq!(
        first.iter().filter(itself).count(),
        4,
        "the name and the first address, as both sides tell it: {first:?}"
    );
    wait(595).await;
    let later = refusals(&mut events);
    // A name may lead elsewhere the next time, so it is tried once a minute.
    let tries = later.iter().filter(itself).count();
    assert!((2..=20).contains(&tries), "{tries}: {later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_connected_itself_is_not_dialled_on_and_on() {
    // Of two nodes that dial each other the dial of n0 lives, and n1 does not know where n0 listens but by another name.
    let told = Told::default();
    told.finds("n0", &["n1:7000"]);
    told.finds("n1", &["n0:7000"]);
    let mut cluster = Cluster::without_seeds(move |node| node.discover(told.clone()));
    cluster.add().await;
    cluster.add().await;
    cluster.connected().await;
    let mut events = cluster[1].events();
    wait(600).await;
    assert_eq!(peers(&cluster[1]), ["n0"]);
    assert_eq!(refusals(&mut events), [""; 0], "a duplicate is no event");
    let ended: u64 = cluster[1].counters().ended_connections.refused;
    assert!(ended <= 12, "{ended} dials were refused");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_grows_and_shrinks_is_followed_by_dns() {
    let names = Names::new();
    let dns = names.dns("skyhold.default.svc:7000");
    names.set("skyhold.default.svc", ["10.0.0.1", "10.0.0.2"]);
    let mut cluster = Cluster::without_seeds(move |node| node.discover(dns.clone()));
    cluster.add().await;
    cluster.add().await;
    cluster.connected().await;

    // It grows, and is followed by those who are there and by who comes.
    names.set("skyhold.default.svc", ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    cluster.add().await;
    cluster.connected().await;

    // It shrinks: the connections stand, and nobody is missed while they do.
    names.set("skyhold.default.svc", ["10.0.0.1"]);
    wait(60).await;
    assert_eq!(peers(&cluster[0]), ["n1", "n2"]);
    cluster.kill(2).await;
    wait(600).await;
    assert_eq!(peers(&cluster[0]), ["n1"]);
    let looked_up = names.lookups();
    wait(100).await;
    assert_eq!(names.lookups() - looked_up, 20, "each of two nodes every ten seconds");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_found_any_more_is_not_dialled_any_more() {
    let told = Told::default();
    told.finds("n0", &["10.0.0.3:7000"]);
    let asked = told.clone();
    let mut cluster = Cluster::without_seeds(move |node| node.discover(asked.clone()));
    cluster.add().await;
    cluster.add().await;
    wait(30).await;
    told.finds("n0", &[]);
    wait(2 * INTERVAL.as_secs()).await;
    // It comes when nobody looks for it any more, and looks for nobody.
    cluster.add().await;
    wait(60).await;
    assert_eq!(peers(&cluster[2]), [""; 0]);
    told.finds("n0", &["10.0.0.3:7000"]);
    wait(2 * INTERVAL.as_secs()).await;
    assert_eq!(peers(&cluster[2]), ["n0"]);
}

#[tokio::test(start_paused = true)]
async fn what_one_provider_does_not_find_any_more_counts_if_another_one_finds_it() {
    let (one, other) = (Told::default(), Told::default());
    for told in [&one, &other] {
        told.finds("n0", &["10.0.0.2:7000"]);
    }
    let both = [one.clone(), other.clone()];
    let mut cluster =
        Cluster::without_seeds(move |node| node.discover(both[0].clone()).discover(both[1].clone()));
    cluster.add().await;
    wait(30).await;
    one.finds("n0", &[]);
    wait(30).await;
    cluster.add().await;
    cluster.connected().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_is_followed_and_one_that_cannot_be_used_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("peers");
    let write = |content: &str| std::fs::write(&path, content).unwrap();
    let told = AddressFile::new(&path);
    let mut cluster = Cluster::without_seeds(move |node| match node {
        // The others only listen.
        node if format!("{node:?}").contains("\"n0\"") => node.discover(told.clone()),
        node => node,
    });
    write("# nobody yet\n");
    cluster.add().await;
    cluster.add().await;
    wait(60).await;
    assert_eq!(peers(&cluster[0]), [""; 0]);
    write("n1:7000 # the second\n");
    wait(2 * INTERVAL.as_secs()).await;
    assert_eq!(peers(&cluster[0]), ["n1"]);

    // Half of a file, no file, and too much of one: what was read before counts on, also for who comes only then.
    let mut lines = "n1:7000\n10.0.0.3:7000\n".to_owned();
    write(&lines);
    wait(2 * INTERVAL.as_secs()).await;
    write("n1:7000\n10.0.0.3:");
    wait(2 * INTERVAL.as_secs()).await;
    std::fs::remove_file(&path).unwrap();
    wait(2 * INTERVAL.as_secs()).await;
    for _ in 0..100_000 {
        writeln!(lines, "n1:7000").unwrap();
    }
    lines.extend(std::iter::repeat_n('#', 1024 * 1024));
    write(&lines);
    wait(2 * INTERVAL.as_secs()).await;
    cluster.add().await;
    cluster.connected().await;
}
