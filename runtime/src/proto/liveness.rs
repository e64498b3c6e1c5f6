//! When a silent peer is asked whether it is there, and when it is given up.
//!
//! Invariant: a peer is never given up for a time in which this node itself did not run. Silence counts only if the
//! peer was asked again and again meanwhile, and a node that is stopped or starved asks nobody.

use std::time::{Duration, Instant};

/// What is known about the peer's being there.
#[derive(Debug)]
pub(crate) struct Liveness {
    heartbeat: Duration,
    silence: Duration,
    /// How many pings must be unanswered before silence counts.
    enough: u32,
    last_received: Instant,
    last_ping: Instant,
    unanswered: u32,
    probe: Option<Instant>,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// Send a ping.
    Ping,
    /// Give up: nothing has come for so long.
    Silent(Duration),
}

impl Liveness {
    /// Begins with a peer that is there now. A heartbeat above half of `silence` counts as that half, so that a
    /// peer always has the time to answer.
    pub(crate) fn new(heartbeat: Duration, silence: Duration, now: Instant) -> Self {
        let silence = silence.max(SHORTEST * 2);
        let heartbeat = heartbeat.clamp(SHORTEST, silence / 2);
        let beats = silence.as_nanos() / heartbeat.as_nanos();
        let enough = u32::try_from(beats).unwrap_or(u32::MAX).saturating_sub(1).clamp(1, MOST_PINGS);
        Self { heartbeat, silence, enough, last_received: now, last_ping: now, unanswered: 0, probe: None }
    }

    /// Something has come.
    #[inline]
    pub(crate) fn received(&mut self, now: Instant) {
        self.last_received = now;
        self.unanswered = 0;
        self.probe = None;
    }

    /// There is a reason to doubt that the peer is there: send a ping now; if nothing comes within [`PROBE`], it is not.
    pub(crate) fn probe(&mut self, now: Instant) {
        self.last_ping = now;
        self.unanswered = self.unanswered.saturating_add(1);
        self.probe.get_or_insert(now + PROBE);
    }

    /// What is to be done at this instant.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if let Some(deadline) = self.probe.filter(|deadline| now >= *deadline) {
            if now < deadline + PROBE {
                return Due::Silent(PROBE);
            }
            // This node comes so late that it did not run, and what has come meanwhile is yet to be read.
            self.probe = Some(now + PROBE);
            return self.ping(now);
        }
        if now >= self.next_ping() + self.heartbeat.max(LATE) {
            // As above: what was asked before this node was stopped may be answered already.
            self.unanswered = 0;
        }
        if self.silent_at().is_some_and(|at| now >= at) {
            return Due::Silent(now.saturating_duration_since(self.last_received));
        }
        if now >= self.next_ping() {
            return self.ping(now);
        }
        Due::Nothing
    }

    /// When to ask again what is due.
    pub(crate) fn timeout(&self) -> Instant {
        [self.silent_at(), self.probe].into_iter().flatten().fold(self.next_ping(), Instant::min)
    }

    fn ping(&mut self, now: Instant) -> Due {
        self.last_ping = now;
        self.unanswered = self.unanswered.saturating_add(1);
        Due::Ping
    }

    /// When the peer has been silent for too long, once it has been asked often enough. Some time is left for an
    /// answer to the last ping, if that was late.
    fn silent_at(&self) -> Option<Instant> {
        let asked = self.unanswered >= self.enough;
        asked.then(|| (self.last_received + self.silence).max(self.last_ping + self.heartbeat / 2))
    }

    fn next_ping(&self) -> Instant {
        self.last_received.max(self.last_ping) + self.heartbeat
    }
}

/// How long a peer that is doubted has to answer.
pub(crate) const PROBE: Duration = Duration::from_secs(1);

/// A node that asks later than this after a ping was due, and later than a heartbeat, did not run meanwhile.
const LATE: Duration = Duration::from_millis(100);

