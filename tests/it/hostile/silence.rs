//! Peers that stop in the middle, and peers that do not read.

use std::time::Duration;

use skyhold::{Limits, Lookup as _};

use super::bystander::{Bystander, pass};
use super::{MAX_MESSAGE, Scene, TargetHandle, WANTS_REPLY, learn, peer_down, request};
use crate::raw::{Fields, feature, kind, soon};

/// Writes the beginning of something and then nothing more: the peer is given up, and another is not.
async fn check_given_up(features: u64, beginning: &[u8]) {
    let Scene { node, mut raw, .. } = Scene::with(features, Limits::default()).await;
    let bystander = Bystander::of(&node).await;
    let mut events = node.events();
    raw.write(beginning).await;
    let mut passed = Duration::ZERO;
    while node.peers().len() == 2 {
        const STEP: Duration = Duration::from_millis(250);
        assert!(passed < Duration::from_secs(7), "it is not given up");
        pass(STEP).await;
        passed += STEP;
        bystander.still_works().await;
    }
    assert!(passed >= Duration::from_secs(4), "it is given up after {passed:?}");
    let reason = peer_down(&mut events).await;
    assert!(reason.starts_with("nothing came from the peer for 5"), "{reason}");
    let said = raw.rest().await;
    assert!(said.iter().any(|frame| frame.kind == kind::PING), "it was asked: {said:?}");
    bystander.still_works().await;
}

#[tokio::test]
async fn who_stops_in_the_middle_of_a_frame_is_given_up_and_nobody_else() {
    let whole = request(1, 1, [1, 2], WANTS_REPLY, &[0; 1000]);
    for features in [0, feature::ALL] {
        check_given_up(features, &whole[..500]).await;
        check_given_up(features, &whole[..3]).await;
    }
}

#[tokio::test]
async fn who_stops_in_the_middle_of_a_piece_is_given_up_and_nobody_else() {
    let piece = Fields::default().u32(1).u8(1).u32(100_000).bytes(&[0; 60_000]).frame(kind::PIECE);
    check_given_up(feature::ALL, &piece[..30_000]).await;
    check_given_up(feature::ALL, &piece).await;
}

#[tokio::test]
async fn a_peer_that_asks_and_never_reads_is_cut_off_and_nobody_else() {
    const UNREAD: usize = 1 << 20;
    const LONG: u8 = 32;
    for features in [0, feature::ALL] {
        let limits = Limits::default().send_buffer(MAX_MESSAGE).long_send_buffer(MAX_MESSAGE).unread(UNREAD);
        let mut scene = Scene::with(features, limits).await;
        let bystander = Bystander::of(&scene.node).await;
        let mut events = scene.node.events();
        let mine = TargetHandle::try_lookup(&scene.node, "mine").unwrap();
        let (blob, _) = learn(&mut scene.raw, mine.blob(1)).await;
        // Replies of 32 KiB.
        let arguments = [251, 0, LONG * 4];
        let asked = async {
            for id in 0.. {
                let request = request(id, scene.instance, blob, WANTS_REPLY, &arguments);
                let written = tokio::io::AsyncWriteExt::write_all(&mut scene.raw.stream, &request).await;
                if written.is_err() || scene.node.peers().len() < 2 {
                    return id;
                }
                if id % 16 == 0 {
                    bystander.still_works().await;
                }
            }
            0
        };
        let asked = soon("the end of a peer that does not read", asked).await;
        let reason = peer_down(&mut events).await;
        assert_eq!(reason, "closed by this node: the peer does not read what it asks for");
        assert!(asked as usize * 32 * 1024 > UNREAD, "{asked} questions were not too many");
        bystander.still_works().await;
    }
}
