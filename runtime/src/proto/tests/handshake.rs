//! Who is let in, who is not, and what each side then says in its log.

use bytes::BytesMut;
use proptest::prelude::*;

use crate::id::{Incarnation, NodeId};
use crate::proto::connection::{CloseReason, ConnectionConfig};
use crate::proto::frame::{Frame, Refuse, RefuseReason, Welcome, parse};
use crate::proto::group::{self, Extra};

use super::pair::{Pair, config, secret};

type Change = fn(&mut ConnectionConfig);

const AS_IT_IS: Change = |_| {};

/// `a` dials `b`, each with its settings changed; what each says in the end.
fn check(dialler: Change, acceptor: Change, dialler_says: &str, acceptor_says: &str) {
    let (mut a, mut b) = (config("a"), config("b"));
    dialler(&mut a);
    acceptor(&mut b);
    let mut pair = Pair::new(a, b);
    pair.run();
    assert_eq!(pair.dialler.outcome(), dialler_says);
    assert_eq!(pair.acceptor.outcome(), acceptor_says);
}

/// The acceptor refuses with these words.
fn refused(dialler: Change, acceptor: Change, words: &str) {
    let dialler_says = format!("refused by the peer, in its words: {words}");
    check(dialler, acceptor, &dialler_says, &format!("refused by this node: {words}"));
}

#[test]
fn nodes_that_agree_are_connected() {
    check(AS_IT_IS, AS_IT_IS, "established with b", "established with a");
    let keyed: Change = |c| c.secret = Some(secret("s"));
    check(keyed, keyed, "established with b", "established with a");
}

#[test]
fn nodes_that_differ_are_refused_and_both_logs_say_why() {
    let keyed: Change = |c| c.secret = Some(secret("s"));
    let keyed_otherwise: Change = |c| c.secret = Some(secret("t"));
    let other_cluster: Change = |c| c.identity.cluster = "other".to_owned();
    let later_version: Change = |c| c.versions = 2..=3;
    let same_name: Change = |c| c.identity.node = NodeId::new("b").unwrap();
    let namesake: Change = |c| {
        c.identity.node = NodeId::new("b").unwrap();
        c.identity.incarnation = Incarnation(2);
    };
    let all_wrong: Change = |c| {
        c.versions = 2..=3;
        c.identity.cluster = "other".to_owned();
        c.secret = Some(secret("t"));
    };
    let all_but_version: Change = |c| {
        c.identity.cluster = "other".to_owned();
        c.secret = Some(secret("t"));
    };

    refused(other_cluster, AS_IT_IS, "cluster name differs: the peer says \"other\"");
    let versions = "no common protocol version: the peer speaks 2 to 3, this node 1 to 1";
    refused(later_version, AS_IT_IS, versions);
    refused(AS_IT_IS, later_version, "no common protocol version: the peer speaks 1 to 1, this node 2 to 3");
    refused(keyed, keyed_otherwise, "wrong secret");
    refused(AS_IT_IS, keyed, "wrong secret: the peer has none, this node has one");
    refused(keyed, AS_IT_IS, "wrong secret: the peer has one, this node has none");
    refused(same_name, AS_IT_IS, "node name is taken: the peer is this node itself");
    refused(namesake, AS_IT_IS, "node name is taken: the peer has the name of this node, \"b\"");
    refused(all_wrong, AS_IT_IS, versions);
    refused(all_but_version, keyed, "cluster name differs: the peer says \"other\"");
}

