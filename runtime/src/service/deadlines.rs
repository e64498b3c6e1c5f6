//! Wakes callers whose deadline has passed, with one timer for all of a node's calls.
//!
//! A call that waits takes a place here and gives it back when the reply comes. A task that calls again and again finds
//! its place as it left it, its waker still there: then parking is one atomic exchange, and no lock and no timer. Tasks
//! whose places collide, and there are many more of them than places, use the overflow, which costs two short locks.
//!
//! One task sleeps until the earliest deadline that it has seen.
//!
//! Invariant: it wakes and nothing more. The caller decides, by the clock, what the wake-up means.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::Notify;

use crate::time;

/// A power of two.
const PLACES: usize = 256;

/// The deadline of a place that nobody has.
const FREE: u64 = u64::MAX;

/// The deadline of a place that is being tidied up.
const TIDYING: u64 = u64::MAX - 1;

/// After how long a caller that was woken and has not run yet is woken again.
const AGAIN: Duration = Duration::from_millis(50);

/// See [`Deadlines::is_far`]: 10 s in nanoseconds. Only a thread that stood still for that long could deceive it.
const FAR: u64 = 10_000_000_000;

/// After how long without callers the wakers in free places are dropped: they keep the memory of ended tasks.
const TIDY_AFTER: Duration = Duration::from_secs(1);

/// The parked callers of one node.
#[derive(Debug)]
pub(crate) struct Deadlines {
    start: Instant,
    places: Box<[Place]>,
    overflow: Mutex<Overflow>,
    /// When the task wakes next, as the number of a [`Tick`]; `u64::MAX` while nobody is parked.
    ///
    /// Whoever parks writes its deadline and then reads this; the task writes this and then reads the deadlines once more.
    /// Both in one total order (`SeqCst`), so that one of the two sees the other.
    next_look: AtomicU64,
    /// Tells the task that somebody parked with an earlier deadline.
    earlier: Notify,
    /// The latest time at which a call was seen to begin, as the number of a [`Tick`].
    seen: AtomicU64,
    /// Set when the task has ended, with its node: nobody would be woken any more.
    closed: AtomicBool,
}

/// A place that one caller has at a time. Whoever exchanges `FREE` for a deadline owns it until `FREE` is stored again,
/// and alone writes the rest.
#[derive(Debug)]
struct Place {
    /// The number of a [`Tick`].
    deadline: AtomicU64,
    /// Which waker is in `waker`: its data and its table of functions. The waker keeps its data alive, so another one
    /// cannot have the same address.
    data: AtomicUsize,
    table: AtomicUsize,
    /// Guards the waker against being read by the task while it is written.
    waker: Mutex<Option<Waker>>,
}

/// Guards the callers that found their place taken.
#[derive(Debug, Default)]
struct Overflow {
    waiting: Slab<Waiting>,
    /// Not later than any deadline in `waiting`.
    earliest: Option<u64>,
}

#[derive(Debug)]
struct Waiting {
    deadline: u64,
    waker: Waker,
}

/// A time of one node: nanoseconds since its start. Read from the clock once, then compared as a number. The start is
/// number 1, so that an `Option<Tick>`, which every message carries, is no larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(NonZeroU64);

/// The latest time that there is.
const LATEST: NonZeroU64 = NonZeroU64::MIN.saturating_add(TIDYING - 2);

impl Tick {
    /// The time `duration` later.
    #[inline]
    pub(crate) fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos).min(LATEST))
    }

    /// At least 1.
    #[inline]
    fn number(self) -> u64 {
        self.0.get()
    }

    /// The time that has this number, which is not 0.
    #[inline]
    pub(crate) fn of(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// It as a number: nanoseconds, at least 1.
    #[inline]
    pub(crate) fn nanos(self) -> u64 {
        self.number()
    }

    /// How long the node has run.
    #[inline]
    pub(crate) fn since_start(self) -> Duration {
        Duration::from_nanos(self.number() - 1)
    }

    /// How long until `later`; zero if that has passed.
    #[inline]
    pub(crate) fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.number().saturating_sub(self.number()))
    }
}

/// A caller's place. It must be given back with [`Deadlines::unpark`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Parked(Spot);

