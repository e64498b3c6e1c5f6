//! What a node does with the bytes of a peer that was let in and then breaks the rules: over TCP, by hand.
//!
//! Nothing that a peer sends may end a node, cost it more memory than the frame limit, or reach a handler that it was
//! not meant for.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own clock")]

mod bystander;
mod flow;
mod requests;
mod silence;
mod strangers;
mod streams;
mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skyhold::prelude::*;
use skyhold::{Call, Event, Events, Limits};
use tokio::sync::Semaphore;

use crate::raw::{Fields, Frame, Hello, Raw, Reader, has_peers, kind, soon};

/// Counts what really ran.
struct Target {
    runs: Arc<AtomicU64>,
    gate: Arc<Semaphore>,
}

#[service]
impl Target {
    pub fn add(&self, by: u64) -> u64 {
        self.runs.fetch_add(by, Ordering::SeqCst) + by
    }

    pub async fn wait(&mut self) -> u64 {
        self.gate.acquire().await.unwrap().forget();
        1
    }

    pub fn blob(&self, length: usize) -> Vec<u8> {
        vec![0; length]
    }

    /// Reads nothing before the gate is open.
    pub async fn hold(&mut self, mut items: Streaming<u64>) -> u64 {
        self.gate.acquire().await.unwrap().forget();
        self.count(&mut items).await
    }

    /// Reads one of the two.
    pub async fn first(&mut self, mut one: Streaming<u64>, other: Streaming<u64>) -> u64 {
        drop(other);
        self.count(&mut one).await
    }
}

impl Target {
    async fn count(&self, items: &mut Streaming<u64>) -> u64 {
        let mut count = 0;
        while let Some(Ok(_)) = items.next().await {
            count += 1;
            self.runs.fetch_add(1, Ordering::SeqCst);
        }
        count
    }
}

/// A node that runs a `Target` under the name `target`, and a peer by hand that knows how to call it.
struct Scene {
    node: Node,
    raw: Raw,
    runs: Arc<AtomicU64>,
    gate: Arc<Semaphore>,
    instance: u64,
    add: [u32; 2],
    wait: [u32; 2],
}

/// The failure codes of the protocol's document.
mod code {
    pub(super) const STOPPED: u8 = 3;
    pub(super) const INCOMPATIBLE: u8 = 6;
    pub(super) const CODEC: u8 = 9;
}

const WANTS_REPLY: u8 = 1;

/// The smallest limit: a message of 64 KiB, and 64 KiB around it.
const MAX_MESSAGE: usize = 64 * 1024;
const MAX_FRAME: usize = 2 * MAX_MESSAGE;

impl Scene {
    async fn new() -> Self {
        Self::with(0, Limits::default()).await
    }