#[test]
fn a_further_connection_says_whose_it_is_and_is_given_up_where_one_is_enough() {
    let extra = Extra { number: 2, first: [9; 32] };
    let wishes = |node: &str, connections| {
        let mut config = config(node);
        config.features = group::wish(config.features, connections);
        config
    };
    let mut pair = Pair::new(ConnectionConfig { extra: Some(extra), ..wishes("a", 4) }, wishes("b", 4));
    pair.run();
    let (here, there) = (pair.dialler.established().unwrap(), pair.acceptor.established().unwrap());
    assert_eq!((here.extra, there.extra), (Some(extra), Some(extra)));
    assert_eq!(here.challenge, there.challenge, "by which others would name this one");

    let mut pair = Pair::new(ConnectionConfig { extra: Some(extra), ..wishes("a", 4) }, wishes("b", 1));
    pair.run();
    let says = "refused by this node: protocol error: a further connection, of which the peer wants none";
    assert_eq!(pair.dialler.outcome(), says);

    let mut pair = Pair::new(wishes("a", 4), wishes("b", 4));
    pair.run();
    assert_eq!(pair.acceptor.established().unwrap().extra, None, "a first one says nothing");
}

#[test]
fn a_stranger_does_not_learn_the_clusters_name() {
    let mut a = config("a");
    a.identity.cluster = "guess".to_owned();
    let mut pair = Pair::new(a, config("b"));
    let mut heard = BytesMut::new();
    pair.run_changed(|passage, bytes| {
        if passage % 2 == 1 {
            heard.extend_from_slice(bytes);
        }
    });
    assert!(!heard.is_empty());
    assert!(!heard.windows(4).any(|window| window == b"demo"));
}

#[test]
fn the_highest_common_version_and_the_common_features_are_chosen() {
    for (ours, theirs, expected) in
        [(1..=3, 2..=5, 3), (2..=5, 1..=3, 3), (1..=9, 4..=4, 4), (0..=0, 0..=65535, 0)]
    {
        let (mut a, mut b) = (config("a"), config("b"));
        (a.versions, a.features, a.max_frame) = (ours, 0b1100, 100_000);
        (b.versions, b.features, b.max_frame) = (theirs, 0b0110, 10);
        let mut pair = Pair::new(a, b);
        pair.run();
        let seen_by_a = pair.dialler.established().unwrap();
        let seen_by_b = pair.acceptor.established().unwrap();
        for peer in [seen_by_a, seen_by_b] {
            assert_eq!((peer.version, peer.features), (expected, 0b0100));
            assert_eq!(peer.listen, Some("127.0.0.1:7001".parse().unwrap()));
        }
        assert_eq!((seen_by_b.max_frame, pair.dialler.connection.limit()), (100_000, 100_000));
        assert_eq!((seen_by_a.max_frame, pair.acceptor.connection.limit()), (65_536, 65_536));
    }
}

#[test]
fn a_node_that_is_not_admitted_is_told_why() {
    let mut pair = Pair::new(config("a"), config("b"));
    pair.admission = Err(RefuseReason::Duplicate.into());
    pair.run();
    let words = "there is another connection between the two nodes";
    assert_eq!(pair.dialler.outcome(), format!("refused by the peer, in its words: {words}"));
    assert_eq!(pair.acceptor.outcome(), format!("refused by this node: {words}"));
    assert!(pair.dialler.closed().unwrap().is_refusal() && pair.acceptor.closed().unwrap().is_refusal());
}

#[test]
fn a_peer_cannot_forge_lines_in_the_log() {
    let refuse = Refuse::new(RefuseReason::Unknown(77), "x\nERROR forged\u{1b}[2J");
    let reason = CloseReason::Refused { by_peer: true, refuse };
    assert_eq!(
        reason.to_string(),
        "refused by the peer, in its words: unknown reason 77: x\\nERROR forged\\u{1b}[2J"
    );
    let goodbye = CloseReason::Goodbye("a\rb".to_owned());
    assert_eq!(goodbye.to_string(), "the peer said goodbye: a\\rb");
}

fn keyed_pair() -> Pair {
    let (mut a, mut b) = (config("a"), config("b"));
    a.secret = Some(secret("s"));
    b.secret = Some(secret("s"));
    // So that the last frame is the handshake's.
    (a.features, b.features) = (0, 0);
    Pair::new(a, b)
}

