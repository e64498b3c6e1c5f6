//! An in-memory network with faults, in the place of TCP: hosts that listen and connect, links that can be cut,
//! delayed and healed, hosts that crash or stand still.
//!
//! It must never spawn a task, read another clock than the crate's, or let chance in: under a paused clock two equal
//! runs see equal bytes at equal instants. A fault is in force when the call that makes it returns.

mod after;
mod connection;
mod links;
mod pipe;
mod state;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::after::After;
use self::connection::Side;
use self::state::{Life, State, Way};
use self::stream::MemoryListener;
use crate::net::io::{BoxFuture, Listener, Stream, Transport};
use crate::time;

/// A network inside this process; clones are the same network.
///
/// A stream behaves as TCP's does. Its two directions are bounded pipes of 64 KiB each; bytes arrive in order after
/// the link's delay, however many are under way; a partition holds them and they flow again after it. Whoever drops
/// an end lets the other read what was sent, and then the end of the stream.
#[derive(Clone)]
pub(crate) struct Network {
    shared: Arc<Shared>,
}

/// One host of a [`Network`], as the transport of the node that runs there.
///
/// It is one life of the host: after [`Network::crash`] this value can neither listen nor connect, and
/// [`Network::host`] gives the next life, under the same name and address.
#[derive(Clone)]
pub(crate) struct Host {
    shared: Arc<Shared>,
    life: Life,
}

/// What all parts of one network share.
struct Shared {
    /// Guards the whole network: a fault, a read or a write is one step that nothing can come between.
    state: Mutex<State>,
    /// Tells dialers that wait that something changed.
    changed: Notify,
}

impl Network {
    /// A network without hosts, without delay and without faults.
    pub(crate) fn new() -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::new(State::new()), changed: Notify::new() }) }
    }

    /// The host of this name, which is added if it is new: the first gets the address 10.0.0.1, and so on.
    pub(crate) fn host(&self, name: &str) -> Host {
        let life = self.shared.with(|state, _| state.host(name));
        Host { shared: self.shared.clone(), life }
    }

    /// Cuts every link between the hosts on the left and those on the right, in both directions, on top of what is
    /// cut already. Bytes are held, and attempts to connect get no answer, until [`heal`](Self::heal).
    ///
    /// # Panics
    /// If a name is no host's.
    pub(crate) fn partition(&self, left: &[&str], right: &[&str]) {
        self.fault(|state| {
            for a in left {
                for b in right {
                    let (a, b) = (state.ip(a), state.ip(b));
                    state.links.cut(a, b);
                }
            }
        });
    }

    /// Whether the link between the two is cut.
    ///
    /// # Panics
    /// If a name is no host's.
    pub(crate) fn is_partitioned(&self, a: &str, b: &str) -> bool {
        self.shared.with(|state, _| state.links.is_cut(state.ip(a), state.ip(b)))
    }

    /// Restores every link that was cut; what was held arrives after the link's delay. Pauses and delays stay.
    pub(crate) fn heal(&self) {
        self.fault(|state| state.links.heal());
    }

    /// Sets how long bytes take, one way, on every link. It holds for what is written from now on; connecting takes
    /// it twice. Default 0.
    pub(crate) fn delay(&self, delay: Duration) {
        self.fault(|state| state.links.set_delay(delay));
    }

    /// Sets the delay of the link between two hosts alone, until the next [`delay`](Self::delay).
    ///
    /// # Panics
    /// If a name is no host's.
    pub(crate) fn delay_between(&self, a: &str, b: &str, delay: Duration) {
        self.fault(|state| {
            let (a, b) = (state.ip(a), state.ip(b));
            state.links.set_delay_between(a, b, delay);
        });
    }

    /// Ends a host's life, as when its process is killed: its listeners are gone, its streams break with
    /// `ConnectionReset` at both ends, without delay, and what was not yet read is lost. Attempts to connect are
    /// refused until the next life listens. Across a partition the break shows only after the partition, as the
    /// bytes do.
    ///
    /// Call it before the tasks of that host are ended, or they close their streams in good order first.
    ///
    /// # Panics
    /// If the name is no host's.
    pub(crate) fn crash(&self, host: &str) {
        self.shared.with(|state, after| state.crash(state.ip(host), time::now(), after));
    }

    /// Makes a host stand still, as `SIGSTOP` does with its process: bytes to it and from it are held and it accepts
    /// nothing, but connecting to it works, since that is its kernel's business. What runs in its tasks besides the
    /// network, timers above all, goes on.
    ///
    /// # Panics
    /// If the name is no host's.
    pub(crate) fn pause(&self, host: &str) {
        self.fault(|state| state.links.set_paused(state.ip(host), true));
    }

    /// Ends a [`pause`](Self::pause); what was held arrives after the link's delay.
    ///
    /// # Panics
    /// If the name is no host's.
    pub(crate) fn resume(&self, host: &str) {
        self.fault(|state| state.links.set_paused(state.ip(host), false));
    }

    /// Whether the host stands still.
    ///
    /// # Panics
    /// If the name is no host's.
    pub(crate) fn is_paused(&self, host: &str) -> bool {
        self.shared.with(|state, _| state.links.is_paused(state.ip(host)))
    }

    /// Sets how many unread bytes each direction of a stream holds, at least 1; it holds for streams connected from
    /// now on. Default 64 KiB.
    #[cfg(test)]
    pub(crate) fn set_capacity(&self, bytes: usize) {
        self.shared.with(|state, _| state.capacity = bytes.max(1));
    }

    fn fault(&self, change: impl FnOnce(&mut State)) {
        self.shared.with(|state, after| {
            change(state);
            state.refresh(time::now(), after);
        });
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("ip", &self.life.ip).finish_non_exhaustive()
    }
}

impl Transport for Host {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let bound = self.shared.with(|state, _| {
                let address = state.resolve(self.life.ip, address)?;
                state.listen(self.life, address)
            })?;
            Ok(Box::new(MemoryListener { shared: self.shared.clone(), bound }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let to = self.shared.with(|state, _| state.resolve(self.life.ip, address))?;
            self.dial(to).await
        })
    }
}

impl Host {
    async fn dial(&self, to: SocketAddrV4) -> io::Result<Stream> {
        loop {
            // Made before the look at the network, so that no change after that look is missed.
            let changed = self.shared.changed.notified();
            if let Way::Open(round_trip) = self.shared.with(|state, _| state.way(self.life, to))? {
                if !round_trip.is_zero() {
                    time::sleep_until(time::now() + round_trip).await;
                }
                if let Some(joined) =
                    self.shared.with(|state, after| state.establish(self.life, to, after))?
                {
                    return Ok(stream::stream(&self.shared, &joined, Side::Dialer));
                }
            }
            changed.await;
        }
    }
}

impl Shared {
    /// Makes one step under the lock, then wakes whom it concerns.
    fn with<R>(&self, step: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let mut after = After::default();
        // The one panic under the lock is for a name that is no host's, and it leaves no change half made.
        let result = step(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner), &mut after);
        if after.run() {
            self.changed.notify_waiters();
        }
        result
    }
}
