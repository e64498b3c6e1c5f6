//! A peer made by hand from the protocol's document, for tests of what a node does with the bytes of others.
//!
//! It must never use the runtime's own codec: then a mistake in it would be on both sides and nobody would see it.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own clock")]

use std::net::SocketAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use skyhold::{Event, Node};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long anything may take. Only a bug takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The kinds of frames.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const CHALLENGE: u8 = 0x02;
    pub(crate) const PROOF: u8 = 0x03;
    pub(crate) const WELCOME: u8 = 0x04;
    pub(crate) const REFUSE: u8 = 0x05;
    pub(crate) const REQUEST: u8 = 0x10;
    pub(crate) const REPLY: u8 = 0x11;
    pub(crate) const FAILURE: u8 = 0x12;
    pub(crate) const CANCEL: u8 = 0x13;
    pub(crate) const CREDIT: u8 = 0x14;
    pub(crate) const GONE: u8 = 0x15;
    pub(crate) const WINDOW: u8 = 0x16;
    pub(crate) const PIECE: u8 = 0x17;
    pub(crate) const WATCH: u8 = 0x18;
    pub(crate) const UNWATCH: u8 = 0x19;
    pub(crate) const DOWN: u8 = 0x1A;
    pub(crate) const TAKEN: u8 = 0x1B;
    pub(crate) const FENCE: u8 = 0x1C;
    pub(crate) const BEHIND: u8 = 0x1D;
    pub(crate) const PING: u8 = 0x20;
    pub(crate) const PONG: u8 = 0x21;
    pub(crate) const STREAM_CREDIT: u8 = 0x28;
    pub(crate) const STREAM_ITEM: u8 = 0x29;
    pub(crate) const STREAM_END: u8 = 0x2A;
    pub(crate) const STREAM_STOP: u8 = 0x2B;
    pub(crate) const NAMES: u8 = 0x30;
    pub(crate) const MEMBERS: u8 = 0x31;
    pub(crate) const GOODBYE: u8 = 0x3F;
}

/// The features that a peer may have: credit and pieces, and streams besides.
pub(crate) mod feature {
    pub(crate) const FLOW: u64 = 1;
    pub(crate) const ALL: u64 = 3;
    /// Four connections, where the other side wants so many.
    pub(crate) const FOUR: u64 = 1 << 2 | 1 << 3;
}

/// The end of `future`, or a failed test.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("this never happened: {what}"),
    }
}

/// The first refusal among a node's events, in words.
pub(crate) async fn refusal(events: &mut skyhold::Events) -> String {
    soon("a refusal among the events", async {
        loop {
            if let Event::PeerRefused { reason, .. } = events.next().await.expect("the node lives") {
                return reason;
            }
        }
    })
    .await
}

/// Ends when the node is connected with that many peers.
pub(crate) async fn has_peers(node: &Node, count: usize) {
    let mut events = node.events();
    let all = async {
        while node.peers().len() < count {
            events.next().await;
        }
    };
    soon("enough peers", all).await;
}

/// The fields of a frame that is being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(pub(crate) Vec<u8>);

impl Fields {
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn string(self, text: &str) -> Self {
        self.u16(u16::try_from(text.len()).unwrap()).bytes(text.as_bytes())
    }

    /// All bytes of the frame.
    pub(crate) fn frame(self, kind: u8) -> Vec<u8> {
        let length = u32::try_from(self.0.len() + 1).unwrap();
        Fields::default().u32(length).u8(kind).bytes(&self.0).0
    }
}

/// A frame that came.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    /// All bytes of it, the length included.
    pub(crate) whole: Vec<u8>,
}

impl Frame {
    /// The fields, to be read from the front.
    pub(crate) fn fields(&self) -> Reader<'_> {
        Reader(&self.whole[5..])
    }

    /// The text of a `Refuse`, behind its reason.
    pub(crate) fn refusal(&self) -> (u8, String) {
        assert_eq!(self.kind, kind::REFUSE, "{self:?}");
        let mut fields = self.fields();
        (fields.u8(), fields.string())
    }
}

/// Reads fields from the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().expect("the frame has this field");
        self.0 = rest;
        *head
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    pub(crate) fn string(&mut self) -> String {
        let length = usize::from(self.u16());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).unwrap()
    }
}

/// What a peer by hand says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    pub(crate) versions: (u16, u16),
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) incarnation: u64,
    pub(crate) max_frame: u32,
    pub(crate) nonce: [u8; 32],
    pub(crate) secret: Option<Vec<u8>>,
    pub(crate) features: u64,
    /// What stands behind the known fields.
    pub(crate) later: Vec<u8>,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            versions: (1, 1),
            cluster: "default".into(),
            node: "raw".into(),
            incarnation: 1,
            max_frame: 1 << 20,
            nonce: [7; 32],
            secret: None,
            features: 0,
            later: Vec::new(),
        }
    }
}

impl Hello {
    pub(crate) fn frame(&self) -> Vec<u8> {
        Fields::default()
            .bytes(b"SKYHOLD\0")
            .u16(self.versions.0)
            .u16(self.versions.1)
            .u64(self.features)
            .u8(u8::from(self.secret.is_some()))
            .string(&self.cluster)
            .string(&self.node)
            .u64(self.incarnation)
            .u8(0)
            .u32(self.max_frame)
            .bytes(&self.nonce)
            .bytes(&self.later)
            .frame(kind::HELLO)
    }

