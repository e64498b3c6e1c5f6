//! Streams of a peer that breaks the rules.

use std::sync::atomic::Ordering;

use futures_util::stream;
use skyhold::Limits;
use skyhold::prelude::*;

use super::bystander::Bystander;
use super::{Scene, TargetHandle, WANTS_REPLY, learn, peer_down, request};
use crate::raw::{Fields, feature, kind};

/// A scene, and the numbers of `hold` and `first`.
async fn scene() -> (Scene, [u32; 2], [u32; 2]) {
    let limits = Limits::default().stream_credit(4, 1024).streams(8);
    let mut scene = Scene::with(feature::ALL, limits).await;
    let mine = TargetHandle::try_lookup(&scene.node, "mine").unwrap();
    let items = || Streaming::new(stream::empty());
    let (hold, _) = learn(&mut scene.raw, mine.hold(items())).await;
    let (first, _) = learn(&mut scene.raw, mine.first(items(), items())).await;
    (scene, hold, first)
}

fn item(stream: u64, number: u8) -> Vec<u8> {
    Fields::default().u64(stream).u8(number).frame(kind::STREAM_ITEM)
}

#[tokio::test]
async fn items_beyond_the_credit_close_the_connection() {
    let (mut scene, hold, _) = scene().await;
    let bystander = Bystander::of(&scene.node).await;
    scene.send(&scene.request(1, hold, &[7])).await;
    let credit = scene.raw.until(kind::STREAM_CREDIT).await;
    let mut fields = credit.fields();
    assert_eq!((fields.u64(), fields.u64(), fields.u64()), (7, 4, 1024));
    let items: Vec<u8> = (0..5).flat_map(|number| item(7, number)).collect();
    let gate = scene.gate.clone();
    let _node = scene.check_closes(&items, "an item of stream 7 beyond its credit").await;
    gate.add_permits(1);
    bystander.still_works().await;
}

#[tokio::test]
async fn what_is_said_of_streams_that_nobody_knows_does_no_harm() {
    let (mut scene, ..) = scene().await;
    let bystander = Bystander::of(&scene.node).await;
    for stream in [0, 7, u64::MAX] {
        let credit = Fields::default().u64(stream).u64(u64::MAX).u64(u64::MAX).frame(kind::STREAM_CREDIT);
        let end = Fields::default().u64(stream).u8(0).frame(kind::STREAM_END);
        let stop = Fields::default().u64(stream).frame(kind::STREAM_STOP);
        let items: Vec<u8> = (0..100).flat_map(|number| item(stream, number)).collect();
        scene.send(&[items, credit, end, stop].concat()).await;
        let told = scene.raw.until(kind::STREAM_END).await;
        assert_eq!(told.fields().u64(), stream, "its reader is told that nobody makes it");
    }
    scene.still_works().await;
    bystander.still_works().await;
}

#[tokio::test]
async fn an_item_that_is_no_value_and_one_after_the_end_are_the_stream_s_matter_alone() {
    let (mut scene, hold, _) = scene().await;
    scene.gate.add_permits(2);
    let broken = Fields::default().u64(7).bytes(&[0xFF; 3]).frame(kind::STREAM_ITEM);
    scene.send(&[scene.request(1, hold, &[7]), item(7, 1), broken, item(7, 2)].concat()).await;
    assert_eq!(scene.raw.until(kind::REPLY).await.fields().u64(), 1);
    assert_eq!(scene.runs.load(Ordering::SeqCst), 1);
    let end = Fields::default().u64(8).u8(0).frame(kind::STREAM_END);
    scene.send(&[scene.request(2, hold, &[8]), item(8, 1), end, item(8, 2)].concat()).await;
    assert_eq!(scene.raw.until(kind::REPLY).await.fields().u64(), 2);
    assert_eq!(scene.runs.load(Ordering::SeqCst), 2);
    scene.still_works().await;
}

#[tokio::test]
async fn a_number_that_is_sent_twice_is_the_first_stream_s_which_ends_with_the_connection() {
    let (mut scene, _, first) = scene().await;
    let bystander = Bystander::of(&scene.node).await;
    let mut events = scene.node.events();
    scene.send(&request(1, scene.instance, first, 0, &[7, 7])).await;
    scene.raw.until(kind::STREAM_CREDIT).await;
    scene.send(&item(7, 1)).await;
    scene.raw.is_served().await;
    drop(scene.raw);
    peer_down(&mut events).await;
    // Unless it has ended, the handler keeps the service for itself.
    bystander.still_works().await;
    assert_eq!(scene.runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn more_streams_than_may_be_are_refused_one_by_one() {
    let (mut scene, hold, _) = scene().await;
    let bystander = Bystander::of(&scene.node).await;
    for number in 1..=9_u8 {
        scene.send(&request(number.into(), scene.instance, hold, WANTS_REPLY, &[number])).await;
    }
    scene.gate.add_permits(9);
    assert_eq!(scene.raw.until(kind::STREAM_STOP).await.fields().u64(), 9);
    for number in 1..=8 {
        scene.send(&Fields::default().u64(number).u8(0).frame(kind::STREAM_END)).await;
    }
    for _ in 1..=9 {
        scene.raw.until(kind::REPLY).await;
    }
    scene.still_works().await;
    bystander.still_works().await;
}
