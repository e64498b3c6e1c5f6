//! Sees handlers that run for too long, and mailboxes that fill meanwhile.
//!
//! An instance that begins a handler puts itself on the list, if it is not there; the watchdog looks at the list now and
//! then, and takes off it who was idle at two looks. Of idle instances it knows nothing, and while the list is empty it
//! sleeps. Nobody reads a clock to begin or end a handler: the watchdog notes when it first saw a turn. So an age is that of
//! the handler or less, by one period at most.
//!
//! Invariant: it only reads what the instances write, and holds none of them back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::event::Event;
use crate::service::core::Core;
use crate::service::deadlines::{Deadlines, Tick};
use crate::service::definition::Settings;
use crate::service::turns::{Run, Turn, name_of};
use crate::time;

/// The longest time between two looks; the period is a quarter of the shortest limit on the list.
const LONGEST: Duration = Duration::from_millis(250);
/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(10);

/// The watchdog of one node.
#[derive(Debug)]
pub(crate) struct Watchdog {
    deadlines: Arc<Deadlines>,
    door: Mutex<Door>,
    bells: [Notify; 2],
}

/// Guards who comes to the list.
#[derive(Debug, Default)]
struct Door {
    newcomers: Vec<Entry>,
    /// How long whoever is on duty sleeps at most; `None` if nobody is.
    period: Option<Duration>,
}

/// An instance on the list.
#[derive(Debug)]
struct Entry {
    core: Weak<Core>,
    /// The latest turn that was seen.
    run: Run,
    /// It was idle at the look before, and may have put itself on the list again.
    leaves: bool,
}

impl Watchdog {
    pub(crate) fn new(deadlines: Arc<Deadlines>) -> Self {
        Self { deadlines, door: Mutex::default(), bells: Default::default() }
    }

    /// Puts an instance on the list, which begins a handler.
    #[cold]
    pub(crate) fn add(&self, core: &Arc<Core>) {
        if core.turns().set_watched(true) {
            return;
        }
        let run = Run::new(core.turns().current(), Some(self.deadlines.now()));
        let mut door = self.door();
        door.newcomers.push(Entry { core: Arc::downgrade(core), run, leaves: false });
        let must_ring = door.period.is_none_or(|period| period_of(core.settings()) < period);
        drop(door);
        if must_ring {
            // Two tasks, of which one goes on duty: tokio keeps the task that was woken last for this very thread, which
            // the handler may be about to block; the one before it any thread may take.
            self.bells.iter().for_each(Notify::notify_one);
        }
    }

    /// The body of both tasks: never ends.
    pub(crate) async fn run(self: Arc<Self>, task: usize) {
        let bell = &self.bells[task];
        loop {
            bell.notified().await;
            if self.door().period.replace(LONGEST).is_some() {
                continue; // the other one is on duty
            }
            self.watch(bell).await;
        }
    }

    /// Looks at the list until it is empty.
    async fn watch(&self, bell: &Notify) {
        let mut list = Vec::new();
        while let Some(pause) = self.look(&mut list) {
            // Whoever cannot wait that long rings; many may have, before the look.
            let at_least = pause.min(SHORTEST);
            time::sleep(at_least).await;
            let _rang = time::timeout(pause.saturating_sub(at_least), bell.notified()).await;
        }
    }