    fn mac(&self, label: &[u8], frames: &[&[u8]]) -> [u8; 32] {
        let Some(secret) = &self.secret else { return [0; 32] };
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(label);
        frames.iter().for_each(|frame| mac.update(frame));
        mac.finalize().into_bytes().into()
    }

    /// The dialler's proof for a challenge.
    pub(crate) fn proof(&self, challenge: &Frame) -> Vec<u8> {
        let mac = self.mac(b"skyhold dialler proof\0", &[&self.frame(), &challenge.whole]);
        Fields::default().bytes(&mac).frame(kind::PROOF)
    }

    /// Checks the acceptor's proof.
    fn check_welcome(&self, challenge: &Frame, proof: &[u8], welcome: &Frame) {
        let mut without = welcome.whole.clone();
        let place = without.len() - 32;
        without[place..].fill(0);
        let frames = [&self.frame()[..], &challenge.whole, proof, &without];
        assert_eq!(
            self.mac(b"skyhold acceptor proof\0", &frames),
            welcome.whole[place..],
            "the welcome's proof"
        );
    }
}

/// One end of a connection, by hand.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// A connection on which nothing was said yet.
    pub(crate) async fn connect(to: &Node) -> Self {
        Self::connect_to(to.address().expect("the node listens")).await
    }

    /// As [`Raw::connect`], to an address.
    pub(crate) async fn connect_to(address: SocketAddr) -> Self {
        Self::on(soon("a connection", TcpStream::connect(address)).await.unwrap())
    }

    /// Where a node may connect to a peer by hand.
    pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// The next connection that a node makes.
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        Self::on(soon("a connection to accept", listener.accept()).await.unwrap().0)
    }

    fn on(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// A peer of the node, after the whole handshake.
    pub(crate) async fn join(to: &Node, hello: &Hello) -> Self {
        let mut raw = Self::connect(to).await;
        raw.greet(hello).await;
        raw
    }

    /// The whole handshake, as the dialler. Gives the challenge's nonce.
    pub(crate) async fn greet(&mut self, hello: &Hello) -> [u8; 32] {
        self.write(&hello.frame()).await;
        let challenge = self.expect(kind::CHALLENGE).await;
        let proof = hello.proof(&challenge);
        self.write(&proof).await;
        let welcome = self.expect(kind::WELCOME).await;
        hello.check_welcome(&challenge, &proof, &welcome);
        let nonce = challenge.whole.last_chunk().expect("a challenge ends with its nonce");
        *nonce
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        soon("room for bytes", self.stream.write_all(bytes)).await.unwrap();
    }

    /// Writes as long as the other side takes bytes: who is refused may be cut off half-way.
    pub(crate) async fn write_what_is_taken(&mut self, bytes: &[u8]) {
        drop(soon("room for bytes or an end", self.stream.write_all(bytes)).await);
    }

    /// The next frame; `None` at the stream's end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        soon("a frame or the stream's end", async {
            loop {
                if let Some(frame) = self.buffered() {
                    return Some(frame);
                }
                // A reset is an end too: who is refused may have sent more than was read.
                if !self.stream.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0) {
                    return None;
                }
            }
        })
        .await
    }

    fn buffered(&mut self) -> Option<Frame> {
        let length = u32::from_le_bytes(*self.buffer.first_chunk()?) as usize;
        if self.buffer.len() < 4 + length {
            return None;
        }
        let rest = self.buffer.split_off(4 + length);
        let whole = std::mem::replace(&mut self.buffer, rest);
        Some(Frame { kind: whole[4], whole })
    }

    /// The next frame, which must be of this kind.
    pub(crate) async fn expect(&mut self, kind: u8) -> Frame {
        let frame = self.next().await;
        match frame {
            Some(frame) if frame.kind == kind => frame,
            other => panic!("a frame of kind {kind:#x} was expected, not {other:?}"),
        }
    }

    /// The next frame of this kind; what comes before it is passed over.
    pub(crate) async fn until(&mut self, kind: u8) -> Frame {
        loop {
            match self.next().await {
                Some(frame) if frame.kind == kind => return frame,
                Some(_) => {}
                None => panic!("the stream ended before a frame of kind {kind:#x}"),
            }
        }
    }

    /// Everything until the stream's end: the other side closes it.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// Shows that the node is still there and still reads: a ping gets its pong. Gives the frames before it.
    pub(crate) async fn is_served(&mut self) -> Vec<Frame> {
        const TOKEN: u64 = 0x0123_4567_89AB_CDEF;
        self.write(&Fields::default().u64(TOKEN).frame(kind::PING)).await;
        let mut before = Vec::new();
        loop {
            match self.next().await {
                Some(frame) if frame.kind == kind::PONG => {
                    assert_eq!(frame.fields().u64(), TOKEN);
                    return before;
                }
                Some(frame) => before.push(frame),
                None => {
                    panic!("the node closed the connection instead of answering a ping; before: {before:?}")
                }
            }
        }
    }
}
