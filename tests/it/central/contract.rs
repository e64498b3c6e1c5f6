//! What is promised wherever the configuration is kept: each of these runs with a holder and, where it is installed, with etcd.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;
use crate::discovery::etcd::Server;

/// Runs a part of the contract on clusters of so many nodes, for each place.
async fn everywhere(nodes: usize, part: impl AsyncFn(&Cluster)) {
    let bounds = |node: NodeBuilder| {
        node.config_history(3).config_max_keys(4).config_max_value(100).config_max_total(400)
    };
    let held = Held::new();
    let cluster = Cluster::start_with(nodes, {
        let held = held.clone();
        move |node| bounds(held.tell(node))
    });
    let cluster = cluster.await;
    ready(&cluster).await;
    part(&cluster).await;
    let Some(server) = Server::start().await else { return };
    let endpoints = ["127.0.0.1:1".to_owned(), server.endpoint.clone()];
    let cluster = Cluster::start_with(nodes, move |node| bounds(node.config_etcd(endpoints.clone()))).await;
    ready(&cluster).await;
    part(&cluster).await;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Match {
    players: u32,
    zones: BTreeMap<String, f64>,
    note: Option<String>,
}

#[tokio::test]
async fn a_value_that_is_set_on_one_node_is_read_on_all() {
    everywhere(3, async |cluster| {
        let zones = BTreeMap::from([("eu".to_owned(), 0.5)]);
        let value = Match { players: 8, zones, note: None };
        let first = cluster[1].config().set("match/maker", &value).await.unwrap();
        let found = cluster[1].config().get::<Match>("match/maker").unwrap().unwrap();
        assert_eq!((&found.value, found.version), (&value, first), "who has set it reads it");
        let json = serde_json::json!({ "players": 8, "zones": { "eu": 0.5 } });
        all_reach(cluster, "match/maker", json).await;
        let text = cluster[2].config().get_text("match/maker").unwrap().unwrap();
        assert_eq!(text.value.as_deref(), Some("players = 8\n\n[zones]\neu = 0.5\n"));
        assert_eq!((text.by.as_str(), text.version), ("n1", first));
        assert!(text.at.elapsed().unwrap().as_secs() < 600, "{:?}", text.at);
        // Texts stay as they are, and versions go up over all keys.
        let second = cluster[0].config().set_text("b", " 8 # of them").await.unwrap();
        let third = cluster[2].config().set("a", "eu").await.unwrap();
        assert!(Version::NONE < first && first < second && second < third);
        assert_eq!(
            cluster[0].config().get_text("b").unwrap().unwrap().value.as_deref(),
            Some(" 8 # of them")
        );
        assert_eq!(cluster[2].config().get::<String>("a").unwrap().unwrap().value, "eu");
        let keys = |prefix: &str| -> Vec<String> {
            let listed = cluster[2].config().list(prefix).unwrap();
            listed.into_iter().map(|setting| setting.key).collect()
        };
        assert_eq!(keys(""), ["a", "b", "match/maker"]);
        assert_eq!(keys("match"), ["match/maker"]);
        assert_eq!(cluster[1].config().get::<u8>("nothing").unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn who_expects_another_version_is_told_the_present_one() {
    everywhere(2, async |cluster| {
        let config = cluster[1].config();
        let first = config.compare_and_set("key", Version::NONE, &1).await.unwrap();
        let conflict =
            |expected, present| Err(CentralError::Conflict { key: "key".to_owned(), expected, present });
        assert_eq!(config.compare_and_set("key", Version::NONE, &2).await, conflict(Version::NONE, first));
        let second = config.compare_and_set("key", first, &2).await.unwrap();
        assert_eq!(config.compare_and_set("key", first, &3).await, conflict(first, second));
        assert_eq!(config.get::<u8>("key").unwrap().unwrap().value, 2);
        config.delete("key").await.unwrap();
        assert_eq!(config.compare_and_set("key", second, &3).await, conflict(second, Version::NONE));
        let third = config.compare_and_set("key", Version::NONE, &3).await.unwrap();
        assert!(third > second);
    })
    .await;
}

#[tokio::test]
async fn eight_nodes_that_count_by_compare_and_set_lose_nothing() {
    everywhere(8, async |cluster| {
        cluster[0].config().set("count", &0).await.unwrap();
        let count = async |node: Node| {
            let config = node.config();
            let mut done = 0;
            while done < 5 {
                let Ok(Some(now)) = config.get::<u64>("count") else { panic!("it is set") };
                match config.compare_and_set("count", now.version, &(now.value + 1)).await {
                    Ok(_) => done += 1,
                    Err(CentralError::Conflict { present, .. }) => {
                        // Somebody was faster: wait until that is here.
                        let mut setting = watch(&node, "count").await;
                        while setting.version() < present {
                            setting.changed().await.unwrap();
                        }
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        for index in 1..cluster.len() {
            reaches(&mut watch(&cluster[index], "count").await, 0).await;
        }
        let nodes = (0..cluster.len()).map(|index| count(cluster[index].clone()));
        futures_util::future::join_all(nodes).await;
        all_reach(cluster, "count", 40).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_deleted_can_be_rolled_back_and_what_is_deleted_twice_is_not_set() {
    everywhere(2, async |cluster| {
        let (config, mut other) = (cluster[1].config(), watch(&cluster[0], "key").await);
        let not_set = || Err(CentralError::NotSet { key: "key".to_owned() });
        assert_eq!(config.delete("key").await, not_set());
        let first = config.set("key", "one").await.unwrap();
        reaches(&mut other, "one").await;
        let deleted = config.delete("key").await.unwrap();
        assert!(deleted > first);
        assert_eq!(config.get::<String>("key").unwrap(), None);
        reaches(&mut other, Value::Null).await;
        assert_eq!(other.version(), Version::NONE);
        assert_eq!(config.delete("key").await, not_set());
        assert_eq!(history(&cluster[0], "key").await, [None, Some("\"one\"".to_owned())]);

        let back = config.rollback("key", first).await.unwrap();
        assert!(back > deleted);
        reaches(&mut other, "one").await;
        assert_eq!(other.version(), back);
        // Back to where it was deleted.
        config.rollback("key", deleted).await.unwrap();
        reaches(&mut other, Value::Null).await;
    })
    .await;
}

#[tokio::test]
async fn as_many_versions_are_kept_as_the_bound_says() {
    everywhere(2, async |cluster| {
        let config = cluster[1].config();
        assert_eq!(history(&cluster[0], "key").await, []);
        let mut versions = Vec::new();
        for number in 1..=5 {
            versions.push(config.set("key", &number).await.unwrap());
        }
        assert_eq!(history(&cluster[0], "key").await, texts(&["5", "4", "3"]));
        let kept: Vec<_> = config
            .history("key")
            .await
            .unwrap()
            .iter()
            .map(|past| (past.version, past.by.to_string()))
            .collect();
        let expected: Vec<_> =
            versions[2..].iter().rev().map(|version| (*version, "n1".to_owned())).collect();
        assert_eq!(kept, expected);
        let gone = CentralError::NoVersion { key: "key".to_owned(), version: versions[0] };
        assert_eq!(config.rollback("key", versions[0]).await, Err(gone));
        config.rollback("key", versions[2]).await.unwrap();
        assert_eq!(history(&cluster[0], "key").await, texts(&["3", "5", "4"]));
        assert_eq!(config.get::<u8>("key").unwrap().unwrap().value, 3);
    })
    .await;
}

#[tokio::test]
async fn bounds_are_kept_and_told() {
    everywhere(2, async |cluster| {
        let config = cluster[1].config();
        let error = async |key: &str, text: &str| config.set_text(key, text).await.unwrap_err().to_string();
        let long = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        assert_eq!(error("a", &long(101)).await, "the value for `a` has 101 bytes; at most 100 are kept");
        assert!(error("a b", "1").await.starts_with("`a b` cannot be a key: "));
        let syntax = error("a", "players = \n").await;
        assert!(
            syntax.starts_with("the value for `a` is no TOML: ") && syntax.contains("line 1"),
            "{syntax}"
        );
        assert_eq!(config.list("").unwrap(), []);
        // Room for values comes from the history before it is refused.
        for round in 0..3 {
            for key in ["a", "b", "c"] {
                config.set_text(key, long(98 + round)).await.unwrap();
            }
        }
        assert!(history(&cluster[0], "a").await.len() < 3);
        assert_eq!(
            error("d", &long(100)).await,
            "there is no room for `d`: all values would have 404 bytes; at most 400 are kept",
        );
    })
    .await;
}

#[tokio::test]
async fn a_key_takes_the_place_of_one_that_was_deleted_and_of_no_other() {
    everywhere(2, async |cluster| {
        let config = cluster[1].config();
        for key in ["a", "b", "c", "d"] {
            config.set(key, &1).await.unwrap();
        }
        let full = CentralError::TooManyKeys { key: "e".to_owned(), limit: 4 };
        assert_eq!(config.set("e", &1).await, Err(full.clone()));
        config.delete("c").await.unwrap();
        config.delete("b").await.unwrap();
        config.set("e", &1).await.unwrap();
        assert_eq!(history(&cluster[0], "c").await, [], "it was deleted first");
        assert_eq!(history(&cluster[0], "b").await.len(), 2);
        config.set("b", &2).await.unwrap();
        assert_eq!(
            config.set("c", &1).await,
            Err(CentralError::TooManyKeys { key: "c".to_owned(), limit: 4 })
        );
        all_reach(cluster, "b", 2).await;
        all_reach(cluster, "c", Value::Null).await;
    })
    .await;
}

#[tokio::test]
async fn one_node_that_cannot_use_a_value_refuses_it_for_all() {
    everywhere(3, async |cluster| {
        cluster[0].config().set("match", &serde_json::json!({ "limits": { "players": 8 } })).await.unwrap();
        let mut all = Vec::new();
        for index in 0..3 {
            all.push(watch(&cluster[index], "match").await);
            reaches(&mut all[index], serde_json::json!({ "limits": { "players": 8 } })).await;
        }
        #[derive(Debug, Deserialize)]
        struct Typed {
            limits: Limits,
        }
        #[derive(Debug, Deserialize)]
        struct Limits {
            players: u32,
        }
        let typed = cluster[2].config().watch::<Typed>("match");
        let even = |typed: &Typed| match typed.limits.players % 2 {
            0 => Ok(()),
            _ => Err("players come in pairs".to_owned()),
        };
        let mut typed = typed.validate(even).await.unwrap();
        let version = typed.version();
        for (text, expected) in [
            (
                "limits.players = \"many\"",
                "node n2 refuses `match`: `limits.players`: invalid type: string \"many\", expected u32",
            ),
            ("limits = {}", "node n2 refuses `match`: `limits`: missing field `players`"),
            ("limits.players = 3", "node n2 refuses `match`: players come in pairs"),
        ] {
            let error = cluster[1].config().set_text("match", text).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(matches!(&error, CentralError::Refused { node, key, .. } if node.as_str() == "n2" && key == "match"));
        }
        assert_eq!(history(&cluster[0], "match").await.len(), 1);
        for setting in &all {
            assert_eq!(setting.version(), version);
        }
        cluster[1].config().set_text("match", "limits.players = 4").await.unwrap();
        assert_eq!(typed.changed().await.unwrap().limits.players, 4);
        // Who watches no more has no say.
        drop(typed);
        cluster[1].config().set_text("match", "limits.players = 3").await.unwrap();
        for setting in &mut all {
            reaches(setting, serde_json::json!({ "limits": { "players": 3 } })).await;
        }
    })
    .await;
}
