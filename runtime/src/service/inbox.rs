//! The receiving end of a mailbox, owned by its instance.
//!
//! Invariant: whatever was taken in is either handed to the instance or answered.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::error::CallError;
use crate::event::{DeadLetterReason, Phase};
use crate::service::core::Core;
use crate::service::deadlines::Tick;
use crate::service::host::Host;
use crate::service::mailbox::Local;
use crate::service::message::{Envelope, Item, Message, Parcel};
use crate::service::monitor::Ended;
use crate::service::queue::Exit;
use crate::service::sojourn::{Meter, Waited};
use crate::time;

/// The most messages that an instance takes out of its mailbox at once.
const BATCH: u8 = 64;

/// How many messages an instance takes out of a mailbox of `capacity` at once. What it has taken out does not count as
/// waiting, so a small mailbox is emptied one by one.
fn batch_of(capacity: usize) -> u8 {
    u8::try_from(capacity / 16).map_or(BATCH, |batch| batch.clamp(1, BATCH))
}

pub(crate) struct Inbox<M: Message> {
    local: Arc<Local<M>>,
    /// `None` once closed.
    queue: Option<Exit<M>>,
    /// Taken out of the queue and not yet begun, the next one last.
    taken: Vec<Parcel<M>>,
    batch: u8,
    /// From how many messages at once on the mailbox may be at its high-water mark.
    notable: u8,
    /// While messages wait, or have lately.
    meter: Option<Box<Meter>>,
    /// While draining: how long those may take who have a place in the queue and have not put their message there.
    grace: Option<Pin<Box<Sleep>>>,
}

/// How long a drain waits for senders that have a place in the queue. One that is polled needs none of it.
const GRACE: Duration = Duration::from_millis(50);

impl<M: Message> Inbox<M> {
    pub(crate) fn new(local: Arc<Local<M>>, queue: Exit<M>) -> Self {
        let batch = batch_of(local.capacity());
        let notable =
            u8::try_from(local.core().settings().high_water_mark()).map_or(batch, |mark| mark.min(batch));
        Self { local, queue: Some(queue), taken: Vec::new(), batch, notable, meter: None, grace: None }
    }

    pub(crate) fn local(&self) -> &Arc<Local<M>> {
        &self.local
    }

    /// Ready when something is next in order of arrival, with whether it runs alone; with `None` when the instance is to
    /// stop.
    pub(crate) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<Option<bool>> {
        if self.local.core().is_stopping() {
            return Poll::Ready(None);
        }
        // The handlers that this one was re-entrant to may have ended meanwhile.
        if let Some(parcel) = self.local.pop_reentrant() {
            self.taken.push(parcel);
        }
        if self.taken.is_empty() {
            ready!(self.poll_take(cx));
        }
        Poll::Ready(self.taken.last().map(|parcel| parcel.is_exclusive()))
    }

