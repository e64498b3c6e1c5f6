//! A mailbox that fills is told of before it is full, once, until it has been half as full.

use std::time::Duration;

use futures_util::FutureExt;
use skyhold::prelude::*;
use skyhold::{Event, Events};

use crate::gate::{Gate, local_node, settle};

struct Desk;

#[service(local, name = "desk", mailbox = 32, high_water = 50)]
impl Desk {
    pub async fn hold(&mut self, gate: Gate) {
        gate.pass().await;
    }

    pub fn note(&mut self) {}
}

/// Its default mark is at 80 percent.
struct Small;

#[service(local, name = "small", mailbox = 4)]
impl Small {
    pub fn note(&mut self) {}
}

/// How many waited at each event until now, of how many.
fn high_water(events: &mut Events) -> Vec<(usize, usize)> {
    let mut told = Vec::new();
    while let Some(event) = events.next().now_or_never() {
        if let Some(Event::HighWater { waiting, capacity, .. }) = event {
            told.push((waiting, capacity));
        }
    }
    told
}

/// Blocks the service, then fills its mailbox.
async fn fill(desk: &DeskHandle, waiting: usize) -> Gate {
    let gate = Gate::new();
    desk.hold(gate.clone()).try_send().unwrap();
    gate.reached(1).await;
    for _ in 0..waiting {
        desk.note().try_send().unwrap();
    }
    gate
}

#[tokio::test(start_paused = true)]
async fn the_mark_is_seen_while_a_handler_runs() {
    let node = local_node().await;
    let mut events = node.events();
    let desk = node.spawn(Desk);
    let _gate = fill(&desk, 15).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(high_water(&mut events), []);
    desk.note().try_send().unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(high_water(&mut events), [(16, 32)]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(high_water(&mut events), [], "once");
}

#[tokio::test(start_paused = true)]
async fn the_mark_is_seen_when_a_sender_finds_no_room() {
    let node = local_node().await;
    let mut events = node.events();
    let desk = node.spawn(Desk);
    let _gate = fill(&desk, 32).await;
    assert_eq!(high_water(&mut events), []);
    desk.note().try_send().unwrap_err();
    assert_eq!(high_water(&mut events), [(32, 32)]);
    desk.note().try_send().unwrap_err();
    assert_eq!(high_water(&mut events), []);
}

#[tokio::test(start_paused = true)]
async fn the_mark_is_seen_when_a_batch_is_taken_out() {
    let node = local_node().await;
    let mut events = node.events();
    let small = node.spawn(Small);
    settle().await;
    for _ in 0..4 {
        small.note().try_send().unwrap();
    }
    settle().await;
    assert_eq!(high_water(&mut events), [(4, 4)]);
}

#[tokio::test(start_paused = true)]
async fn the_mark_is_told_again_only_after_the_mailbox_was_less_than_half_as_full() {
    // Messages are taken out in twos. Half of the mark is 8.
    for (opened, left, expected) in [(23, 8, vec![]), (25, 6, vec![(16, 32)])] {
        let node = local_node().await;
        let mut events = node.events();
        let desk = node.spawn(Desk);
        let gates: Vec<_> = (0..33).map(|_| Gate::new()).collect();
        for gate in &gates {
            desk.hold(gate.clone()).try_send().unwrap();
            settle().await;
        }
        desk.note().try_send().unwrap_err();
        assert_eq!(high_water(&mut events), [(32, 32)]);
        gates[..opened].iter().for_each(Gate::open);
        gates[opened].reached(1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in left..16 {
            desk.note().try_send().unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(high_water(&mut events), expected, "after {left} were left");
    }
}
