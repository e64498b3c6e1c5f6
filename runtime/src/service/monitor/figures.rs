//! What is known of one instance: its messages, its polls, and what runs now.
//!
//! The instance's task writes with plain loads and stores what each message needs, and reads a clock for samples alone. What is seldom, and
//! what others write, is added atomically. All of it is made when the instance's first message begins, or at its 16th poll: an instance that is idle
//! costs two words.
//!
//! Invariant: numbers only go up, through all lives of the instance.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::Monitoring;
use crate::memory;
use crate::service::core::{Core, Kind};
use crate::service::deadlines::Tick;
use crate::service::message::Method;
use crate::service::monitor::account::{Account, Adds, Measured, PollSampler, Spent, group_of};
use crate::service::monitor::sampler::Sampler;
use crate::service::monitor::table::{Monitor, OfMethod, OfService, Tally};
use crate::service::monitor::waits::Waits;
use crate::service::tap::HandlerEnd;
use crate::service::turns::Turn;
use crate::time;

/// After how many polls an instance without messages gets its figures.
const EARLY_POLLS: u32 = 16;

/// The place of an instance's figures, in its core.
#[derive(Debug)]
pub(crate) struct Place {
    figures: OnceLock<Box<Figures>>,
    /// The polls before there were any.
    early_polls: AtomicU32,
    /// How long those took, in nanoseconds.
    early_wall: AtomicU64,
    /// Where the instance's memory is counted, if it is.
    counted: Option<Arc<OfService>>,
    is_on: bool,
    is_precise: bool,
}

/// What is known of one instance.
#[derive(Debug)]
pub(crate) struct Figures {
    account: Account,
    polls: PollSampler,
    messages: Sampler,
    /// Where in `counts` the latest method is.
    latest: AtomicU16,
    /// For how many the handler stands that runs alone or is in its first poll; 0 if it is not measured.
    weight: AtomicU16,
    /// When that began, as the number of a [`Tick`].
    began: AtomicU64,
    counts: Box<[Counts]>,
    most_waiting: AtomicUsize,
    /// A turn, and since when it runs, as the number of a [`Tick`].
    seen: AtomicU64,
    since: AtomicU64,
    service: Option<Arc<OfService>>,
    /// By [`Ended`].
    ended: OnceLock<Box<[AtomicU64; Ended::COUNT]>>,
    children: OnceLock<Box<Account>>,
    waits: OnceLock<Box<Waits>>,
    is_taken_over: AtomicBool,
}

/// What is counted for each message of a method.
#[derive(Debug)]
struct Counts {
    /// The number of the method's name.
    method: u32,
    calls: AtomicU64,
    sends: AtomicU64,
    done: AtomicU64,
}

/// How a message ended, if not with a value that is no `Err`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its handler ended with an `Err` of the service's own.
    Failed,
    /// Its handler panicked.
    Panicked,
    /// Its handler was dropped before its end, with the instance's life.
    CutOff,
    /// It did not begin: its deadline had passed.
    Expired,
    /// It did not begin: its caller had given up.
    Abandoned,
    /// It did not begin: the instance ended.
    Stopped,
    /// It did not begin: there was no room for it, or not enough time.
    Overloaded,
}

impl Ended {
    pub(crate) const COUNT: usize = 7;
}

/// What an instance's present is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) spent: Spent,
    pub(crate) most_waiting: usize,
}

impl Place {
    pub(crate) fn new(monitor: &Monitor, service: &Arc<str>, kind: &'static Kind) -> Self {
        let is_on = monitor.mode != Monitoring::Off;
        let is_counted = is_on && memory::is_counted();
        Self {
            counted: is_counted.then(|| monitor.service(service, kind.interface, kind.methods)).flatten(),
            figures: OnceLock::new(),
            early_polls: AtomicU32::new(0),
            early_wall: AtomicU64::new(0),
            is_on,
            is_precise: monitor.mode == Monitoring::Precise,
        }
    }
}

/// What an instance notes of itself.
impl Core {
    /// The figures, if there are any yet.
    #[inline]
    pub(crate) fn figures(&self) -> Option<&Figures> {
        self.monitored().figures.get().map(|figures| &**figures)
    }

