//! Holders that go and come back, networks that break, and nodes that were told different things.

use skyhold::{Access, Event, Events};

use super::*;
use crate::discovery::etcd::Server;
use crate::raw::has_peers;

/// Waits until a node has lost, or has, so many peers.
async fn until_peers(node: &Node, count: usize) {
    let mut events = node.events();
    while node.peers().len() != count {
        events.next().await.unwrap();
    }
}

async fn went_back(events: &mut Events) -> (u64, u64) {
    loop {
        if let Event::ConfigWentBack { from, to, .. } = events.next().await.unwrap() {
            return (from, to);
        }
    }
}

fn away() -> CentralError {
    CentralError::HolderAway { holder: NodeId::new("n0").unwrap() }
}

#[tokio::test(start_paused = true)]
async fn while_the_holder_is_away_reads_go_on_and_writes_are_refused() {
    let mut cluster = Held::new().cluster(3).await;
    let version = cluster[1].config().set("key", &1).await.unwrap();
    all_reach(&cluster, "key", 1).await;
    cluster.kill(0).await;
    until_peers(&cluster[1], 1).await;
    until_peers(&cluster[2], 1).await;
    for config in [cluster[1].config(), cluster[2].config()] {
        assert_eq!(config.get::<u8>("key").unwrap().unwrap().value, 1);
        assert_eq!(config.watch::<u8>("key").await.unwrap().version(), version);
        assert_eq!(config.set("key", &2).await, Err(away()));
        assert_eq!(config.delete("key").await, Err(away()));
        assert_eq!(config.history("key").await, Err(away()));
        assert_eq!(config.rollback("key", version).await, Err(away()));
    }
    // It comes back with what it had, and goes on.
    cluster.restart(0).await;
    assert_eq!(version, super::version(&cluster[0], "key"));
    assert_eq!(history(&cluster[2], "key").await, texts(&["1"]));
    let next = cluster[2].config().set("key", &2).await.unwrap();
    assert!(next > version);
    all_reach(&cluster, "key", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_does_not_come_says_that_nobody_knows() {
    let cluster = Held::new().cluster(2).await;
    cluster.partition(&[0], &[1]).await;
    assert!(cluster.is_partitioned(0, 1));
    let error = cluster[1].config().set("key", &1).await.unwrap_err();
    assert!(matches!(&error, CentralError::Unconfirmed { key, .. } if key == "key"), "{error}");
    assert_eq!(cluster[1].config().get::<u8>("key").unwrap(), None);
    assert_eq!(cluster[1].config().set("key", &1).await, Err(away()), "by now it is known to be away");
}

#[tokio::test(start_paused = true)]
async fn what_was_confirmed_is_there_after_any_death_of_the_holder() {
    let mut cluster = Held::new().cluster(3).await;
    cluster[1].config().set("count", &0_u64).await.unwrap();
    let writer = cluster[1].clone();
    let (done, mut is_done) = tokio::sync::watch::channel(0_u64);
    let writing = tokio::spawn(async move {
        let (config, mut unknown) = (writer.config(), 0_u64);
        while *done.borrow() < 60 {
            let now = config.get::<u64>("count").unwrap().unwrap();
            match config.compare_and_set("count", now.version, &(now.value + 1)).await {
                Ok(_) => done.send_modify(|done| *done += 1),
                Err(CentralError::Unconfirmed { .. }) => unknown += 1,
                Err(CentralError::HolderAway { .. } | CentralError::Conflict { .. }) => {
                    tokio::time::sleep(Duration::from_millis(10)).await; // the clock is paused
                }
                Err(error) => panic!("{error}"),
            }
        }
        unknown
    });
    for life in 1..=5 {
        is_done.wait_for(|done| *done >= life * 10).await.unwrap();
        cluster.kill(0).await;
        cluster.restart(0).await;
    }
    let unknown = writing.await.unwrap();
    cluster[0].config().ready().await.unwrap();
    let count = cluster[0].config().get::<u64>("count").unwrap().unwrap().value;
    assert!((60..=60 + unknown).contains(&count), "{count} of 60 and at most {unknown} more");
    all_reach(&cluster, "count", count).await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_with_followers_shuts_down_in_order() {
    let cluster = Held::new().cluster(3).await;
    cluster[1].config().set("key", &1).await.unwrap();
    all_reach(&cluster, "key", 1).await;
    let began = tokio::time::Instant::now();
    cluster[0].shutdown().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(cluster[1].config().set("key", &2).await, Err(away()));
    assert_eq!(
        cluster[0].config().set("key", &2).await,
        Err(CentralError::NodeStopped(cluster[0].id().clone()))
    );
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_or_comes_late_is_brought_up_to_date() {
    let mut cluster = Held::new().cluster(3).await;
    cluster[0].config().set("old", &1).await.unwrap();
    all_reach(&cluster, "old", 1).await;
    cluster.partition(&[0, 1], &[2]).await;
    until_peers(&cluster[2], 0).await;
    until_peers(&cluster[0], 1).await;
    assert_eq!(cluster[2].config().set("key", &0).await, Err(away()));
    for number in 0..20 {
        cluster[1].config().set("key", &number).await.unwrap();
    }
    cluster[0].config().delete("old").await.unwrap();
    assert_eq!(cluster[2].config().get::<u8>("old").unwrap().unwrap().value, 1, "from memory");
    cluster.heal().await;
    all_reach(&cluster, "key", 19).await;
    all_reach(&cluster, "old", Value::Null).await;
    cluster.restart(2).await;
    all_reach(&cluster, "key", 19).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_without_the_holder_waits_for_nothing_and_says_that_it_knows_nothing() {
    let held = Held::new();
    let node = Node::builder("n1").config_holder("n0").config_path(held.file()).start().await.unwrap();
    let config = node.config();
    let unknown = || CentralError::Unknown(node.id().clone());
    assert_eq!(config.get::<u8>("key").unwrap_err(), unknown());
    assert_eq!(config.list("").unwrap_err(), unknown());
    assert_eq!(config.watch::<u8>("key").await.unwrap_err(), unknown());
    let began = tokio::time::Instant::now();
    let setting = config.watch("key").or(7_u8).await.unwrap();
    assert_eq!((*setting.get(), setting.version()), (7, Version::NONE));
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert_eq!(config.set("key", &1).await, Err(away()));
    assert!(!held.file().exists(), "it is the holder's");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_began_before_the_holder_came_gets_its_value() {
    let held = Held::new();
    let before = held.tell(Node::builder("n0")).start().await.unwrap();
    before.config().set("key", &3).await.unwrap();
    before.shutdown().await.unwrap();
    let mut cluster = Cluster::start_with(2, move |node| held.tell(node)).await;
    cluster.kill(0).await;
    cluster.kill(1).await;
    // It starts while the holder is away.
    let late = tokio::spawn(async move {
        cluster.restart(1).await;
        cluster
    });
    let mut cluster = late.await.unwrap();
    let mut setting = cluster[1].config().watch("key").or(0_u8).await.unwrap();
    assert_eq!(*setting.get(), 0);
    cluster.restart(0).await;
    assert_eq!(*setting.changed().await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_told_nothing_says_so() {
    let node = Node::builder("a").start().await.unwrap();
    let config = node.config();
    let nobody = || CentralError::NoHolder(node.id().clone());
    assert_eq!(config.get::<u8>("key").unwrap_err(), nobody());
    assert_eq!(config.set("key", &1).await, Err(nobody()));
    assert_eq!(config.history("key").await, Err(nobody()));
    assert_eq!(config.watch::<u8>("key").await.unwrap_err(), nobody());
    assert_eq!(*config.watch("key").or(1_u8).await.unwrap().get(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_holders_refuse_to_go_apart() {
    let held = Held::new();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let cluster = Cluster::start_with(3, move |node| {
        // The second node believes that it is the holder, and the third one has heard of none.
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => held.tell(node),
            1 => node.config_holder("n1").config_path(held.file().with_extension("other")),
            _ => node,
        }
    });
    let cluster = cluster.await;
    for (index, here, there) in [(0, "node n0", "node n1"), (1, "node n1", "node n0")] {
        let node = NodeId::new(&there["node ".len()..]).unwrap();
        let expected = CentralError::Disagreement { node, here: here.to_owned(), there: there.to_owned() };
        assert_eq!(cluster[index].config().set("key", &1).await, Err(expected));
        assert_eq!(cluster[index].config().get::<u8>("key").unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_one_that_is_no_holder_is_told_so() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let cluster =
        Cluster::start_with(2, move |node| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => node,
            _ => node.config_holder("n0"),
        });
    let error = cluster.await[1].config().set("key", &1).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "node n0 was asked as the holder of the central configuration, and was told that it is kept by nobody"
    );
}

#[tokio::test(start_paused = true)]
async fn rules_of_access_say_who_may_write_and_follow() {
    let held = Held::new();
    let cluster = Cluster::start_with(4, move |node| {
        let service = "skyhold/config";
        let access = Access::open().allow("n0", service).allow("n1", service);
        held.tell(node).access(access.allow_methods("n3", service, ["follow", "history"]))
    });
    let cluster = cluster.await;
    cluster[1].config().set("key", &1).await.unwrap();
    reaches(&mut watch(&cluster[1], "key").await, 1).await;
    let error = cluster[2].config().set("key", &2).await.unwrap_err();
    assert!(matches!(error, CentralError::Denied(_)), "{error}");
    reaches(&mut watch(&cluster[3], "key").await, 1).await;
    assert_eq!(history(&cluster[3], "key").await, texts(&["1"]));
    let error = cluster[3].config().set("key", &2).await.unwrap_err();
    assert!(matches!(error, CentralError::Denied(_)), "{error}");
    assert_eq!(
        cluster[2].config().get::<u8>("key").unwrap_err(),
        CentralError::Unknown(cluster[2].id().clone())
    );
}

#[tokio::test(start_paused = true)]
async fn an_older_file_is_in_force_and_is_told_and_no_version_is_given_out_twice() {
    let held = Held::new();
    let mut cluster = held.cluster(3).await;
    let old = cluster[1].config().set("key", &1).await.unwrap();
    std::fs::copy(held.file(), held.file().with_extension("copy")).unwrap();
    let mut last = old;
    for number in 2..=5 {
        last = cluster[1].config().set("key", &number).await.unwrap();
    }
    all_reach(&cluster, "key", 5).await;
    let mut settings = [watch(&cluster[1], "key").await, watch(&cluster[2], "key").await];
    let mut events = [cluster[1].events(), cluster[2].events()];
    cluster.kill(0).await;
    std::fs::rename(held.file().with_extension("copy"), held.file()).unwrap();
    cluster.restart(0).await;
    for events in &mut events {
        assert_eq!(went_back(events).await, (last.0, old.0));
    }
    for setting in &mut settings {
        reaches(setting, 1).await;
        assert_eq!(setting.version(), old);
    }
    // Who has seen the last one does not overwrite this one, and new versions are new.
    let conflict = cluster[2].config().compare_and_set("key", last, &6).await.unwrap_err();
    assert_eq!(conflict, CentralError::Conflict { key: "key".to_owned(), expected: last, present: old });
    assert!(cluster[2].config().compare_and_set("key", old, &6).await.unwrap() > last);
    all_reach(&cluster, "key", 6).await;
}

/// In real time, over sockets.
#[tokio::test]
async fn a_cluster_from_files_is_told_by_its_files() {
    let folder = crate::config::Folder::new();
    let config = "[config]\nholder = \"a\"\npath = \"skyhold.settings\"\n";
    let a = folder.start("a.toml", &(crate::config::open("a") + config)).await;
    let seeds = format!("[topology]\nseeds = [\"{}\"]\n", a.address().unwrap());
    let b = folder.start("b.toml", &(crate::config::open("b") + &seeds + config)).await;
    has_peers(&b, 1).await;
    b.config().set("key", &1).await.unwrap();
    reaches(&mut watch(&a, "key").await, 1).await;
    assert!(folder.path("skyhold.settings").exists(), "the path begins where the file is");
    let nowhere = "[node]\nname = \"a\"\n[config]\npath = \"nowhere/x\"\nholder = \"a\"\n";
    let error = folder.start_error("c.toml", nowhere).await;
    let path = folder.path("nowhere/x");
    assert!(
        error.starts_with(&format!("{}: the central configuration cannot be read: ", path.display())),
        "{error}"
    );
    let error = folder.builder("d.toml", "[node]\nname = \"a\"\n[config]\nholder = \"a\"\n").unwrap_err();
    assert!(
        error.to_string().contains("`config.path` is missing; node a holds the configuration"),
        "{error}"
    );
}

/// In real time, as etcd is.
#[tokio::test]
async fn while_etcd_is_away_reads_go_on_and_writes_are_refused() {
    let Some(mut server) = Server::start().await else { return };
    let endpoint = server.endpoint.clone();
    let cluster = Cluster::start_with(2, move |node| node.config_etcd([endpoint.clone()])).await;
    cluster[1].config().ready().await.unwrap();
    cluster[1].config().set("key", &1).await.unwrap();
    all_reach(&cluster, "key", 1).await;
    server.kill().await;
    let config = cluster[1].config();
    for error in [config.set("key", &2).await.unwrap_err(), config.history("key").await.unwrap_err()] {
        assert!(
            matches!(&error, CentralError::Registry { problem } if problem.contains(&server.endpoint)),
            "{error}"
        );
    }
    assert_eq!(config.get::<u8>("key").unwrap().unwrap().value, 1);
    let late = Node::builder("late").config_etcd([server.endpoint.clone()]).start().await.unwrap();
    assert_eq!(late.config().get::<u8>("key").unwrap_err(), CentralError::Unknown(late.id().clone()));
    server.again().await;
    config.set("key", &3).await.unwrap();
    all_reach(&cluster, "key", 3).await;
    // This one is connected with nobody, and looks by itself.
    late.config().ready().await.unwrap();
    let mut alone = watch(&late, "key").await;
    reaches(&mut alone, 3).await;
    config.set("key", &4).await.unwrap();
    reaches(&mut alone, 4).await;
    // What somebody takes out of etcd is gone.
    server.take_out("skyhold/default/config/now/key").await;
    reaches(&mut alone, Value::Null).await;
    all_reach(&cluster, "key", Value::Null).await;
}
