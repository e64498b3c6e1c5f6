//! Models of the races around the ends of instances, for loom: it tries the orders in which a model's threads may go.
//!
//! They drive the code of this crate itself, whose locks and atomics (`crate::sync`) are then loom's. `ARCHITECTURE.md`
//! says how to run them.
//!
//! Invariant: what a model asks at its end follows from locks and atomics that loom sees. A channel of tokio is one step
//! for it, and no reason to try another order.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use loom::thread;

use crate::config::Overflow;
use crate::event::StopReason;
use crate::id::{Incarnation, NodeId};
use crate::port::{WatchId, Watcher};
use crate::service::core::{Core, Kind};
use crate::service::definition::Settings;
use crate::service::host::Host;
use crate::service::inbox::Inbox;
use crate::service::mailbox::Local;
use crate::service::message::Message;
use crate::service::queue::queue;

mod downs;
mod lives;
mod mailbox;
mod ring;
mod watchers;

/// Tries every order.
fn in_every_order(model: impl Fn() + Send + Sync + 'static) {
    explore(None, model);
}

/// Tries every order in which a thread is interrupted, where it could have gone on, three times at most in all. For
/// models with too many orders: a race that needs more is rare (Musuvathi and Qadeer, "Iterative Context Bounding for
/// Systematic Testing of Multithreaded Programs", PLDI 2007).
fn in_orders_with_three_interruptions(model: impl Fn() + Send + Sync + 'static) {
    explore(Some(3), model);
}

fn explore(interruptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    LazyLock::force(&HOST);
    // For what makes a timer. None of them ends: nobody turns this runtime's clock.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(interruptions);
    builder.check(model);
}

/// The host of all models. It stands outside of them, as nothing in it is loom's.
static HOST: LazyLock<Arc<Host>> = LazyLock::new(|| {
    Arc::new(Host::new(NodeId::new("a").unwrap(), Incarnation(1), Duration::from_secs(1), 64))
});

/// What the instances of the models speak.
#[skyhold_macros::service(crate = crate)]
trait Jar {
    fn get(&self) -> u32;
}

/// A kind of instances whose mailbox has room for one message.
const fn kind(overflow: Overflow) -> Kind {
    let settings = Settings::DEFAULT.mailbox(1).overflow(overflow);
    Kind { interface: JarMessage::INTERFACE, methods: JarMessage::METHODS, settings }
}

/// Its mailbox is a channel.
static CHANNEL: Kind = kind(Overflow::Wait);

/// Its mailbox is a ring.
static RING: Kind = kind(Overflow::DropOldest);

const BOTH: [&Kind; 2] = [&CHANNEL, &RING];

/// A supervised instance that waits for the word for its first life.
fn supervised() -> Arc<Core> {
    Arc::new(Core::new(&HOST, HOST.next_address(), "jar".into(), &CHANNEL, true))
}

/// A supervised instance that lives.
fn living() -> Arc<Core> {
    let core = supervised();
    assert!(core.begin_life());
    core
}

/// Likewise, with its mailbox.
fn living_with_mailbox(kind: &'static Kind) -> (Arc<Local<JarMessage>>, Inbox<JarMessage>) {
    let (entrance, exit) = queue(kind.settings.capacity(), kind.settings.overflow);
    let core = Arc::new(Core::new(&HOST, HOST.next_address(), "jar".into(), kind, true));
    assert!(core.begin_life());
    let local = Arc::new(Local::new(Arc::clone(&core), entrance));
    core.set_local(Arc::downgrade(&local.erased()));
    let inbox = Inbox::new(Arc::clone(&local), exit);
    (local, inbox)
}

/// Ends a life, as the instance does, and begins the next, as the supervisor does. `false` if none is to follow.
fn live_again(core: &Core, reason: &StopReason) -> bool {
    core.end_life();
    core.end_watches(reason);
    core.watchers().fire(reason);
    core.renew();
    core.begin_life()
}

/// Runs `f` on a thread of its own.
fn aside<T, R>(of: &Arc<T>, f: impl FnOnce(&Arc<T>) -> R + 'static) -> thread::JoinHandle<R>
where
    T: 'static,
    R: 'static,
{
    let of = Arc::clone(of);
    thread::spawn(move || f(&of))
}

/// Notes what it is told. One step of the model.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(u64, StopReason)>>);

impl Watcher for Notes {
    fn down(&self, watch: WatchId, reason: StopReason) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((watch.0, reason));
    }
}

impl Notes {
    /// The reasons that were told by the watch of that number.
    fn of(&self, watch: u64) -> Vec<StopReason> {
        let told = self.0.lock().unwrap();
        told.iter().filter(|(of, _)| *of == watch).map(|(_, reason)| reason.clone()).collect()
    }
}