    /// With features of the peer.
    async fn with(features: u64, limits: Limits) -> Self {
        let node = Node::builder("a")
            .insecure_without_secret()
            .listen("127.0.0.1:0")
            .max_message(MAX_MESSAGE)
            .limits(limits);
        let node = node.start().await.unwrap();
        let runs = Arc::new(AtomicU64::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let (r, g) = (Arc::clone(&runs), Arc::clone(&gate));
        let factory = move || Target { runs: Arc::clone(&r), gate: Arc::clone(&g) };
        node.service("target", factory).start().await.unwrap();
        let mut raw = Raw::join(&node, &Hello { features, ..Hello::default() }).await;
        let instance = first_instance(&raw.until(kind::NAMES).await);
        let (add, wait) = learn_methods(&node, &mut raw).await;
        Self { node, raw, runs, gate, instance, add, wait }
    }

    /// A request that wants a reply.
    fn request(&self, id: u64, method: [u32; 2], arguments: &[u8]) -> Vec<u8> {
        request(id, self.instance, method, WANTS_REPLY, arguments)
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.raw.write(bytes).await;
    }

    /// Shows that an orderly request still runs.
    async fn still_works(&mut self) {
        let request = self.request(u64::MAX, self.add, &[0]);
        self.send(&request).await;
        let reply = self.raw.until(kind::REPLY).await;
        assert_eq!(reply.fields().u64(), u64::MAX);
    }

    /// Sends bytes that break the protocol, and checks that the node says goodbye, closes, and goes on with others.
    /// Gives the node.
    async fn check_closes(mut self, bytes: &[u8], expected: &str) -> Node {
        let mut events = self.node.events();
        self.raw.write_what_is_taken(bytes).await;
        let told = self.raw.rest().await;
        // The goodbye may be lost, if the node closed before it had read all.
        for goodbye in told.iter().filter(|frame| frame.kind == kind::GOODBYE) {
            let text = goodbye.fields().string();
            assert!(text.contains(expected), "{text}, and {expected:?} was expected");
        }
        let reason = peer_down(&mut events).await;
        assert!(reason.contains(expected), "{reason}, and {expected:?} was expected");
        assert_eq!(self.runs.load(Ordering::SeqCst), 0, "a handler ran");
        let hello = Hello { node: "another".into(), ..Hello::default() };
        Raw::join(&self.node, &hello).await.is_served().await;
        self.node
    }
}

fn request(id: u64, instance: u64, method: [u32; 2], flags: u8, rest: &[u8]) -> Vec<u8> {
    let head = Fields::default().u64(id).u64(instance).u32(method[0]).u32(method[1]);
    head.u32(0).u8(flags).bytes(rest).frame(kind::REQUEST)
}

/// The first instance of the first name that a peer tells.
fn first_instance(names: &Frame) -> u64 {
    let mut fields = names.fields();
    assert_eq!((fields.u8(), fields.u16()), (1, 1), "complete, and one name");
    assert_eq!((fields.string(), fields.string()), ("target".to_owned(), "target".to_owned()));
    assert_eq!(fields.u16(), 1, "one instance");
    fields.u64()
}

/// The methods' numbers, from what the node sends when it calls them on the peer by hand.
async fn learn_methods(node: &Node, raw: &mut Raw) -> ([u32; 2], [u32; 2]) {
    let entry = Fields::default().u8(1).u16(1).string("mine").string("target").u16(1).u64(1);
    raw.write(&entry.frame(kind::NAMES)).await;
    let mine = soon("the name", TargetHandle::lookup(node, "mine")).await.unwrap();
    let (add, arguments) = learn(raw, mine.add(5)).await;
    assert_eq!(arguments, [5]);
    let (wait, arguments) = learn(raw, mine.wait()).await;
    assert_eq!(arguments, [0; 0]);
    (add, wait)
}

/// The method's numbers and the arguments, as the node sends them to the peer by hand.
async fn learn<R: Send + 'static>(raw: &mut Raw, call: Call<R, TargetMessage>) -> ([u32; 2], Vec<u8>) {
    call.send().await.unwrap();
    method(&raw.until(kind::REQUEST).await)
}

/// The method of a send, and its arguments.
fn method(request: &Frame) -> ([u32; 2], Vec<u8>) {
    let mut fields = request.fields();
    let (_, instance) = (fields.u64(), fields.u64());
    assert_eq!(instance, 1);
    let method = [fields.u32(), fields.u32()];
    assert_eq!((fields.u32(), fields.u8()), (0, 0), "a send has no deadline and no flags");
    (method, fields.0.to_vec())
}

async fn peer_down(events: &mut Events) -> String {
    soon("the peer's end among the events", async {
        loop {
            if let Event::PeerDown { reason, .. } = events.next().await.expect("the node lives") {
                return reason;
            }
        }
    })
    .await
}

/// The request, the code and the text of a failure.
fn failure(frame: &Frame) -> (u64, u8, String) {
    let mut fields = frame.fields();
    (fields.u64(), fields.u8(), fields.string())
}

#[tokio::test]
async fn a_frame_of_four_gigabytes_closes_the_connection_and_nothing_is_allocated() {
    let scene = Scene::new().await;
    let before = peak_of_memory();
    scene.check_closes(&[0xFF, 0xFF, 0xFF, 0xFF, kind::REQUEST, 1, 2, 3], "limit").await;
    let grown = peak_of_memory().saturating_sub(before);
    assert!(grown < 3 << 20, "{grown} KiB more were reserved");
}

