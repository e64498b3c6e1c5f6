//! Which handlers of an instance run now, as the watchdog sees them.
//!
//! All handlers of an instance are polled by its one task, which alone begins and ends turns; the watchdog only reads. So
//! a handler that ends in its first poll, or runs alone, costs three plain loads and stores, and no clock and no lock.
//!
//! Invariant: a turn is in one place: in `current` from its beginning; beside, once it waits and others may begin.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use slab::Slab;

use crate::service::chain::Chain;
use crate::service::deadlines::Tick;
use crate::service::message::{Method, Receiver};
use crate::service::tap::Tap;

/// The turns of one instance.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// The turn that runs alone or is in its first poll; without a method, the latest one.
    current: AtomicU64,
    /// Whether the watchdog looks at the instance.
    watched: AtomicBool,
    /// Whether somebody wants to see its messages: see [`Tap`].
    traced: AtomicBool,
    tap: OnceLock<Box<Tap>>,
    /// The `&self` handlers that wait. Most instances never have one.
    beside: OnceLock<Box<Mutex<Slab<Beside>>>>,
}

/// One run of a handler: the number of the turn in its upper half, the number of the method in the lower one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Turn(u64);

/// What the watchdog knows of a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) turn: Turn,
    /// When it was first seen.
    pub(crate) since: Option<Tick>,
    /// Which events about it were published.
    pub(crate) told_slow: bool,
    pub(crate) told_stuck: bool,
}

/// A `&self` handler that waits.
#[derive(Debug)]
pub(crate) struct Beside {
    pub(crate) run: Run,
    /// For how many it stands, if it is measured.
    weight: u16,
    /// The handlers that wait for it.
    pub(crate) callers: Chain,
}

/// Where a handler's turn is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// It has not begun.
    Ahead,
    Current,
    /// There too, and its handler has waited.
    Waits,
    /// Under this key.
    Beside(u32),
}

const METHOD: u64 = u32::MAX as u64;

impl Turn {
    /// The number of the method; 0 if no handler runs.
    pub(crate) fn method(self) -> u32 {
        u32::try_from(self.0 & METHOD).unwrap_or(0)
    }

    /// Which run it is: a number that begins again after four thousand million.
    pub(crate) fn run(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or(0)
    }

    /// Of a number that has the method's in its lower half.
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }

    /// It as a number.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    pub(crate) fn is_running(self) -> bool {
        self.method() != 0
    }
}

impl Run {
    pub(crate) fn new(turn: Turn, since: Option<Tick>) -> Self {
        Self { turn, since, told_slow: false, told_stuck: false }
    }
}

/// Whoever wants to see the messages.
impl Turns {
    /// Whether somebody does.
    #[inline]
    pub(crate) fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed)
    }

    /// Where they are shown, if somebody ever wanted to see them.
    pub(crate) fn tap(&self) -> Option<&Tap> {
        self.tap.get().map(|tap| &**tap)
    }

    /// Where they are shown from now on.
    pub(crate) fn open_tap(&self) -> &Tap {
        self.tap.get_or_init(Box::default)
    }

    pub(crate) fn set_traced(&self, traced: bool) {
        self.traced.store(traced, Ordering::Release);
    }

    /// The turn that is at this place.
    pub(crate) fn at(&self, place: Place) -> Turn {
        match place {
            Place::Beside(key) => {
                self.lock_beside().get(key as usize).map_or(Turn::default(), |beside| beside.run.turn)
            }
            Place::Ahead | Place::Current | Place::Waits => self.current(),
        }
    }
}

/// The instance's side.
impl Turns {
    /// A handler begins. `false` if the watchdog has to be told of the instance.
    #[inline]
    pub(crate) fn begin(&self, method: &Method) -> bool {
        let number = (self.current.load(Ordering::Relaxed) | METHOD).wrapping_add(1);
        self.current.store(number | u64::from(method.id().name), Ordering::Relaxed);
        self.watched.load(Ordering::Relaxed)
    }

    /// The handler that began last waits, and others may begin beside it. It runs `since`, if that is known; if it is measured it stands for
    /// so many.
    pub(crate) fn set_aside(&self, since: Option<Tick>, weight: u16, callers: Chain) -> Place {
        let run = Run::new(self.current(), since);
        let key = self.lock_beside().insert(Beside { run, weight, callers });
        self.rest();
        // More than four thousand million handlers do not run.
        Place::Beside(u32::try_from(key).unwrap_or(u32::MAX))
    }

    /// The handler that runs alone or is in its first poll has ended.
    #[inline]
    pub(crate) fn end(&self) {
        self.rest();
    }

    /// A handler has ended that waited. If it was measured, then since when it ran, and for how many it stands.
    pub(crate) fn end_beside(&self, key: u32) -> Option<(Tick, u16)> {
        let ended = self.lock_beside().try_remove(key as usize)?;
        let measured = ended.run.since.zip(Some(ended.weight));
        measured.filter(|(_, weight)| *weight != 0)
    }

