//! Shows the messages of an instance to whoever wants to see them, as they begin and end.
//!
//! Invariant: it costs one look at a flag while nobody does, and nobody is waited for: who reads slowly misses the oldest.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::id::{Address, NodeId};
use crate::service::context::Caller;
use crate::service::core::Core;
use crate::service::message::{Message, Meta, Method, WireMessage};
use crate::service::spoken::{Fields, cut};
use crate::service::turns::Turn;
use crate::time;

/// How far who reads may lag behind before the oldest are missed.
const LAG: usize = 1024;

/// How the messages of an instance are shown; each gives `None` for what belongs to others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    /// The arguments of a message.
    arguments: fn(&dyn Any) -> Option<String>,
    /// The reply of the method of that number.
    reply: fn(u32, &dyn Any) -> Option<String>,
}

/// Where the messages of one instance are shown.
#[derive(Debug, Default)]
pub(crate) struct Tap(Mutex<State>);

/// Guards what is touched only while somebody looks.
#[derive(Debug, Default)]
struct State {
    readers: Vec<broadcast::Sender<TraceItem>>,
    show: Option<Show>,
    /// The message that is about to begin.
    next: Option<Shown>,
    running: HashMap<Turn, Instant>,
}

#[derive(Debug)]
struct Shown {
    arguments: Option<String>,
    caller: NodeId,
    handler: Option<String>,
}

/// What is seen of a message. Got from [`ManagerHandle::trace`](crate::ManagerHandle::trace).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TraceItem {
    /// The instance.
    pub instance: Address,
    /// Which of its handlers: what has begun and what has ended have the same number.
    pub turn: u32,
    /// The method.
    pub method: String,
    /// What happened.
    pub event: TraceEvent,
}

/// What happened to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TraceEvent {
    /// Its handler has begun.
    Begun {
        /// The arguments as JSON, cut after 1 KiB. `None` where the service is local, and in a hook.
        arguments: Option<String>,
        /// The node of the caller.
        caller: NodeId,
        /// The handler that waits for the reply, as `service.method@node#instance`, if it is one.
        handler: Option<String>,
    },
    /// Its handler has ended.
    Ended {
        /// How long after it began; `None` if that was not seen.
        took: Option<Duration>,
        /// How.
        how: HandlerEnd,
        /// The reply as JSON, cut after 1 KiB. `None` where the service is local, of a hook, of a stream, and after a panic.
        reply: Option<String>,
    },
    /// So much was not seen, since it was read too slowly. It belongs to no instance and no method: these are of what is seen next.
    Missed {
        /// How many items.
        items: u64,
    },
}

/// How a handler ended that was not dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HandlerEnd {
    /// With a value.
    Done,
    /// With an `Err` of the service's own.
    Failed,
    /// It panicked.
    Panicked,
}

/// Begins to show the messages of some instances.
pub(crate) fn open<'a>(
    instances: impl Iterator<Item = (&'a Core, Option<Show>)>,
) -> broadcast::Receiver<TraceItem> {
    let (sender, receiver) = broadcast::channel(LAG);
    for (core, show) in instances {
        let mut state = core.turns().open_tap().lock();
        state.show = show;
        state.readers.push(sender.clone());
        core.turns().set_traced(true); // under the lock, as in `publish`
    }
    receiver
}

/// How messages of that type are shown.
pub(crate) fn show<M: WireMessage>() -> Show {
    Show {
        arguments: |message| {
            let message = message.downcast_ref::<M>()?;
            let mut fields = Fields::new(message.method());
            message.show(&mut fields);
            Some(cut(fields.into_text()))
        },
        reply: M::show_reply,
    }
}

/// A message is about to begin.
#[cold]
pub(crate) fn comes<M: Message>(core: &Core, message: &M, meta: &Meta) {
    let Some(tap) = core.turns().tap() else { return };
    let caller = match &meta.caller {
        Caller::Here => core.host().node.clone(),
        Caller::Peer(link) => link.peer().node.clone(),
    };
    let handler = meta.chain.nearest().map(|link| link.to_string());
    let show = tap.lock().show;
    let arguments = show.and_then(|show| guarded(|| (show.arguments)(message)));
    tap.lock().next = Some(Shown { arguments, caller, handler });
}

/// A handler has begun.
#[cold]
pub(crate) fn begun(core: &Core, method: &Method) {
    let Some(tap) = core.turns().tap() else { return };
    let turn = core.turns().current();
    let mut state = tap.lock();
    state.running.insert(turn, time::now());
    let node = || core.host().node.clone();
    let Shown { arguments, caller, handler } =
        state.next.take().unwrap_or_else(|| Shown { arguments: None, caller: node(), handler: None });
    state.publish(core, turn, method, TraceEvent::Begun { arguments, caller, handler });
}

/// A handler has ended, perhaps with a value.
#[cold]
pub(crate) fn ended(core: &Core, turn: Turn, method: &Method, how: HandlerEnd, value: Option<&dyn Any>) {
    let Some(tap) = core.turns().tap() else { return };
    let show = tap.lock().show;
    let reply = show.zip(value).and_then(|(show, value)| guarded(|| (show.reply)(method.id().name, value)));
    let mut state = tap.lock();
    let took = state.running.remove(&turn).map(|begun| time::now().saturating_duration_since(begun));
    state.publish(core, turn, method, TraceEvent::Ended { took, how, reply });
}

/// To show a value is its `Serialize`, which is the user's: it is not run under the lock, and may panic.
fn guarded(show: impl FnOnce() -> Option<String>) -> Option<String> {
    catch_unwind(AssertUnwindSafe(show)).unwrap_or_default()
}

impl State {
    fn publish(&mut self, core: &Core, turn: Turn, method: &Method, event: TraceEvent) {
        let (instance, method) = (core.address().clone(), method.name().to_owned());
        let item = TraceItem { instance, turn: turn.run(), method, event };
        // Who does not read any more is gone.
        self.readers.retain(|reader| reader.send(item.clone()).is_ok());
        if self.readers.is_empty() {
            core.turns().set_traced(false);
            (self.next, self.running) = (None, HashMap::new());
        }
    }
}

impl Tap {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
