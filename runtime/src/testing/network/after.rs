//! What is left to do once the network's lock is free.
//!
//! It must never run while the lock is held: a waker may run or drop foreign code, and that may use the network.

use std::task::Waker;

/// Wakers that a change of the network has to call or to drop, and whether waiting dialers must look again.
#[derive(Default)]
pub(super) struct After {
    wake: Vec<Waker>,
    discard: Vec<Waker>,
    dialers: bool,
}

impl After {
    /// Wakes the task that waits in `slot`, if one does.
    pub(super) fn wake(&mut self, slot: &mut Option<Waker>) {
        self.wake.extend(slot.take());
    }

    /// Forgets the task that waits in `slot`.
    pub(super) fn discard(&mut self, slot: &mut Option<Waker>) {
        self.discard.extend(slot.take());
    }

    /// Lets `waker` wait in `slot`, in the place of whoever waited there.
    pub(super) fn register(&mut self, slot: &mut Option<Waker>, waker: &Waker) {
        if !slot.as_ref().is_some_and(|present| present.will_wake(waker)) {
            self.discard.extend(slot.replace(waker.clone()));
        }
    }

    /// Makes everyone look again who waits for a connection.
    pub(super) fn retry_dialers(&mut self) {
        self.dialers = true;
    }

    /// Wakes who is to be woken; returns whether waiting dialers must look again.
    pub(super) fn run(self) -> bool {
        self.wake.into_iter().for_each(Waker::wake);
        self.dialers
    }
}
