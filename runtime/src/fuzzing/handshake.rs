//! The handshake: two sides, and somebody between them who may say anything, change, drop, hold back and repeat.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::input::Input;
use crate::config::Secret;
use crate::id::{Incarnation, NodeId};
use crate::proto::connection::{Connection, ConnectionConfig, Event};
use crate::proto::frame::{Frame, Refuse, RefuseReason, parse};
use crate::proto::settings::Identity;
use crate::time;

/// A side that has a secret lets nobody in but the other side, and only if that has the same secret and nobody has changed
/// a byte between the two.
pub fn handshake(data: &[u8]) {
    let mut input = Input::new(data);
    let (now, [right, other]) = (time::now(), secrets());
    let choices = [Some(&right), Some(&other), None];
    // Most often both have the same one.
    let (mine, theirs) = input.one_of(&[(0, 0), (0, 0), (0, 1), (0, 2), (2, 0), (2, 2)]);
    let same_secret = mine == theirs;
    let (mine, theirs) = (choices[mine].cloned(), choices[theirs].cloned());
    let mut between = Between {
        dialler: Side::new(Connection::dial(config("a", mine.clone()), [1; 32], now), mine.is_some()),
        acceptor: Side::new(Connection::accept(config("b", theirs.clone()), [2; 32], now), theirs.is_some()),
        recorded: record(now, &right),
        same_secret,
        now,
    };
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        between.step(&mut input);
    }
}

fn secrets() -> [Secret; 2] {
    let secret = |text: &str| Secret::new(text.repeat(4)).expect("a secret of enough bytes");
    [secret("the right one"), secret("another one")]
}

fn config(node: &str, secret: Option<Secret>) -> ConnectionConfig {
    let identity = Identity {
        cluster: "demo".to_owned(),
        node: NodeId::new(node).expect("a name"),
        incarnation: Incarnation(1),
        listen: None,
    };
    ConnectionConfig::new(identity, secret)
}

/// One end, with what it has said and been told.
struct Side {
    connection: Connection,
    has_secret: bool,
    sent: Vec<Frame>,
    /// Not passed on yet.
    waiting: VecDeque<Frame>,
    took: Vec<Frame>,
    is_closed: bool,
}

impl Side {
    fn new(connection: Connection, has_secret: bool) -> Self {
        let (sent, waiting, took) = (vec![], VecDeque::new(), vec![]);
        let mut side = Self { connection, has_secret, sent, waiting, took, is_closed: false };
        side.speak();
        side
    }

    fn give(&mut self, now: Instant, frame: Frame) {
        if !self.is_closed {
            self.took.push(frame.clone());
        }
        self.connection.handle_frame(now, frame);
        self.speak();
    }

    /// Gives bytes, which may be no frame.
    fn give_bytes(&mut self, now: Instant, mut bytes: BytesMut) {
        match parse(&mut bytes, self.connection.limit()) {
            Ok(Some(frame)) => self.give(now, frame),
            Ok(None) => {}
            Err(error) => self.connection.handle_error(now, &error),
        }
        self.speak();
    }

    fn speak(&mut self) {
        while let Some(frame) = self.connection.poll_transmit() {
            self.sent.push(frame.clone());
            self.waiting.push_back(frame);
        }
        assert!(self.sent.len() <= 300, "it talks without end");
    }
}

/// Whoever stands between the two.
struct Between {
    dialler: Side,
    acceptor: Side,
    /// All that was said in an earlier handshake with the right secret.
    recorded: Vec<Frame>,
    same_secret: bool,
    now: Instant,
}

