//! How many bytes of pieces may be under way, so that what is short and comes behind them waits little.
//!
//! As long as nothing short moves, that is what the peer takes ahead. While something does, it is what the network holds: the
//! rate at which pieces are taken, the largest of late, times the shortest round trip of a piece with little in front of it;
//! and a quarter more, so that a rate which has grown is found out. It is the model of BBR: Cardwell and others, "BBR: Congestion-Based
//! Congestion Control", ACM Queue 14 (2016), <https://queue.acm.org/detail.cfm?id=3022184>.
//!
//! Invariant: it only narrows the peer's window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::proto::frame::PIECE;

/// How long it counts that something short was sent.
const LATELY: Duration = Duration::from_millis(200);

/// How many measurements of the rate count.
const RATES: usize = 10;

/// How long a round trip counts, at least; twice as long at most.
const FRESH: Duration = Duration::from_secs(10);

/// So many bytes may always be under way; and a piece that has no more in front of it tells the round trip.
const LITTLE: u64 = PIECE as u64;

/// The shortest stretch of time over which a rate is measured, in seconds: what a driver hears late it hears at once.
const STRETCH: f64 = 0.001;

#[derive(Debug)]
pub(super) struct Pace {
    /// Until when something short counts as moving.
    short_until: Option<Instant>,
    /// Since when the rate is measured.
    stretch: Option<Stretch>,
    /// A piece under way that had little in front of it: when it was sent, and how many bytes were sent with it.
    probe: Option<(Instant, u64)>,
    /// Bytes a second, as they were measured last.
    rates: VecDeque<f64>,
    /// Seconds.
    round_trip: Least,
}

/// A time in which pieces are under way without a pause.
#[derive(Debug)]
struct Stretch {
    began: Instant,
    /// How many bytes were taken by then.
    taken: u64,
    /// Whether nothing was under way before.
    is_fresh: bool,
}

impl Pace {
    pub(super) fn new() -> Self {
        let (rates, round_trip) = (VecDeque::with_capacity(RATES), Least::default());
        Self { short_until: None, stretch: None, probe: None, rates, round_trip }
    }

    /// Something short is sent.
    pub(super) fn short(&mut self, now: Instant) {
        self.short_until = Some(now + LATELY);
    }

    /// Whether something short has been sent lately.
    pub(super) fn is_shared(&self, now: Instant) -> bool {
        self.short_until.is_some_and(|until| now < until)
    }

    fn rate(&self) -> Option<f64> {
        self.rates.iter().copied().reduce(f64::max)
    }

    /// How many bytes may be under way, of `most`.
    pub(super) fn window(&mut self, now: Instant, most: u64) -> u64 {
        if !self.is_shared(now) {
            return most;
        }
        let (Some(rate), Some(round_trip)) = (self.rate(), self.round_trip.get(now)) else {
            return LITTLE; // so that they are found out
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded below")]
        let held = (rate * round_trip * 1.25) as u64;
        held.clamp(LITTLE, most.max(LITTLE))
    }

    /// A piece of `length` bytes is sent, of `sent` in all, of which `taken` were taken.
    pub(super) fn sent(&mut self, now: Instant, length: u64, sent: u64, taken: u64) {
        let before = sent - length - taken;
        if before == 0 {
            self.stretch = Some(Stretch { began: now, taken, is_fresh: true });
        }
        if before < LITTLE && self.probe.is_none() {
            self.probe = Some((now, sent));
        }
    }

    /// So many bytes were taken, of `sent`.
    pub(super) fn taken(&mut self, now: Instant, taken: u64, sent: u64) {
        let since = |then| now.saturating_duration_since(then).as_secs_f64();
        if let Some((at, with)) = self.probe
            && with <= taken
        {
            self.probe = None;
            self.round_trip.put(now, since(at));
        }
        let Some(stretch) = &self.stretch else { return };
        let (time, is_pause) = (since(stretch.began), taken == sent);
        let least = self.round_trip.get(now).map_or(STRETCH, |round_trip| STRETCH.max(2.0 * round_trip));
        // A short one says too much: it is taken for want of another.
        let is_needed = is_pause && stretch.is_fresh && time > 0.0 && self.rates.is_empty();
        let counts = time >= least || is_needed;
        if counts {
            self.rates.truncate(RATES - 1);
            #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
            self.rates.push_front((taken - stretch.taken) as f64 / time);
        }
        if is_pause {
            self.stretch = None;
        } else if counts {
            self.stretch = Some(Stretch { began: now, taken, is_fresh: false });
        }
    }
}

/// The smallest of what was put lately.
#[derive(Debug, Default)]
struct Least {
    /// Of the present stretch of time, and of the one before it.
    present: Option<f64>,
    before: Option<f64>,
    ends: Option<Instant>,
}

impl Least {
    fn put(&mut self, now: Instant, value: f64) {
        self.advance(now);
        self.present = Some(self.present.map_or(value, |present| present.min(value)));
    }

