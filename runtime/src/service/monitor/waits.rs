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
use crate::service::host::Resident;
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
    /// The name of its service, if it is known to have one.
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
    /// The handler that this thread polls waits for the reply of an instance of this node. `None` where none is polled.
    #[inline]
    pub(crate) fn here(callee: InstanceId, method: &'static Method, since: Tick) -> Option<Self> {
        context::with_current(|core, by| {
            let waits = core.ensure_figures()?.waits();
            let key = waits.take(callee, by, method, since).or_else(|| {
                let call = Place::new(callee, by, method, since).read(core)?;
                waits.add(call)
            })?;
            Some(Self { core: Arc::clone(core), key })
        })
    }

    /// As [`WaitGuard::here`], for the reply of an instance of another node, or for one that it is not known yet.
    #[inline(never)]
    pub(crate) fn elsewhere<M: Message>(
        target: &Target<M>,
        remote: Option<Address>,
        method: &'static Method,
        since: Tick,
    ) -> Option<Self> {
        context::with_current(|core, by| {
            let name = match target {
                Target::Routed(routed) => Some(routed.name().into()),
                Target::Local(_) | Target::Remote(_) => None,
            };
            let address = remote.or_else(|| target.address().cloned());
            let (by, interface, method) = (by.name(), M::INTERFACE, method.name());
            let call = WaitingCall { by, address, name, interface, method, since };
            let key = core.ensure_figures()?.waits().add(call)?;
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
        place.set(callee, by, method, since);
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
    fn new(callee: InstanceId, by: &Method, method: &Method, since: Tick) -> Self {
        let place = Self::default();
        place.set(callee, by, method, since);
        place
    }

    #[inline]
    fn set(&self, callee: InstanceId, by: &Method, method: &Method, since: Tick) {
        let methods = u64::from(by.id().name) << 32 | u64::from(method.id().name);
        self.methods.store(methods, Ordering::Relaxed);
        self.since.store(since.nanos(), Ordering::Relaxed);
        self.callee.store(callee.0.wrapping_add(1), Ordering::Release);
    }

    /// The call, if there is one, of an instance that `core` belongs to.
    fn read(&self, core: &Core) -> Option<WaitingCall> {
        let callee = self.callee.load(Ordering::Acquire);
        let methods = self.methods.load(Ordering::Acquire);
        let since = Tick::of(self.since.load(Ordering::Acquire))?;
        if callee == 0 || self.callee.load(Ordering::Acquire) != callee {
            return None; // it ends just now
        }
        // The callee may have ended, and is nothing to wait for any more: the call hears of it in a moment.
        let Resident { core: callee, is_named, .. } = core.host().resident(InstanceId(callee - 1))?;
        Some(WaitingCall {
            by: name_of(core.methods(), Turn::of(methods >> 32)),
            address: Some(callee.address().clone()),
            name: is_named.then(|| (**callee.service()).into()),
            interface: callee.interface(),
            method: name_of(callee.methods(), Turn::of(methods)),
            since,
        })
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
