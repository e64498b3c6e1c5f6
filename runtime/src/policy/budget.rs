//! How many calls may be made again: a share of the calls that are made, and a few besides. So a cluster in trouble is
//! not kept there by those who try again.
//!
//! The rule and its numbers are those of Finagle's `RetryBudget` and of `TpsBudget` in tower's `retry` module
//! (<https://twitter.github.io/finagle/guide/Clients.html#retries>), which counts over a window of time. Here there is no
//! lock and `now` is an argument.
//!
//! Invariant: never waits. Between two threads that try again at the turn of a second a try too many may slip through.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// For how many seconds a call counts.
const WINDOW: u32 = 10;

/// What a try more costs, where a call brings one: a fifth of the calls may be made again.
const COST: i64 = 5;

/// What may be spent in any window beyond what calls have brought: ten tries for each second.
const RESERVE: i64 = 10 * WINDOW as i64 * COST;

/// The budget of one handle to a name and of its clones. It is told the time as what has passed since some moment, always
/// the same.
#[derive(Default)]
pub(crate) struct RetryBudget {
    /// One for each second of the window, reused in turn: which second it is of, and what came in less what went out.
    slots: [AtomicU64; WINDOW as usize],
}

/// What one second brought, as an atomic holds it.
#[derive(Clone, Copy)]
struct Slot {
    /// Beginning with 1; 0 is none.
    second: u32,
    balance: i32,
}

impl RetryBudget {
    /// A call is made.
    #[inline]
    pub(crate) fn deposit(&self, now: Duration) {
        let second = second_of(now);
        let _ = self.change(second, |slot| Some(slot.plus(1)));
    }

    /// Whether a call may be made again. Then it is paid for.
    #[must_use]
    pub(crate) fn withdraw(&self, now: Duration) -> bool {
        let second = second_of(now);
        let is_in_window = |slot: &Slot| slot.second != second && slot.second + WINDOW > second;
        let slots = self.slots.iter().map(|slot| Slot::unpack(slot.load(Ordering::Relaxed)));
        let others: i64 = slots.filter(is_in_window).map(|slot| i64::from(slot.balance)).sum();
        self.change(second, |slot| {
            let left = others + i64::from(slot.balance) + RESERVE - COST;
            (left >= 0).then(|| slot.plus(-COST))
        })
    }

    /// Changes what this second brought, unless `change` says no.
    #[inline]
    fn change(&self, second: u32, change: impl Fn(Slot) -> Option<Slot>) -> bool {
        let slot = &self.slots[(second % WINDOW) as usize];
        let update = |packed| {
            let slot = Slot::unpack(packed);
            let is_this = slot.second == second;
            change(if is_this { slot } else { Slot { second, balance: 0 } }).map(Slot::pack)
        };
        // Numbers that nothing else hangs on: no order with other memory is needed.
        slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok()
    }
}

fn second_of(now: Duration) -> u32 {
    u32::try_from(now.as_secs() + 1).map_or(LAST_SECOND, |second| second.min(LAST_SECOND))
}

/// After a century the window stands still.
const LAST_SECOND: u32 = u32::MAX - WINDOW;

impl Slot {
    #[inline]
    fn unpack(packed: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default(); // it fits
        Self { second: half(packed >> 32), balance: half(packed).cast_signed() }
    }

    #[inline]
    fn pack(self) -> u64 {
        u64::from(self.second) << 32 | u64::from(self.balance.cast_unsigned())
    }

    #[inline]
    fn plus(self, amount: i64) -> Self {
        let balance = i64::from(self.balance) + amount;
        // Two billion calls in one second are as good as more.
        Self { balance: i32::try_from(balance).unwrap_or(self.balance), ..self }
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tries(budget: &RetryBudget, now: Duration) -> usize {
        (0..100_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn without_calls_a_hundred_tries_are_free_in_ten_seconds() {
        let budget = RetryBudget::default();
        assert_eq!(tries(&budget, Duration::ZERO), 100);
        assert_eq!(tries(&budget, Duration::from_secs(9)), 0);
        assert_eq!(tries(&budget, Duration::from_secs(10)), 100);
    }

    #[test]
    fn a_fifth_of_the_calls_of_the_last_ten_seconds_may_be_made_again() {
        let budget = RetryBudget::default();
        for call in 0..10_000 {
            budget.deposit(Duration::from_millis(call / 5));
        }
        assert_eq!(tries(&budget, Duration::from_secs(9)), 2000 + 100);
        let budget = RetryBudget::default();
        for _ in 0..10_000 {
            budget.deposit(Duration::ZERO);
        }
        assert_eq!(tries(&budget, Duration::from_secs(10)), 100, "those calls are long ago");
    }

    proptest! {
        #[test]
        fn it_does_what_a_list_of_all_seconds_does(
            steps in proptest::collection::vec((0..3_u8, 0..4000_u64, 1..400_u32), 0..60),
        ) {
            let budget = RetryBudget::default();
            let mut seconds = vec![0_i64; 60 * 4 + 1];
            let mut millis = 0;
            for (kind, wait, count) in steps {
                if kind == 0 {
                    millis += wait;
                }
                let now = Duration::from_millis(millis);
                let second = usize::try_from(millis / 1000).unwrap();
                for _ in 0..count {
                    if kind == 1 {
                        budget.deposit(now);
                        seconds[second] += 1;
                    } else if kind == 2 {
                        let has = 500 + seconds[second.saturating_sub(9)..=second].iter().sum::<i64>();
                        prop_assert_eq!(budget.withdraw(now), has >= 5);
                        if has >= 5 {
                            seconds[second] -= 5;
                        }
                    }
                }
            }
        }
    }
}
