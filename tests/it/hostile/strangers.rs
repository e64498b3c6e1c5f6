//! Connections on which nobody has proven anything: they get nothing, cost little, and keep nobody out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use skyhold::prelude::*;
use tokio::sync::Semaphore;

use super::Target;
use super::bystander::{Bystander, pass};
use crate::raw::{Fields, Frame, Hello, Raw, feature, kind, refusal};

const SECRET: &str = "the secret of this test's nodes";

/// A node with a secret or without, a peer of it, and how often its service ran.
struct Scene {
    node: Node,
    bystander: Option<Bystander>,
    runs: Arc<AtomicU64>,
}

impl Scene {
    async fn new() -> Self {
        Self::start(None).await
    }

    /// One whose peers need a secret; then it has none.
    async fn guarded() -> Self {
        Self::start(Some(Secret::new(SECRET).unwrap())).await
    }

    async fn start(secret: Option<Secret>) -> Self {
        let is_open = secret.is_none();
        let builder = Node::builder("a").insecure_without_secret().listen("127.0.0.1:0");
        let builder = secret.into_iter().fold(builder, skyhold::NodeBuilder::secret);
        let node = builder.start().await.unwrap();
        let runs = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&runs);
        let factory = move || Target { runs: Arc::clone(&counted), gate: Arc::new(Semaphore::new(0)) };
        node.service("target", factory).start().await.unwrap();
        let bystander = if is_open { Some(Bystander::of(&node).await) } else { None };
        Self { node, bystander, runs }
    }

    async fn still_works(&self) {
        match &self.bystander {
            Some(bystander) => bystander.still_works().await,
            None => {
                let hello = Hello { secret: Some(SECRET.into()), node: "friend".into(), ..Hello::default() };
                Raw::join(&self.node, &hello).await.is_served().await;
            }
        }
        assert_eq!(self.runs.load(Ordering::SeqCst), 0);
    }
}

/// What a stranger may hear.
fn is_harmless(frame: &Frame) -> bool {
    [kind::CHALLENGE, kind::REFUSE].contains(&frame.kind)
}

#[tokio::test]
async fn who_sends_a_byte_a_second_is_closed_within_the_handshake_timeout() {
    for features in [0, feature::ALL] {
        let scene = Scene::new().await;
        let mut events = scene.node.events();
        let mut raw = Raw::connect(&scene.node).await;
        let hello = Hello { features, ..Hello::default() }.frame();
        let mut seconds = 0;
        for byte in hello {
            raw.write_what_is_taken(&[byte]).await;
            scene.still_works().await;
            if scene.node.counters().refused_connections > 0 {
                break;
            }
            // In steps in which the two nodes hear of each other.
            for _ in 0..4 {
                pass(Duration::from_millis(250)).await;
                scene.still_works().await;
            }
            seconds += 1;
        }
        assert_eq!(seconds, 5, "the handshake timeout");
        assert_eq!(refusal(&mut events).await, "the handshake was not done in time");
        assert!(raw.rest().await.is_empty());
        scene.still_works().await;
    }
}

#[tokio::test]
async fn a_flood_of_hellos_is_refused_one_by_one() {
    let scene = Scene::guarded().await;
    let secrets = [None, Some(SECRET.into()), Some(b"another one than that of the node".to_vec())];
    for round in 0..30 {
        let (secret, features) = (secrets[round % 3].clone(), [0, feature::ALL][round % 2]);
        let hello = Hello { secret, features, ..Hello::default() }.frame();
        let flood = join_all((0..4).map(|_| async {
            let mut raw = Raw::connect(&scene.node).await;
            raw.write_what_is_taken(&hello.repeat(20)).await;
            raw.rest().await
        }));
        for said in flood.await {
            assert!(said.len() <= 2 && said.iter().all(is_harmless), "{said:?}");
        }
    }
    scene.still_works().await;
    assert!(scene.node.peers().iter().all(|peer| peer.as_str() == "friend"));
}

#[tokio::test]
async fn no_kind_of_frame_gets_anything_from_a_stranger_but_a_closed_connection() {
    let scene = Scene::guarded().await;
    let ours = Hello { secret: Some(SECRET.into()), features: feature::ALL, ..Hello::default() };
    for kind in (0..=0xFF).filter(|kind| *kind != kind::HELLO) {
        let body = Fields::default().u64(1).u64(1).u64(1).u64(1).frame(kind);
        for before in [vec![], ours.frame()] {
            let mut raw = Raw::connect(&scene.node).await;
            raw.write_what_is_taken(&[before, body.clone()].concat()).await;
            // What a later version may add is passed over, and the handshake still waits: so the stranger ends it.
            tokio::io::AsyncWriteExt::shutdown(&mut raw.stream).await.ok();
            let said = raw.rest().await;
            assert!(said.iter().all(is_harmless), "{kind:#x}: {said:?}");
        }
    }
    scene.still_works().await;
}

#[tokio::test]
async fn a_recorded_proof_opens_nothing_however_it_is_sent_again() {
    for features in [0, feature::ALL] {
        let scene = Scene::guarded().await;
        let hello = Hello { secret: Some(SECRET.into()), features, ..Hello::default() };
        let mut first = Raw::connect(&scene.node).await;
        first.write(&hello.frame()).await;
        let challenge = first.expect(kind::CHALLENGE).await;
        let proof = hello.proof(&challenge);
        first.write(&proof).await;
        let welcome = first.expect(kind::WELCOME).await;
        for recorded in [
            vec![hello.frame(), proof.clone()],
            vec![hello.frame(), proof.clone(), proof.clone()],
            vec![hello.frame(), challenge.whole.clone()],
            vec![hello.frame(), welcome.whole.clone()],
            vec![proof.clone()],
            vec![challenge.whole.clone(), welcome.whole.clone()],
            // Another name, or another life, with the same proof.
            vec![Hello { node: "other".into(), ..hello.clone() }.frame(), proof.clone()],
            vec![Hello { incarnation: 2, ..hello.clone() }.frame(), proof.clone()],
        ] {
            let mut again = Raw::connect(&scene.node).await;
            again.write_what_is_taken(&recorded.concat()).await;
            let said = again.rest().await;
            assert!(said.iter().all(is_harmless), "{said:?}");
        }
        first.is_served().await;
        scene.still_works().await;
    }
}

#[tokio::test]
async fn a_thousand_connections_of_garbage_harm_nobody() {
    let scene = Scene::new().await;
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..20 {
        let garbage: Vec<Vec<u8>> = (0..50)
            .map(|number| {
                let mut bytes = Vec::new();
                for _ in 0..(1 + number * 3) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    bytes.extend_from_slice(&state.to_le_bytes());
                }
                // Every other one is a frame by its length.
                if number % 2 == 0 {
                    let length = u32::try_from(bytes.len() - 4).unwrap();
                    bytes[..4].copy_from_slice(&length.to_le_bytes());
                    bytes[4] = u8::try_from(number).unwrap() % 6;
                }
                bytes
            })
            .collect();
        let ends = garbage.iter().map(|bytes| async {
            let mut raw = Raw::connect(&scene.node).await;
            raw.write_what_is_taken(bytes).await;
            tokio::io::AsyncWriteExt::shutdown(&mut raw.stream).await.ok();
            raw.rest().await
        });
        for said in join_all(ends).await {
            assert!(said.iter().all(is_harmless), "round {round}: {said:?}");
        }
        scene.still_works().await;
    }
    assert_eq!(scene.node.peers().len(), 1, "the bystander");
}
