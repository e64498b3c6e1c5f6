//! The same floor with as many callers as there are calls in flight: each is a task that waits for its own reply, and
//! all share one connection, as a client written by hand for one purpose would have it.
//!
//! It must never do more than that needs: no errors told apart, no deadlines, no cancelling.

#![expect(clippy::disallowed_methods, reason = "the floor is a plain tokio program")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};

use crate::floor::{Workload, run, with_callers};
use crate::tcp::{CALL, Connection, Frames, REQUEST, put};

/// A connection that callers share. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Multiplexed(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    data: Notify,
}

#[derive(Default)]
struct State {
    output: Vec<u8>,
    waiting: HashMap<u64, oneshot::Sender<u64>>,
    next: u64,
}

impl Multiplexed {
    /// Connects. The connection's task lives as long as the runtime.
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let client = Self::default();
        tokio::spawn(client.clone().drive(Connection::new(stream)));
        client
    }

    async fn call(&self, by: u64) -> u64 {
        self.ask(by).await.expect("the server answers")
    }

    fn ask(&self, by: u64) -> oneshot::Receiver<u64> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.waiting.insert(id, sender);
        let was_empty = state.output.is_empty();
        put(&mut state.output, REQUEST, CALL, id, by);
        drop(state);
        if was_empty {
            self.0.data.notify_one();
        }
        answer
    }

    async fn drive(self, mut connection: Connection) {
        loop {
            tokio::select! {
                biased;
                is_there = connection.read() => {
                    assert!(is_there, "the server is there");
                    self.take_answers(&mut connection.input);
                }
                () = self.0.data.notified() => {
                    // The callers that are about to ask too come first, so that one write takes them all.
                    tokio::task::yield_now().await;
                    std::mem::swap(&mut self.state().output, &mut connection.output);
                    connection.stream.write_all(&connection.output).await.expect("the server is there");
                    connection.output.clear();
                }
            }
        }
    }

    fn take_answers(&self, input: &mut Vec<u8>) {
        let mut frames = Frames(input);
        let mut state = self.state();
        while let Some((_, id, total)) = frames.next() {
            let waiter = state.waiting.remove(&id).expect("the server answers what was asked");
            let _ = waiter.send(total); // no caller gives up
        }
        drop(state);
        let rest = frames.0.len();
        input.drain(..input.len() - rest);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn calls<'a>(&'a self, runtime: &'a Runtime, callers: u64) -> Workload<'a> {
        Box::new(move |operations| {
            let client = self.clone();
            run(runtime, async move {
                with_callers(callers, operations, move |calls| {
                    let client = client.clone();
                    async move {
                        for _ in 0..calls {
                            client.call(1).await;
                        }
                    }
                })
                .await
            })
        })
    }
}
