//! A call whose deadline cannot be met is refused while nobody has lost time with it.

use std::future::IntoFuture;
use std::time::Duration;

use futures_util::poll;
use skyhold::prelude::*;
use skyhold::testing::Cluster;

use crate::gate::{Log, Watch, local_node, settle};

const MS: Duration = Duration::from_millis(1);

#[service]
trait Mill {
    async fn grind(&mut self, id: u32);
}

macro_rules! mill {
    ($name:ident, $($settings:tt)*) => {
        #[derive(Clone, Default)]
        struct $name(Log);

        #[service($($settings)*)]
        impl Mill for $name {
            /// Takes 100 ms.
            async fn grind(&mut self, id: u32) {
                tokio::time::sleep(100 * MS).await;
                self.0.add(id.to_string());
            }
        }
    };
}

mill!(Shedding, mailbox = 32, shed);
mill!(Patient, mailbox = 32);

/// Twenty messages wait, and the first of them have shown how long each takes.
async fn busy(mill: &MillHandle) {
    for id in 0..24 {
        mill.grind(id).send().await.unwrap();
    }
    tokio::time::sleep(450 * MS).await;
}

fn assert_shed(error: &CallError) {
    assert!(matches!(error, CallError::Overloaded(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("is expected to wait 1.8s, 500ms left"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_cannot_be_met_is_refused_at_once_and_others_are_not() {
    let node = local_node().await;
    let mill = node.spawn(Shedding::default());
    busy(&mill).await;
    let watch = Watch::start();
    assert_shed(&mill.grind(99).timeout(500 * MS).await.unwrap_err());
    watch.assert_at_once();
    assert_eq!(node.counters().shed, 1);
    mill.grind(98).send().await.unwrap();
    mill.grind(97).timeout(5000 * MS).await.unwrap();
    assert_eq!((node.counters().shed, node.counters().expired.total()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn over_the_network_too() {
    let (log, cluster) = (Log::default(), Cluster::start(2).await);
    let own = log.clone();
    cluster[1].service("mill", move || Shedding(own.clone())).start().await.unwrap();
    let mill = MillHandle::lookup(&cluster[0], "mill").await.unwrap();
    busy(&mill).await;
    let watch = Watch::start();
    assert_shed(&mill.grind(99).timeout(500 * MS).await.unwrap_err());
    watch.assert_at_once();
    assert_eq!((cluster[0].counters().shed, cluster[1].counters().shed), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_comes_to_the_head_too_late_for_its_turn_is_answered_and_not_run() {
    let (node, log) = (local_node().await, Log::default());
    let mill = node.spawn(Shedding(log.clone()));
    // Nothing is known when these come: each is taken in.
    let mut calls: Vec<_> =
        (0..8).map(|id| Box::pin(mill.grind(id).timeout(350 * MS).into_future())).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    settle().await;
    let watch = Watch::start();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.map_err(|error| error.may_have_run()));
    }
    assert!(watch.elapsed() <= 400 * MS, "{:?}", watch.elapsed());
    assert_eq!(answers[..3], [Ok(()), Ok(()), Ok(())]);
    tokio::time::sleep(1000 * MS).await;
    assert!(!log.line().contains('5'), "{}", log.line());
    assert!(node.counters().shed + node.counters().expired.total() >= 4);
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_every_call_gets_its_place() {
    let node = local_node().await;
    let mill = node.spawn(Patient::default());
    busy(&mill).await;
    let watch = Watch::start();
    let error = mill.grind(99).timeout(500 * MS).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
    watch.assert_ended_at(500 * MS);
    assert_eq!(node.counters().shed, 0);
}

#[tokio::test(start_paused = true)]
async fn once_nobody_waits_nobody_is_refused() {
    let node = local_node().await;
    let mill = node.spawn(Shedding::default());
    busy(&mill).await;
    tokio::time::sleep(10_000 * MS).await;
    for id in 0..10 {
        mill.grind(id).timeout(150 * MS).await.unwrap();
    }
    assert_eq!(node.counters().shed, 0);
}
