//! Who may say how much to which instance of the peer, and where callers wait until they may.
//!
//! The callers of one instance wait in a line. As many of its first as there is credit for are let go together, so that
//! what they say goes out together; who is let go and finds no room all the same keeps its place, and those behind it
//! stay behind it. Callers of different instances do not wait for each other.
//!
//! Invariant: nobody waits, and nobody is woken, while holding a lock; whoever stops waiting leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::id::InstanceId;
use crate::proto::flow::{Account, Amount, SMALLEST_WINDOW};

use super::Link;
use super::exhausted::Exhausted;

/// The accounts of one connection.
#[derive(Debug)]
pub(super) struct Accounts {
    /// Without it everybody may send.
    has_flow: bool,
    window: Amount,
    /// An ordered tree, because its keys are the peer's to choose.
    entries: BTreeMap<InstanceId, Entry>,
    /// The instances for which somebody waits.
    awaited: BTreeSet<InstanceId>,
    last_ticket: u64,
    /// For newcomers, who look there before they take the lock. Cleared by whatever may let one of them go.
    exhausted: Arc<Exhausted>,
}

#[derive(Debug)]
struct Entry {
    account: Account,
    line: Line,
}

/// Those who wait for one instance, by their tickets.
#[derive(Debug, Default)]
struct Line {
    waiting: BTreeMap<u64, Option<Waker>>,
    /// Who has a ticket up to this one may go.
    may_go: u64,
}

/// How many are let go at once where credit alone would let more: each of them fills the connection a little.
const AT_ONCE: usize = 256;

/// Who is to be woken, when the lock is free.
#[derive(Debug, Default)]
#[must_use = "somebody waits to be woken"]
pub(super) struct Woken(Vec<Waker>);

impl Woken {
    pub(super) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

impl Accounts {
    pub(super) fn new(has_flow: bool, exhausted: Arc<Exhausted>) -> Self {
        Self {
            exhausted,
            has_flow,
            window: SMALLEST_WINDOW,
            entries: BTreeMap::new(),
            awaited: BTreeSet::new(),
            last_ticket: 0,
        }
    }

    /// Whether a message may be sent to an instance now: by a newcomer, who must not overtake those who wait, or by the
    /// one with that ticket.
    #[inline]
    pub(super) fn may_send(&mut self, instance: InstanceId, ticket: Option<u64>) -> bool {
        if !self.has_flow && ticket.is_none() && self.awaited.is_empty() {
            return true;
        }
        let has_flow = self.has_flow;
        let entry = self.entry(instance);
        let may_go = if has_flow && !entry.account.has_credit() {
            entry.line.hold(ticket);
            false
        } else {
            entry.line.lets_go(ticket)
        };
        if !may_go && ticket.is_none() {
            self.exhausted.note(instance);
        }
        may_go
    }

    /// How many instances have no credit left; and for which callers wait, how many each, at most `most` of them.
    pub(super) fn seen(&self, most: usize) -> (usize, Vec<(InstanceId, usize)>) {
        let is_empty = |entry: &&Entry| self.has_flow && !entry.account.has_credit();
        let waiting = |instance: &InstanceId| {
            self.entries.get(instance).map(|entry| (*instance, entry.line.waiting.len()))
        };
        let lines = self.awaited.iter().filter_map(waiting).take(most).collect();
        (self.entries.values().filter(is_empty).count(), lines)
    }

    /// Who was let go found no room: it keeps its place.
    pub(super) fn hold(&mut self, instance: InstanceId, ticket: Option<u64>) {
        if let Some(entry) = self.entries.get_mut(&instance) {
            entry.line.hold(ticket);
        }
    }

    #[inline]
    pub(super) fn spend(&mut self, instance: InstanceId, bytes: usize) {
        if self.has_flow {
            self.entry(instance).account.spend(bytes);
        }
    }

    pub(super) fn refund(&mut self, instance: InstanceId, bytes: usize) -> Woken {
        self.change(instance, |account| account.refund(bytes))
    }

    pub(super) fn grant(&mut self, instance: InstanceId, totals: Amount) -> Woken {
        self.change(instance, |account| account.grant(totals))
    }

    /// The peer says what each of its instances takes ahead.
    pub(super) fn set_window(&mut self, window: Amount) -> Woken {
        self.exhausted.clear();
        self.window = window;
        self.entries.values_mut().for_each(|entry| entry.account.grant(window));
        self.wake_all()
    }

    fn change(&mut self, instance: InstanceId, change: impl FnOnce(&mut Account)) -> Woken {
        self.exhausted.clear();
        let has_flow = self.has_flow;
        let Some(entry) = self.entries.get_mut(&instance) else { return Woken::default() };
        change(&mut entry.account);
        entry.let_go(has_flow)
    }