    fn get(&mut self, now: Instant) -> Option<f64> {
        self.advance(now);
        self.present.into_iter().chain(self.before).reduce(f64::min)
    }

    fn advance(&mut self, now: Instant) {
        let ends = *self.ends.get_or_insert(now + FRESH);
        if now < ends {
            return;
        }
        self.before = self.present.take().filter(|_| now < ends + FRESH);
        self.ends = Some(now + FRESH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tests::start;

    const MOST: u64 = 16 << 20;

    /// A network with a rate in bytes a second and a delay, over which pieces go as far as the window lets them.
    fn settled(rate: f64, delay: f64, shares: bool) -> u64 {
        let (mut pace, began) = (Pace::new(), start());
        let at = |seconds: f64| began + Duration::from_secs_f64(seconds);
        let (mut now, mut sent, mut taken, mut free) = (0.0, 0_u64, 0_u64, 0.0_f64);
        let mut arrivals: VecDeque<(f64, u64)> = VecDeque::new();
        while now < 5.0 {
            if shares {
                pace.short(at(now));
            }
            while sent - taken < pace.window(at(now), MOST) {
                sent += LITTLE / 4;
                pace.sent(at(now), LITTLE / 4, sent, taken);
                #[expect(clippy::cast_precision_loss, reason = "it is a model")]
                let leaves = free.max(now) + (LITTLE / 4) as f64 / rate;
                free = leaves;
                arrivals.push_back((leaves + delay, sent));
            }
            let Some((arrives, total)) = arrivals.pop_front() else { break };
            (now, taken) = (arrives, total);
            pace.taken(at(now), total, sent);
        }
        pace.window(at(now), MOST)
    }

    #[test]
    fn what_is_alone_takes_all_that_the_peer_takes_ahead() {
        assert_eq!(settled(1e9, 0.0001, false), MOST);
    }

    #[test]
    fn beside_something_short_as_much_is_under_way_as_the_network_holds() {
        for (rate, delay) in [(1e9, 0.0002), (125e6, 0.002), (100e6, 0.05)] {
            let held = rate * delay;
            #[expect(clippy::cast_precision_loss, reason = "it is a model")]
            let (window, little) = (settled(rate, delay, true) as f64, LITTLE as f64);
            assert!(window > 1.1 * held && window < 1.8 * held + 2.0 * little, "{window} of {held}");
        }
        assert_eq!(settled(1e6, 0.0001, true), LITTLE, "a slow network holds less than a little");
    }

    #[test]
    fn what_was_measured_is_forgotten_after_a_while() {
        let (mut least, began) = (Least::default(), start());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(least.get(at(0)), None);
        least.put(at(1), 5.0);
        least.put(at(2), 7.0);
        assert_eq!(least.get(at(9)), Some(5.0));
        least.put(at(12), 6.0);
        assert_eq!(least.get(at(19)), Some(5.0));
        assert_eq!(least.get(at(23)), Some(6.0));
        assert_eq!(least.get(at(60)), None);
    }

    #[test]
    fn something_short_counts_for_a_while() {
        let (mut pace, now) = (Pace::new(), start());
        pace.short(now);
        assert_eq!(pace.window(now, MOST), LITTLE, "nothing was measured");
        assert_eq!(pace.window(now + LATELY, MOST), MOST);
    }
}
