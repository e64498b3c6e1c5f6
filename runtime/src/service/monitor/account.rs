//! What the polls of a task took: how many there were, how long they ran by the clock and on the processor.
//!
//! The clock is read for samples of the polls, and the processor's time for samples of those, as asking for it takes 20 times as long. A poll
//! that was measured by both says for how long its thread did not run, since it was preempted or blocked; what ran is the time by the clock without that.
//!
//! Invariant: one task writes with plain loads and stores; several tasks only where `Adds` says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::service::deadlines::{Deadlines, Tick};
use crate::service::monitor::sampler::Sampler;
use crate::time;

/// The work for which the clock is read once.
const CLOCK_EACH: u64 = 10_000;

/// The work, in nanoseconds, for which the processor's time is read once.
const PROCESSOR_EACH: u64 = 250_000;

/// The account of one task, or of several.
#[derive(Debug, Default)]
pub(super) struct Account {
    polls: AtomicU64,
    /// All in nanoseconds. What the polls took by the clock, as far as samples say.
    wall: AtomicU64,
    longest: AtomicU64,
    /// How long a thread did not run in them, as far as samples say.
    idle: AtomicU64,
    /// The most that was ever told to have run: a sample that stands for many must not take anything back.
    told: AtomicU64,
}

/// How numbers are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adds {
    /// By the one task that writes.
    Alone,
    /// By several at a time.
    Together,
}

impl Adds {
    #[inline]
    pub(super) fn add(self, to: &AtomicU64, number: u64) {
        match self {
            Self::Alone => to.store(to.load(Ordering::Relaxed).wrapping_add(number), Ordering::Release),
            Self::Together => drop(to.fetch_add(number, Ordering::Release)),
        }
    }
}

/// Which polls of one task are measured.
#[derive(Debug)]
pub(super) struct PollSampler {
    wall: Sampler,
    cpu: Sampler,
}

/// A poll that is being measured.
#[derive(Debug)]
pub(super) struct Measured {
    weight: u16,
    began: Tick,
    /// How many it stands for, and the thread's time at its beginning.
    cpu: Option<(u16, Duration)>,
}

/// What a task, or several, spent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) polls: u64,
    pub(crate) wall: Duration,
    pub(crate) longest: Duration,
    /// `None` where the system does not tell.
    pub(crate) cpu: Option<Duration>,
}

impl PollSampler {
    pub(super) fn new(seed: u32) -> Self {
        Self { wall: Sampler::new(seed), cpu: Sampler::new(seed ^ 0x5555_5555) }
    }

    /// A poll begins that is measured by the clock, and on the processor too if it `is_late`, for itself alone.
    pub(super) fn begin_early(clock: &Deadlines, is_late: bool) -> Measured {
        let cpu = is_late.then(time::thread_cpu).flatten().map(|before| (1, before));
        Measured { weight: 1, began: clock.now(), cpu }
    }

    /// A poll begins: gives what has to be ended with [`PollSampler::end`], if it is measured.
    #[inline]
    pub(super) fn begin(&self, clock: &Deadlines) -> Option<Measured> {
        let weight = self.wall.draw()?;
        Some(self.begin_measured(weight, clock))
    }

    #[inline(never)]
    fn begin_measured(&self, weight: u16, clock: &Deadlines) -> Measured {
        let cpu = self.cpu.draw().and_then(|group| Some((group, time::thread_cpu()?)));
        Measured { weight, began: clock.now(), cpu }
    }

    /// The poll has ended.
    #[inline(never)]
    pub(super) fn end(
        &self,
        measured: &Measured,
        account: &Account,
        adds: Adds,
        clock: &Deadlines,
        precise: bool,
    ) {
        let wall = measured.note(account, adds, clock);
        let group = if precise { 1 } else { CLOCK_EACH / wall.max(1) };
        self.wall.set_group(group);
        let work = wall.saturating_mul(group.clamp(1, u64::from(super::sampler::LARGEST)));
        self.cpu.set_group(if precise { 1 } else { PROCESSOR_EACH / work.max(1) });
    }
}

impl Measured {
    /// Notes what the poll took, which has ended; gives it in nanoseconds.
    pub(super) fn note(&self, account: &Account, adds: Adds, clock: &Deadlines) -> u64 {
        let Self { weight, began, cpu } = *self;
        let wall = time::nanos(began.until(clock.now()));
        let weight = u64::from(weight);
        if let Some((group, before)) = cpu
            && let Some(now) = time::thread_cpu()
        {
            // Asking for it takes time on the processor too, of which a part is in here: at most all of it ran.
            let idle = wall.saturating_sub(time::nanos(now.saturating_sub(before)));
            adds.add(&account.idle, idle.saturating_mul(weight * u64::from(group)));
        }
        // Last: whoever sees this sees what did not run of it.
        adds.add(&account.wall, wall.saturating_mul(weight));
        account.note_longest(wall);
        wall
    }

    /// How long it has taken, in nanoseconds.
    pub(super) fn wall(&self, clock: &Deadlines) -> u64 {
        time::nanos(self.began.until(clock.now()))
    }
}

/// The size of a group of what takes so many nanoseconds.
pub(super) fn group_of(took: u64, precise: bool) -> u64 {
    if precise { 1 } else { CLOCK_EACH / took.max(1) }
}

impl Account {
    #[inline]
    pub(super) fn count(&self, adds: Adds) {
        adds.add(&self.polls, 1);
    }

    fn note_longest(&self, wall: u64) {
        if wall > self.longest.load(Ordering::Relaxed) {
            self.longest.fetch_max(wall, Ordering::Relaxed);
        }
    }

    /// What the polls came to.
    pub(super) fn spent(&self) -> Spent {
        let read = |number: &AtomicU64| number.load(Ordering::Acquire);
        let wall = read(&self.wall); // first: see `end`
        let idle = read(&self.idle);
        let ran = wall.saturating_sub(idle);
        let told = self.told.fetch_max(ran, Ordering::Relaxed).max(ran);
        Spent {
            polls: read(&self.polls),
            wall: Duration::from_nanos(wall),
            longest: Duration::from_nanos(read(&self.longest)),
            cpu: time::thread_cpu().map(|_| Duration::from_nanos(told)),
        }
    }
}

impl Spent {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            polls: self.polls + other.polls,
            wall: self.wall + other.wall,
            longest: self.longest.max(other.longest),
            cpu: self.cpu.zip(other.cpu).map(|(one, other)| one + other),
        }
    }
}
