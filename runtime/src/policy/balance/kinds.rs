//! The balancers that need to know nothing of the service.

use crate::policy::balance::candidates::{Balancer, Candidates, scale};

/// How a handle to a name picks the instance for each call: `counter.balance(Balance::RoundRobin)`.
///
/// Whatever picks, with more than one instance:
///
/// * **An instance that fails is passed over.** After 5 failures in a row, for 30 s; after that for 60 s and so on up to 300 s,
///   one step less for every 10 s in which it was not passed over. Failures are [`Timeout`], [`Panicked`], [`NoReply`] and
///   [`Stopped`], and those within 10 ms count as one, as a life of an instance that ends fails all it was doing. A
///   service's own `Err` is an answer. At most half of a name's instances are passed over, so never the last one; and one that
///   is passed over is called all the same if there is no other left. The rules and numbers are those of
///   [Envoy's outlier detection](https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier).
/// * **A new instance begins slowly**, and so does one that was passed over: with a tenth of its share, which grows evenly to
///   all of it in 10 s. For a new one they begin with the first call of this node that finds it. Where all are new none
///   begins slowly. The rule and its numbers are those of
///   [Envoy's slow start](https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/slow_start),
///   but for the 10 s, which Envoy leaves to its user.
/// * A call that its instance certainly did not run goes on to another: see [`Call`](crate::Call).
///
/// What is learned of an instance is shared by all handles of a node to its name. Calls by key go by their key alone.
///
/// [`Timeout`]: crate::CallError::Timeout
/// [`Panicked`]: crate::CallError::Panicked
/// [`NoReply`]: crate::CallError::NoReply
/// [`Stopped`]: crate::CallError::Stopped
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// Any, each as likely as the others.
    Random,
    /// Of two that are picked at random the one with less to do: the default. What it has to do is the number of this node's
    /// calls that wait for it, and one more, times the time that its answers take. That time is an average which follows a
    /// rise at once and a fall over 10 s; what is below 0.1 ms counts as that, and a failure doubles it.
    ///
    /// Sources: Mitzenmacher, "The power of two choices in randomized load balancing", 2001; peak EWMA as in
    /// [Finagle](https://twitter.github.io/finagle/guide/Clients.html#power-of-two-choices-p2c-least-loaded).
    #[default]
    LeastLoaded,
    /// The instances of the caller's own node, of two of them the less loaded one; those of other nodes if there is none
    /// here, or none that is not passed over. One that begins here takes over slowly from those elsewhere.
    LocalFirst,
    /// All calls of a handle to one instance: that of its [`key`](crate::ServiceHandle::key), and without a key that of the
    /// node's name, which is taken for one.
    Consistent,
}

impl Balance {
    /// Whether it wants to know how long answers take.
    pub(crate) fn measures(self) -> bool {
        matches!(self, Self::LeastLoaded | Self::LocalFirst)
    }
}

impl Balancer for Balance {
    #[inline]
    fn pick(&self, candidates: Candidates<'_>) -> usize {
        let all = candidates.len();
        match self {
            Self::RoundRobin => {
                let all = all as u64;
                index(candidates.turn().checked_rem(all).unwrap_or_default())
            }
            Self::Random => random(candidates.random(), all),
            Self::LeastLoaded => two_choices(candidates, all, |choice| choice),
            Self::LocalFirst => {
                let local = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_local());
                match local().count() {
                    0 => two_choices(candidates, all, |choice| choice),
                    count => two_choices(candidates, count, |choice| {
                        local().nth(choice).map_or(0, |(index, _)| index)
                    }),
                }
            }
            // The candidates are in the order of the key.
            Self::Consistent => 0,
        }
    }
}

/// The less loaded of two out of `count`; `at` gives their indices.
#[inline]
fn two_choices(candidates: Candidates<'_>, count: usize, at: impl Fn(usize) -> usize) -> usize {
    let Some(others) = count.checked_sub(1).filter(|others| *others > 0) else { return at(0) };
    let number = candidates.random();
    let first = random(number, count);
    // Of the others, beginning behind the first. Low bits, as the first is made of the high ones.
    let second = (first + 1 + random(number.rotate_left(32), others)) % count;
    let (first, second) = (at(first), at(second));
    if candidates.cost(second) < candidates.cost(first) { second } else { first }
}

/// A number below `limit`.
pub(super) fn random(number: u64, limit: usize) -> usize {
    index(scale(number, limit as u64))
}

/// What is below a number of candidates.
#[expect(clippy::cast_possible_truncation, reason = "it was made from a `usize`")]
fn index(number: u64) -> usize {
    number as usize
}