#[derive(Debug)]
enum Spot {
    Place(usize),
    Overflow(usize),
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self {
            start: time::now(),
            places: (0..PLACES).map(|_| Place::new()).collect(),
            overflow: Mutex::default(),
            next_look: AtomicU64::new(u64::MAX),
            earlier: Notify::new(),
            seen: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// The present.
    #[inline]
    pub(crate) fn now(&self) -> Tick {
        self.tick(time::now())
    }

    /// A time of the clock as this node counts it.
    #[inline]
    pub(crate) fn tick(&self, at: Instant) -> Tick {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Tick(NonZeroU64::MIN.saturating_add(nanos).min(LATEST))
    }

    /// A time of this node as the clock tells it.
    pub(crate) fn instant(&self, at: Tick) -> Instant {
        self.instant_of(at.number())
    }

    /// The time that has this number.
    fn instant_of(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos(number.saturating_sub(1))
    }

    /// Wakes `waker` soon after `deadline`, unless it is unparked before.
    #[inline]
    pub(crate) fn park(&self, deadline: Tick, waker: &Waker) -> Parked {
        let deadline = deadline.number();
        let index = place_of(waker);
        let spot = if self.places[index].take(deadline, waker) {
            Spot::Place(index)
        } else {
            Spot::Overflow(self.overflow().insert(deadline, waker))
        };
        if deadline < self.next_look.load(Ordering::SeqCst) {
            self.earlier.notify_one();
        }
        // After the place is taken: either `close` finds it, or its mark is seen here.
        if self.is_closed() {
            waker.wake_by_ref();
        }
        Parked(spot)
    }

    /// Keeps the place, for a caller that now waits with another waker.
    pub(crate) fn repark(&self, parked: &Parked, waker: &Waker) {
        match parked.0 {
            Spot::Place(index) => self.places[index].note(waker),
            Spot::Overflow(key) => {
                if let Some(waiting) = self.overflow().waiting.get_mut(key) {
                    waiting.waker.clone_from(waker);
                }
            }
        }
    }

    /// Gives the place back.
    #[expect(clippy::needless_pass_by_value, reason = "a place is given back once")]
    #[inline]
    pub(crate) fn unpark(&self, parked: Parked) {
        match parked.0 {
            Spot::Place(index) => self.places[index].deadline.store(FREE, Ordering::Release),
            Spot::Overflow(key) => {
                let waiting = self.overflow().waiting.try_remove(key);
                drop(waiting); // outside the lock: dropping a waker may run foreign code
            }
        }
    }

    /// The latest time that was noted.
    pub(crate) fn seen(&self) -> Tick {
        Tick::of(self.seen.load(Ordering::Relaxed)).unwrap_or_else(|| self.now())
    }

    /// Notes the time, which somebody has just read.
    #[inline]
    pub(crate) fn saw(&self, now: Tick) {
        self.seen.store(now.number(), Ordering::Relaxed);
    }

    /// Whether a deadline is so far ahead that nobody needs to read the clock for it: more than [`FAR`] after the last
    /// time that was noted. The time is noted when a call begins and when the deadline of one that waits here passes.
    #[inline]
    pub(crate) fn is_far(&self, deadline: Tick) -> bool {
        deadline.number() > self.seen.load(Ordering::Relaxed).saturating_add(FAR)
    }

    /// Whether the node has ended: who waits here would wait for ever.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The task's body: never ends. Dropped, with its node, it closes; also if it was never polled.
    pub(crate) fn run(self: Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        let close = Close(self);
        async move { close.0.wake_in_time().await }
    }

    async fn wake_in_time(&self) {
        loop {
            let next = self.wake_due();
            self.next_look.store(next.unwrap_or(u64::MAX), Ordering::SeqCst);
            if self.earliest().is_some_and(|earliest| next.is_none_or(|next| earliest < next)) {
                continue; // somebody parked between the look and the store
            }
            if let Some(at) = next {
                tokio::select! {
                    biased;
                    () = self.earlier.notified() => {}
                    () = time::sleep_until(self.instant_of(at)) => {}
                }
            } else if time::timeout(TIDY_AFTER, self.earlier.notified()).await.is_none() {
                self.places.iter().for_each(Place::tidy);
                self.earlier.notified().await;
            }
        }
    }

    /// Wakes the callers whose time has come; says when the next one's comes.
    fn wake_due(&self) -> Option<u64> {
        let now = self.now();
        self.saw(now);
        let (now, again) = (now.number(), now.after(AGAIN).number());
        let mut next = None;
        let mut soonest = |at: u64| next = Some(next.map_or(at, |next: u64| next.min(at)));
        for place in &self.places {
            match place.deadline() {
                None => {}
                Some(deadline) if deadline > now => soonest(deadline),
                // Whoever is woken gives its place back itself.
                Some(deadline) => {
                    if place.put_off(deadline, again) {
                        soonest(again);
                    }
                    place.wake();
                }
            }
        }
        let (due, earliest) = self.overflow().due(now, again);
        due.into_iter().for_each(Waker::wake);
        if let Some(earliest) = earliest {
            soonest(earliest);
        }
        next
    }

    fn earliest(&self) -> Option<u64> {
        self.places.iter().filter_map(Place::deadline).chain(self.overflow().earliest).min()
    }

    /// Wakes everybody, now and in future.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.places.iter().filter(|place| place.deadline().is_some()).for_each(Place::wake);
        let wakers: Vec<_> =
            self.overflow().waiting.iter().map(|(_, waiting)| waiting.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn overflow(&self) -> MutexGuard<'_, Overflow> {
        self.overflow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many callers are parked.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places.iter().filter_map(Place::deadline).count() + self.overflow().waiting.len()
    }
}

impl Place {
    fn new() -> Self {
        Self {
            deadline: AtomicU64::new(FREE),
            data: AtomicUsize::new(0),
            table: AtomicUsize::new(0),
            waker: Mutex::new(None),
        }
    }

