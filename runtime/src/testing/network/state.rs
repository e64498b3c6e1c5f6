//! Everything that the in-memory network is at one moment: hosts, links, listeners, connections.
//!
//! It must never wait, look at a clock or wake a task, and never iterate in an order that differs between two runs.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::after::After;
use super::connection::{Connection, Side};
use super::links::Links;

/// The network at one moment.
pub(super) struct State {
    /// What the links do; after a change `refresh` must follow.
    pub(super) links: Links,
    /// How many unread bytes each direction of a new connection holds.
    pub(super) capacity: usize,
    names: BTreeMap<String, Ipv4Addr>,
    hosts: BTreeMap<Ipv4Addr, HostState>,
    listeners: BTreeMap<SocketAddrV4, Backlog>,
    connections: BTreeMap<u64, Connection>,
    last_id: u64,
}

/// One life of one host: a crash ends it, and what is left of it can use the network no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Life {
    /// The host's only address.
    pub(super) ip: Ipv4Addr,
    number: u64,
}

struct HostState {
    life: u64,
    next_port: u16,
}

/// The connections that wait to be accepted at one address.
struct Backlog {
    id: u64,
    waiting: VecDeque<u64>,
    acceptor: Option<Waker>,
}

/// What the network knows a listener by.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    /// Where it listens.
    pub(super) address: SocketAddrV4,
    id: u64,
}

/// How an attempt to connect goes on.
pub(super) enum Way {
    /// The answer comes after this time.
    Open(Duration),
    /// Nothing comes back for now.
    Held,
}

/// A connection that was made: its number and the address of the other end.
pub(super) struct Joined {
    /// The number under which its two ends find it.
    pub(super) connection: u64,
    /// The other end.
    pub(super) peer: SocketAddrV4,
}

const DEFAULT_CAPACITY: usize = 64 * 1024;
const MAX_BACKLOG: usize = 1024;
const FIRST_FREE_PORT: u16 = 49152;
const FIRST_IP: u32 = 0x0A00_0001;

impl State {
    /// A network without hosts, without delay and without faults.
    pub(super) fn new() -> Self {
        Self {
            links: Links::default(),
            capacity: DEFAULT_CAPACITY,
            names: BTreeMap::new(),
            hosts: BTreeMap::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            last_id: 0,
        }
    }

    /// The current life of the host of this name, which is added if it is new.
    pub(super) fn host(&mut self, name: &str) -> Life {
        let ip = self.names.get(name).copied().unwrap_or_else(|| {
            let ip = self.hosts.last_key_value().map_or(FIRST_IP, |(last, _)| u32::from(*last) + 1).into();
            self.names.insert(name.to_owned(), ip);
            ip
        });
        let host = self.hosts.entry(ip).or_insert(HostState { life: 0, next_port: FIRST_FREE_PORT });
        Life { ip, number: host.life }
    }

    /// The address of the host of this name.
    ///
    /// # Panics
    /// If there is no such host: a fault on a name that was mistyped would leave a test green.
    pub(super) fn ip(&self, name: &str) -> Ipv4Addr {
        match self.names.get(name) {
            Some(ip) => *ip,
            None => panic!("the network has no host named {name:?}"),
        }
    }

    /// Ends the life of a host, as the kernel does with a process that is killed.
    pub(super) fn crash(&mut self, ip: Ipv4Addr, now: Instant, after: &mut After) {
        if let Some(host) = self.hosts.get_mut(&ip) {
            host.life += 1;
        }
        // The next life does not stand still, and a killed process is not kept from closing its sockets.
        self.links.set_paused(ip, false);
        let bound: Vec<Bound> = self.listeners_of(ip).collect();
        for listener in bound {
            self.unlisten(listener, now, after);
        }
        for connection in self.connections.values_mut() {
            connection.reset_host(ip, &self.links, now, after);
        }
        self.refresh(now, after);
    }

    /// Makes everything on the network see what the links do now.
    pub(super) fn refresh(&mut self, now: Instant, after: &mut After) {
        for connection in self.connections.values_mut() {
            connection.refresh(&self.links, now, after);
        }
        for backlog in self.listeners.values_mut() {
            after.wake(&mut backlog.acceptor);
        }
        after.retry_dialers();
    }

