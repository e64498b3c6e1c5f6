//! Settings that are watched by services, as their types.

use serde::{Deserialize, Serialize};
use skyhold::Event;

use super::*;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Match {
    players: u32,
}

/// Answers by what the central configuration says.
struct Matchmaker(Option<Setting<Match>>);

#[service]
impl Matchmaker {
    #[on_start]
    async fn start(&mut self, context: &Context) -> Result<(), CentralError> {
        let config = context.node().config();
        self.0 = Some(config.watch("match").or(Match { players: 2 }).await?);
        Ok(())
    }

    pub fn players(&self) -> u32 {
        self.0.as_ref().map_or(0, |setting| setting.get().players)
    }
}

#[tokio::test(start_paused = true)]
async fn services_on_three_nodes_see_each_change() {
    let cluster = Held::new().cluster(3).await;
    let mut services = Vec::new();
    for index in 0..3 {
        let service = cluster[index].service("match", || Matchmaker(None)).start().await.unwrap();
        assert_eq!(service.players().await.unwrap(), 2, "the default");
        services.push(service);
    }
    for (index, players) in [(0, 4), (2, 8)] {
        cluster[index].config().set("match", &Match { players }).await.unwrap();
        all_reach(&cluster, "match", serde_json::json!({ "players": players })).await;
        tokio::task::yield_now().await;
    }
    for (index, service) in services.iter().enumerate() {
        let local =
            MatchmakerHandle::lookup_on(&cluster[index], &format!("n{index}"), "match").await.unwrap();
        assert_eq!((local.players().await.unwrap(), service.players().await.is_ok()), (8, true));
    }
    let error = cluster[1].config().set("match", &7).await.unwrap_err();
    assert!(matches!(error, CentralError::Refused { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_the_value_or_the_default_or_says_that_there_is_none() {
    let cluster = Held::new().cluster(2).await;
    let config = cluster[1].config();
    let error = config.watch::<Match>("match").await.unwrap_err();
    assert_eq!(error, CentralError::NotSet { key: "match".to_owned() });
    let mut with_default = config.watch("match").or(Match { players: 2 }).await.unwrap();
    assert_eq!((with_default.get().players, with_default.version()), (2, Version::NONE));
    let version = config.set("match", &Match { players: 4 }).await.unwrap();
    assert_eq!(with_default.changed().await.unwrap().players, 4);
    let without = config.watch::<Match>("match").await.unwrap();
    assert_eq!((without.get().players, without.version(), without.key()), (4, version, "match"));
    let mut clone = with_default.clone();
    config.delete("match").await.unwrap();
    assert_eq!(with_default.changed().await.unwrap().players, 2);
    assert_eq!(clone.changed().await.unwrap().players, 2, "each clone is told");
    assert_eq!(without.get().players, 4, "the last one, as there is no other");

    config.set("other", &true).await.unwrap();
    let error = config.watch::<Match>("other").or(Match::default()).await.unwrap_err();
    let expected = "node n1 refuses `other`: invalid type: boolean `true`, expected struct Match";
    assert_eq!(error.to_string(), expected);
    assert_eq!(config.get::<Match>("other").unwrap_err().to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_reading_panics_is_refused() {
    let cluster = Held::new().cluster(2).await;
    let watched = cluster[1].config().watch::<Match>("match").or(Match::default());
    let watched = watched.validate(|it| if it.players > 9 { panic!("too many") } else { Ok(()) });
    let watched = watched.await.unwrap();
    let error = cluster[0].config().set("match", &Match { players: 10 }).await.unwrap_err();
    assert_eq!(error.to_string(), "node n1 refuses `match`: reading it panicked: too many");
    cluster[0].config().set("match", &Match { players: 9 }).await.unwrap();
    assert_eq!(watched.clone().changed().await.unwrap().players, 9);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_not_asked_keeps_its_last_good_value_and_says_so() {
    let cluster = Held::new().cluster(3).await;
    let setting = cluster[2].config().watch("match").or(Match { players: 2 }).await.unwrap();
    let mut events = cluster[2].events();
    cluster.partition(&[0, 1], &[2]).await;
    assert!(cluster.is_partitioned(0, 2));
    // It is waited for while its connection stands, and for no longer than 2 s.
    let began = tokio::time::Instant::now();
    let version = cluster[1].config().set("match", "nonsense").await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 2);
    cluster.heal().await;
    let refused = loop {
        if let refused @ Event::ConfigRefused { .. } = events.next().await.unwrap() {
            break refused;
        }
    };
    let reason = "invalid type: string \"nonsense\", expected struct Match".to_owned();
    assert_eq!(
        refused,
        Event::ConfigRefused { key: "match".to_owned(), version: version.0, field: None, reason }
    );
    assert_eq!(setting.get().players, 2);
    cluster[0].config().set("match", &Match { players: 4 }).await.unwrap();
    assert_eq!(setting.clone().changed().await.unwrap().players, 4);
}

#[tokio::test(start_paused = true)]
async fn a_setting_does_not_keep_its_node_alive_and_ends_with_it() {
    let held = Held::new();
    let node = held.tell(Node::builder("n0")).start().await.unwrap();
    let mut setting = watch(&node, "key").await;
    node.config().set("key", &1).await.unwrap();
    reaches(&mut setting, 1).await;
    let id = node.id().clone();
    drop(node);
    // What was read without waiting for it is told once.
    let error = loop {
        if let Err(error) = setting.changed().await {
            break error;
        }
    };
    assert_eq!(error, CentralError::NodeStopped(id));
    assert_eq!(*setting.get(), 1);
}
