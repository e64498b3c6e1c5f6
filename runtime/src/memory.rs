//! The one facade over the counting allocator, with the feature `memory`; without it nothing is counted, and this costs nothing.
//!
//! Invariant: what is not counted is `None`, and never a guess.

#[cfg(feature = "memory")]
mod counting {
    /// For whom memory is counted.
    pub(crate) type Owner = skyhold_memory::Owner;
    pub(crate) type Entered<'o> = skyhold_memory::Entered<'o>;

    /// What follows is the framework's own, until this is dropped.
    pub(crate) fn leave() -> Entered<'static> {
        skyhold_memory::leave()
    }

    /// Whether the program has the allocator that counts.
    pub(crate) fn is_counted() -> bool {
        skyhold_memory::is_installed()
    }
}

#[cfg(not(feature = "memory"))]
mod counting {
    use std::marker::PhantomData;

    /// Nobody.
    #[derive(Debug)]
    pub(crate) enum Owner {}

    pub(crate) struct Entered<'o>(PhantomData<&'o Owner>);

    impl Owner {
        pub(crate) fn new() -> Option<Self> {
            None
        }

        pub(crate) fn enter(&self) -> Entered<'_> {
            match *self {}
        }

        pub(crate) fn live(&self) -> u64 {
            match *self {}
        }
    }

    pub(crate) fn leave() -> Entered<'static> {
        Entered(PhantomData)
    }

    pub(crate) fn is_counted() -> bool {
        false
    }
}

pub(crate) use counting::{Entered, Owner, is_counted, leave};
