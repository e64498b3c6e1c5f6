//! Who waits for whom: the calls of an instance's handlers that wait for their replies, and who waits for its handlers.
//!
//! A call says so when it has to wait for the first time, and takes it back at its end. To an instance of this node that takes a few plain stores,
//! as the call is said by numbers, which whoever asks looks up. The handlers that wait for a handler travel with its message (`chain`); it
//! shows them when it has to wait itself.
//!
//! Invariant: a place that is taken is given back by its guard. The lock is held for a look or a change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

use crate::id::{Address, InstanceId};
use crate::service::chain::Chain;
use crate::service::context;
use crate::service::core::Core;
use crate::service::deadlines::Tick;
use crate::service::handle::Target;
use crate::service::message::{Message, Method};
use crate::service::monitor::figures::Figures;
use crate::service::turns::{Turn, name_of};

/// How many calls may wait in places of their own.
const PLACES: usize = 4;

/// The waits of one instance.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Calls to instances of this node.
    places: [Place; PLACES],
    /// Guards what needs more than numbers.
    more: Mutex<More>,
}

/// A call to an instance of this node.
#[derive(Debug, Default)]
struct Place {
    /// The instance's number, plus one; 0 if nobody has the place. The instance's task alone takes one, so that nobody else does meanwhile.
    callee: AtomicU64,
    /// The numbers of the two methods' names: of who waits in the upper half.
    methods: AtomicU64,
    /// As the number of a [`Tick`].
    since: AtomicU64,
}

#[derive(Debug, Default)]
struct More {
    calls: Slab<WaitingCall>,
    /// The handlers that wait for the one that runs alone, and its turn.
    callers: Option<(Turn, Chain)>,
}

/// A call of a handler that waits for its reply.
#[derive(Debug, Clone)]
pub(crate) struct WaitingCall {
    /// The method whose handler waits.
    pub(crate) by: &'static str,
    /// The instance that is called, if it is known.
    pub(crate) address: Option<Address>,
    /// The name that is called, if it is one.
    pub(crate) name: Option<Box<str>>,
    pub(crate) interface: &'static str,
    pub(crate) method: &'static str,
    pub(crate) since: Tick,
}

/// Takes a wait back when it is dropped.
#[derive(Debug)]
pub(crate) struct WaitGuard {
    core: Arc<Core>,
    key: Key,
}

#[derive(Debug, Clone, Copy)]
enum Key {
    Place(u32),
    More(u32),
}

impl WaitGuard {
    /// The handler that this thread polls waits for the reply of a call. `None` where none is polled.
    #[inline]
    pub(crate) fn begin<M: Message>(
        target: &Target<M>,
        remote: impl FnOnce() -> Option<Address>,
        method: &'static Method,
        since: Tick,
    ) -> Option<Self> {
        context::with_current(|core, by| {
            let waits = core.ensure_figures()?.waits();
            let place = match target {
                Target::Local(local) => waits.take(local.address().instance, by, method, since),
                Target::Remote(_) | Target::Routed(_) => None,
            };
            let key = place.or_else(|| waits.add(WaitingCall::new(target, remote(), by, method, since)))?;
            Some(Self { core: Arc::clone(core), key })
        })
    }
}

impl Drop for WaitGuard {
    #[inline]
    fn drop(&mut self) {
        if let Some(waits) = self.core.figures().and_then(Figures::known_waits) {
            waits.give_back(self.key);
        }
    }
}

impl Waits {
    /// Takes a place, if one is free.
    #[inline]
    fn take(&self, callee: InstanceId, by: &Method, method: &Method, since: Tick) -> Option<Key> {
        let key = self.places.iter().position(|place| place.callee.load(Ordering::Acquire) == 0)?;
        let place = self.places.get(key)?;
        let methods = u64::from(by.id().name) << 32 | u64::from(method.id().name);
        place.methods.store(methods, Ordering::Relaxed);
        place.since.store(since.nanos(), Ordering::Relaxed);
        place.callee.store(callee.0.wrapping_add(1), Ordering::Release);
        Some(Key::Place(u32::try_from(key).ok()?))
    }

    #[inline(never)]
    fn add(&self, call: WaitingCall) -> Option<Key> {
        let key = self.more().calls.insert(call);
        Some(Key::More(u32::try_from(key).ok()?)) // more than four thousand million calls do not wait
    }

    #[inline]
    fn give_back(&self, key: Key) {
        match key {
            Key::Place(key) => {
                if let Some(place) = self.places.get(key as usize) {
                    place.callee.store(0, Ordering::Release);
                }
            }
            Key::More(key) => {
                let call = self.more().calls.try_remove(key as usize);
                drop(call); // outside the lock
            }
        }
    }

    fn more(&self) -> MutexGuard<'_, More> {
        self.more.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The call, if there is one, of an instance that `core` belongs to.
    fn read(&self, core: &Core) -> Option<WaitingCall> {
        let callee = self.callee.load(Ordering::Acquire);
        let methods = self.methods.load(Ordering::Acquire);
        let since = Tick::of(self.since.load(Ordering::Acquire))?;
        if callee == 0 || self.callee.load(Ordering::Acquire) != callee {
            return None; // it ends just now
        }
        // The callee may have ended, and is nothing to wait for any more: the call hears of it in a moment.
        let callee = core.host().resident(InstanceId(callee - 1))?.core;
        Some(WaitingCall {
            by: name_of(core.methods(), Turn::of(methods >> 32)),
            address: Some(callee.address().clone()),
            name: None,
            interface: callee.interface(),
            method: name_of(callee.methods(), Turn::of(methods)),
            since,
        })
    }
}

impl WaitingCall {
    fn new<M: Message>(
        target: &Target<M>,
        remote: Option<Address>,
        by: &'static Method,
        method: &'static Method,
        since: Tick,
    ) -> Self {
        let name = match target {
            Target::Routed(routed) => Some(routed.name().into()),
            Target::Local(_) | Target::Remote(_) => None,
        };
        let address = remote.or_else(|| target.address().cloned());
        Self { by: by.name(), address, name, interface: M::INTERFACE, method: method.name(), since }
    }
}

impl Core {
    /// The handler that runs alone has to wait, and so do those that wait for it.
    pub(crate) fn note_callers(&self, turn: Turn, chain: &Chain) {
        if let Some(figures) = self.ensure_figures() {
            let old = figures.waits().more().callers.replace((turn, chain.clone()));
            drop(old); // outside the lock
        }
    }

    /// The handlers that wait for the one that runs alone, if that is this one.
    pub(crate) fn callers_of(&self, turn: Turn) -> Chain {
        let waits = self.figures().and_then(Figures::known_waits);
        let callers = waits.and_then(|waits| waits.more().callers.clone());
        callers.filter(|(of, _)| *of == turn).map(|(_, chain)| chain).unwrap_or_default()
    }

    /// The calls of its handlers that wait.
    pub(crate) fn waiting_calls(&self) -> Vec<WaitingCall> {
        let Some(waits) = self.figures().and_then(Figures::known_waits) else { return Vec::new() };
        let mut calls: Vec<_> = waits.more().calls.iter().map(|(_, call)| call.clone()).collect();
        calls.extend(waits.places.iter().filter_map(|place| place.read(self)));
        calls
    }
}