    /// The figures, which are made if there are none; `None` if the node has none.
    #[inline]
    pub(crate) fn ensure_figures(&self) -> Option<&Figures> {
        self.figures().or_else(|| self.make_figures())
    }

    #[cold]
    fn make_figures(&self) -> Option<&Figures> {
        let place = self.monitored();
        let make = || {
            let _outside = memory::leave(); // they are not the service's
            Box::new(Figures::new(self))
        };
        place.is_on.then(|| &**place.figures.get_or_init(make))
    }

    /// Counts what this thread allocates from now on for the instance's service, if that is counted.
    #[inline]
    pub(super) fn enter(&self) -> Option<memory::Entered<'_>> {
        self.monitored().counted.as_ref()?.enter()
    }

    /// Whether anything is measured.
    pub(crate) fn is_monitored(&self) -> bool {
        self.monitored().is_on
    }

    pub(crate) fn is_precise(&self) -> bool {
        self.monitored().is_precise
    }

    /// Tells the places of its samples from those of others.
    pub(crate) fn seed(&self) -> u32 {
        let number = self.address().instance.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        u32::try_from(number >> 32).unwrap_or(0)
    }

    /// A poll of the instance's task begins before there are figures. Most instances have one such poll, for which nobody asks the processor.
    pub(super) fn begin_early_poll(&self) -> Option<Measured> {
        let place = self.monitored();
        let is_late = place.early_polls.load(Ordering::Relaxed) > 0;
        place.is_on.then(|| PollSampler::begin_early(&self.host().deadlines, is_late))
    }

    /// It has ended. Perhaps there are figures now.
    pub(super) fn end_early_poll(&self, measured: &Measured) {
        let (place, clock) = (self.monitored(), &self.host().deadlines);
        let polls = place.early_polls.load(Ordering::Relaxed) + 1;
        place.early_polls.store(polls, Ordering::Relaxed);
        if polls >= EARLY_POLLS {
            self.make_figures();
        }
        match self.figures() {
            Some(figures) => {
                measured.note(&figures.account, Adds::Alone, clock);
            }
            None => Adds::Alone.add(&place.early_wall, measured.wall(clock)),
        }
    }

    /// A handler of a message begins.
    #[inline]
    pub(crate) fn note_begin(&self, method: &Method, is_call: bool) {
        if let Some(figures) = self.ensure_figures() {
            figures.begin(self, method, is_call);
        }
    }

    /// A handler has ended that ran alone or in one poll.
    #[inline]
    pub(crate) fn note_end(&self, method: &Method, how: HandlerEnd) {
        if let Some(figures) = self.figures() {
            let index = figures.end(method, how);
            if figures.weight.load(Ordering::Relaxed) != 0 {
                figures.end_measured(self, index);
            }
        }
    }

    /// A handler has ended that waited beside others; `measured` says when it began and for how many it stands, if it is measured.
    pub(crate) fn note_end_beside(&self, method: &Method, how: HandlerEnd, measured: Option<(Tick, u16)>) {
        if let Some(figures) = self.figures() {
            let index = figures.end(method, how);
            if let Some((began, weight)) = measured {
                figures.note_took(self, index, began, weight);
            }
        }
    }

    /// The handler that runs now was measured, but goes on beside others: gives when it began and for how many it stands.
    pub(crate) fn take_measured(&self) -> Option<(Tick, u16)> {
        let figures = self.figures()?;
        let weight = figures.weight.load(Ordering::Relaxed);
        if weight == 0 {
            return None;
        }
        figures.weight.store(0, Ordering::Relaxed);
        Some((Tick::of(figures.began.load(Ordering::Relaxed))?, weight))
    }

    /// A message did not begin, or not end.
    #[cold]
    pub(crate) fn note_ended(&self, method: Option<&Method>, ended: Ended) {
        if let Some(figures) = self.ensure_figures() {
            figures.count(method.and_then(|method| figures.find(method.id().name)), ended, 1);
        }
    }

    /// The life has ended, and with it these handlers.
    pub(crate) fn note_cut_off(&self, turns: &[Turn]) {
        let Some(figures) = self.figures() else { return };
        figures.weight.store(0, Ordering::Relaxed);
        for turn in turns {
            // A hook is no message.
            if let Some(index) = figures.find(turn.method()) {
                figures.count(Some(index), Ended::CutOff, 1);
            }
        }
    }

    /// The instance has ended for good.
    pub(crate) fn note_gone(&self) {
        let Some(figures) = self.figures() else { return };
        if let Some(service) = &figures.service
            && !figures.is_taken_over.swap(true, Ordering::AcqRel)
        {
            service.take_over(figures);
        }
    }

    /// A turn was seen to run at this time, or earlier if that is known.
    pub(crate) fn note_seen(&self, turn: Turn, now: Tick) {
        if let Some(figures) = self.ensure_figures()
            && figures.seen.load(Ordering::Acquire) != turn.number()
        {
            figures.see(turn, now);
        }
    }

    /// Since when the turn runs that is no other's, as far as that is known.
    pub(crate) fn since(&self, turn: Turn) -> Option<Tick> {
        let figures = self.figures()?;
        let is_it = || figures.seen.load(Ordering::Acquire) == turn.number();
        let since = is_it().then(|| figures.since.load(Ordering::Acquire));
        since.filter(|_| is_it()).and_then(Tick::of)
    }

    /// A message waited so long, and stands for so many.
    #[cold]
    pub(crate) fn note_waited(&self, method: &Method, waited: Duration, weight: u64) {
        if let Some(figures) = self.ensure_figures()
            && let Some(service) = &figures.service
            && let Some(index) = figures.find(method.id().name)
        {
            service.note_waited(index, waited, weight);
        }
    }

    /// So many messages wait, or did until a moment ago.
    #[inline]
    pub(crate) fn note_most_waiting(&self, waiting: usize) {
        if let Some(figures) = self.figures()
            && waiting > figures.most_waiting.load(Ordering::Relaxed)
        {
            figures.most_waiting.fetch_max(waiting, Ordering::Relaxed);
        }
    }

    /// What is known now; `None` if nothing is measured.
    pub(crate) fn now(&self) -> Option<Now> {
        let place = self.monitored();
        if !place.is_on {
            return None;
        }
        let early = Duration::from_nanos(place.early_wall.load(Ordering::Relaxed));
        // Of these only the clock was asked.
        let cpu = time::thread_cpu().map(|_| early);
        let polls = u64::from(place.early_polls.load(Ordering::Relaxed));
        let mut spent = Spent { polls, wall: early, longest: Duration::ZERO, cpu };
        if let Some(figures) = self.figures() {
            spent = spent.and(figures.account.spent());
            spent = figures.children.get().map_or(spent, |children| spent.and(children.spent()));
        }
        let most_waiting = self.figures().map_or(0, |figures| figures.most_waiting.load(Ordering::Relaxed));
        Some(Now { spent, most_waiting })
    }
}

