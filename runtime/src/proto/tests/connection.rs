//! What a connection does with a peer that is slow, silent, rude, or out of its mind.

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::id::RequestId;
use crate::proto::connection::{CloseReason, Connection, Event};
use crate::proto::frame::{Frame, FrameError, HANDSHAKE_LIMIT, PIECE, Proof, Refuse, RefuseReason};

use super::arbitrary;
use super::pair::{Pair, config};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn frames_become_events_in_the_order_in_which_they_came() {
    let mut pair = Pair::established();
    pair.acceptor.events.clear();
    let id = RequestId(4);
    for frame in [
        Frame::Cancel { id },
        Frame::NamesSync { token: 5 },
        Frame::Reply { id, payload: Bytes::from_static(b"x") },
        Frame::NamesSynced { token: 6 },
    ] {
        pair.acceptor.connection.handle_frame(pair.now, frame);
    }
    pair.run();
    let expected = [
        Event::Cancel { id },
        Event::NamesSync { token: 5 },
        Event::Reply { id, payload: Bytes::from_static(b"x") },
        Event::NamesSynced { token: 6 },
    ];
    assert_eq!(pair.acceptor.events, expected);
}

#[test]
fn the_frame_limit_is_small_until_the_peer_is_known() {
    let mut pair = Pair::new(config("a"), config("b"));
    assert_eq!(pair.acceptor.connection.limit(), HANDSHAKE_LIMIT);
    assert_eq!(pair.dialler.connection.limit(), HANDSHAKE_LIMIT);
    pair.run();
    assert_eq!(pair.acceptor.connection.limit(), PIECE, "what is longer comes in pieces");

    let (old, mut new) = (config("a"), config("b"));
    new.features = 0;
    let mut pair = Pair::new(old, new);
    pair.run();
    assert_eq!(pair.acceptor.connection.limit(), config("b").max_frame);
}

#[test]
fn two_idle_nodes_keep_their_connection() {
    let mut pair = Pair::established();
    for _ in 0..600 {
        pair.wait(SECOND / 2);
    }
    assert_eq!(pair.dialler.outcome(), "established with b");
    assert_eq!(pair.acceptor.outcome(), "established with a");
}

#[test]
fn a_silent_peer_is_given_up_after_the_silence() {
    let mut pair = Pair::established();
    let begin = pair.now;
    let alone = &mut pair.dialler;
    while alone.closed().is_none() {
        pair.now = alone.connection.poll_timeout().unwrap();
        alone.connection.handle_timeout(pair.now);
        let _ = alone.take_bytes();
    }
    assert_eq!(pair.now - begin, 5 * SECOND);
    assert_eq!(alone.outcome(), "nothing came from the peer for 5s");
}

#[test]
fn a_probed_peer_that_lives_answers_and_one_that_does_not_is_given_up_within_a_second() {
    let mut pair = Pair::established();
    pair.dialler.connection.probe(pair.now);
    pair.run();
    pair.wait(SECOND);
    assert_eq!(pair.dialler.outcome(), "established with b");

    pair.dialler.connection.probe(pair.now);
    let _ = pair.dialler.take_bytes();
    pair.dialler.connection.handle_timeout(pair.now + SECOND);
    let _ = pair.dialler.take_bytes();
    assert_eq!(pair.dialler.outcome(), "nothing came from the peer for 1s");
}

#[test]
fn a_handshake_that_is_not_done_in_time_is_over() {
    let mut pair = Pair::new(config("a"), config("b"));
    assert_eq!(pair.acceptor.connection.poll_timeout(), Some(pair.now + 5 * SECOND));
    pair.now += 5 * SECOND;
    pair.acceptor.connection.handle_timeout(pair.now);
    assert!(pair.acceptor.take_bytes().is_empty(), "who said nothing is told nothing");
    assert_eq!(pair.acceptor.outcome(), "the handshake was not done in time");
}

#[test]
fn a_goodbye_ends_both_sides_with_the_reason() {
    let mut pair = Pair::established();
    pair.dialler.connection.close(pair.now, "shutdown");
    pair.run();
    assert_eq!(pair.dialler.outcome(), "closed by this node: shutdown");
    assert_eq!(pair.acceptor.outcome(), "the peer said goodbye: shutdown");
    assert!(pair.acceptor.events.contains(&Event::Goodbye { reason: "shutdown".to_owned() }));

    let mut pair = Pair::new(config("a"), config("b"));
    pair.acceptor.connection.close(pair.now, "shutdown");
    pair.run();
    assert_eq!(pair.dialler.outcome(), "refused by the peer, in its words: shutting down: shutdown");
}

#[test]
fn a_frame_out_of_its_order_closes_with_both_sides_told() {
    let mut pair = Pair::established();
    pair.acceptor.connection.handle_frame(pair.now, Frame::Proof(Proof { mac: [0; 32] }));
    pair.run();
    assert_eq!(pair.acceptor.outcome(), "protocol error: proof frame after the handshake");
    let told = "the peer said goodbye: protocol error: proof frame after the handshake";
    assert_eq!(pair.dialler.outcome(), told);

    let mut pair = Pair::new(config("a"), config("b"));
    pair.acceptor.connection.handle_frame(pair.now, Frame::Ping { token: 1 });
    pair.run();
    let words = "protocol error: ping frame came where a hello was expected";
    assert_eq!(pair.acceptor.outcome(), format!("refused by this node: {words}"));
    assert_eq!(pair.dialler.outcome(), format!("refused by the peer, in its words: {words}"));
}

