//! One stream's protocol, from its first byte to its last: the handshake, then frames both ways, then an end that
//! has a reason.
//!
//! Where both sides have the feature `FLOW`, it counts what the peer sends to each instance, and puts the pieces of long
//! messages together.
//!
//! Invariants: whatever the peer sends, and in whatever order, is either an event or a reason to close, never a
//! panic; after `Closed` there is no event; a frame costs a push to a queue and nothing else.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::config::Limits;
use crate::id::InstanceId;

use super::bodies;
use super::frame::{self, Frame, FrameError, HANDSHAKE_LIMIT, PIECE, Proof, Refuse, RefuseReason};
use super::group;
use super::handshake::{AwaitAdmission, AwaitChallenge, AwaitHello, AwaitProof, AwaitWelcome};
use super::inflow::Inflow;
use super::liveness::{Due, Liveness};
use super::pieces::PieceHead;
use super::settings::{FLOW, GOSSIP, STREAMS};

pub(crate) use super::event::{CloseReason, Event};
pub(crate) use super::settings::{ConnectionConfig, PeerIdentity};

/// The protocol state of one stream. See the module above for the order in which it is drained.
#[derive(Debug)]
pub(crate) struct Connection {
    config: ConnectionConfig,
    state: State,
    events: VecDeque<Event>,
    transmit: VecDeque<Frame>,
    next_token: u64,
    /// Once established with a peer that has the feature `FLOW`.
    inflow: Option<Inflow>,
    has_streams: bool,
    has_gossip: bool,
    /// Whether there may be several connections to the peer.
    has_group: bool,
}

#[derive(Debug)]
enum State {
    Handshake { phase: Phase, deadline: Instant },
    Established(Liveness),
    Closed,
}

/// What a handshake waits for.
#[derive(Debug)]
enum Phase {
    Challenge(AwaitChallenge),
    Welcome(AwaitWelcome),
    Hello(AwaitHello),
    Proof(AwaitProof),
    Admission(AwaitAdmission),
}

impl Connection {
    /// The protocol of a stream that this node has dialled. `nonce` must be random and never used before.
    pub(crate) fn dial(config: ConnectionConfig, nonce: [u8; 32], now: Instant) -> Self {
        let (wait, hello) = AwaitChallenge::begin(&config, nonce);
        let mut connection = Self::new(config, Phase::Challenge(wait), now);
        connection.transmit.push_back(hello);
        connection
    }

    /// The protocol of a stream that this node has accepted. `nonce` must be random and never used before.
    pub(crate) fn accept(config: ConnectionConfig, nonce: [u8; 32], now: Instant) -> Self {
        Self::new(config, Phase::Hello(AwaitHello::begin(nonce)), now)
    }

    fn new(config: ConnectionConfig, phase: Phase, now: Instant) -> Self {
        let state = State::Handshake { phase, deadline: now + config.handshake_timeout };
        Self {
            config,
            state,
            events: VecDeque::new(),
            transmit: VecDeque::new(),
            next_token: 1,
            inflow: None,
            has_streams: false,
            has_gossip: false,
            has_group: false,
        }
    }

    /// How much is kept for the peer.
    pub(crate) fn limits(&self) -> Limits {
        self.config.limits
    }