impl Figures {
    fn new(core: &Core) -> Self {
        let counts = core.methods().iter().map(|method| Counts::new(method.id().name)).collect();
        let monitor = &core.host().monitor;
        Self {
            account: Account::default(),
            polls: PollSampler::new(core.seed()),
            messages: Sampler::new(!core.seed()),
            latest: AtomicU16::new(0),
            weight: AtomicU16::new(0),
            began: AtomicU64::new(0),
            counts,
            most_waiting: AtomicUsize::new(0),
            seen: AtomicU64::new(0),
            since: AtomicU64::new(0),
            service: monitor.service(core.service(), core.interface(), core.methods()),
            ended: OnceLock::new(),
            children: OnceLock::new(),
            waits: OnceLock::new(),
            is_taken_over: AtomicBool::new(false),
        }
    }

    /// A poll of the instance's task begins: gives what has to be ended, if it is measured.
    #[inline]
    pub(super) fn begin_poll(&self, core: &Core) -> Option<Measured> {
        self.account.count(Adds::Alone);
        self.polls.begin(&core.host().deadlines)
    }

    pub(super) fn end_poll(&self, core: &Core, measured: &Measured) {
        self.polls.end(measured, &self.account, Adds::Alone, &core.host().deadlines, core.is_precise());
    }

    /// The account of the instance's child tasks.
    pub(super) fn children(&self) -> &Account {
        self.children.get_or_init(Box::default)
    }

    #[inline]
    fn begin(&self, core: &Core, method: &Method, is_call: bool) {
        let Some(counts) = self.counts.get(self.index(method)) else { return };
        Adds::Alone.add(if is_call { &counts.calls } else { &counts.sends }, 1);
        if let Some(weight) = self.messages.draw() {
            self.begin_measured(core, weight);
        }
    }

