//! Credit and pieces of a peer that breaks the rules.

use std::sync::atomic::Ordering;

use skyhold::Limits;
use skyhold::prelude::*;

use super::bystander::Bystander;
use super::{Scene, TargetHandle, WANTS_REPLY, request};
use crate::raw::{Fields, feature, kind, soon};

/// A chain follows the flags, and the request says that it needs no credit.
const AHEAD: u8 = 0b110;

const FIRST: u8 = 1;
const GIVEN_UP: u8 = 2;

/// The least credit, so that it is soon used up.
fn limits() -> Limits {
    Limits::default().credit(16, 64 * 1024)
}

async fn scene() -> Scene {
    Scene::with(feature::ALL, limits()).await
}

fn piece(message: u32, total: Option<u32>, bytes: &[u8]) -> Vec<u8> {
    let head = Fields::default().u32(message).u8(if total.is_some() { FIRST } else { 0 });
    let head = total.map_or(head.clone(), |total| head.u32(total));
    head.bytes(bytes).frame(kind::PIECE)
}

/// As many sends as the mailbox, what its instance takes out, and the credit hold; and more.
const MORE_THAN_ALL: u64 = 2000;

#[tokio::test]
async fn messages_beyond_the_credit_close_the_connection() {
    let scene = scene().await;
    let bystander = Bystander::of(&scene.node).await;
    let sends = (0..MORE_THAN_ALL).flat_map(|id| request(id, scene.instance, scene.wait, 0, &[]));
    let sends: Vec<u8> = sends.collect();
    let gate = scene.gate.clone();
    let _node = scene.check_closes(&sends, "beyond its credit").await;
    gate.add_permits(4000);
    bystander.still_works().await;
}

#[tokio::test]
async fn messages_that_only_claim_to_need_no_credit_do_not_pile_up() {
    let mut scene = scene().await;
    let bystander = Bystander::of(&scene.node).await;
    let before = scene.node.counters().dead_letters;
    let chain = Fields::default().u16(1).string("raw").u64(1).u64(1).u8(0).string("S.m").0;
    let one = |id| request(id, scene.instance, scene.wait, AHEAD, &chain);
    let sends: Vec<u8> = (0..MORE_THAN_ALL).flat_map(one).collect();
    scene.send(&sends).await;
    scene.raw.is_served().await;
    let dropped = scene.node.counters().dead_letters - before;
    // The mailbox, a sixteenth of it taken out ahead, and one that runs.
    assert!(dropped >= MORE_THAN_ALL - 1024 - 64 - 1, "{dropped} found no room");
    scene.gate.add_permits(4000);
    scene.still_works().await;
    bystander.still_works().await;
}

#[tokio::test]
async fn a_long_message_that_claims_to_need_no_credit_runs_or_is_refused_and_that_is_all() {
    let mut scene = scene().await;
    let chain = Fields::default().u16(1).string("raw").u64(1).u64(1).u8(0).string("S.m").0;
    let whole =
        request(1, scene.instance, scene.add, AHEAD | WANTS_REPLY, &[&chain[..], &[0; 70_000]].concat());
    let message = &whole[4..];
    let total = u32::try_from(message.len()).unwrap();
    let (one, other) = message.split_at(60_000);
    scene.send(&[piece(1, Some(total), one), piece(1, None, other)].concat()).await;
    scene.raw.until(kind::FAILURE).await;
    scene.still_works().await;
}

#[tokio::test]
async fn pieces_that_lie_close_the_connection() {
    let begun = piece(1, Some(100), b"begin");
    let many: Vec<u8> = (0..9).flat_map(|message| piece(message, Some(100), b"begin")).collect();
    let given_up = Fields::default().u32(1).u8(GIVEN_UP).bytes(b"more").frame(kind::PIECE);
    for (bytes, expected) in [
        (piece(1, Some(128 * 1024 + 1), b"begin"), "1 to 131072 were expected"),
        (piece(1, Some(u32::MAX), b"begin"), "1 to 131072 were expected"),
        (piece(1, Some(0), b""), "1 to 131072 were expected"),
        (piece(1, Some(3), b"more"), "of which 3 are left"),
        ([begun.clone(), piece(1, None, &[0; 96])].concat(), "of which 95 are left"),
        ([begun.clone(), piece(1, None, b"")].concat(), "of which 95 are left"),
        ([begun.clone(), begun.clone()].concat(), "begun twice"),
        (piece(1, None, b"begin"), "has not begun"),
        ([begun.clone(), given_up].concat(), "given up"),
        (many, "beside 8 others"),
        ([piece(1, Some(100_000), b"begin"), piece(2, Some(100_000), b"begin")].concat(), "beside 1 others"),
        // What is whole is no request, reply or item.
        (piece(1, Some(9), &[kind::PING, 0, 0, 0, 0, 0, 0, 0, 0]), "unknown kind"),
        (piece(1, Some(1), &[kind::REQUEST]), "ends within"),
        (Fields::default().u32(1).u8(4).frame(kind::PIECE), "`flags`"),
        (Fields::default().u32(1).u8(3).u32(1).frame(kind::PIECE), "`flags`"),
        // Whole frames are short where there are pieces.
        (Fields::default().bytes(&[0; 65_536]).frame(kind::REPLY), "the limit is 65536"),
    ] {
        scene().await.check_closes(&bytes, expected).await;
    }
}

