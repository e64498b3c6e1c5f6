//! What goes over a connection, for who wants to see it: how much, what waits, and how long an answer takes.
//!
//! Invariant: the driver alone writes the counts; who looks at them takes the lock of the link for a moment, or none.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::id::InstanceId;
use crate::proto::frame::Frame;
use crate::proto::lanes::LaneBytes;

use super::Link;

/// What has gone over a connection.
#[derive(Debug)]
pub(crate) struct Traffic {
    since: OnceLock<Instant>,
    /// How many connections to this life of the peer were before.
    before: AtomicU32,
    bytes_read: AtomicU64,
    frames_read: AtomicU64,
    bytes_written: AtomicU64,
    /// Those of the protocol itself, which do not stand in the lanes.
    own_frames: AtomicU64,
}

/// What there is to see of a connection at one moment.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) age: Duration,
    pub(crate) before: u32,
    pub(crate) bytes_read: u64,
    pub(crate) frames_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) frames_written: u64,
    pub(crate) waiting: LaneBytes,
    /// The requests that wait for an answer: of this side, and of the peer.
    pub(crate) requests: (usize, usize),
    /// How many instances of the peer have no credit left, and how many callers wait for each with callers that wait.
    pub(crate) without_credit: usize,
    pub(crate) lines: Vec<(InstanceId, usize)>,
}

/// The questions that are under way, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Pings {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// What tells these questions from those of the protocol, which counts from 1.
const OWN: u64 = 1 << 63;

/// How many questions may be under way. A newer one takes the place of the oldest.
const MOST_PINGS: usize = 64;

/// How many instances are told for which callers wait.
const MOST_LINES: usize = 64;

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            since: OnceLock::new(),
            before: AtomicU32::new(0),
            bytes_read: AtomicU64::new(0),
            frames_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            own_frames: AtomicU64::new(0),
        }
    }

    /// The connection begins.
    pub(crate) fn began(&self, now: Instant) {
        let _ = self.since.set(now); // it begins once
    }

    /// Notes the totals.
    pub(crate) fn count(&self, bytes_read: u64, frames_read: u64, bytes_written: u64, own_frames: u64) {
        self.bytes_read.store(bytes_read, Ordering::Relaxed);
        self.frames_read.store(frames_read, Ordering::Relaxed);
        self.bytes_written.store(bytes_written, Ordering::Relaxed);
        self.own_frames.store(own_frames, Ordering::Relaxed);
    }

    /// So many connections to this life of the peer were before this one.
    pub(crate) fn came_after(&self, before: u32) {
        self.before.store(before, Ordering::Relaxed);
    }

    /// How many were.
    pub(crate) fn before(&self) -> u32 {
        self.before.load(Ordering::Relaxed)
    }
}

impl Link {
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// What there is to see now.
    pub(crate) fn seen(&self, now: Instant) -> Seen {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let traffic = &self.traffic;
        let state = self.state();
        let (without_credit, lines) = state.accounts.seen(MOST_LINES);
        Seen {
            age: traffic.since.get().map_or(Duration::ZERO, |since| now.saturating_duration_since(*since)),
            before: traffic.before(),
            bytes_read: load(&traffic.bytes_read),
            frames_read: load(&traffic.frames_read),
            bytes_written: load(&traffic.bytes_written),
            frames_written: load(&traffic.own_frames) + state.lanes.frames(),
            waiting: state.lanes.waiting(),
            requests: (state.in_flight.len(), state.inbound.len()),
            without_credit,
            lines,
        }
    }

    /// Ends when the peer's node has answered a question that nobody has to think about. `None` if the connection ends before.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn round_trip(&self) -> Option<()> {
        let (answered, answer) = oneshot::channel();
        {
            let mut state = self.state();
            if !self.is_open() {
                return None;
            }
            let pings = &mut state.pings;
            pings.last += 1;
            let token = OWN | pings.last;
            pings.waiting.insert(token, answered);
            if pings.waiting.len() > MOST_PINGS {
                pings.waiting.pop_first();
            }
            state.lanes.put_control(&Frame::Ping { token });
            self.added(state);
        }
        answer.await.ok()
    }

    /// The peer has answered a question.
    pub(crate) fn ponged(&self, token: u64) {
        let answered = if token & OWN == 0 { None } else { self.state().pings.waiting.remove(&token) };
        if let Some(answered) = answered {
            let _ = answered.send(()); // who asked may have gone
        }
    }
}

impl Pings {
    /// Nobody answers any more.
    pub(super) fn end(&mut self) {
        self.waiting.clear();
    }
}
