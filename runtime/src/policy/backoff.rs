//! How long to wait before the next try: exponential, with jitter.
//!
//! Jitter over the upper half ("equal jitter"), after
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>: many who lost the same thing at once
//! do not come back at once, and nobody comes back in less than half the time.

use std::time::Duration;

/// The first pause between two tries to dial, before jitter.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two tries to dial, before jitter.
const LONGEST: Duration = Duration::from_secs(5);

/// `first` after so many doublings, at most `longest`, shortened by up to a half. What is longer than 2^64 ns, which
/// is 584 years, counts as that.
pub(crate) fn pause(
    first: Duration,
    longest: Duration,
    doublings: u32,
    random: &mut fastrand::Rng,
) -> Duration {
    let doubled = |pause: Duration, _| pause.saturating_mul(2).min(longest);
    let pause = (0..doublings.min(MOST_DOUBLINGS)).fold(first.min(longest), doubled);
    let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random.u64(nanos - nanos / 2..=nanos))
}

/// No pause but zero grows any more after these: a `Duration` has fewer than 94 bits of nanoseconds.
const MOST_DOUBLINGS: u32 = 94;

/// The pauses between tries to dial.
#[derive(Debug)]
pub(crate) struct Backoff {
    tries: u32,
    random: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(random: fastrand::Rng) -> Self {
        Self { tries: 0, random }
    }

    /// The next pause: between half of it and all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let tries = self.tries;
        self.tries = tries.saturating_add(1);
        pause(FIRST, LONGEST, tries, &mut self.random)
    }

    /// A try succeeded.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_keep_at_least_half() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(7));
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let expected = Duration::from_millis(expected);
            let pause = backoff.next();
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?} for {expected:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn odd_settings_give_pauses_within_their_bounds() {
        let (zero, tick, century) =
            (Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(3_000_000_000));
        let most = Duration::from_nanos(u64::MAX);
        let mut random = fastrand::Rng::with_seed(7);
        for (first, longest, doublings, expected) in [
            (zero, LONGEST, u32::MAX, zero),
            (FIRST, zero, 3, zero),
            (LONGEST, FIRST, 3, FIRST),
            (tick, century, 10, Duration::from_nanos(1024)),
            (tick, century, u32::MAX, century),
            (tick, Duration::MAX, u32::MAX, most),
            (Duration::MAX, Duration::MAX, 0, most),
        ] {
            for _ in 0..100 {
                let pause = pause(first, longest, doublings, &mut random);
                assert!(pause >= expected / 2 && pause <= expected, "{pause:?} for {expected:?}");
            }
        }
    }
}