#[tokio::test]
async fn pieces_that_never_end_hold_up_nobody() {
    let mut scene = scene().await;
    let bystander = Bystander::of(&scene.node).await;
    for message in 0..8 {
        scene.send(&piece(message, Some(16 * 1024), &[0; 1024])).await;
    }
    scene.still_works().await;
    bystander.still_works().await;
    for message in 0..8 {
        let given_up = Fields::default().u32(message).u8(GIVEN_UP).frame(kind::PIECE);
        scene.send(&[given_up, piece(message, Some(16 * 1024), &[0; 1024])].concat()).await;
    }
    scene.still_works().await;
}

#[tokio::test]
async fn a_window_below_the_least_closes_the_connection() {
    for (window, expected) in [
        ([15, 65_536, 65_536], "at least 16"),
        ([16, 65_535, 65_536], "at least 65536"),
        ([16, 65_536, 65_535], "at least 65536"),
        ([0, 0, 0], "at least 16"),
    ] {
        let window = window.into_iter().fold(Fields::default(), Fields::u64).frame(kind::WINDOW);
        scene().await.check_closes(&window, expected).await;
    }
}

#[tokio::test]
async fn credit_that_goes_backwards_overflows_or_is_for_nobody_changes_nothing() {
    let mut scene = scene().await;
    let bystander = Bystander::of(&scene.node).await;
    let credit = |instance, messages, bytes| {
        Fields::default().u64(instance).u64(messages).u64(bytes).frame(kind::CREDIT)
    };
    let mut all = Vec::new();
    for instance in [0, 1, 77, u64::MAX] {
        all.extend(credit(instance, u64::MAX, u64::MAX));
        all.extend(credit(instance, 0, 0));
        all.extend(credit(instance, 1, u64::MAX));
    }
    for total in [0, u64::MAX, 1] {
        all.extend(Fields::default().u64(total).frame(kind::TAKEN));
    }
    for window in [u64::MAX, 65_536, 1 << 40] {
        all.extend([window; 3].into_iter().fold(Fields::default(), Fields::u64).frame(kind::WINDOW));
    }
    all.extend(Fields::default().u64(77).frame(kind::GONE));
    scene.send(&all).await;
    scene.still_works().await;
    let mine = TargetHandle::try_lookup(&scene.node, "mine").unwrap();
    for by in 0..100 {
        mine.add(by).try_send().unwrap();
    }
    // Calls that wait for one that is gone are told, and the next begin anew.
    scene.send(&Fields::default().u64(1).frame(kind::GONE)).await;
    scene.still_works().await;
    soon("room", mine.add(1).send()).await.unwrap();
    bystander.still_works().await;
    assert_eq!(scene.runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn frames_of_features_that_were_not_agreed_on_close_the_connection() {
    let numbers =
        |count: usize| [1_u64 << 20; 3][..count].iter().copied().fold(Fields::default(), Fields::u64);
    let flow = [
        numbers(3).frame(kind::WINDOW),
        numbers(3).frame(kind::CREDIT),
        numbers(1).frame(kind::GONE),
        numbers(1).frame(kind::TAKEN),
        piece(1, Some(100), b"begin"),
    ];
    let streams = [
        numbers(3).frame(kind::STREAM_CREDIT),
        numbers(1).frame(kind::STREAM_ITEM),
        numbers(1).u8(0).frame(kind::STREAM_END),
        numbers(1).frame(kind::STREAM_STOP),
    ];
    let without = flow.iter().chain(&streams).map(|frame| (0, frame));
    for (features, frame) in without.chain(streams.iter().map(|frame| (feature::FLOW, frame))) {
        let scene = Scene::with(features, limits()).await;
        scene.check_closes(frame, "although the feature was not agreed on").await;
    }
}
