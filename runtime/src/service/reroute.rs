//! When a message through a name goes on to another instance, after one that certainly did not run it.
//!
//! What an instance gives back at once goes to the next one for nothing. A call that went over the network and came back
//! unrun is made again within the [budget](crate::policy::budget) of its handle.
//!
//! Invariant: a message is handed to no instance twice, and to at most [`MAX_TRIES`]; one that may have run goes nowhere.

use crate::error::CallError;
use crate::id::Address;
use crate::service::handle::{Ask, Picked, Routed};

/// How many instances of a name one message is handed to at most, the first included.
const MAX_TRIES: usize = 8;

/// The instances that did not run one message. Of most messages there are none, and then nothing is allocated: behind a
/// pointer, since every call carries it.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a third of the size, in every call")]
pub(crate) struct Refusals(Option<Box<Vec<(Address, CallError)>>>);

/// A message that an instance did not take, and another one of the same name may. It did not run.
pub(crate) struct Back<M> {
    pub(crate) message: M,
    pub(crate) from: Address,
    pub(crate) error: CallError,
}

impl Refusals {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the instance has refused.
    pub(crate) fn contains(&self, instance: &Address) -> bool {
        self.0.iter().flat_map(|refusals| refusals.iter()).any(|(from, _)| from == instance)
    }

    /// Notes a refusal, and takes the message out of it.
    pub(crate) fn note<M>(&mut self, back: Back<M>) -> M {
        self.0.get_or_insert_default().push((back.from, back.error));
        back.message
    }

    /// The instance to hand the message to next.
    ///
    /// # Errors
    /// The latest refusal, if there was one; else why there is nobody.
    pub(crate) fn pick<M>(&mut self, routed: &dyn Routed<M>, ask: Ask) -> Result<Picked<M>, CallError> {
        match routed.pick(ask, self) {
            Ok(picked) if self.len() < MAX_TRIES => Ok(picked),
            Err(nobody) if self.is_empty() => Err(nobody),
            _ => Err(self.latest()),
        }
    }

    /// Whether there is an instance to hand the message to next.
    pub(crate) fn leave_any<M>(&self, routed: &dyn Routed<M>, ask: Ask) -> bool {
        self.len() < MAX_TRIES && routed.has_any(ask, self)
    }

    /// Whether there is another instance than `this` to hand the message to.
    pub(crate) fn leave_others<M>(&self, routed: &dyn Routed<M>, ask: Ask, this: &Address) -> bool {
        self.len() + 1 < MAX_TRIES && routed.has_other(ask, self, this)
    }

    /// What the last one said who refused: it is what the caller is told.
    pub(crate) fn latest(&mut self) -> CallError {
        let nobody = || CallError::NoRoute("no instance is left to try".into());
        self.0.as_mut().and_then(|refusals| refusals.pop()).map_or_else(nobody, |(_, latest)| latest)
    }

    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |refusals| refusals.len())
    }
}

/// Whether another instance may take a message that was refused with this error. Not where the message or the call itself
/// is at fault, and never where it may have run. An overloaded instance counts: another one may have room, and the budget
/// keeps a cluster without any from being stormed.
pub(crate) fn may_fare_better(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Stopped(_) | CallError::NoRoute(_) | CallError::Stale(_) | CallError::Overloaded(_)
    )
}
