//! The raw floor of a remote call: length-prefixed frames over TCP, as many in one read and in one write as there are.
//!
//! Its frames are as large as Skyhold's for the same method, within three bytes, and it must never do more than such an
//! exchange needs: one connection, no tasks beside the two ends, no table of who waits.

#![expect(clippy::disallowed_methods, reason = "the floor is a plain tokio program")]

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::floor::{Workload, run, timed};

/// What a request takes after its length: a kind, a number, an argument, and room for Skyhold's other fields.
pub(crate) const REQUEST: usize = 31;

/// What a reply takes after its length: a kind, a number, a value.
const REPLY: usize = 17;

pub(crate) const CALL: u8 = 1;
const SEND: u8 = 2;
const ANSWER: u8 = 3;

/// How many bytes are read at once.
const READ: usize = 64 * 1024;

/// Serves a raw counter on a port of loopback; gives the address.
pub(crate) async fn listen() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let address = listener.local_addr().expect("a listener has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Connection::new(stream).serve());
        }
    });
    address.to_string()
}

/// One end of a connection.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP has the option");
        Self { stream, input: Vec::new(), output: Vec::new() }
    }

    /// The server: answers all that one read brought in one write.
    async fn serve(mut self) {
        let mut total = 0;
        while self.read().await {
            let mut frames = Frames(&self.input);
            while let Some((kind, id, by)) = frames.next() {
                total += by;
                if kind == CALL {
                    put(&mut self.output, REPLY, ANSWER, id, total);
                }
            }
            let rest = frames.0.len();
            self.input.drain(..self.input.len() - rest);
            self.flush().await;
        }
    }

    /// The client: keeps `in_flight` calls under way until all are answered.
    async fn call(&mut self, calls: u64, in_flight: u64) {
        let (mut asked, mut answered) = (0, 0);
        while answered < calls {
            while asked < calls.min(answered + in_flight) {
                put(&mut self.output, REQUEST, CALL, asked, 1);
                asked += 1;
            }
            self.flush().await;
            answered += self.answers().await;
        }
    }

    /// The client: sends in bursts, each with one call at its end, whose answer it waits for.
    async fn send(&mut self, sends: u64, burst: u64) {
        let mut sent = 0;
        while sent < sends {
            let last = sends.min(sent + burst);
            while sent < last {
                sent += 1;
                put(&mut self.output, REQUEST, if sent == last { CALL } else { SEND }, sent, 1);
            }
            self.flush().await;
            while self.answers().await == 0 {}
        }
    }

    /// How many answers one read brought.
    async fn answers(&mut self) -> u64 {
        assert!(self.read().await, "the server is there");
        let (mut frames, mut answers) = (Frames(&self.input), 0);
        while let Some((kind, id, total)) = frames.next() {
            std::hint::black_box((kind, id, total));
            answers += 1;
        }
        let rest = frames.0.len();
        self.input.drain(..self.input.len() - rest);
        answers
    }

    pub(crate) async fn read(&mut self) -> bool {
        self.input.reserve(READ);
        self.stream.read_buf(&mut self.input).await.is_ok_and(|read| read > 0)
    }

    async fn flush(&mut self) {
        if !self.output.is_empty() {
            let _ = self.stream.write_all(&self.output).await; // the next read tells that the peer is gone
            self.output.clear();
        }
    }
}

/// What is left to parse.
pub(crate) struct Frames<'a>(pub(crate) &'a [u8]);

impl Frames<'_> {
    pub(crate) fn next(&mut self) -> Option<(u8, u64, u64)> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (frame, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        let (kind, fields) = frame.split_first()?;
        let (id, fields) = fields.split_first_chunk()?;
        let (value, _) = fields.split_first_chunk()?;
        Some((*kind, u64::from_le_bytes(*id), u64::from_le_bytes(*value)))
    }
}

pub(crate) fn put(output: &mut Vec<u8>, length: usize, kind: u8, id: u64, value: u64) {
    let end = output.len() + 4 + length;
    output.extend(u32::try_from(length).expect("frames are small").to_le_bytes());
    output.push(kind);
    output.extend(id.to_le_bytes());
    output.extend(value.to_le_bytes());
    output.resize(end, 0);
}

/// A client of the raw counter.
pub(crate) struct RawClient(Arc<Mutex<Connection>>);

impl RawClient {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        Self(Arc::new(Mutex::new(Connection::new(stream))))
    }

    pub(crate) fn calls<'a>(&'a self, runtime: &'a Runtime, in_flight: u64) -> Workload<'a> {
        Box::new(move |calls| {
            let connection = Arc::clone(&self.0);
            run(runtime, async move { timed(connection.lock().await.call(calls, in_flight)).await })
        })
    }

    pub(crate) fn sends<'a>(&'a self, runtime: &'a Runtime, burst: u64) -> Workload<'a> {
        Box::new(move |sends| {
            let connection = Arc::clone(&self.0);
            run(runtime, async move { timed(connection.lock().await.send(sends, burst)).await })
        })
    }
}
