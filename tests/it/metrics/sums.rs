//! Bounds on what is told, and sums that go on.

use std::collections::BTreeSet;

use metrics_exporter_prometheus::PrometheusBuilder;
use skyhold::prelude::*;
use skyhold::testing::Cluster;

use super::{Counter, Text};

const SERVICES: usize = 300;

async fn told(node: &Node) -> Text {
    Text::read(&node.metrics_text().await)
}

#[tokio::test(start_paused = true)]
async fn of_more_than_256_services_the_rest_is_told_as_other() {
    let node = Node::builder("a").start().await.unwrap();
    for number in 0..SERVICES {
        node.service(format!("s{number:03}"), Counter::default).instances(2).start().await.unwrap();
    }
    let first = told(&node).await;
    let names = first.labelled("service");
    assert_eq!(names.len(), 257, "256 and the rest");
    let rest = first.value("skyhold_service_instances", &[("service", "other")]);
    assert_eq!(rest, 2.0 * (SERVICES - 256) as f64);
    let all: f64 = first.all("skyhold_service_instances", &[]).map(|(_, value)| value).sum();
    assert_eq!(all, 2.0 * SERVICES as f64, "none is lost");

    // Those who are told by themselves are so on, also when others come that stand before them in their order.
    node.service("a", Counter::default).start().await.unwrap();
    let second = told(&node).await;
    assert_eq!(second.labelled("service"), names);
    // One that is gone makes room.
    assert!(node.stop_service("s000").await);
    let third = told(&node).await;
    let gone: BTreeSet<_> = names.difference(&third.labelled("service")).copied().collect();
    assert_eq!((gone, third.labelled("service").len()), (["s000"].into(), 257));
    assert_eq!(third.value("skyhold_service_instances", &[("service", "a")]), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_named_as_the_rest_is_told_once() {
    let node = Node::builder("a").start().await.unwrap();
    for number in 0..SERVICES {
        node.service(format!("s{number:03}"), Counter::default).start().await.unwrap();
    }
    node.service("other", Counter::default).start().await.unwrap();
    let told = told(&node).await;
    let all: f64 = told.all("skyhold_service_instances", &[]).map(|(_, value)| value).sum();
    assert_eq!(all, (SERVICES + 1) as f64);
}

#[tokio::test(start_paused = true)]
async fn no_counter_goes_down_when_a_connection_or_a_peer_begins_anew() {
    let mut cluster = Cluster::start_with(2, |node| node.connections_per_peer(1)).await;
    let sent = |told: &Text| told.value("skyhold_connection_sent_bytes_total", &[("peer", "n1")]);
    let mut last = told(&cluster[0]).await;
    let mut sums = vec![sent(&last)];
    for _ in 0..3 {
        cluster.restart(1).await;
        let away = told(&cluster[0]).await;
        cluster.connected().await;
        let now = told(&cluster[0]).await;
        for (before, after) in [(&last, &away), (&away, &now)] {
            for (key, value) in before.counters() {
                assert!(after.get(key).is_some_and(|after| after >= value), "{key:?}");
            }
        }
        assert_eq!(now.value("skyhold_connections", &[("peer", "n1")]), 1.0);
        sums.push(sent(&now));
        last = now;
    }
    assert!(sums.is_sorted_by(|before, after| before < after), "each connection adds to it: {sums:?}");
}

#[tokio::test(start_paused = true)]
async fn the_facade_is_told_what_has_come_since_the_last_time() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _in_force = metrics::set_default_local_recorder(&recorder);
    for life in 1..3 {
        let node = Node::builder("a").start().await.unwrap();
        node.service("counter", Counter::default).instances(2).start().await.unwrap();
        node.record_metrics().await;
        node.record_metrics().await;
        let told = Text::read(&handle.render());
        let started = told.value("skyhold_instances_started_total", &[]);
        assert_eq!(started, 2.0 * f64::from(life), "counted once, and on through the node's lives");
        assert_eq!(told.value("skyhold_service_instances", &[("service", "counter")]), 2.0);
        assert!(node.stop_service("counter").await);
        node.record_metrics().await;
        let told = Text::read(&handle.render());
        assert_eq!(told.value("skyhold_service_instances", &[("service", "counter")]), 0.0, "it is gone");
        assert_eq!(told.value("skyhold_instances_ended_total", &[]), 2.0 * f64::from(life));
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_recorder_nothing_happens() {
    let node = Node::builder("a").start().await.unwrap();
    node.record_metrics().await;
    assert_eq!(told(&node).await.value("skyhold_panics_total", &[]), 0.0);
    assert_eq!(node.metrics_address(), None);
}

#[tokio::test(start_paused = true)]
async fn what_methods_have_done_is_told_and_goes_on_over_the_ends_of_instances() {
    let node = Node::builder("a").start().await.unwrap();
    for sum in [3.0, 6.0] {
        let counter = node.service("counter", Counter::default).instances(2).start().await.unwrap();
        for _ in 0..3 {
            counter.add(1).await.unwrap();
        }
        let told = told(&node).await;
        let add = [("service", "counter"), ("method", "add")];
        assert_eq!(told.value("skyhold_method_calls_total", &add), sum);
        let done = [&add[..], &[("outcome", "done")]].concat();
        assert_eq!(told.value("skyhold_method_ended_messages_total", &done), sum);
        assert_eq!(told.value("skyhold_method_running_handlers", &add), 0.0);
        assert!(told.value("skyhold_service_polled_seconds", &[("service", "counter")]) >= 0.0);
        assert!(node.stop_service("counter").await);
    }
}