    /// An instance has ended: whoever waits for it is told.
    pub(super) fn gone(&mut self, instance: InstanceId) -> Woken {
        self.exhausted.clear();
        self.awaited.remove(&instance);
        let line = self.entries.remove(&instance).map(|entry| entry.line);
        Woken(line.into_iter().flat_map(|line| line.waiting.into_values()).flatten().collect())
    }

    /// There may be room for everybody.
    pub(super) fn wake_all(&mut self) -> Woken {
        let mut all = Woken::default();
        for instance in &self.awaited {
            if let Some(entry) = self.entries.get_mut(instance) {
                all.0.extend(entry.let_go(self.has_flow).0);
            }
        }
        all
    }

    /// The end: nobody will ever be let go.
    pub(super) fn close(&mut self) -> Woken {
        self.exhausted.clear();
        let lines = std::mem::take(&mut self.entries).into_values().map(|entry| entry.line);
        Woken(lines.flat_map(|line| line.waiting.into_values()).flatten().collect())
    }

    fn entry(&mut self, instance: InstanceId) -> &mut Entry {
        let window = self.window;
        self.entries
            .entry(instance)
            .or_insert_with(|| Entry { account: Account::new(window), line: Line::default() })
    }

    fn enter(&mut self, instance: InstanceId) -> u64 {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        self.awaited.insert(instance);
        self.entry(instance).line.waiting.insert(ticket, None);
        ticket
    }

    fn poll_turn(&mut self, instance: InstanceId, ticket: u64, cx: &Context<'_>) -> Poll<()> {
        let Some(line) = self.entries.get_mut(&instance).map(|entry| &mut entry.line) else {
            return Poll::Ready(()); // the instance has gone, or the connection
        };
        match line.waiting.get_mut(&ticket) {
            Some(waker) if ticket > line.may_go => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    fn leave(&mut self, instance: InstanceId, ticket: u64) -> Woken {
        self.exhausted.clear();
        let has_flow = self.has_flow;
        let Some(entry) = self.entries.get_mut(&instance) else { return Woken::default() };
        entry.line.waiting.remove(&ticket);
        if entry.line.waiting.is_empty() {
            self.awaited.remove(&instance);
            if !has_flow {
                self.entries.remove(&instance);
            }
            return Woken::default();
        }
        // Perhaps it did not use what it was let go for.
        entry.let_go(has_flow)
    }
}

impl Entry {
    /// Lets as many go as there is credit for.
    fn let_go(&mut self, has_flow: bool) -> Woken {
        let Line { waiting, may_go } = &mut self.line;
        if waiting.is_empty() {
            return Woken::default();
        }
        let credit = if has_flow { self.account.messages_left() } else { u64::MAX };
        let most = usize::try_from(credit).unwrap_or(AT_ONCE).min(AT_ONCE);
        let before = waiting.range(..=*may_go).take(most).count();
        let mut woken = Vec::new();
        for (ticket, waker) in waiting.range_mut(*may_go + 1..).take(most - before) {
            *may_go = *ticket;
            woken.extend(waker.take());
        }
        Woken(woken)
    }
}

impl Line {
    fn lets_go(&self, ticket: Option<u64>) -> bool {
        match ticket {
            Some(ticket) => ticket <= self.may_go,
            None => self.waiting.is_empty(),
        }
    }

    fn hold(&mut self, ticket: Option<u64>) {
        if let Some(ticket) = ticket {
            self.may_go = self.may_go.min(ticket - 1);
        }
    }
}

/// A place among those who wait to say something to one instance. Dropped, it is left.
#[derive(Debug)]
pub(crate) struct Place {
    link: Arc<Link>,
    instance: InstanceId,
    pub(super) ticket: u64,
}

impl Link {
    /// Takes the place behind all who wait for that instance. Who does so after a try that found no room asks again
    /// when [`Place::turn`] ends.
    pub(crate) fn wait_for(self: &Arc<Self>, instance: InstanceId) -> Place {
        let mut state = self.state();
        let ticket = state.accounts.enter(instance);
        // Between the try and this there may have come room. If not, who is let go finds that out, and says that it waits.
        let woken = state.accounts.change(instance, |_| {});
        drop(state);
        woken.wake();
        Place { link: Arc::clone(self), instance, ticket }
    }
}

impl Place {
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Ends when there may be room and credit, and nobody is ahead who waits. Cancel safe.
    pub(crate) async fn turn(&self) {
        poll_fn(|cx| {
            let mut state = self.link.state();
            if self.link.is_open() {
                state.accounts.poll_turn(self.instance, self.ticket, cx)
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    /// Whether the instance has ended, as its node says.
    pub(crate) fn is_gone(&self) -> bool {
        let state = self.link.state();
        let entry = state.accounts.entries.get(&self.instance);
        self.link.is_open() && !entry.is_some_and(|entry| entry.line.waiting.contains_key(&self.ticket))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let woken = self.link.state().accounts.leave(self.instance, self.ticket);
        woken.wake();
    }
}