    /// Takes what is next, if something is.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Parcel<M>> {
        self.taken.pop()
    }

    /// The next message that must begin beside the running handlers.
    pub(crate) fn pop_reentrant(&self) -> Option<Parcel<M>> {
        if self.local.core().is_stopping() { None } else { self.local.pop_reentrant() }
    }

    /// Takes out of the queue what waits there. Ready with nothing when nothing more will come.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(queue) = &mut self.queue else { return Poll::Ready(()) };
        if self.local.core().is_draining() {
            queue.close(); // what is in it still comes out
        }
        // Before the queue gives up places: these ends found no room, so what came before them is in the queue. What takes a
        // place that is given up now came after them.
        if self.local.has_downs() {
            for _ in 0..queue.len() {
                let Some(parcel) = queue.pop() else { break };
                self.taken.push(parcel);
            }
            self.taken.extend(self.local.take_downs());
        }
        loop {
            let mut is_pending = false;
            if self.taken.is_empty() {
                is_pending = queue.poll_take(cx, &mut self.taken, usize::from(self.batch)).is_pending();
            }
            if self.taken.is_empty() && self.local.core().is_draining() {
                // What peers had waiting for room. First this question: who ends after it has handed all over by then.
                let has_parked = self.local.has_parked();
                self.taken = self.local.take_late();
                if self.taken.is_empty() && has_parked {
                    return Poll::Pending; // it is woken when they have
                }
            }
            if self.taken.is_empty() && is_pending {
                if let Some(meter) = &mut self.meter
                    && meter.rest(self.local.core().gauge())
                {
                    self.meter = None;
                }
                if !self.local.core().is_draining() {
                    return Poll::Pending;
                }
                let grace = self.grace.get_or_insert_with(|| Box::pin(time::sleep(GRACE)));
                return grace.as_mut().poll(cx);
            }
            let core = self.local.core();
            if self.taken.len() >= usize::from(self.notable) || core.gauge().is_high() {
                core.gauge().note(core, self.taken.len() + queue.len());
            }
            // For those that come one by one, and find nobody, nobody reads the clock. Unless calls are refused by what it
            // said: then perhaps there are no others any more.
            let taken = self.taken.len();
            // Nobody else takes out, so none was ever longer than at such a look.
            core.note_most_waiting(if taken < usize::from(self.batch) { taken } else { taken + queue.len() });
            let counts = self.meter.is_some() && self.local.sheds();
            if taken > 1 || taken == 1 && (counts || self.batch == 1 && queue.len() > 0) {
                let meter = self.meter.get_or_insert_default();
                let waited = meter.take(core.gauge(), core.host().deadlines.now(), taken, queue.len());
                if let Some(Waited { place, time, weight }) = waited
                    && let Some(Item::Envelope(envelope)) = self.taken.get(place).map(|parcel| &**parcel)
                {
                    core.note_waited(envelope.message.method(), time, weight);
                }
            } else if let Some(meter) = &mut self.meter {
                meter.pause();
            }
            let is_end = self.taken.is_empty();
            answer_late(&self.local, &mut self.taken);
            if is_end || !self.taken.is_empty() {
                self.taken.reverse();
                return Poll::Ready(());
            }
        }
    }

    /// Closes if the instance was told to end for good: what waits is answered at once, beside the running handlers.
    #[inline]
    pub(crate) fn close_if_stopped(&mut self) {
        let core = self.local.core();
        if core.is_stopping() && core.is_final() {
            self.close();
        }
    }

    /// Answers what is queued `Stopped`, and stays open.
    pub(crate) fn refuse_queued(&mut self) {
        let mut letters = DeadLetters::default();
        for item in self.taken.drain(..).rev() {
            letters.bury(*item, self.local.core());
        }
        // No more than there are now: whoever waits for room goes on filling it.
        for _ in 0..self.queue.as_ref().map_or(0, Exit::len) {
            let Some(parcel) = self.queue.as_mut().and_then(Exit::pop) else { break };
            letters.bury(*parcel, self.local.core());
        }
        letters.publish::<M>(self.local.host());
    }

    /// Answers the re-entrant messages `Stopped`: the handlers that they belong to have ended with their life.
    pub(crate) fn refuse_reentrant(&mut self) {
        self.meter = None; // how long a message waits between two lives says nothing of the next
        let mut letters = DeadLetters::default();
        while let Some(parcel) = self.local.pop_reentrant() {
            letters.bury(*parcel, self.local.core());
        }
        letters.publish::<M>(self.local.host());
    }

    /// Takes no more, and answers what is there `Stopped`.
    pub(crate) fn close(&mut self) {
        if let Some(mut stragglers) = self.drain() {
            // Senders that have their place in the queue, and are about to put their message there: each does so when it
            // is next polled, which nobody here can wait for.
            let core = Arc::clone(self.local.core());
            self.local.host().tasks.spawn(async move {
                let mut letters = DeadLetters::default();
                while let Some(item) = stragglers.recv().await {
                    letters.bury(*item, &core);
                }
                letters.publish::<M>(core.host());
            });
        }
    }

    /// As `close`, when the task is cut off: no other task can be made then.
    pub(crate) fn close_abruptly(&mut self) {
        drop(self.drain());
    }

    /// Answers what is there. Gives the queue back if more may come.
    fn drain(&mut self) -> Option<mpsc::Receiver<Parcel<M>>> {
        let mut queue = self.queue.take()?;
        queue.close();
        let mut letters = DeadLetters::default();
        for item in std::mem::take(&mut self.taken).into_iter().rev() {
            letters.bury(*item, self.local.core());
        }
        for parcel in self.local.end_aside() {
            letters.bury(*parcel, self.local.core()); // the end is noted: no more come
        }
        let stragglers = queue.empty(|parcel| letters.bury(*parcel, self.local.core()));
        letters.publish::<M>(self.local.host());
        stragglers
    }
}