/// The most address space that this process ever had, in KiB; 0 where the system does not tell.
fn peak_of_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_frame_just_above_the_limit_closes_the_connection_and_one_at_the_limit_does_not() {
    let mut scene = Scene::new().await;
    let head = request(1, scene.instance, scene.add, WANTS_REPLY, &[]).len() - 4;
    let largest = scene.request(1, scene.add, &vec![0; MAX_FRAME - head]);
    scene.send(&largest).await;
    assert_eq!(failure(&scene.raw.until(kind::FAILURE).await).1, code::CODEC);
    let too_large = scene.request(2, scene.add, &vec![0; MAX_FRAME - head + 1]);
    scene.check_closes(&too_large, "limit").await;
}

#[tokio::test]
async fn a_frame_without_a_kind_closes_the_connection() {
    Scene::new().await.check_closes(&[0, 0, 0, 0], "").await;
}

#[tokio::test]
async fn an_unknown_kind_closes_the_connection_unless_a_later_version_may_add_it() {
    let mut scene = Scene::new().await;
    for later in [0x80, 0xC3, 0xFF] {
        scene.send(&Fields::default().bytes(b"of a later version").frame(later)).await;
    }
    scene.still_works().await;
    for unknown in [0x00, 0x06, 0x1F, 0x22, 0x7F] {
        let scene = Scene::new().await;
        scene.check_closes(&Fields::default().frame(unknown), "kind").await;
    }
}

#[tokio::test]
async fn a_frame_that_ends_too_early_or_too_late_closes_the_connection() {
    Scene::new().await.check_closes(&Fields::default().u32(1).frame(kind::PING), "protocol error").await;
    Scene::new()
        .await
        .check_closes(&Fields::default().u64(1).u8(0).frame(kind::PING), "protocol error")
        .await;
    Scene::new()
        .await
        .check_closes(&Fields::default().u8(1).u16(9).frame(kind::NAMES), "protocol error")
        .await;
}

#[tokio::test]
async fn a_second_handshake_closes_the_connection() {
    Scene::new().await.check_closes(&Hello::default().frame(), "after the handshake").await;
    Scene::new()
        .await
        .check_closes(&Fields::default().u8(4).string("").frame(kind::REFUSE), "handshake")
        .await;
}

#[tokio::test]
async fn a_ping_is_answered_by_a_pong_with_its_token() {
    let mut scene = Scene::new().await;
    for token in [0, 1, u64::MAX] {
        scene.send(&Fields::default().u64(token).frame(kind::PING)).await;
        assert_eq!(scene.raw.until(kind::PONG).await.fields().u64(), token);
    }
}

