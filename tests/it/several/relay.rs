//! Over TCP, through a relay that counts and cuts the single connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use skyhold::Event;
use skyhold::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::{INSTANCES, ProbeHandle, start};
use crate::raw::{has_peers, soon};

/// Stands between two nodes.
#[derive(Clone, Default)]
struct Relay {
    connections: Arc<Mutex<Vec<Connection>>>,
}

/// One that goes through it.
#[derive(Clone, Default)]
struct Connection {
    bytes: Arc<AtomicU64>,
    cut: Arc<Notify>,
}

impl Relay {
    /// Gives the relay, and where it listens.
    async fn before(node: &Node) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (to, at) = (node.address().unwrap(), listener.local_addr().unwrap());
        let relay = Self::default();
        let connections = Arc::clone(&relay.connections);
        tokio::spawn(async move {
            loop {
                let (from, _) = listener.accept().await.unwrap();
                let connection = Connection::default();
                connections.lock().unwrap().push(connection.clone());
                tokio::spawn(connection.run(from, to));
            }
        });
        (relay, at)
    }

    fn connections(&self) -> Vec<Connection> {
        self.connections.lock().unwrap().clone()
    }

    /// How many bytes have gone over each so far.
    fn bytes(&self) -> Vec<u64> {
        self.connections().iter().map(|connection| connection.bytes.load(Ordering::SeqCst)).collect()
    }
}

impl Connection {
    async fn run(self, from: TcpStream, to: SocketAddr) {
        let to = TcpStream::connect(to).await.unwrap();
        let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
        tokio::select! {
            _ = async { tokio::join!(self.carry(from_read, to_write), self.carry(to_read, from_write)) } => {}
            () = self.cut.notified() => {}
        }
    }

    async fn carry(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            self.bytes.fetch_add(read as u64, Ordering::SeqCst);
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}

/// Two nodes of these wishes, of which the second has dialled through a relay and calls the first.
struct Pair {
    callee: Node,
    caller: Node,
    relay: Relay,
    handles: Vec<ProbeHandle>,
}

impl Pair {
    async fn new(wishes: [usize; 2]) -> Self {
        let builder = |name, wish| Node::builder(name).insecure_without_secret().connections_per_peer(wish);
        let callee = builder("callee", wishes[0]).listen("127.0.0.1:0").start().await.unwrap();
        let (relay, at) = Relay::before(&callee).await;
        let caller = builder("caller", wishes[1]).seed(at.to_string()).start().await.unwrap();
        has_peers(&caller, 1).await;
        let (_, handles) = start(&callee, &caller).await;
        Self { callee, caller, relay, handles }
    }

    async fn call_each(&self, bytes: usize) {
        for handle in &self.handles {
            assert_eq!(
                soon("a reply", handle.echo(vec![7; bytes]).into_future()).await.unwrap().len(),
                bytes
            );
        }
    }
}

#[tokio::test]
async fn of_two_wishes_the_smaller_counts_and_each_connection_carries_calls() {
    for (wishes, connections) in [([4, 4], 4), ([8, 2], 2), ([2, 4], 2), ([1, 8], 1), ([8, 8], 8)] {
        let pair = Pair::new(wishes).await;
        let before = pair.relay.bytes();
        assert_eq!(before.len(), connections, "{wishes:?}");
        pair.call_each(10_000).await;
        let after = pair.relay.bytes();
        let carried: Vec<_> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        assert_eq!(carried.len(), connections);
        assert!(carried.iter().all(|bytes| *bytes >= 20_000), "{wishes:?}: {carried:?}");
        assert!(carried.iter().sum::<u64>() >= 20_000 * INSTANCES as u64);
    }
}

#[tokio::test]
async fn with_any_of_its_connections_a_peer_is_lost_and_comes_back_with_all() {
    let pair = Pair::new([4, 4]).await;
    // A further one first.
    for cut in [2, 0, 1, 3] {
        let mut events = [pair.caller.events(), pair.callee.events()];
        let connections = pair.relay.connections();
        connections[connections.len() - 4 + cut].cut.notify_one();
        for events in &mut events {
            soon("a lost peer", async {
                while !matches!(events.next().await, Some(Event::PeerDown { .. })) {}
            })
            .await;
            soon("a peer that comes back", async {
                while !matches!(events.next().await, Some(Event::PeerUp { .. })) {}
            })
            .await;
        }
        pair.call_each(10).await;
        if pair.relay.connections().len() == connections.len() {
            return; // they are made again past the relay: by what the callee has said of its address
        }
    }
}
