//! Watches of a peer by hand: what it is told and when, and what happens when it breaks the rules.

use std::sync::Arc;

use skyhold::prelude::*;
use skyhold::{Event, Events};

use super::{Scene, Target};
use crate::raw::{Fields, Frame, Hello, Raw, kind, soon};

/// The numbers of the reasons in the protocol's document.
mod reason {
    pub(super) const NORMAL: u8 = 1;
    pub(super) const SHUTDOWN: u8 = 2;
    pub(super) const ERROR: u8 = 3;
    pub(super) const PANICKED: u8 = 4;
    pub(super) const GONE: u8 = 8;
}

/// Fails when it is told to.
#[derive(Default)]
struct Fragile;

#[service]
impl Fragile {
    pub fn fail(&self) {
        panic!("on purpose");
    }
}

fn watch(id: u64, instance: u64) -> Vec<u8> {
    Fields::default().u64(id).u64(instance).u8(0).frame(kind::WATCH)
}

fn link(id: u64, instance: u64, watcher: u64) -> Vec<u8> {
    Fields::default().u64(id).u64(instance).u8(1).u64(watcher).frame(kind::WATCH)
}

fn unwatch(id: u64) -> Vec<u8> {
    Fields::default().u64(id).u8(0).frame(kind::UNWATCH)
}

/// The watcher of a link has ended.
fn unlink(id: u64, reason: u8, text: &str) -> Vec<u8> {
    Fields::default().u64(id).u8(reason).string(text).frame(kind::UNWATCH)
}

/// The next frame that is not about names.
async fn next(raw: &mut Raw) -> Frame {
    loop {
        let frame = raw.next().await.expect("the connection stands");
        if frame.kind != kind::NAMES {
            return frame;
        }
    }
}

/// The next frame that is not about names: the watch, the reason's number, and its text.
async fn next_down(raw: &mut Raw) -> (u64, u8, String) {
    let frame = next(raw).await;
    assert_eq!(frame.kind, kind::DOWN, "{frame:?}");
    let mut fields = frame.fields();
    let down = (fields.u64(), fields.u8(), fields.string());
    assert!(fields.0.is_empty(), "{frame:?}");
    down
}

fn down(id: u64, reason: u8) -> (u64, u8, String) {
    (id, reason, String::new())
}

/// Shows that nothing is said of a watch.
async fn says_nothing(raw: &mut Raw) {
    let said = raw.is_served().await;
    assert!(said.iter().all(|frame| frame.kind == kind::NAMES), "{said:?}");
}