#[tokio::test]
async fn frames_in_pieces_of_one_byte_are_frames() {
    let mut scene = Scene::new().await;
    let bytes = [scene.request(1, scene.add, &[5]), scene.request(2, scene.add, &[6])].concat();
    for byte in bytes {
        scene.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    let answered = [scene.raw.until(kind::REPLY).await, scene.raw.until(kind::REPLY).await];
    assert_eq!(answered.map(|reply| reply.fields().u64()), [1, 2]);
}

#[tokio::test]
async fn a_frame_that_is_cut_off_by_the_stream_s_end_never_runs() {
    let mut scene = Scene::new().await;
    let mut events = scene.node.events();
    let request = scene.request(1, scene.add, &[5]);
    scene.send(&request[..request.len() - 1]).await;
    drop(scene.raw);
    let reason = peer_down(&mut events).await;
    assert!(reason.contains("ended inside a frame"), "{reason}");
    assert_eq!(scene.runs.load(Ordering::SeqCst), 0);
    assert!(scene.node.peers().is_empty());
}

#[tokio::test]
async fn random_bytes_end_one_connection_and_nothing_else() {
    let mut scene = Scene::new().await;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..50 {
        let hello = Hello { node: format!("random-{round}"), ..Hello::default() };
        let mut raw = Raw::join(&scene.node, &hello).await;
        let mut bytes = Vec::new();
        for _ in 0..40 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        // Every other round begins with a length that is in order, so that what is behind it is looked at.
        if round % 2 == 0 {
            bytes[..4].copy_from_slice(&300_u32.to_le_bytes());
            bytes[4] = [kind::REQUEST, kind::NAMES, kind::MEMBERS, kind::FAILURE][round / 2 % 4];
        }
        raw.write_what_is_taken(&bytes).await;
        soon("the end of what is written", tokio::io::AsyncWriteExt::shutdown(&mut raw.stream)).await.ok();
        raw.rest().await;
    }
    scene.still_works().await;
    assert_eq!(scene.runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn members_that_nobody_answers_for_do_no_harm() {
    let mut scene = Scene::new().await;
    let (listener, closed) = Raw::listener().await;
    drop(listener);
    let member =
        |name: &str, port| Fields::default().string(name).u64(1).u8(4).bytes(&[127, 0, 0, 1]).u16(port);
    let members = [member("nobody", closed.port()), member("a", closed.port())];
    let list = members.iter().fold(Fields::default().u16(2), |list, member| list.bytes(&member.0));
    scene.send(&list.frame(kind::MEMBERS)).await;
    scene.still_works().await;
    assert_eq!(scene.node.peers().len(), 1);
}

#[tokio::test]
async fn a_peer_that_says_goodbye_is_gone_and_its_callers_hear_it() {
    let mut scene = Scene::new().await;
    let mut events = scene.node.events();
    let mine = TargetHandle::try_lookup(&scene.node, "mine").unwrap();
    let peer = async {
        scene.raw.until(kind::REQUEST).await;
        scene.raw.write(&Fields::default().string("enough").frame(kind::GOODBYE)).await;
        assert!(scene.raw.rest().await.is_empty());
    };
    let (answer, ()) = tokio::join!(soon("an answer", mine.add(1).into_future()), peer);
    assert!(
        matches!(&answer, Err(CallError::Disconnected(text)) if text.as_str().contains("enough")),
        "{answer:?}"
    );
    assert_eq!(peer_down(&mut events).await, "the peer said goodbye: enough");
}

#[tokio::test]
async fn a_node_that_shuts_down_says_goodbye_and_closes() {
    let Scene { node, mut raw, .. } = Scene::new().await;
    let (down, told) = tokio::join!(soon("the shutdown", node.shutdown()), raw.rest());
    down.unwrap();
    assert_eq!(told.last().map(|frame| frame.kind), Some(kind::GOODBYE), "{told:?}");
}

#[tokio::test]
async fn what_is_queued_at_once_is_written_at_once() {
    let mut scene = Scene::new().await;
    let mine = TargetHandle::try_lookup(&scene.node, "mine").unwrap();
    assert!(scene.raw.is_served().await.is_empty());
    for by in 0..100 {
        mine.add(by).try_send().unwrap();
    }
    // One runtime thread: the driver did not run before this. A write of a few KiB to the loopback arrives whole.
    let mut buffer = vec![0; 64 * 1024];
    let read = tokio::io::AsyncReadExt::read(&mut scene.raw.stream, &mut buffer);
    let read = soon("the sends", read).await.unwrap();
    let mut left = Reader(&buffer[..read]);
    let mut frames = 0;
    while !left.0.is_empty() {
        let length = left.u32() as usize;
        assert_eq!(left.0[0], kind::REQUEST);
        left.0 = &left.0[length..];
        frames += 1;
    }
    assert_eq!(frames, 100);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_fills_its_own_connection_alone() {
    let mut scene = Scene::new().await;
    let mine = TargetHandle::try_lookup(&scene.node, "mine").unwrap();
    let mut sent = 0_u64;
    // The kernel's buffers and the connection's: whoever sends more is told.
    let full = loop {
        match mine.add(1).try_send() {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        if sent.is_multiple_of(1000) {
            tokio::task::yield_now().await;
        }
        assert!(sent < 10_000_000, "the connection takes everything");
    };
    assert!(matches!(full, CallError::Overloaded(_)), "{full:?}");
    let hello = Hello { node: "another".into(), ..Hello::default() };
    Raw::join(&scene.node, &hello).await.is_served().await;
    has_peers(&scene.node, 2).await;
    for _ in 0..sent {
        scene.raw.until(kind::REQUEST).await;
    }
}