#[test]
fn garbage_closes_with_both_sides_told() {
    let mut pair = Pair::new(config("a"), config("b"));
    pair.acceptor.give_bytes(pair.now, b"GET / HTTP/1.1\r\n\r\n");
    pair.run();
    let words = "protocol error: frame of 542393671 bytes, the limit is 4096";
    assert_eq!(pair.acceptor.outcome(), format!("refused by this node: {words}"));
    assert_eq!(pair.dialler.outcome(), format!("refused by the peer, in its words: {words}"));

    let mut pair = Pair::established();
    pair.acceptor.give_bytes(pair.now, b"\xFF\xFF\xFF\xFF");
    pair.run();
    let words = "protocol error: frame of 4294967295 bytes, the limit is 65536";
    assert_eq!(pair.acceptor.outcome(), words);
    assert_eq!(pair.dialler.outcome(), format!("the peer said goodbye: {words}"));
}

#[test]
fn the_end_of_the_stream_has_its_reason() {
    for (error, expected) in
        [(None, "the peer closed the stream"), (Some("reset".to_owned()), "the stream broke: reset")]
    {
        let mut pair = Pair::established();
        pair.dialler.connection.handle_end(pair.now, error);
        pair.run();
        assert_eq!(pair.dialler.outcome(), expected);
    }
}

#[test]
fn a_peer_that_pings_without_reading_makes_no_queue_grow() {
    let mut pair = Pair::established();
    for token in 0..10_000 {
        pair.acceptor.connection.handle_frame(pair.now, Frame::Ping { token });
    }
    let queued = std::iter::from_fn(|| pair.acceptor.connection.poll_transmit()).count();
    assert_eq!(queued, 64);
}

#[derive(Debug, Clone)]
enum Input {
    Frame(Box<Frame>),
    Garbage,
    Wait(u64),
    OnTime,
    Admit(bool),
    Probe,
    Close,
    End,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        12 => arbitrary::frame().prop_map(|frame| Input::Frame(Box::new(frame))),
        1 => Just(Input::Garbage),
        4 => (0..7000_u64).prop_map(Input::Wait),
        4 => Just(Input::OnTime),
        2 => any::<bool>().prop_map(Input::Admit),
        1 => Just(Input::Probe),
        1 => Just(Input::Close),
        1 => Just(Input::End),
    ]
}

#[derive(Debug, Clone, Copy)]
enum Begin {
    Dialling,
    Accepting,
    Proving,
    Established,
}

fn begin(begin: Begin) -> (Connection, std::time::Instant) {
    let mut pair = match begin {
        Begin::Established => Pair::established(),
        _ => Pair::new(config("a"), config("b")),
    };
    if let Begin::Proving = begin {
        // Up to the admission, which is left to the inputs.
        for _ in 0..2 {
            let bytes = pair.dialler.take_bytes();
            pair.acceptor.give_bytes(pair.now, &bytes);
            let bytes = pair.acceptor.take_bytes();
            pair.dialler.give_bytes(pair.now, &bytes);
        }
        assert!(matches!(pair.acceptor.events.last(), Some(Event::Admit(_))));
    }
    let connection = match begin {
        Begin::Dialling => pair.dialler.connection,
        _ => pair.acceptor.connection,
    };
    (connection, pair.now)
}

proptest! {
    #[test]
    fn no_peer_and_no_timing_confuses_a_connection(
        start in prop::sample::select(vec![Begin::Dialling, Begin::Accepting, Begin::Proving, Begin::Established]),
        inputs in vec(input(), 0..60),
    ) {
        let (mut connection, mut now) = begin(start);
        let mut established = matches!(start, Begin::Established);
        let mut closed = false;
        for input in inputs {
            match input {
                Input::Frame(frame) => connection.handle_frame(now, *frame),
                Input::Garbage => connection.handle_error(now, &FrameError::Empty),
                Input::Wait(millis) => {
                    now += Duration::from_millis(millis);
                    connection.handle_timeout(now);
                }
                Input::OnTime => {
                    if let Some(at) = connection.poll_timeout() {
                        now = now.max(at);
                        connection.handle_timeout(now);
                        prop_assert!(connection.poll_timeout().is_none_or(|next| next > now), "no busy loop");
                    }
                }
                Input::Admit(true) => connection.admit(now, Ok(())),
                Input::Admit(false) => connection.admit(now, Err(Refuse::from(RefuseReason::TooBusy))),
                Input::Probe => connection.probe(now),
                Input::Close => connection.close(now, "test"),
                Input::End => connection.handle_end(now, None),
            }
            let sent = std::iter::from_fn(|| connection.poll_transmit()).count();
            prop_assert!(sent <= 2 && (sent == 0 || !closed), "nothing is sent after the end");
            while let Some(event) = connection.poll_event() {
                prop_assert!(!closed, "{:?} after the end", event);
                match event {
                    Event::Closed(reason) => {
                        prop_assert!(!reason.to_string().is_empty());
                        prop_assert!(established || !matches!(reason, CloseReason::Silent(_)));
                        closed = true;
                    }
                    Event::Established(_) => {
                        prop_assert!(!established);
                        established = true;
                    }
                    Event::Admit(_) => prop_assert!(!established),
                    other => prop_assert!(established, "{:?} from a stranger", other),
                }
            }
            prop_assert_eq!(connection.poll_timeout().is_none(), closed);
        }
    }
}