/// The shortest heartbeat.
const SHORTEST: Duration = Duration::from_millis(1);

/// No more pings than this are required, however short the heartbeat.
const MOST_PINGS: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn liveness(start: Instant) -> Liveness {
        Liveness::new(SECOND, 5 * SECOND, start)
    }

    #[test]
    fn a_silent_peer_is_asked_every_heartbeat_and_then_given_up() {
        let start = crate::proto::tests::start();
        let mut peer = liveness(start);
        let mut log = vec![];
        for _ in 0..5 {
            let now = peer.timeout();
            log.push(((now - start).as_millis(), peer.due(now)));
        }
        let ping = Due::Ping;
        let expected = [(1000, ping), (2000, ping), (3000, ping), (4000, ping)];
        assert_eq!(log[..4], expected);
        assert_eq!(log[4], (5000, Due::Silent(5 * SECOND)));
    }

    #[test]
    fn a_peer_that_speaks_is_not_asked() {
        let start = crate::proto::tests::start();
        let mut peer = liveness(start);
        for beat in 1..100 {
            let now = start + SECOND * beat * 9 / 10;
            peer.received(now);
            assert_eq!(peer.due(now), Due::Nothing);
            assert_eq!(peer.timeout(), now + SECOND);
        }
    }

    #[test]
    fn a_node_that_was_stopped_does_not_give_its_peers_up() {
        let start = crate::proto::tests::start();
        let mut peer = liveness(start);
        let awake = start + 60 * SECOND;
        assert_eq!(peer.due(awake), Due::Ping, "it asks first");
        assert_eq!(peer.due(awake), Due::Nothing);
        assert_eq!(peer.timeout(), awake + SECOND);
        peer.received(awake + SECOND / 2);
        assert_eq!(peer.timeout(), awake + SECOND * 3 / 2);

        let mut peer = liveness(start);
        for beat in 1..=4 {
            assert_eq!(peer.due(start + SECOND * beat), Due::Ping);
        }
        assert_eq!(peer.due(awake), Due::Ping, "stopped with four pings unanswered, it asks again");

        let mut dead = liveness(start);
        for beat in 0..3 {
            assert_eq!(dead.due(awake + SECOND * beat), Due::Ping);
        }
        assert_eq!(dead.due(awake + SECOND * 3), Due::Ping);
        let last = awake + SECOND * 7 / 2;
        assert_eq!(dead.timeout(), last, "the last ping too has time for its answer");
        assert_eq!(dead.due(last), Due::Silent(last - start), "a peer that is gone is given up all the same");
    }

    #[test]
    fn a_doubted_peer_has_one_second() {
        let start = crate::proto::tests::start();
        let mut peer = liveness(start);
        peer.probe(start);
        peer.probe(start + SECOND / 2);
        assert_eq!(peer.timeout(), start + SECOND);
        assert_eq!(peer.due(start + SECOND), Due::Silent(SECOND), "a second doubt gives no second chance");

        let mut peer = liveness(start);
        peer.probe(start);
        peer.received(start + SECOND / 2);
        assert_eq!(peer.due(start + SECOND), Due::Nothing);

        let mut peer = liveness(start);
        peer.probe(start);
        assert_eq!(peer.due(start + 60 * SECOND), Due::Ping, "this node did not run");
        assert_eq!(peer.due(start + 61 * SECOND), Due::Silent(SECOND));
    }

    #[test]
    fn odd_settings_leave_the_peer_the_time_to_answer() {
        let start = crate::proto::tests::start();
        for (heartbeat, silence) in
            [(10 * SECOND, SECOND), (Duration::ZERO, SECOND), (SECOND, Duration::ZERO)]
        {
            let mut peer = Liveness::new(heartbeat, silence, start);
            let first = peer.timeout();
            assert!(first > start);
            assert_eq!(peer.due(first), Due::Ping);
            assert!(peer.timeout() > first);
        }
    }
}