    /// Every handler has ended, or was dropped. Gives those that had not ended.
    pub(crate) fn end_all(&self) -> Vec<Turn> {
        let mut cut_off = Vec::new();
        let current = self.current();
        if current.is_running() {
            cut_off.push(current);
        }
        self.rest();
        if self.beside.get().is_some() {
            cut_off.extend(self.lock_beside().drain().map(|beside| beside.run.turn));
        }
        cut_off
    }

    #[inline]
    fn rest(&self) {
        self.current.store(self.current.load(Ordering::Relaxed) & !METHOD, Ordering::Relaxed);
    }
}

/// The watchdog's side.
impl Turns {
    pub(crate) fn current(&self) -> Turn {
        Turn(self.current.load(Ordering::Relaxed))
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    /// Sets whether the watchdog looks at the instance; gives what was.
    pub(crate) fn set_watched(&self, watched: bool) -> bool {
        self.watched.swap(watched, Ordering::AcqRel)
    }

    /// How many handlers run, those that wait included.
    pub(crate) fn count(&self) -> usize {
        let beside = self.beside.get().map_or(0, |_| self.lock_beside().len());
        beside + usize::from(self.current().is_running())
    }

    /// Looks at the handlers that wait beside; says whether there are any.
    pub(crate) fn look_beside(&self, mut look: impl FnMut(&mut Run)) -> bool {
        self.look_at_all_beside(|beside| look(&mut beside.run))
    }

    /// As [`Turns::look_beside`], at what else is known of them.
    pub(crate) fn look_at_all_beside(&self, look: impl FnMut(&mut Beside)) -> bool {
        if self.beside.get().is_none() {
            return false;
        }
        let mut beside = self.lock_beside();
        beside.iter_mut().map(|(_, beside)| beside).for_each(look);
        !beside.is_empty()
    }

    fn lock_beside(&self) -> MutexGuard<'_, Slab<Beside>> {
        self.beside.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hooks, as what runs and as links of a chain of calls: the instance waits for them as for an exclusive handler. Their
/// numbers are none that a name has.
pub(crate) static ON_START: Method = Method::new("on_start", 1, 0, Receiver::Exclusive);
pub(crate) static ON_STOP: Method = Method::new("on_stop", 2, 0, Receiver::Exclusive);
pub(crate) static ON_DOWN: Method = Method::new("on_down", 3, 0, Receiver::Exclusive);

/// The name of what runs.
pub(crate) fn name_of(methods: &[Method], turn: Turn) -> &'static str {
    let is_it = |method: &&Method| method.id().name == turn.method();
    let hook = || [&ON_START, &ON_STOP, &ON_DOWN].into_iter().find(is_it);
    methods.iter().find(is_it).or_else(hook).map_or("?", Method::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    static ONE: Method = Method::new("one", 0xFFFF_FFFF, 0, Receiver::Shared);

    fn waiting(turns: &Turns) -> Vec<Turn> {
        let mut waiting = Vec::new();
        turns.look_beside(|run| waiting.push(run.turn));
        waiting
    }

    #[test]
    fn every_run_has_a_turn_of_its_own() {
        let turns = Turns::default();
        let mut before = turns.current();
        for _ in 0..3 {
            assert!(!turns.begin(&ONE), "nobody watches it");
            let now = turns.current();
            assert!(now.is_running() && now != before);
            assert_eq!(now.method(), ONE.id().name);
            turns.end();
            assert!(!turns.current().is_running());
            before = now;
        }
    }

    #[test]
    fn a_handler_that_waits_beside_keeps_its_turn_until_it_ends() {
        let turns = Turns::default();
        turns.begin(&ONE);
        let first = turns.current();
        let Place::Beside(key) = turns.set_aside(None, 0, Chain::default()) else { panic!("it waits") };
        assert!(!turns.current().is_running());
        turns.begin(&ON_DOWN);
        assert_eq!(waiting(&turns), [first]);
        assert_eq!(turns.end_beside(key), None);
        assert_eq!(waiting(&turns), []);
        assert!(turns.current().is_running());
        turns.set_aside(None, 0, Chain::default());
        assert_eq!(turns.end_all().len(), 1);
        assert_eq!(waiting(&turns), []);
        assert!(!turns.current().is_running());
    }

    #[test]
    fn numbers_may_begin_again() {
        let turns = Turns { current: AtomicU64::new(u64::MAX), ..Turns::default() };
        turns.begin(&ON_STOP);
        assert_eq!(turns.current(), Turn(2));
    }

    #[test]
    fn what_runs_has_a_name() {
        static METHODS: [Method; 1] = [Method::new("add", 77, 0, Receiver::Exclusive)];
        for (number, name) in [(77, "add"), (1, "on_start"), (2, "on_stop"), (3, "on_down"), (9, "?")] {
            assert_eq!(name_of(&METHODS, Turn(5 << 32 | number)), name);
        }
    }
}