    /// Looks at every instance once; says for how long to sleep, if it is not for good.
    fn look(&self, list: &mut Vec<Entry>) -> Option<Duration> {
        list.append(&mut self.door().newcomers);
        let now = self.deadlines.now();
        let mut pause = LONGEST;
        list.retain_mut(|entry| match entry.look(now) {
            Some(until) => {
                pause = pause.min(until);
                true
            }
            None => false,
        });
        let mut door = self.door();
        // Who came during the looks saw another period.
        let newcomers = door.newcomers.iter().filter_map(|entry| entry.core.upgrade());
        let pause = newcomers.map(|core| period_of(core.settings())).fold(pause, Duration::min);
        door.period = (!list.is_empty() || !door.newcomers.is_empty()).then_some(pause);
        if door.period.is_none() {
            door.newcomers = Vec::new(); // after a burst of beginnings it is large
        }
        door.period
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Looks at the instance. Gives how long the next look may wait; `None` if it is not on the list any more.
    fn look(&mut self, now: Tick) -> Option<Duration> {
        let core = self.core.upgrade()?;
        let turns = core.turns();
        let current = turns.current();
        if self.leaves {
            // It was told that nobody watches. Should it run all the same, it had begun before it saw that: a period is
            // more than enough to see it. Else it is idle, or has put itself on the list again.
            let runs = current.is_running() || turns.look_beside(|_| {});
            if turns.is_watched() || !runs || turns.set_watched(true) {
                return None;
            }
            self.leaves = false;
        }
        let before = self.run;
        if current != before.turn {
            self.run = Run::new(current, Some(now));
        }
        if current.is_running() {
            // Who waits knows since when it runs; of who does not, this is the first that is seen.
            core.note_seen(current, now);
            if !self.run.told_slow && !self.run.told_stuck {
                self.run.since = core.since(current).or(self.run.since);
            }
        }
        let mut pause = period_of(core.settings());
        // Published after the locks are gone: who reads events may take its time.
        let mut events = Vec::new();
        let mut look = |run: &mut Run| pause = pause.min(look_at(&core, run, now, &mut events));
        if current.is_running() {
            look(&mut self.run);
        }
        let any_beside = turns.look_beside(|run| {
            if run.since.is_none() {
                // Perhaps its first poll was seen.
                let is_known = before.turn == run.turn;
                *run = if is_known { before } else { Run::new(run.turn, Some(now)) };
            }
            look(run);
        });
        for event in events {
            core.host().publish(event);
        }
        core.note_waiting();
        if !current.is_running() && !any_beside {
            self.leaves = true;
            turns.set_watched(false);
        }
        Some(pause)
    }
}

/// Looks at a turn; gives when the next event about it is due.
fn look_at(core: &Core, run: &mut Run, now: Tick, events: &mut Vec<Event>) -> Duration {
    let age = run.since.map_or(Duration::ZERO, |since| since.until(now));
    let settings = core.settings();
    let mut due = Duration::MAX;
    for (limit, told, is_stuck) in
        [(settings.slow, &mut run.told_slow, false), (settings.stuck, &mut run.told_stuck, true)]
    {
        let Some(limit) = limit.filter(|_| !*told) else { continue };
        if age < limit {
            due = due.min(limit.saturating_sub(age));
        } else {
            *told = true;
            events.push(event(core, run.turn, age, is_stuck));
        }
    }
    due.max(Duration::from_millis(1))
}

fn event(core: &Core, turn: Turn, age: Duration, is_stuck: bool) -> Event {
    let (address, service) = (core.address().clone(), core.service().to_string());
    let handler = format!("{}.{}", core.interface(), name_of(core.methods(), turn));
    if is_stuck {
        Event::StuckHandler { address, service, handler, age }
    } else {
        Event::SlowHandler { address, service, handler, age }
    }
}

/// How often an instance is looked at: a quarter of the shorter limit, from 10 ms to 250 ms.
fn period_of(settings: &Settings) -> Duration {
    let shorter = [settings.slow, settings.stuck].into_iter().flatten().min();
    shorter.map_or(LONGEST, |limit| (limit / 4).clamp(SHORTEST, LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, NodeId};
    use crate::service::host::Host;
    use crate::service::instance;

    struct Idle;

    #[skyhold_macros::service(local, crate = crate)]
    #[expect(clippy::unused_self, reason = "a message has a receiver")]
    impl Idle {
        pub fn nothing(&self) {}

        pub async fn wait(&self) {
            std::future::pending::<()>().await;
        }
    }

    fn host() -> Arc<Host> {
        let node = NodeId::new("a").unwrap();
        let host = Arc::new(Host::new(node, Incarnation(1), Duration::from_secs(30), 64));
        for task in 0..2 {
            host.tasks.spawn(Arc::clone(&host.watchdog).run(task));
        }
        host
    }

    #[tokio::test(start_paused = true)]
    async fn it_sleeps_once_everybody_was_idle_at_two_looks() {
        let host = host();
        let idle: Vec<_> = (0..100).map(|_| instance::start(&host, "idle".into(), Idle)).collect();
        time::sleep(Duration::from_millis(1)).await;
        assert!(host.watchdog.door().period.is_some(), "each of them ran a hook");
        time::sleep(2 * LONGEST).await;
        assert_eq!(host.watchdog.door().period, None);
        assert_eq!(host.watchdog.door().newcomers.capacity(), 0);
        assert!(!idle[0].core().turns().is_watched());
        host.tasks.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_is_on_the_list_once() {
        let host = host();
        let local = instance::start(&host, "idle".into(), Idle);
        time::sleep(2 * LONGEST).await;
        assert_eq!(host.watchdog.door().newcomers.len(), 0);
        for _ in 0..3 {
            host.watchdog.add(local.core());
        }
        assert_eq!(host.watchdog.door().newcomers.len(), 1);
        host.tasks.abort();
    }

    #[test]
    fn the_period_is_a_quarter_of_the_shorter_limit_within_bounds() {
        let ms = Duration::from_millis;
        for (slow, stuck, expected) in [
            (Some(1000), Some(10_000), 250),
            (Some(100), Some(10_000), 25),
            (None, Some(400), 100),
            (Some(1), None, 10),
            (None, Some(60_000), 250),
            (None, None, 250),
        ] {
            let settings = Settings::DEFAULT.slow(slow.map(ms)).stuck(stuck.map(ms));
            assert_eq!(period_of(&settings), ms(expected), "{slow:?} {stuck:?}");
        }
    }
}