    /// Takes the place, if nobody has it.
    #[inline]
    fn take(&self, deadline: u64, waker: &Waker) -> bool {
        if self.deadline.compare_exchange(FREE, deadline, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return false;
        }
        let (data, table) = identity(waker);
        if self.data.load(Ordering::Relaxed) != data || self.table.load(Ordering::Relaxed) != table {
            self.note(waker);
        }
        true
    }

    /// Notes the owner's waker.
    fn note(&self, waker: &Waker) {
        let (data, table) = identity(waker);
        let old = self.waker().replace(waker.clone());
        self.data.store(data, Ordering::Relaxed);
        self.table.store(table, Ordering::Relaxed);
        drop(old); // outside the lock: dropping a waker may run foreign code
    }

    /// The owner's deadline, if somebody has the place.
    fn deadline(&self) -> Option<u64> {
        Some(self.deadline.load(Ordering::SeqCst)).filter(|&deadline| deadline < TIDYING)
    }

    /// Moves the deadline of whoever is woken now, unless it has gone meanwhile.
    fn put_off(&self, deadline: u64, again: u64) -> bool {
        self.deadline.compare_exchange(deadline, again, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    fn wake(&self) {
        let waker = self.waker().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Drops the waker of whoever had the place last, if nobody has it.
    fn tidy(&self) {
        if self.deadline.compare_exchange(FREE, TIDYING, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            let old = self.waker().take();
            self.data.store(0, Ordering::Relaxed);
            self.table.store(0, Ordering::Relaxed);
            self.deadline.store(FREE, Ordering::Release);
            drop(old);
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Overflow {
    fn insert(&mut self, deadline: u64, waker: &Waker) -> usize {
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        self.waiting.insert(Waiting { deadline, waker: waker.clone() })
    }

    /// The wakers whose time has come, and when the next one's comes.
    fn due(&mut self, now: u64, again: u64) -> (Vec<Waker>, Option<u64>) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return (Vec::new(), self.earliest);
        }
        let mut due = Vec::new();
        for (_, waiting) in &mut self.waiting {
            if waiting.deadline <= now {
                waiting.deadline = again;
                due.push(waiting.waker.clone());
            }
        }
        self.earliest = self.waiting.iter().map(|(_, waiting)| waiting.deadline).min();
        (due, self.earliest)
    }
}

/// What tells one waker from another.
#[inline]
fn identity(waker: &Waker) -> (usize, usize) {
    (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
}

/// The place of a task, by its address: Fibonacci hashing (Knuth, The Art of Computer Programming, vol. 3, 6.4).
#[inline]
fn place_of(waker: &Waker) -> usize {
    let hash = (waker.data().addr() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(hash >> 56).unwrap_or(0) & (PLACES - 1)
}

struct Close(Arc<Deadlines>);

impl Drop for Close {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    async fn until(deadlines: &Deadlines, deadline: Instant) {
        let mut parked = None;
        poll_fn(|cx| {
            if time::now() >= deadline {
                return Poll::Ready(());
            }
            match &parked {
                None => parked = Some(deadlines.park(deadlines.tick(deadline), cx.waker())),
                Some(parked) => deadlines.repark(parked, cx.waker()),
            }
            Poll::Pending
        })
        .await;
        deadlines.unpark(parked.expect("it waited"));
    }

    fn running() -> Arc<Deadlines> {
        let deadlines = Arc::new(Deadlines::new());
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(Arc::clone(&deadlines).run());
        deadlines
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_is_woken_at_the_deadline_whatever_the_order_of_parking() {
        let deadlines = running();
        let start = time::now();
        let mut random = crate::random::seeded(11);
        let waits = (0..2000).map(|_| {
            let after = Duration::from_millis(random.u64(1..20_000));
            let deadlines = &deadlines;
            async move {
                until(deadlines, start + after).await;
                let late = time::now() - (start + after);
                assert!(late <= Duration::from_millis(2), "{late:?} late");
            }
        });
        futures_util::future::join_all(waits).await;
        assert_eq!(deadlines.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_moves_the_look_forward() {
        let deadlines = running();
        let start = time::now();
        let long = until(&deadlines, start + Duration::from_secs(60));
        let short = async {
            time::sleep(Duration::from_secs(1)).await;
            until(&deadlines, start + Duration::from_secs(2)).await;
            assert_eq!(time::now() - start, Duration::from_secs(2));
        };
        futures_util::join!(long, short);
        assert_eq!(time::now() - start, Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_before_the_deadline_is_forgotten() {
        let deadlines = running();
        let far = time::now() + Duration::from_secs(60);
        for _ in 0..100 {
            let waits = time::timeout(Duration::from_millis(1), async {
                let parked = poll_fn(|cx| Poll::Ready(deadlines.park(deadlines.tick(far), cx.waker()))).await;
                deadlines.unpark(parked);
            });
            waits.await;
        }
        assert_eq!(deadlines.len(), 0);
    }
}
