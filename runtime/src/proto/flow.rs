//! Credit: how much one side of a connection may send to one instance of the other.
//!
//! Both sides count from the connection's beginning, and a grant says up to which totals the sender may go. So a
//! grant that comes twice, or late, does no harm, and nothing is lost by a request that is cancelled on its way.
//!
//! A sender may begin a message while anything of both its allowances is left, so the last message may overdraw the
//! bytes: what is on its way to one instance is never more than the window and one message.
//!
//! The scheme is that of HTTP/2's flow control (RFC 9113, section 5.2) with the absolute totals of QUIC's
//! `MAX_STREAM_DATA` (RFC 9000, section 4.1).
//!
//! Invariant: plain counting, the same on both sides.

use std::collections::BTreeMap;

use crate::config::LEAST_CREDIT;
use crate::id::InstanceId;

/// So many messages, and so many bytes of their arguments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// What may be sent to one instance.
#[derive(Debug)]
pub(crate) struct Account {
    sent: Amount,
    allowed: Amount,
}

impl Account {
    /// Begins with a window.
    pub(crate) fn new(window: Amount) -> Self {
        Self { sent: Amount::default(), allowed: window }
    }

    /// Whether another message may be sent.
    #[inline]
    pub(crate) fn has_credit(&self) -> bool {
        self.sent.messages < self.allowed.messages && self.sent.bytes < self.allowed.bytes
    }

    /// How many messages may be sent, as far as is known before their bytes are.
    pub(crate) fn messages_left(&self) -> u64 {
        if self.has_credit() { self.allowed.messages - self.sent.messages } else { 0 }
    }

    /// A message of so many bytes is handed over.
    #[inline]
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.sent = self.sent.plus(one(bytes));
    }

    /// A message that was handed over never left.
    pub(crate) fn refund(&mut self, bytes: usize) {
        self.sent.messages = self.sent.messages.saturating_sub(1);
        self.sent.bytes = self.sent.bytes.saturating_sub(bytes as u64);
    }

    /// The receiver allows these totals. One that is less than was allowed before is late, and changes nothing.
    pub(crate) fn grant(&mut self, totals: Amount) {
        self.allowed.messages = self.allowed.messages.max(totals.messages);
        self.allowed.bytes = self.allowed.bytes.max(totals.bytes);
    }
}

/// What the peer may send to one place here, and how far it has gone.
#[derive(Debug)]
pub(crate) struct Intake {
    received: Amount,
    /// What has left the connection: into its mailbox, to whoever reads it, or answered.
    consumed: Amount,
    granted: Amount,
    window: Amount,
}

impl Intake {
    /// Grants the peer a window, of at least one message and one byte.
    pub(crate) fn new(window: Amount) -> Self {
        let window = Amount { messages: window.messages.max(1), bytes: window.bytes.max(1) };
        let nothing = Amount::default();
        Self { received: nothing, consumed: nothing, granted: window, window }
    }

    /// The totals that are granted.
    pub(crate) fn granted(&self) -> Amount {
        self.granted
    }

    /// A message has come. `false` if the peer had no credit for it.
    #[must_use]
    pub(crate) fn arrive(&mut self, bytes: usize) -> bool {
        let had_credit =
            self.received.messages < self.granted.messages && self.received.bytes < self.granted.bytes;
        self.received = self.received.plus(one(bytes));
        had_credit
    }

    /// A message that came has left the connection. Gives the totals to grant, once that is worth a frame: when half of
    /// the window was used.
    #[must_use = "the peer must be told"]
    pub(crate) fn consume(&mut self, bytes: usize) -> Option<Amount> {
        let Amount { messages, bytes } = self.consumed.plus(one(bytes));
        // What leaves late may have come before the counting began anew, with the end of the instance that it was for.
        self.consumed =
            Amount { messages: messages.min(self.received.messages), bytes: bytes.min(self.received.bytes) };
        let totals = self.consumed.plus(self.window);
        let is_due = totals.messages - self.granted.messages >= self.window.messages.div_ceil(2)
            || totals.bytes - self.granted.bytes >= self.window.bytes.div_ceil(2);
        is_due.then(|| {
            self.granted = totals;
            totals
        })
    }
}

/// What the peer may send to each of the instances here.
#[derive(Debug)]
pub(crate) struct Intakes {
    window: Amount,
    /// An ordered tree, because its keys are the peer's to choose. Of what does not run here nothing stays in it.
    instances: BTreeMap<InstanceId, Intake>,
}

impl Intakes {
    /// Each instance grants the peer this window.
    pub(crate) fn new(window: Amount) -> Self {
        Self { window, instances: BTreeMap::new() }
    }

    /// As [`Intake::arrive`].
    #[must_use]
    pub(crate) fn arrive(&mut self, instance: InstanceId, bytes: usize) -> bool {
        let window = self.window;
        self.instances.entry(instance).or_insert_with(|| Intake::new(window)).arrive(bytes)
    }