/// Answers what was taken out of the mailbox past its deadline, and where calls are shed what will be before its turn. The
/// clock is read once for all of it, and not at all for callers of this node whose deadline is
/// [far](crate::service::deadlines::Deadlines::is_far).
#[inline]
fn answer_late<M: Message>(local: &Local<M>, taken: &mut Vec<Parcel<M>>) {
    let deadlines = &local.host().deadlines;
    let may_be_late = |item: &Parcel<M>| {
        item.deadline().is_some_and(|deadline| !(item.is_from_here() && deadlines.is_far(deadline)))
    };
    if taken.iter().any(may_be_late) {
        refuse_late(local, taken, deadlines.now());
    }
}

fn refuse_late<M: Message>(local: &Local<M>, taken: &mut Vec<Parcel<M>>, now: Tick) {
    // When the one behind so many others begins.
    let turn = |ahead| if local.sheds() { now.after(local.core().gauge().expected(ahead)) } else { now };
    let mut ahead = 0;
    let is_late = |item: &mut Parcel<M>| {
        let is_late = item.deadline().is_some_and(|deadline| deadline <= turn(ahead));
        ahead += usize::from(!is_late);
        is_late
    };
    for item in taken.extract_if(.., is_late) {
        let has_passed = item.deadline().is_some_and(|deadline| deadline <= now);
        let Item::Envelope(Envelope { message, .. }) = *item else { continue };
        let handler = format!("{}.{}", M::INTERFACE, message.method().name());
        let ended = if has_passed { Ended::Expired } else { Ended::Overloaded };
        local.core().note_ended(Some(message.method()), ended);
        let reason = if has_passed {
            let detail = format!("`{handler}` waited in its mailbox past its deadline");
            message.fail(CallError::Expired(detail.into()));
            local.host().count_expired(Phase::Dispatch);
            DeadLetterReason::Expired
        } else {
            let detail = format!("the deadline of `{handler}` comes before its turn");
            message.fail(CallError::Overloaded(detail.into()));
            local.host().count_shed();
            DeadLetterReason::Overloaded
        };
        local.host().dead_letter(handler, true, reason);
    }
}

/// Messages that reach nobody.
#[derive(Default)]
struct DeadLetters {
    /// By method and by whether somebody waits for a reply.
    counts: BTreeMap<(&'static str, bool), u64>,
    panics: usize,
}

impl DeadLetters {
    /// Answers a message `Stopped`.
    fn bury<M: Message>(&mut self, item: Item<M>, core: &Core) {
        if let Item::Envelope(envelope) = item {
            core.note_ended(Some(envelope.message.method()), Ended::Stopped);
            let is_call = envelope.meta.deadline.is_some();
            *self.counts.entry((envelope.message.method().name(), is_call)).or_default() += 1;
            // The arguments are the user's, and their `Drop` may panic: the end of the instance goes on.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(envelope)));
            self.panics += usize::from(dropped.is_err());
        }
    }

    fn publish<M: Message>(self, host: &Host) {
        (0..self.panics).for_each(|_| host.count_panic());
        for ((method, call), count) in self.counts {
            let handler = format!("{}.{method}", M::INTERFACE);
            host.dead_letters(handler, call, DeadLetterReason::Stopped, count);
        }
    }
}
