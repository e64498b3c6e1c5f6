//! How long to wait before the next try: exponential, with jitter.
//!
//! "Full jitter" over the upper half, after <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>:
//! many nodes that lost the same peer at once do not come back at once.

use std::time::Duration;

/// The first pause, before jitter.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause, before jitter.
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses between tries.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(random: fastrand::Rng) -> Self {
        Self { next: FIRST, random }
    }

    /// The next pause: between half of it and all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause.mul_f64(0.5 + self.random.f64() / 2.0)
    }

    /// A try succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
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
}