    /// As [`Intake::consume`].
    #[must_use = "the peer must be told"]
    pub(crate) fn consume(&mut self, instance: InstanceId, bytes: usize) -> Option<Amount> {
        self.instances.get_mut(&instance)?.consume(bytes)
    }

    /// The instance does not run here, or no longer. Gives whether the peer has sent it anything.
    pub(crate) fn forget(&mut self, instance: InstanceId) -> bool {
        self.instances.remove(&instance).is_some()
    }

    /// The instances to which the peer has sent anything.
    pub(crate) fn instances(&self) -> impl Iterator<Item = InstanceId> {
        self.instances.keys().copied()
    }
}

fn one(bytes: usize) -> Amount {
    Amount { messages: 1, bytes: bytes as u64 }
}

/// What may be sent to an instance before the peer has said its window. No window is smaller.
pub(crate) const SMALLEST_WINDOW: Amount =
    Amount { messages: LEAST_CREDIT.0 as u64, bytes: LEAST_CREDIT.1 as u64 };

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const X: InstanceId = InstanceId(7);

    fn amount(messages: u64, bytes: u64) -> Amount {
        Amount { messages, bytes }
    }

    #[test]
    fn a_window_is_what_may_be_sent_before_anything_is_taken() {
        let mut account = Account::new(amount(2, 100));
        for _ in 0..2 {
            assert!(account.has_credit());
            account.spend(10);
        }
        assert!(!account.has_credit());
        account.refund(10);
        assert!(account.has_credit());
        account.spend(1000);
        account.grant(amount(3, 1000));
        assert!(!account.has_credit(), "the bytes are overdrawn");
        account.grant(amount(2, 5000));
        assert!(account.has_credit(), "each total is the greatest that was granted");
    }

    #[test]
    fn a_peer_that_goes_beyond_its_credit_is_seen() {
        let mut intakes = Intakes::new(amount(2, 100));
        assert!(intakes.arrive(X, 1000), "the last one may overdraw");
        assert!(!intakes.arrive(X, 1));
        let mut intakes = Intakes::new(amount(2, 100));
        assert!(intakes.arrive(X, 0) && intakes.arrive(X, 0) && !intakes.arrive(X, 0));
    }

    #[test]
    fn of_what_is_gone_nothing_stays() {
        let mut intakes = Intakes::new(amount(2, 100));
        assert!(!intakes.forget(X));
        assert!(intakes.arrive(X, 1));
        assert!(intakes.forget(X));
        assert_eq!(intakes.consume(X, 1), None, "late");
        assert_eq!(intakes.instances().count(), 0);
    }

    #[test]
    fn what_leaves_late_grants_nothing_to_what_came_after_the_end() {
        let mut intakes = Intakes::new(amount(4, 100));
        for _ in 0..4 {
            assert!(intakes.arrive(X, 20));
        }
        assert!(intakes.forget(X));
        assert!(intakes.arrive(X, 1));
        for _ in 0..4 {
            assert_eq!(intakes.consume(X, 20), None);
        }
        assert!((0..3).all(|_| intakes.arrive(X, 1)), "the window, and nothing for what has left late");
        assert!(!intakes.arrive(X, 1));
    }

    proptest! {
        /// A sender, a receiver, and a wire on which grants may be late: the sender never goes beyond its credit, what is
        /// on its way is bounded, and when everything was taken and every grant has come it may send again.
        #[test]
        fn nobody_overdraws_and_nobody_starves(
            (messages, bytes) in (1..9_u64, 1..200_u64),
            steps in proptest::collection::vec((0..4_u8, 0..150_usize), 0..300),
        ) {
            let window = amount(messages, bytes);
            let (mut account, mut intakes) = (Account::new(window), Intakes::new(window));
            let (mut queued, mut grants) = (std::collections::VecDeque::new(), std::collections::VecDeque::new());
            for (step, size) in steps {
                match step {
                    0 | 1 if account.has_credit() => {
                        account.spend(size);
                        if size % 7 == 0 {
                            account.refund(size); // cancelled before it left
                            continue;
                        }
                        prop_assert!(intakes.arrive(X, size));
                        queued.push_back(size);
                    }
                    2 => if let Some(size) = queued.pop_front() {
                        grants.extend(intakes.consume(X, size));
                    },
                    _ => if let Some(grant) = grants.pop_front() {
                        account.grant(grant);
                    },
                }
                let largest = queued.iter().max().copied().unwrap_or_default();
                prop_assert!(queued.len() as u64 <= messages);
                prop_assert!(queued.iter().sum::<usize>() as u64 <= bytes + largest as u64 + 150);
            }
            while let Some(size) = queued.pop_front() {
                grants.extend(intakes.consume(X, size));
            }
            for grant in grants {
                account.grant(grant);
            }
            prop_assert!(account.has_credit());
        }
    }
}