    /// Finds the address that `host:port` means when it is said on `from`.
    pub(super) fn resolve(&self, from: Ipv4Addr, address: &str) -> io::Result<SocketAddrV4> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidInput, "an address is host:port");
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let ip = match (host, host.parse::<Ipv4Addr>()) {
            ("localhost" | "[::1]" | "[::]", _) => from,
            (_, Ok(ip)) if ip.is_loopback() || ip.is_unspecified() => from,
            (_, Ok(ip)) => ip,
            (name, Err(_)) => {
                let unknown = || io::Error::new(io::ErrorKind::NotFound, "no host has this name");
                self.names.get(name).copied().ok_or_else(unknown)?
            }
        };
        Ok(SocketAddrV4::new(ip, port))
    }

    /// Starts to listen; port 0 takes a free one.
    pub(super) fn listen(&mut self, by: Life, mut address: SocketAddrV4) -> io::Result<Bound> {
        self.check_alive(by)?;
        if *address.ip() != by.ip {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if address.port() == 0 {
            address.set_port(self.free_port(by.ip)?);
        } else if self.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let id = self.next_id();
        self.listeners.insert(address, Backlog { id, waiting: VecDeque::new(), acceptor: None });
        Ok(Bound { address, id })
    }

    /// Ends a listening; who waits to be accepted is broken off.
    pub(super) fn unlisten(&mut self, bound: Bound, now: Instant, after: &mut After) {
        // The address may belong to a listener of the host's next life by now.
        if self.listeners.get(&bound.address).is_none_or(|backlog| backlog.id != bound.id) {
            return;
        }
        let Some(mut backlog) = self.listeners.remove(&bound.address) else { return };
        after.discard(&mut backlog.acceptor);
        after.retry_dialers();
        for id in backlog.waiting {
            self.update(id, |connection, links| connection.abandon(Side::Acceptor, links, now, after));
        }
    }

    /// Takes the next connection that waits at a listener, or lets `waker` wait for one.
    pub(super) fn accept(&mut self, bound: Bound, waker: &Waker, after: &mut After) -> Option<Joined> {
        let backlog = self.listeners.get_mut(&bound.address).filter(|backlog| backlog.id == bound.id)?;
        // A host that stands still accepts nothing, although its kernel lets dialers in.
        let next = if self.links.is_paused(*bound.address.ip()) { None } else { backlog.waiting.pop_front() };
        let Some((id, connection)) = next.and_then(|id| Some((id, self.connections.get(&id)?))) else {
            after.register(&mut backlog.acceptor, waker);
            return None;
        };
        after.retry_dialers();
        Some(Joined { connection: id, peer: connection.address(Side::Dialer) })
    }

    /// Whether an attempt to connect passes, and when its answer comes.
    pub(super) fn way(&self, by: Life, to: SocketAddrV4) -> io::Result<Way> {
        self.check_alive(by)?;
        let held = self.links.is_cut(by.ip, *to.ip()) || self.links.is_paused(by.ip);
        Ok(if held { Way::Held } else { Way::Open(2 * self.links.delay(by.ip, *to.ip())) })
    }

    /// Connects, or finds out that there is no way now after all.
    pub(super) fn establish(
        &mut self,
        by: Life,
        to: SocketAddrV4,
        after: &mut After,
    ) -> io::Result<Option<Joined>> {
        if matches!(self.way(by, to)?, Way::Held) {
            return Ok(None);
        }
        match self.listeners.get(&to) {
            None => return Err(io::ErrorKind::ConnectionRefused.into()),
            Some(backlog) if backlog.waiting.len() >= MAX_BACKLOG => return Ok(None),
            Some(_) => {}
        }
        let from = SocketAddrV4::new(by.ip, self.free_port(by.ip)?);
        let id = self.next_id();
        self.connections.insert(id, Connection::new(from, to, self.capacity));
        if let Some(backlog) = self.listeners.get_mut(&to) {
            backlog.waiting.push_back(id);
            after.wake(&mut backlog.acceptor);
        }
        Ok(Some(Joined { connection: id, peer: to }))
    }

    /// Changes one connection, and forgets it if nobody holds any part of it any more; nothing if it is forgotten.
    pub(super) fn update<R>(
        &mut self,
        id: u64,
        change: impl FnOnce(&mut Connection, &Links) -> R,
    ) -> Option<R> {
        let connection = self.connections.get_mut(&id)?;
        let result = change(connection, &self.links);
        if connection.is_over() {
            self.connections.remove(&id);
        }
        Some(result)
    }

    /// How many connections have a half that is still held.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    fn listeners_of(&self, ip: Ipv4Addr) -> impl Iterator<Item = Bound> {
        let all = SocketAddrV4::new(ip, 0)..=SocketAddrV4::new(ip, u16::MAX);
        self.listeners.range(all).map(|(address, backlog)| Bound { address: *address, id: backlog.id })
    }

    fn check_alive(&self, by: Life) -> io::Result<()> {
        let alive = self.hosts.get(&by.ip).is_some_and(|host| host.life == by.number);
        if alive { Ok(()) } else { Err(io::ErrorKind::NetworkDown.into()) }
    }

    fn free_port(&mut self, ip: Ipv4Addr) -> io::Result<u16> {
        let first = self.hosts.get(&ip).map_or(FIRST_FREE_PORT, |host| host.next_port);
        let free = (first..=u16::MAX).chain(FIRST_FREE_PORT..first).find(|port| {
            let address = SocketAddrV4::new(ip, *port);
            !self.listeners.contains_key(&address)
                && !self.connections.values().any(|it| it.address(Side::Dialer) == address)
        });
        let port = free.ok_or(io::ErrorKind::AddrNotAvailable)?;
        if let Some(host) = self.hosts.get_mut(&ip) {
            host.next_port = port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
        }
        Ok(port)
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}