    #[inline(never)]
    fn begin_measured(&self, core: &Core, weight: u16) {
        let now = core.host().deadlines.now();
        self.began.store(now.nanos(), Ordering::Relaxed);
        self.weight.store(weight, Ordering::Relaxed);
        self.see(core.turns().current(), now);
    }

    /// Gives where the method is.
    #[inline]
    fn end(&self, method: &Method, how: HandlerEnd) -> usize {
        let index = self.index(method);
        if let Some(counts) = self.counts.get(index) {
            match how {
                HandlerEnd::Done => Adds::Alone.add(&counts.done, 1),
                HandlerEnd::Failed => self.count(Some(index), Ended::Failed, 1),
                HandlerEnd::Panicked => self.count(Some(index), Ended::Panicked, 1),
            }
        }
        index
    }

    #[inline(never)]
    fn end_measured(&self, core: &Core, index: usize) {
        let weight = self.weight.swap(0, Ordering::Relaxed);
        if let Some(began) = Tick::of(self.began.load(Ordering::Relaxed)) {
            self.note_took(core, index, began, weight);
        }
    }

    fn note_took(&self, core: &Core, index: usize, began: Tick, weight: u16) {
        let took = began.until(core.host().deadlines.now());
        self.messages.set_group(group_of(time::nanos(took), core.is_precise()));
        if let Some(service) = &self.service {
            service.note_took(index, took, u64::from(weight));
        }
    }

    fn see(&self, turn: Turn, since: Tick) {
        self.since.store(since.nanos(), Ordering::Release);
        self.seen.store(turn.number(), Ordering::Release);
    }

    #[cold]
    fn count(&self, index: Option<usize>, ended: Ended, number: u64) {
        let all = self.ended.get_or_init(Box::default);
        all[ended as usize].fetch_add(number, Ordering::Relaxed);
        if let Some(method) = index.and_then(|index| self.of_method(index)) {
            method.count(ended);
        }
    }

    /// What the service knows of a method.
    fn of_method(&self, index: usize) -> Option<&OfMethod> {
        self.service.as_ref()?.method(index)
    }

    /// Where in `counts` a method is; beyond them for a hook.
    #[inline]
    fn index(&self, method: &Method) -> usize {
        let (name, latest) = (method.id().name, usize::from(self.latest.load(Ordering::Relaxed)));
        match self.counts.get(latest) {
            Some(counts) if counts.method == name => latest,
            _ => self.look_up(name),
        }
    }

    fn look_up(&self, name: u32) -> usize {
        let index = self.find(name).unwrap_or(usize::MAX);
        if let Ok(index) = u16::try_from(index) {
            self.latest.store(index, Ordering::Relaxed);
        }
        index
    }

    fn find(&self, name: u32) -> Option<usize> {
        self.counts.iter().position(|counts| counts.method == name)
    }

    /// What was counted of a method.
    pub(crate) fn tally(&self, index: usize) -> Tally {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        self.counts.get(index).map_or_else(Tally::default, |counts| Tally {
            // First the ends: nothing ends that has not begun.
            done: read(&counts.done),
            calls: read(&counts.calls),
            sends: read(&counts.sends),
        })
    }

    /// Whether the instance has ended, and its numbers are with its service.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_taken_over.load(Ordering::Acquire)
    }

    /// What was counted of all methods.
    pub(crate) fn total(&self) -> Tally {
        (0..self.counts.len()).map(|index| self.tally(index)).fold(Tally::default(), Tally::and)
    }

    /// How many messages ended so.
    pub(crate) fn ended(&self, ended: Ended) -> u64 {
        self.ended.get().map_or(0, |all| all[ended as usize].load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn waits(&self) -> &Waits {
        self.waits.get_or_init(Box::default)
    }

    /// Who waits, if somebody ever did.
    #[inline]
    pub(super) fn known_waits(&self) -> Option<&Waits> {
        self.waits.get().map(|waits| &**waits)
    }
}

impl Counts {
    fn new(method: u32) -> Self {
        Self { method, calls: AtomicU64::new(0), sends: AtomicU64::new(0), done: AtomicU64::new(0) }
    }
}