/// Waits for the end of the scene's instance.
async fn has_ended(events: &mut Events, instance: u64) {
    soon("the instance's end", async {
        loop {
            match events.next().await.expect("the node lives") {
                Event::InstanceEnded { address, .. } if address.instance.0 == instance => return,
                _ => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_end_is_told_once_for_each_watch_and_after_the_last_answers() {
    let mut scene = Scene::new().await;
    let waits = [10, 11].map(|id| scene.request(id, scene.wait, &[])).concat();
    let watches = [watch(1, scene.instance), watch(2, scene.instance)].concat();
    scene.send(&[waits, watches].concat()).await;
    says_nothing(&mut scene.raw).await;
    let node = scene.node.clone();
    let stop = tokio::spawn(async move { soon("the stop", node.stop_service("target")).await });
    let queued = next(&mut scene.raw).await;
    assert_eq!((queued.kind, queued.fields().u64()), (kind::FAILURE, 11));
    scene.gate.add_permits(1);
    let running = next(&mut scene.raw).await;
    assert_eq!((running.kind, running.fields().u64()), (kind::REPLY, 10));
    for id in [1, 2] {
        assert_eq!(next_down(&mut scene.raw).await, down(id, reason::NORMAL));
    }
    assert!(soon("the end of the stop", stop).await.unwrap());
    says_nothing(&mut scene.raw).await;
}

#[tokio::test]
async fn a_panic_is_told_with_its_message() {
    let mut scene = Scene::new().await;
    scene.node.service("fragile", Fragile::default).start().await.unwrap();
    let names = scene.raw.until(kind::NAMES).await;
    let mut fields = names.fields();
    assert_eq!((fields.u8(), fields.u16(), fields.string()), (0, 1, "fragile".to_owned()));
    let (_interface, instances, instance) = (fields.string(), fields.u16(), fields.u64());
    assert_eq!(instances, 1);
    scene.send(&watch(1, instance)).await;
    says_nothing(&mut scene.raw).await;
    let fragile = FragileHandle::try_lookup(&scene.node, "fragile").unwrap();
    assert!(fragile.fail().await.is_err());
    let panicked = (1, reason::PANICKED, "on purpose".to_owned());
    assert_eq!(next_down(&mut scene.raw).await, panicked);
    scene.still_works().await;
}

#[tokio::test]
async fn an_instance_that_is_unknown_anonymous_or_gone_is_told_to_be_gone_at_once() {
    let mut scene = Scene::new().await;
    let hidden = Target { runs: Arc::clone(&scene.runs), gate: Arc::clone(&scene.gate) };
    let hidden = scene.node.spawn(hidden);
    let hidden = hidden.address().unwrap().instance.0;
    scene.send(&[watch(1, 999_999), watch(2, hidden)].concat()).await;
    for id in [1, 2] {
        assert_eq!(next_down(&mut scene.raw).await, down(id, reason::GONE));
    }
    assert!(scene.node.stop_service("target").await);
    let ended = scene.instance;
    scene.send(&watch(3, ended)).await;
    assert_eq!(next_down(&mut scene.raw).await, down(3, reason::GONE));
    scene.send(&watch(3, ended)).await; // its number is free again
    assert_eq!(next_down(&mut scene.raw).await, down(3, reason::GONE));
}

#[tokio::test]
async fn an_unwatch_leaves_no_late_message() {
    let mut scene = Scene::new().await;
    let watches = [1, 2].map(|id| watch(id, scene.instance)).concat();
    scene.send(&[watches, unwatch(1)].concat()).await;
    says_nothing(&mut scene.raw).await;
    assert!(scene.node.stop_service("target").await);
    assert_eq!(next_down(&mut scene.raw).await, down(2, reason::NORMAL));
    says_nothing(&mut scene.raw).await;
}

#[tokio::test]
async fn a_shutdown_is_told_before_the_goodbye() {
    let mut scene = Scene::new().await;
    scene.send(&watch(1, scene.instance)).await;
    says_nothing(&mut scene.raw).await;
    let (ended, said) = tokio::join!(soon("the shutdown", scene.node.shutdown()), scene.raw.rest());
    ended.unwrap();
    let is_of_the_end = |frame: &&Frame| [kind::DOWN, kind::GOODBYE].contains(&frame.kind);
    let of_the_end: Vec<_> = said.iter().filter(is_of_the_end).collect();
    let [first, last] = of_the_end[..] else { panic!("a down and a goodbye were expected, not {said:?}") };
    assert_eq!((first.kind, last.kind), (kind::DOWN, kind::GOODBYE));
    assert_eq!(first.fields().0, [1, 0, 0, 0, 0, 0, 0, 0, reason::SHUTDOWN, 0, 0]);
}

#[tokio::test]
async fn the_failure_of_what_is_linked_over_the_network_ends_an_instance_and_its_orderly_end_does_not() {
    let mut scene = Scene::new().await;
    let mut events = scene.node.events();
    let harmless =
        [link(1, scene.instance, 5), unlink(1, reason::NORMAL, ""), unlink(1, reason::PANICKED, "")];
    let undone = [link(2, scene.instance, 5), unwatch(2), unlink(2, reason::PANICKED, "")];
    let no_link = [watch(3, scene.instance), unlink(3, reason::PANICKED, "")];
    scene.send(&[harmless, undone].concat().concat()).await;
    scene.send(&no_link.concat()).await;
    scene.still_works().await;
    let failed = [link(4, scene.instance, 5), unlink(4, reason::PANICKED, "why")];
    scene.send(&failed.concat()).await;
    has_ended(&mut events, scene.instance).await;
    says_nothing(&mut scene.raw).await;
}

#[tokio::test]
async fn the_end_of_a_connection_ends_what_is_linked_over_it_and_what_is_watched_goes_on() {
    let mut scene = Scene::new().await;
    let mut events = scene.node.events();
    let mut other = Raw::join(&scene.node, &Hello { node: "other".into(), ..Hello::default() }).await;
    other.write(&watch(1, scene.instance)).await;
    other.is_served().await;
    drop(other);
    soon("the peer's end", async {
        while scene.node.peers().len() > 1 {
            events.next().await;
        }
    })
    .await;
    scene.still_works().await;
    scene.send(&link(1, scene.instance, 5)).await;
    says_nothing(&mut scene.raw).await;
    drop(scene.raw);
    has_ended(&mut events, scene.instance).await;
}

#[tokio::test]
async fn a_watch_number_that_is_open_already_closes_the_connection() {
    let mut scene = Scene::new().await;
    let first = watch(1, scene.instance);
    scene.send(&first).await;
    says_nothing(&mut scene.raw).await;
    scene.check_closes(&first, "watch 1 was sent twice").await;
}

#[tokio::test]
async fn ends_and_unwatches_of_no_watch_are_ignored() {
    let mut scene = Scene::new().await;
    for id in [0, 1, 77, u64::MAX] {
        let said = Fields::default().u64(id).u8(reason::PANICKED).string("no").frame(kind::DOWN);
        scene.send(&[said, unwatch(id), unlink(id, reason::ERROR, "no")].concat()).await;
    }
    says_nothing(&mut scene.raw).await;
    scene.still_works().await;
}

#[tokio::test]
async fn more_watches_than_may_be_are_refused_one_by_one() {
    let mut scene = Scene::new().await;
    let most: Vec<u8> = (1..=65_536).flat_map(|id| watch(id, scene.instance)).collect();
    scene.send(&most).await;
    says_nothing(&mut scene.raw).await;
    scene.send(&watch(0, scene.instance)).await;
    let (id, why, text) = next_down(&mut scene.raw).await;
    assert_eq!((id, why), (0, reason::ERROR), "{text}");
    assert!(text.contains("too many watches"), "{text}");
    scene.send(&[unwatch(7), watch(0, scene.instance)].concat()).await;
    says_nothing(&mut scene.raw).await;
    scene.still_works().await;
}

#[tokio::test]
async fn frames_of_watching_that_break_the_rules_close_the_connection() {
    for bytes in [
        Fields::default().u64(1).u64(1).frame(kind::WATCH),
        Fields::default().u64(1).u64(1).u8(2).u64(1).frame(kind::WATCH),
        Fields::default().u64(1).u8(0).u8(0).frame(kind::UNWATCH),
        Fields::default().u64(1).u8(0).frame(kind::DOWN),
        Fields::default().u64(1).u8(reason::ERROR).string(&"x".repeat(1025)).frame(kind::DOWN),
    ] {
        Scene::new().await.check_closes(&bytes, "protocol error").await;
    }
}

#[tokio::test]
async fn a_connection_whose_place_another_took_stays_as_long_as_it_is_watched_over() {
    let mut scene = Scene::new().await;
    scene.send(&watch(1, scene.instance)).await;
    says_nothing(&mut scene.raw).await;
    // The same life dials again, and again.
    let dial = |nonce| Hello { nonce: [nonce; 32], ..Hello::default() };
    let mut second = Raw::join(&scene.node, &dial(8)).await;
    second.is_served().await;
    let mut third = Raw::join(&scene.node, &dial(9)).await;
    third.is_served().await;
    // It tells its names, none, as a peer does that uses the connection from now on.
    third.write(&Fields::default().u8(1).u16(0).frame(kind::NAMES)).await;
    // Each is asked whether it is there when it loses its place, and is.
    scene.raw.is_served().await;
    second.is_served().await;
    let goodbye = second.rest().await.pop().expect("a goodbye");
    assert_eq!((goodbye.kind, goodbye.fields().string()), (kind::GOODBYE, TOOK_ITS_PLACE.to_owned()));
    // That took its time, and the first was given up before the second.
    scene.raw.is_served().await;
    scene.send(&unwatch(1)).await;
    let goodbye = scene.raw.until(kind::GOODBYE).await;
    assert_eq!(goodbye.fields().string(), TOOK_ITS_PLACE);
}

const TOOK_ITS_PLACE: &str = "another connection took its place";
