//! Requests and answers of a peer that breaks the rules.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use skyhold::prelude::*;

use super::{Scene, Target, TargetHandle, WANTS_REPLY, code, failure, request};
use crate::raw::{Fields, kind, soon};

#[tokio::test]
async fn an_orderly_request_by_hand_runs_and_is_answered() {
    let mut scene = Scene::new().await;
    let request = scene.request(1, scene.add, &[5]);
    scene.send(&request).await;
    let reply = scene.raw.until(kind::REPLY).await;
    let mut fields = reply.fields();
    assert_eq!((fields.u64(), fields.0), (1, &[5][..]));
    assert_eq!(scene.runs.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_request_for_an_unknown_instance_fails_alone() {
    let mut scene = Scene::new().await;
    let request = request(1, 999_999, scene.add, WANTS_REPLY, &[5]);
    scene.send(&request).await;
    let (id, code, text) = failure(&scene.raw.until(kind::FAILURE).await);
    assert_eq!((id, code), (1, code::STOPPED), "{text}");
    assert!(text.contains("999999"), "{text}");
    scene.still_works().await;
    assert_eq!(scene.runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_for_an_anonymous_instance_fails_alone() {
    let mut scene = Scene::new().await;
    let hidden = Target { runs: Arc::clone(&scene.runs), gate: Arc::clone(&scene.gate) };
    let hidden = scene.node.spawn(hidden);
    let instance = hidden.address().unwrap().instance.0;
    let request = request(1, instance, scene.add, WANTS_REPLY, &[5]);
    scene.send(&request).await;
    let (_, code, text) = failure(&scene.raw.until(kind::FAILURE).await);
    assert_eq!(code, code::STOPPED, "{text}");
    assert_eq!(scene.runs.load(Ordering::SeqCst), 0);
    assert_eq!(hidden.add(1).await.unwrap(), 1);
}

#[tokio::test]
async fn a_request_for_another_method_or_signature_never_runs() {
    let mut scene = Scene::new().await;
    let [name, signature] = scene.add;
    for (id, method, expected) in [
        (1, [name ^ 1, signature], "has no such method"),
        (2, [name, signature ^ 1], "another signature"),
        (3, [name, scene.wait[1]], "another signature"),
        (4, [0, 0], "has no such method"),
    ] {
        let request = scene.request(id, method, &[5]);
        scene.send(&request).await;
        let (answered, code, text) = failure(&scene.raw.until(kind::FAILURE).await);
        assert_eq!((answered, code), (id, code::INCOMPATIBLE), "{text}");
        assert!(text.contains(expected), "{text}, and {expected:?} was expected");
    }
    scene.still_works().await;
    assert_eq!(scene.runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn arguments_that_do_not_decode_fail_alone() {
    let mut scene = Scene::new().await;
    let huge_length = [253, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    for (id, arguments) in [(1, &[][..]), (2, &[5, 5]), (3, &huge_length), (4, &[255; 40])] {
        let request = scene.request(id, scene.add, arguments);
        scene.send(&request).await;
        let (answered, code, text) = failure(&scene.raw.until(kind::FAILURE).await);
        assert_eq!((answered, code), (id, code::CODEC), "{text}");
    }
    scene.still_works().await;
    assert_eq!(scene.runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_number_that_is_open_already_closes_the_connection() {
    let mut scene = Scene::new().await;
    let first = scene.request(1, scene.wait, &[]);
    scene.send(&first).await;
    assert!(scene.raw.is_served().await.is_empty(), "the first one waits");
    let again = scene.request(1, scene.add, &[5]);
    scene.check_closes(&again, "request 1 was sent twice").await;
}

#[tokio::test]
async fn unknown_flags_close_the_connection() {
    let scene = Scene::new().await;
    let strange = request(1, scene.instance, scene.add, 0x81, &[5]);
    scene.check_closes(&strange, "protocol error").await;
}

#[tokio::test]
async fn a_chain_that_claims_more_than_it_may_closes_the_connection() {
    let scene = Scene::new().await;
    let chain = Fields::default().u16(65).bytes(&[0; 100]).0;
    let strange = request(1, scene.instance, scene.add, 3, &chain);
    scene.check_closes(&strange, "protocol error").await;
}

#[tokio::test]
async fn answers_and_cancels_for_nobody_are_ignored() {
    let mut scene = Scene::new().await;
    for id in [0, 1, 77, u64::MAX] {
        scene.send(&Fields::default().u64(id).bytes(b"whatever").frame(kind::REPLY)).await;
        scene.send(&Fields::default().u64(id).u8(13).string("no").frame(kind::FAILURE)).await;
        scene.send(&Fields::default().u64(id).frame(kind::CANCEL)).await;
        scene.send(&Fields::default().u64(id).frame(kind::PONG)).await;
    }
    assert!(scene.raw.is_served().await.is_empty(), "nothing was answered");
    scene.still_works().await;
}

#[tokio::test]
async fn a_reply_that_does_not_decode_is_the_caller_s_matter_alone() {
    let mut scene = Scene::new().await;
    let mine = TargetHandle::try_lookup(&scene.node, "mine").unwrap();
    for (payload, expected) in [(&[9][..], Ok(9)), (&[], Err(())), (&[1, 2, 3], Err(()))] {
        let peer = async {
            let id = scene.raw.until(kind::REQUEST).await.fields().u64();
            scene.raw.write(&Fields::default().u64(id).bytes(payload).frame(kind::REPLY)).await;
        };
        let (answer, ()) = tokio::join!(soon("an answer", mine.add(1).into_future()), peer);
        match expected {
            Ok(value) => assert_eq!(answer, Ok(value)),
            Err(()) => assert!(matches!(answer, Err(CallError::BadReply(_))), "{answer:?}"),
        }
    }
    scene.still_works().await;
}

#[tokio::test]
async fn a_failure_of_a_later_version_is_an_error_that_may_have_run() {
    let mut scene = Scene::new().await;
    let mine = TargetHandle::try_lookup(&scene.node, "mine").unwrap();
    let peer = async {
        let id = scene.raw.until(kind::REQUEST).await.fields().u64();
        scene.raw.write(&Fields::default().u64(id).u8(200).string("new").frame(kind::FAILURE)).await;
    };
    let (answer, ()) = tokio::join!(soon("an answer", mine.add(1).into_future()), peer);
    assert!(answer.as_ref().is_err_and(CallError::may_have_run), "{answer:?}");
}

#[tokio::test]
async fn a_cancelled_request_in_the_mailbox_never_runs_and_is_not_answered() {
    let mut scene = Scene::new().await;
    let running = scene.request(1, scene.wait, &[]);
    let queued = scene.request(2, scene.add, &[5]);
    let cancel = Fields::default().u64(2).frame(kind::CANCEL);
    let last = scene.request(3, scene.add, &[0]);
    scene.send(&[running, queued, cancel, last].concat()).await;
    assert!(scene.raw.is_served().await.is_empty(), "the first one waits, and the others behind it");
    scene.gate.add_permits(1);
    let answered = [scene.raw.until(kind::REPLY).await, scene.raw.until(kind::REPLY).await];
    assert_eq!(answered.map(|reply| reply.fields().u64()), [1, 3]);
    assert_eq!(scene.runs.load(Ordering::SeqCst), 0);
}