fn first(bytes: &BytesMut) -> Frame {
    parse(&mut bytes.clone(), 4096).unwrap().unwrap()
}

/// The expected bytes were computed from the written specification by another implementation of HMAC.
#[test]
fn the_proofs_are_the_ones_that_were_published() {
    let mut macs = vec![];
    keyed_pair().run_changed(|_, bytes| match first(bytes) {
        Frame::Proof(proof) => macs.push(proof.mac),
        Frame::Welcome(welcome) => macs.push(welcome.mac),
        _ => {}
    });
    let hex = |mac: &[u8; 32]| mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    assert_eq!(hex(&macs[0]), "4f7eee984d724c7c6611fcd33d582ffd1ed15a70f8e55c691655728ed92c438a");
    assert_eq!(hex(&macs[1]), "16c5dcabba0ad6bcde00bb10a1bfe4c97ed5f919591cf56181cf251c1348d6c9");
}

#[test]
fn a_recorded_proof_is_worth_nothing_in_another_handshake() {
    let mut recorded = None;
    keyed_pair().run_changed(|passage, bytes| {
        if passage == 2 {
            recorded = Some(bytes.clone());
        }
    });
    let mut stranger = keyed_pair();
    let mut acceptor = config("b");
    acceptor.secret = Some(secret("s"));
    acceptor.features = 0;
    stranger.acceptor.connection =
        crate::proto::connection::Connection::accept(acceptor, [3; 32], stranger.now);
    stranger.run_changed(|passage, bytes| {
        if passage == 2 {
            bytes.clone_from(recorded.as_ref().unwrap());
        }
    });
    assert_eq!(stranger.acceptor.outcome(), "refused by this node: wrong secret");
    assert!(stranger.dialler.established().is_none());
}

#[test]
fn a_diallers_own_proof_does_not_prove_the_acceptor() {
    let mut proof = [0; 32];
    let mut pair = keyed_pair();
    pair.run_changed(|passage, bytes| match first(bytes) {
        Frame::Proof(sent) => proof = sent.mac,
        Frame::Welcome(welcome) => {
            assert_eq!(passage, 3);
            bytes.clear();
            Frame::Welcome(Box::new(Welcome { mac: proof, ..*welcome })).encode(bytes);
        }
        _ => {}
    });
    assert_eq!(pair.dialler.outcome(), "refused by this node: wrong secret");
}

#[test]
fn a_challenge_that_nobody_may_send_is_refused() {
    for (change, words) in [
        (
            (|c: &mut crate::proto::frame::Challenge| c.version = 9) as fn(&mut _),
            "protocol error: the peer chose version 9, this node speaks 1 to 1",
        ),
        (
            |c| c.features = 0b1000,
            "protocol error: the peer chose features 0x8, which this node does not have",
        ),
        (|c| c.needs_secret = true, "wrong secret: the peer has one, this node has none"),
    ] {
        let mut pair = Pair::new(config("a"), config("b"));
        pair.run_changed(|passage, bytes| {
            let mut frame = first(bytes);
            if let (1, Frame::Challenge(challenge)) = (passage, &mut frame) {
                change(challenge);
                bytes.clear();
                frame.encode(bytes);
            }
        });
        assert_eq!(pair.dialler.outcome(), format!("refused by this node: {words}"));
        assert_eq!(pair.acceptor.outcome(), format!("refused by the peer, in its words: {words}"));
    }
}

proptest! {
    #[test]
    fn no_changed_byte_of_a_keyed_handshake_goes_unnoticed(
        passage in 0..4_usize,
        place in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let mut pair = keyed_pair();
        let mut in_force = false;
        pair.run_changed(|at, bytes| {
            if at == passage {
                let place = place.index(bytes.len());
                bytes[place] ^= change;
                in_force = true;
            }
        });
        prop_assert!(in_force);
        prop_assert!(pair.dialler.established().is_none());
        prop_assert_eq!(pair.acceptor.established().is_some(), passage == 3, "the last frame is the acceptor's own");
    }
}
