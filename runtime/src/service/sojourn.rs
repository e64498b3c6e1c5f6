//! How long messages wait in a mailbox, from one look at the clock for each batch that is taken out of a queue.
//!
//! No message carries the time at which it came. Instead one place in the queue is marked, its last one at a look, and the
//! look that finds the mark taken out tells how long that message waited. What a newcomer will wait is the number of those
//! ahead of it times the time that each took lately: Little's law (J. D. C. Little, Operations Research 9, 1961). Both are
//! smoothed with a gain of an eighth, as round-trip times are in TCP (V. Jacobson, 1988; RFC 6298, 2.3).
//!
//! A send that was dropped to make room is not taken out: where the mark is behind such ones it is found later, and the
//! wait that it tells is the longer one of a message that came after.
//!
//! Invariant: time in which the instance had nothing to do is no message's time. Each such time makes what was less certain.

use std::time::Duration;

use crate::service::deadlines::Tick;
use crate::service::gauge::Gauge;

/// Measures one mailbox, while messages wait in it.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// When the latest batch was taken out, and how large it was, if there was no pause since.
    latest: Option<(Tick, usize)>,
    /// How many messages were taken out.
    taken: u64,
    /// Which one is marked, and since when, and how many were taken out by then.
    mark: Option<(u64, Tick, u64)>,
}

/// How long a marked message waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waited {
    /// Its place in the batch.
    pub(crate) place: usize,
    pub(crate) time: Duration,
    /// How many it stands for: those that were taken out since the mark was made.
    pub(crate) weight: u64,
}

impl Meter {
    /// A batch was taken out, and `left` messages are behind it. Gives how long a marked message in it waited.
    #[inline(never)]
    pub(crate) fn take(&mut self, gauge: &Gauge, now: Tick, batch: usize, left: usize) -> Option<Waited> {
        if let Some((then, size)) = self.latest.replace((now, batch)) {
            gauge.note_pace(then.until(now) / u32::try_from(size.max(1)).unwrap_or(u32::MAX));
        }
        let before = self.taken;
        self.taken += batch as u64;
        let waited = match self.mark {
            Some((marked, ..)) if self.taken < marked => return None,
            Some((marked, since, taken)) => {
                let time = since.until(now);
                gauge.note_sojourn(time);
                let place = usize::try_from(marked.saturating_sub(before + 1)).unwrap_or(usize::MAX);
                Some(Waited { place, time, weight: self.taken - taken })
            }
            None => None,
        };
        self.mark = Some((self.taken + left as u64, now, self.taken));
        waited
    }

    /// Nobody waits: what came last found nobody before it.
    pub(crate) fn pause(&mut self) {
        (self.latest, self.mark) = (None, None);
    }

    /// Nobody waits. Gives whether there is nothing to remember.
    ///
    /// The pace is forgotten too, little by little: who is taken for slow refuses nearly all calls, and those that are left
    /// may be too few to show that it is fast again.
    pub(crate) fn rest(&mut self, gauge: &Gauge) -> bool {
        self.pause();
        gauge.note_sojourn(Duration::ZERO);
        gauge.note_pace(Duration::ZERO);
        gauge.sojourn().is_zero() && gauge.expected(1).is_zero()
    }
}

/// The mean of `before`, smoothed by the newest sample. In nanoseconds; the first sample counts in full.
pub(crate) fn smoothed(before: u64, sample: u64) -> u64 {
    match before {
        0 => sample,
        _ if sample < before => before - (before - sample).div_ceil(8),
        _ => before + (sample - before) / 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::deadlines::Deadlines;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_mark_waits_as_long_as_the_message_that_has_it() {
        let (gauge, mut meter) = (Gauge::default(), Meter::default());
        let start = Deadlines::new().now();
        // Sixteen wait, four at a time are taken out every 40 ms: the last one is taken out after 120 ms.
        for (ms, left) in [(0, 12), (40, 8), (80, 4)] {
            assert_eq!(meter.take(&gauge, start.after(ms * MS), 4, left), None);
            assert_eq!(gauge.sojourn(), Duration::ZERO);
        }
        assert_eq!(gauge.expected(5), 50 * MS, "each takes 10 ms");
        let waited = meter.take(&gauge, start.after(120 * MS), 4, 0);
        assert_eq!(waited, Some(Waited { place: 3, time: 120 * MS, weight: 12 }));
        assert_eq!(gauge.sojourn(), 120 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_counts_for_nothing_and_what_was_is_forgotten() {
        let (gauge, mut meter) = (Gauge::default(), Meter::default());
        let start = Deadlines::new().now();
        meter.take(&gauge, start, 1, 1);
        meter.take(&gauge, start.after(8 * MS), 1, 0);
        assert_eq!((gauge.sojourn(), gauge.expected(1)), (8 * MS, 8 * MS));
        assert!(!meter.rest(&gauge));
        assert_eq!((gauge.sojourn(), gauge.expected(1)), (7 * MS, 7 * MS));
        meter.take(&gauge, start.after(5000 * MS), 1, 1);
        assert_eq!((gauge.sojourn(), gauge.expected(1)), (7 * MS, 7 * MS));
        let rests = (1..1000).find(|_| meter.rest(&gauge));
        assert!(rests.is_some_and(|rests| rests < 200), "{rests:?}");
        assert_eq!(gauge.expected(0), Duration::ZERO, "who finds nobody waits for nobody");
    }

    #[test]
    fn a_smoothed_mean_moves_by_an_eighth_and_arrives() {
        for (before, sample, expected) in
            [(0, 80, 80), (80, 160, 90), (80, 0, 70), (80, 80, 80), (1, 0, 0), (7, 0, 6)]
        {
            assert_eq!(smoothed(before, sample), expected, "{before}, then {sample}");
        }
    }
}