impl Between {
    fn step(&mut self, input: &mut Input<'_>) {
        let choice = input.u8();
        let to_acceptor = choice & 0x80 == 0;
        let (from, to) = if to_acceptor {
            (&mut self.dialler, &mut self.acceptor)
        } else {
            (&mut self.acceptor, &mut self.dialler)
        };
        match choice & 0x7F {
            0..=3 => {
                if let Some(frame) = from.waiting.pop_front() {
                    to.give(self.now, frame);
                }
            }
            4 => to.give_bytes(self.now, changed(from.waiting.pop_front(), input)),
            5 => drop(from.waiting.pop_front()),
            6 => {
                let index = usize::from(input.u8()) % self.recorded.len();
                to.give(self.now, self.recorded[index].clone());
            }
            7 => {
                // Its own words.
                if let Some(frame) = to.sent.last().cloned() {
                    to.give(self.now, frame);
                }
            }
            8 => {
                let again = usize::from(input.u8()) % from.sent.len().max(1);
                if let Some(frame) = from.sent.get(again).cloned() {
                    to.give(self.now, frame);
                }
            }
            9 => {
                self.now += Duration::from_millis(u64::from(input.u8()) * 50);
                to.connection.handle_timeout(self.now);
                to.speak();
            }
            kind => {
                let bytes = input.frame(kind - 10, 0);
                to.give_bytes(self.now, bytes);
            }
        }
        self.hear(input);
    }

    fn hear(&mut self, input: &mut Input<'_>) {
        loop {
            let accepted = self.acceptor.connection.poll_event();
            let dialled = self.dialler.connection.poll_event();
            if accepted.is_none() && dialled.is_none() {
                return;
            }
            match accepted {
                Some(Event::Admit(peer)) => {
                    self.check_proven(&self.acceptor, &self.dialler, 1);
                    assert_ne!(peer.node.as_str(), "b", "its own name");
                    let decision = match input.u8() {
                        0xFF => Err(Refuse::from(RefuseReason::Duplicate)),
                        _ => Ok(()),
                    };
                    self.acceptor.connection.admit(self.now, decision);
                    self.acceptor.speak();
                }
                Some(Event::Established(_)) => self.check_proven(&self.acceptor, &self.dialler, 1),
                Some(Event::Closed(_)) => self.acceptor.is_closed = true,
                _ => {}
            }
            match dialled {
                Some(Event::Admit(_)) => panic!("nobody asks a dialler to be admitted"),
                Some(Event::Established(peer)) => {
                    self.check_proven(&self.dialler, &self.acceptor, 2);
                    assert_ne!(peer.node.as_str(), "a", "its own name");
                }
                Some(Event::Closed(_)) => self.dialler.is_closed = true,
                _ => {}
            }
        }
    }

    /// `side` has let `other` in: all that the two have heard before is what the other has said, of which the last `heard`
    /// frames of `other` may not have been passed on.
    fn check_proven(&self, side: &Side, other: &Side, heard: usize) {
        if !side.has_secret {
            return;
        }
        assert!(self.same_secret, "it was let in without the secret");
        assert_eq!(side.took[..2], other.sent[..2], "it was let in with words of somebody else");
        assert_eq!(other.took[..heard], side.sent[..heard], "it has proven something else");
    }
}

/// A frame with a byte changed.
fn changed(frame: Option<Frame>, input: &mut Input<'_>) -> BytesMut {
    let mut bytes = BytesMut::new();
    if let Some(frame) = frame {
        frame.encode(&mut bytes);
        let place = usize::from(input.u16()) % bytes.len();
        bytes[place] ^= input.u8().max(1);
    }
    bytes
}

/// A whole handshake of the same two nodes, with other nonces: none is used twice.
fn record(now: Instant, secret: &Secret) -> Vec<Frame> {
    let mut dialler = Connection::dial(config("a", Some(secret.clone())), [4; 32], now);
    let mut acceptor = Connection::accept(config("b", Some(secret.clone())), [3; 32], now);
    let mut said = Vec::new();
    for _ in 0..3 {
        while let Some(frame) = dialler.poll_transmit() {
            said.push(frame.clone());
            acceptor.handle_frame(now, frame);
        }
        while let Some(event) = acceptor.poll_event() {
            if matches!(event, Event::Admit(_)) {
                acceptor.admit(now, Ok(()));
            }
        }
        while let Some(frame) = acceptor.poll_transmit() {
            said.push(frame.clone());
            dialler.handle_frame(now, frame);
        }
    }
    assert!(said.len() >= 4, "the handshake was not done: {said:?}");
    said
}