    /// The largest frame to take from the peer now, in bytes: little until it is established. To be asked anew
    /// for every frame.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        match self.state {
            State::Established(_) if self.inflow.is_some() => PIECE,
            State::Established(_) => self.config.max_frame() as usize,
            State::Handshake { .. } | State::Closed => HANDSHAKE_LIMIT,
        }
    }

    /// A frame has come.
    #[inline]
    pub(crate) fn handle_frame(&mut self, now: Instant, frame: Frame) {
        match &mut self.state {
            State::Established(liveness) => {
                liveness.received(now);
                self.handle_established(now, frame);
            }
            State::Handshake { .. } => self.handle_handshake(now, frame),
            State::Closed => {}
        }
    }

    /// A part of a frame has come: a large one may take long, and the peer is there.
    #[inline]
    pub(crate) fn handle_part(&mut self, now: Instant) {
        if let State::Established(liveness) = &mut self.state {
            liveness.received(now);
        }
    }

    /// A piece has begun to come, of so many bytes.
    pub(crate) fn handle_piece_begin(&mut self, now: Instant, head: PieceHead, length: usize) {
        self.handle_part(now);
        let begun = match &mut self.inflow {
            Some(inflow) => inflow.begin_piece(head, length),
            None => Err("a piece, although the feature was not agreed on".to_owned()),
        };
        if let Err(text) = begun {
            self.break_off(text);
        }
    }

    /// Where the bytes of the piece that has begun go. `None` if they are not wanted.
    pub(crate) fn piece_bytes(&mut self) -> Option<&mut BytesMut> {
        self.inflow.as_mut()?.piece_bytes()
    }

    /// The piece that has begun has come to its end.
    pub(crate) fn handle_piece_end(&mut self, now: Instant) {
        self.handle_part(now);
        let Some(message) = self.inflow.as_mut().and_then(Inflow::end_piece) else { return };
        match frame::parse_long(&message) {
            Ok(frame) => self.handle_frame(now, frame),
            Err(error) => self.break_off(error.to_string()),
        }
    }

    /// Whether pieces of messages have come, and more are to come.
    pub(crate) fn has_pieces_to_come(&self) -> bool {
        self.inflow.as_ref().is_some_and(Inflow::has_open)
    }

    /// A request has left the connection: into its mailbox, or it was answered.
    #[inline]
    pub(crate) fn consumed(&mut self, instance: InstanceId, bytes: usize) {
        if let Some(inflow) = &mut self.inflow {
            inflow.consumed(instance, bytes);
        }
    }

    /// An instance does not run here, or no longer.
    pub(crate) fn gone(&mut self, instance: InstanceId) {
        if let Some(inflow) = &mut self.inflow {
            inflow.gone(instance);
        }
    }

    /// The instances here to which the peer has sent something, as far as that is counted.
    pub(crate) fn addressed(&self) -> impl Iterator<Item = InstanceId> {
        self.inflow.iter().flat_map(Inflow::addressed)
    }

    /// What has come is not a frame.
    pub(crate) fn handle_error(&mut self, _now: Instant, error: &FrameError) {
        self.break_off(error.to_string());
    }

    /// `poll_timeout`'s instant has come. To call it earlier does no harm.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Handshake { deadline, .. } if now >= *deadline => {
                self.end(CloseReason::HandshakeTimeout);
            }
            State::Established(liveness) => match liveness.due(now) {
                Due::Nothing => {}
                Due::Ping => self.ping(),
                Due::Silent(time) => self.end(CloseReason::Silent(time)),
            },
            State::Handshake { .. } | State::Closed => {}
        }
    }

    /// The stream has ended: by an error, or because the peer has closed it.
    pub(crate) fn handle_end(&mut self, _now: Instant, error: Option<String>) {
        if !matches!(self.state, State::Closed) {
            self.end(CloseReason::Ended(error));
        }
    }

    /// The stream was not secure after all: the other end does not accept this node's certificate, or bytes were changed on
    /// the way.
    pub(crate) fn handle_insecure(&mut self, now: Instant, error: String) {
        match self.state {
            State::Handshake { .. } => self.end(CloseReason::Insecure(error)),
            State::Established(_) | State::Closed => self.handle_end(now, Some(error)),
        }
    }

    /// Answers [`Event::Admit`]. Does nothing if the connection no longer waits for it.
    pub(crate) fn admit(&mut self, now: Instant, decision: Result<(), Refuse>) {
        if !matches!(self.state, State::Handshake { phase: Phase::Admission(_), .. }) {
            return;
        }
        let State::Handshake { phase: Phase::Admission(wait), .. } = self.take_state() else { return };
        match decision {
            Ok(()) => {
                let (peer, welcome) = wait.admitted(&self.config);
                self.transmit.push_back(welcome);
                self.establish(now, peer);
            }
            Err(refuse) => self.refuse(refuse),
        }
    }

    /// Ends the connection on purpose; the peer is told why.
    pub(crate) fn close(&mut self, _now: Instant, reason: &str) {
        let last = match self.state {
            State::Established(_) => Frame::Goodbye { reason: reason.to_owned() },
            State::Handshake { .. } => Frame::Refuse(Refuse::new(RefuseReason::ShuttingDown, reason)),
            State::Closed => return,
        };
        self.transmit.push_back(last);
        self.end(CloseReason::Closed(reason.to_owned()));
    }

    /// There is a reason to doubt that the peer is still there: asks it now, and gives it one second for any frame
    /// at all. Does nothing unless established.
    pub(crate) fn probe(&mut self, now: Instant) {
        if let State::Established(liveness) = &mut self.state {
            liveness.probe(now);
            self.ping();
        }
    }

    /// The next frame to send.
    #[must_use]
    pub(crate) fn poll_transmit(&mut self) -> Option<Frame> {
        let next = self.transmit.pop_front();
        // What one side grants the other is worth nothing after the end.
        next.or_else(|| match self.state {
            State::Established(_) => self.inflow.as_mut()?.poll_transmit(),
            State::Handshake { .. } | State::Closed => None,
        })
    }

    /// The next thing that has happened.
    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Connection::handle_timeout`]. A frame that comes makes it later.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Handshake { deadline, .. } => Some(*deadline),
            State::Established(liveness) => Some(liveness.timeout()),
            State::Closed => None,
        }
    }

    #[inline]
    fn handle_established(&mut self, now: Instant, frame: Frame) {
        let event = match frame {
            Frame::Request(request) => {
                if let Some(inflow) = &mut self.inflow
                    && let Err(text) = inflow.request(&request)
                {
                    return self.break_off(text);
                }
                Event::Request(request)
            }
            Frame::Reply { id, payload } => Event::Reply { id, payload },
            Frame::Failure { id, error } => Event::Failure { id, error },
            Frame::Cancel { id } => Event::Cancel { id },
            Frame::Watch(watch) => Event::Watch(watch),
            Frame::Unwatch { id, reason } => Event::Unwatch { id, reason },
            Frame::Down { id, reason } => Event::Down { id, reason },
            Frame::Names(names) => Event::Names(names),
            Frame::Described(described) => Event::Described(described),
            Frame::Members(members) => Event::Members(members),
            Frame::Gossip { .. } if !self.has_gossip => {
                return self.not_agreed_on(&frame);
            }
            Frame::Gossip { bytes } => Event::Gossip { bytes },
            Frame::NamesSync { token } => Event::NamesSync { token },
            Frame::NamesSynced { token } => Event::NamesSynced { token },
            Frame::Piece { head, bytes } => return self.handle_piece(now, head, &bytes),
            Frame::Window(_) | Frame::Credit { .. } | Frame::Gone { .. } | Frame::Taken { .. }
                if self.inflow.is_none() =>
            {
                return self.not_agreed_on(&frame);
            }
            Frame::StreamCredit { .. }
            | Frame::StreamItem { .. }
            | Frame::StreamEnd { .. }
            | Frame::StreamStop { .. }
                if !self.has_streams =>
            {
                return self.not_agreed_on(&frame);
            }
            Frame::Fence { .. } | Frame::Behind { .. } if !self.has_group => {
                return self.not_agreed_on(&frame);
            }
            Frame::Fence { number } => Event::Fence { number },
            Frame::Behind { number, fences, word } => Event::Behind { number, fences, word },
            Frame::StreamCredit { stream, totals } => Event::StreamCredit { stream, totals },
            Frame::StreamItem { stream, payload } => Event::StreamItem { stream, payload },
            Frame::StreamEnd { stream, error } => Event::StreamEnd { stream, error },
            Frame::StreamStop { stream } => Event::StreamStop { stream },
            Frame::Window(window) => Event::Window(window),
            Frame::Credit { instance, totals } => Event::Credit { instance, totals },
            Frame::Gone { instance } => Event::Gone { instance },
            Frame::Taken { bytes } => Event::Taken { bytes },
            Frame::Ping { token } => return self.send_control(Frame::Pong { token }),
            Frame::Pong { token } => Event::Pong { token },
            Frame::Goodbye { reason } => {
                self.events.push_back(Event::Goodbye { reason: reason.clone() });
                return self.end(CloseReason::Goodbye(reason));
            }
            Frame::Hello(_)
            | Frame::Challenge(_)
            | Frame::Proof(_)
            | Frame::Welcome(_)
            | Frame::Refuse(_) => {
                return self.break_off(format!("{} frame after the handshake", bodies::name(&frame)));
            }
        };
        self.events.push_back(event);
    }

    /// A piece that has come whole.
    fn handle_piece(&mut self, now: Instant, head: PieceHead, bytes: &Bytes) {
        self.handle_piece_begin(now, head, bytes.len());
        if let Some(place) = self.piece_bytes() {
            place.extend_from_slice(bytes);
            self.handle_piece_end(now);
        }
    }

    fn handle_handshake(&mut self, now: Instant, frame: Frame) {
        let State::Handshake { phase, deadline } = self.take_state() else { return };
        let next = match (phase, frame) {
            (Phase::Hello(wait), Frame::Hello(hello)) => {
                wait.greeted(&self.config, *hello).map(|(wait, reply)| (Phase::Proof(wait), Some(reply)))
            }
            (Phase::Challenge(wait), Frame::Challenge(challenge)) => wait
                .challenged(&self.config, challenge)
                .map(|(wait, reply)| (Phase::Welcome(wait), Some(reply))),
            (Phase::Proof(wait), Frame::Proof(proof)) => self.handle_proof(wait, proof),
            (Phase::Welcome(wait), Frame::Welcome(welcome)) => match wait.welcomed(&self.config, *welcome) {
                Ok(peer) => return self.establish(now, peer),
                Err(refuse) => Err(refuse),
            },
            (_, Frame::Refuse(refuse)) => return self.end(CloseReason::Refused { by_peer: true, refuse }),
            (phase, frame) => Err(out_of_order(&phase, &frame)),
        };
        match next {
            Ok((phase, reply)) => {
                self.transmit.extend(reply);
                self.state = State::Handshake { phase, deadline };
            }
            Err(refuse) => self.refuse(refuse),
        }
    }

    fn handle_proof(&mut self, wait: AwaitProof, proof: Proof) -> Result<(Phase, Option<Frame>), Refuse> {
        let wait = wait.proven(&self.config, proof)?;
        self.events.push_back(Event::Admit(wait.peer().clone()));
        Ok((Phase::Admission(wait), None))
    }

    fn establish(&mut self, now: Instant, peer: PeerIdentity) {
        self.state = State::Established(Liveness::new(self.config.heartbeat, self.config.silence, now));
        if peer.features & FLOW != 0 {
            let window = self.config.window();
            self.transmit.push_back(Frame::Window(window));
            self.has_streams = peer.features & STREAMS != 0;
            self.inflow = Some(Inflow::new(window, self.config.max_frame() as usize));
        }
        self.has_gossip = peer.features & GOSSIP != 0;
        self.has_group = group::connections(peer.features) > 1;
        self.events.push_back(Event::Established(peer));
    }

    /// The peer speaks of a feature that the two do not have.
    fn not_agreed_on(&mut self, frame: &Frame) {
        self.break_off(format!("{} frame, although the feature was not agreed on", bodies::name(frame)));
    }

    /// The peer breaks the protocol: it is told, and the connection is over.
    fn break_off(&mut self, text: String) {
        match self.state {
            State::Handshake { .. } => self.refuse(Refuse::new(RefuseReason::Protocol, text)),
            State::Established(_) => {
                self.transmit.push_back(Frame::Goodbye { reason: format!("protocol error: {text}") });
                self.end(CloseReason::Protocol(text));
            }
            State::Closed => {}
        }
    }

    fn refuse(&mut self, refuse: Refuse) {
        self.transmit.push_back(Frame::Refuse(refuse.clone()));
        // The state may have been taken for a transition that failed.
        self.state = State::Closed;
        self.events.push_back(Event::Closed(CloseReason::Refused { by_peer: false, refuse }));
    }

    fn ping(&mut self) {
        let token = self.next_token;
        self.next_token += 1;
        self.send_control(Frame::Ping { token });
    }

    /// Sends a frame that may be left out: a peer that asks faster than its answers are taken gets fewer.
    fn send_control(&mut self, frame: Frame) {
        if self.transmit.len() < MAX_TRANSMIT {
            self.transmit.push_back(frame);
        }
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed)
    }

    fn end(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.events.push_back(Event::Closed(reason));
    }
}

/// For who holds it to its bounds.
#[cfg(any(test, fuzzing))]
impl Connection {
    /// How many events and frames wait to be taken, and what else it keeps.
    pub(crate) fn kept(&self) -> (usize, usize, super::inflow::Kept) {
        let inflow = self.inflow.as_ref().map(Inflow::kept).unwrap_or_default();
        (self.events.len(), self.transmit.len(), inflow)
    }
}

fn out_of_order(phase: &Phase, frame: &Frame) -> Refuse {
    let expected = match phase {
        Phase::Hello(_) => "a hello",
        Phase::Challenge(_) => "a challenge",
        Phase::Proof(_) => "a proof",
        Phase::Welcome(_) => "a welcome",
        Phase::Admission(_) => "nothing",
    };
    let text = format!("{} frame came where {expected} was expected", bodies::name(frame));
    Refuse::new(RefuseReason::Protocol, text)
}

/// The control frames that wait to be taken at most.
pub(crate) const MAX_TRANSMIT: usize = 64;
