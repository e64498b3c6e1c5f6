//! Two connections and the bytes between them.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::config::Secret;
use crate::id::{Incarnation, NodeId};
use crate::proto::connection::{CloseReason, Connection, ConnectionConfig, Event, PeerIdentity};
use crate::proto::frame::{Refuse, parse};
use crate::proto::settings::Identity;

/// A node's settings: cluster `demo`, version 1, no secret.
pub(super) fn config(node: &str) -> ConnectionConfig {
    let identity = Identity {
        cluster: "demo".to_owned(),
        node: NodeId::new(node).unwrap(),
        incarnation: Incarnation(1),
        listen: Some("127.0.0.1:7001".parse().unwrap()),
    };
    ConnectionConfig::new(identity, None)
}

/// A secret of a text.
pub(super) fn secret(text: &str) -> Secret {
    Secret::new(text.repeat(16)).unwrap()
}

/// One end.
pub(super) struct End {
    pub(super) connection: Connection,
    pub(super) events: Vec<Event>,
    incoming: BytesMut,
}

impl End {
    fn new(connection: Connection) -> Self {
        Self { connection, events: vec![], incoming: BytesMut::new() }
    }

    /// Who the peer is, once established.
    pub(super) fn established(&self) -> Option<&PeerIdentity> {
        self.events.iter().find_map(|event| match event {
            Event::Established(peer) => Some(peer),
            _ => None,
        })
    }

    /// How it ended, if it has.
    pub(super) fn closed(&self) -> Option<&CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::Closed(reason) => Some(reason),
            _ => None,
        })
    }

    /// How it stands, in words.
    pub(super) fn outcome(&self) -> String {
        match (self.closed(), self.established()) {
            (Some(reason), _) => reason.to_string(),
            (None, Some(peer)) => format!("established with {}", peer.node),
            (None, None) => "handshaking".to_owned(),
        }
    }

    /// Takes the bytes that it has to send.
    pub(super) fn take_bytes(&mut self) -> BytesMut {
        let mut out = BytesMut::new();
        while let Some(frame) = self.connection.poll_transmit() {
            frame.encode(&mut out);
        }
        while let Some(event) = self.connection.poll_event() {
            self.events.push(event);
        }
        out
    }

    /// Gives it bytes, in whatever pieces.
    pub(super) fn give_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
        while self.closed().is_none() {
            match parse(&mut self.incoming, self.connection.limit()) {
                Ok(None) => break,
                Ok(Some(frame)) => self.connection.handle_frame(now, frame),
                Err(error) => self.connection.handle_error(now, &error),
            }
            while let Some(event) = self.connection.poll_event() {
                self.events.push(event);
            }
        }
    }
}

/// A dialler and an acceptor.
pub(super) struct Pair {
    pub(super) dialler: End,
    pub(super) acceptor: End,
    pub(super) now: Instant,
    /// What the acceptor's node says to `Admit`.
    pub(super) admission: Result<(), Refuse>,
}

impl Pair {
    pub(super) fn new(dialler: ConnectionConfig, acceptor: ConnectionConfig) -> Self {
        let now = super::start();
        Self {
            dialler: End::new(Connection::dial(dialler, [1; 32], now)),
            acceptor: End::new(Connection::accept(acceptor, [2; 32], now)),
            now,
            admission: Ok(()),
        }
    }

    /// Two established ends without a secret.
    pub(super) fn established() -> Self {
        let mut pair = Self::new(config("a"), config("b"));
        pair.run();
        assert!(pair.dialler.established().is_some() && pair.acceptor.established().is_some());
        pair
    }

    /// Lets both speak until neither has anything to say.
    pub(super) fn run(&mut self) {
        self.run_changed(|_, _| {});
    }

    /// As `run`, with somebody between the two who may change what passes; the number counts the passages from 0.
    pub(super) fn run_changed(&mut self, mut change: impl FnMut(usize, &mut BytesMut)) {
        let mut passage = 0;
        loop {
            let mut quiet = true;
            for from_dialler in [true, false] {
                let (from, to) = if from_dialler {
                    (&mut self.dialler, &mut self.acceptor)
                } else {
                    (&mut self.acceptor, &mut self.dialler)
                };
                let mut bytes = from.take_bytes();
                if bytes.is_empty() {
                    continue;
                }
                quiet = false;
                change(passage, &mut bytes);
                passage += 1;
                to.give_bytes(self.now, &bytes);
                if matches!(to.events.last(), Some(Event::Admit(_))) {
                    to.connection.admit(self.now, self.admission.clone());
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Lets time pass on both ends, and lets them speak.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.dialler.connection.handle_timeout(self.now);
        self.acceptor.connection.handle_timeout(self.now);
        self.run();
    }
}
