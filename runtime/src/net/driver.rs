//! The driver of one connection: the task that owns its socket and its protocol state.
//!
//! What callers and handlers encoded into the link is swapped out and written in one system call; what arrives is
//! decoded in batches. Reading never stops because writing is stuck: both stand in one `select!`.
//!
//! Invariant: it waits for the socket, for its timer and for the peers' task, and only *tries* a mailbox.

mod ending;
mod events;
mod socket;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use crate::net::ends::Ends;
use crate::net::framing::{self, Frames, ReadError};
use crate::net::gate::Place;
use crate::net::io::Stream;
use crate::net::news::{Dialled, News, Order, Ticket};
use crate::port::{Inbox, Link, NotJoined, Released, Spawn};
use crate::proto::connection::Connection;
use crate::proto::frame::{Refuse, RefuseReason};
use crate::proto::outgoing::Outgoing;
use crate::proto::settings::PeerIdentity;
use crate::time;

use ending::{Closing, LATE_RETIREMENT, RETIREMENT, Retirement};
use socket::{Came, Io};

/// The most bytes of long messages that are taken in before what waits is written, and that are read and written before others
/// have their turn on this thread: a socket may take and give without end.
const LONG_BATCH: usize = 64 * 1024;

/// How often the driver looks which instances have ended.
const SWEEP: Duration = Duration::from_secs(10);

/// What a driver shares with the rest of its node.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) inbox: Arc<dyn Inbox>,
    pub(crate) news: mpsc::Sender<News>,
    pub(crate) spawn: Spawn,
    pub(crate) ends: Arc<Ends>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

/// One connection, from the first byte to the last.
pub(crate) struct Driver {
    connection: Connection,
    frames: Frames,
    /// How much of the piece that comes is yet to come.
    piece_missing: usize,
    /// Whether the next round looks for what has come before it writes: reading and writing take turns.
    reads_first: bool,
    /// How many bytes were read and written since others last had their turn on this thread.
    moved: usize,
    /// How many frames were read, and how many the protocol said itself; how many bytes were written.
    frames_read: u64,
    own_frames: u64,
    written: u64,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether all that was written has left the writer: TLS may keep some.
    is_flushed: bool,
    /// Taken out of the link and not yet written.
    out: Outgoing,
    /// Taken out of the link and not yet told the connection. Empty between two turns.
    released: Released,
    /// The established connection, as callers and handlers see it.
    link: Option<Arc<Link>>,
    /// What becomes the link when the peer is admitted: nothing of it is written before the handshake is done.
    candidate: Option<Arc<Link>>,
    dialled: Dialled,
    /// The other end's address.
    at: SocketAddr,
    /// The first connection to the peer, beside which this node has dialled this one.
    first: Option<Arc<Link>>,
    /// Whether it is a further connection to its peer.
    is_extra: bool,
    orders: mpsc::Receiver<Order>,
    /// For the peers' task, which keeps it as long as the connection is the peer's.
    ordering: Option<mpsc::Sender<Order>>,
    admission: Option<oneshot::Receiver<Result<(), Refuse>>>,
    timer: Pin<Box<Sleep>>,
    /// Once it was told to close.
    closing: Option<Closing>,
    /// When the instances to which the peer has sent something were last looked at.
    swept: Instant,
    /// Once another connection took this one's place.
    retirement: Option<Retirement>,
    /// Held until the end, where a peer has dialled.
    place: Option<Place>,
    surroundings: Surroundings,
}

/// What woke the driver.
enum Wake {
    Read(Result<Came, ReadError>),
    Ended,
    Wrote(io::Result<usize>),
    Outgoing,
    Order(Order),
    Admitted(Result<(), Refuse>),
    Timer,
    /// Another connection of its group has ended.
    GroupOver,
}

impl Driver {
    pub(crate) fn new(
        stream: Stream,
        connection: Connection,
        dialled: Dialled,
        surroundings: Surroundings,
    ) -> Self {
        let (ordering, orders) = mpsc::channel(8);
        let first = connection.poll_timeout().unwrap_or_else(time::now);
        Self {
            connection,
            frames: framing::frames(stream.reader),
            piece_missing: 0,
            reads_first: true,
            moved: 0,
            frames_read: 0,
            own_frames: 0,
            written: 0,
            writer: stream.writer,
            is_flushed: true,
            out: Outgoing::default(),
            released: Released::default(),
            link: None,
            candidate: None,
            dialled,
            at: stream.peer,
            first: None,
            is_extra: false,
            orders,
            ordering: Some(ordering),
            admission: None,
            timer: Box::pin(time::sleep_until(first)),
            closing: None,
            swept: time::now(),
            retirement: None,
            place: None,
            surroundings,
        }
    }

    /// With the place that the listener has given it.
    pub(crate) fn in_place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// As a further connection to the peer whose first one this is.
    pub(crate) fn beside(mut self, first: Arc<Link>) -> Self {
        (self.first, self.is_extra) = (Some(first), true);
        self
    }

    /// Runs the connection to its end. Dropped before, it closes the link, so that whoever waits is answered.
    pub(crate) async fn run(mut self) {
        let closed = loop {
            if let Some(reason) = self.handle_events().await {
                break reason;
            }
            if self.link.as_ref().is_some_and(|link| link.is_overrun()) {
                self.connection.close(time::now(), "the peer does not read what it asks for");
                continue;
            }
            self.fill();
            if self.closes_now() {
                continue;
            }
            self.arm();
            let wake = self.wait().await;
            // Others who are about to call go first, so that their frames share the write; a lone caller has nobody to
            // wait for.
            if matches!(wake, Wake::Outgoing) && self.link.as_ref().is_some_and(|link| link.is_shared()) {
                back_of_the_queue().await;
            }
            self.handle(wake);
            if self.moved >= LONG_BATCH {
                self.moved = 0;
                back_of_the_queue().await;
            }
        };
        self.end(closed).await;
    }

    /// What has arrived, and who has waited long enough. One wake-up a round.
    async fn wait(&mut self) -> Wake {
        let writes = !self.out.is_empty();
        let link = self.link.as_ref();
        let is_grouped = link.is_some_and(|link| link.group_size() > 1);
        let mut io = Io {
            frames: &mut self.frames,
            connection: &mut self.connection,
            piece_missing: &mut self.piece_missing,
            writer: &mut *self.writer,
            is_flushed: &mut self.is_flushed,
            out: &mut self.out,
        };
        let reads_first = self.reads_first;
        let wake = tokio::select! {
            biased;
            Some(order) = self.orders.recv() => Wake::Order(order),
            wake = poll_fn(|cx| io.poll(reads_first, cx)) => wake,
            () = outgoing(link), if !writes => Wake::Outgoing,
            decision = admission(&mut self.admission), if self.admission.is_some() => Wake::Admitted(decision),
            () = self.timer.as_mut() => Wake::Timer,
            () = group_over(link), if is_grouped => Wake::GroupOver,
        };
        self.reads_first = !matches!(wake, Wake::Read(_));
        self.moved += match &wake {
            Wake::Read(Ok(came)) => came.long,
            Wake::Wrote(Ok(written)) => *written,
            _ => 0,
        };
        wake
    }

    fn handle(&mut self, wake: Wake) {
        let now = time::now();
        match wake {
            Wake::Wrote(Ok(0)) => {
                self.connection.handle_end(now, Some("the stream takes no more bytes".into()));
            }
            Wake::Read(Ok(came)) => {
                self.frames_read += came.frames as u64;
                self.count();
            }
            Wake::Wrote(Ok(written)) => {
                self.written += written as u64;
                self.count();
            }
            Wake::Outgoing => {}
            Wake::Read(Err(ReadError::Frame(error))) => self.connection.handle_error(now, &error),
            // Only TLS gives it. That one end does not accept the other's certificate comes with the first bytes.
            Wake::Read(Err(ReadError::Io(error))) if error.kind() == io::ErrorKind::InvalidData => {
                self.connection.handle_insecure(now, error.to_string());
            }
            Wake::Read(Err(ReadError::Io(error))) | Wake::Wrote(Err(error)) => {
                self.connection.handle_end(now, Some(error.to_string()));
            }
            Wake::Ended => self.connection.handle_end(now, None),
            Wake::Order(Order::Close(reason)) => self.close(now, reason),
            Wake::Order(Order::Probe) => self.connection.probe(now),
            Wake::Order(order @ (Order::Replaced | Order::Retire)) => {
                let is_known = matches!(order, Order::Retire);
                let pause = if is_known { RETIREMENT } else { LATE_RETIREMENT };
                self.retirement = Some(Retirement { pause, look_at: now, was_idle: false });
                self.retire(now);
            }
            Wake::Admitted(decision) => self.connection.admit(now, decision),
            Wake::GroupOver => self.group_over(now),
            Wake::Timer => {
                self.connection.handle_timeout(now);
                self.retire(now);
                self.sweep(now);
            }
        }
    }

    async fn ask_for_admission(&mut self, peer: PeerIdentity) {
        if let Some(place) = &mut self.place
            && !place.prove()
        {
            return self.connection.admit(time::now(), Err(RefuseReason::TooBusy.into()));
        }
        let link = self.new_link(&peer);
        let (decision, decided) = oneshot::channel();
        self.candidate = Some(Arc::clone(&link));
        self.admission = Some(decided);
        if let Some(extra) = peer.extra {
            self.is_extra = true;
            self.news(News::Join { link, extra, decision }).await;
        } else if let Some(ticket) = self.ticket(&link, &peer) {
            self.news(News::Admit(ticket, decision)).await;
        }
    }

    async fn establish(&mut self, peer: &PeerIdentity) {
        if let Some(admitted) = self.candidate.take() {
            self.link = Some(admitted); // the peers' task knows it already
            return;
        }
        let link = self.new_link(peer);
        self.link = Some(Arc::clone(&link));
        if let (Some(first), Some(extra)) = (self.first.take(), &peer.extra) {
            let is_same = first.peer() == link.peer();
            let joined = if is_same { first.join(&link, extra) } else { Err(NotJoined::Other) };
            match joined {
                Ok(()) => {}
                Err(error) => self.connection.handle_end(time::now(), Some(error.to_string())),
            }
            self.news(News::Joined(first)).await;
        } else if let Some(ticket) = self.ticket(&link, peer) {
            self.news(News::Up(ticket)).await;
        }
    }

    fn new_link(&self, peer: &PeerIdentity) -> Arc<Link> {
        let link = Link::new(peer, self.connection.limits(), Arc::clone(&self.surroundings.spawn));
        link.traffic().began(time::now());
        link
    }

    fn ticket(&mut self, link: &Arc<Link>, peer: &PeerIdentity) -> Option<Ticket> {
        let orders = self.ordering.take()?;
        let (link, dialled, at) = (Arc::clone(link), self.dialled.clone(), self.at);
        Some(Ticket { link, orders, dialled, number: peer.dial, at, challenge: peer.challenge })
    }

    async fn tell(&mut self, news: impl FnOnce(Arc<Link>) -> News) {
        if let Some(link) = self.link.clone() {
            self.news(news(link)).await;
        }
    }

    async fn news(&mut self, news: News) {
        drop(self.surroundings.news.send(news).await); // the node is gone: so is everybody who would know
    }

    /// Takes what waits to be written, the protocol's own frames first: a `Welcome` goes before any request.
    fn fill(&mut self) {
        if !self.out.is_empty() {
            return;
        }
        self.fill_control();
        let Some(link) = &self.link else { return };
        link.take_outgoing(&mut self.out, &mut self.released, time::now());
        if self.released.requests.is_empty() && self.released.gone.is_empty() {
            return;
        }
        for (instance, bytes) in self.released.requests.drain(..) {
            self.connection.consumed(instance, bytes);
        }
        for instance in self.released.gone.drain(..) {
            self.connection.gone(instance);
        }
        self.fill_control();
    }

    fn fill_control(&mut self) {
        while let Some(frame) = self.connection.poll_transmit() {
            self.own_frames += 1;
            self.out.append(|last| frame.encode(last));
        }
    }

    /// Shows how much went either way.
    fn count(&self) {
        if let Some(link) = &self.link {
            let read = self.frames.get_ref().read();
            link.traffic().count(read, self.frames_read, self.written, self.own_frames);
        }
    }

    /// Looks now and then which of the instances that the peer has sent something to have ended.
    fn sweep(&mut self, now: Instant) {
        if now < self.swept + SWEEP {
            return;
        }
        self.swept = now;
        let inbox = &self.surroundings.inbox;
        let gone: Vec<_> = self.connection.addressed().filter(|instance| !inbox.has(*instance)).collect();
        for instance in gone {
            self.connection.gone(instance);
        }
    }

    /// Sets the timer, if it is later than it should be. One that rings too early does no harm.
    fn arm(&mut self) {
        let look = self.retirement.as_ref().map(|retirement| retirement.look_at);
        let wanted = self.connection.poll_timeout().into_iter().chain(look).min();
        let rings = self.timer.deadline().into_std();
        if let Some(wanted) = wanted
            && (wanted < rings || self.timer.is_elapsed())
        {
            self.timer.as_mut().reset(wanted.into());
        }
    }
}

/// Goes once to the back of the run queue. The task that wakes a driver runs on the same worker, and tokio runs the task
/// that was woken last next; without this a driver writes after the first of many callers.
async fn back_of_the_queue() {
    let mut went = false;
    poll_fn(|cx| {
        if went {
            return Poll::Ready(());
        }
        went = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn outgoing(link: Option<&Arc<Link>>) {
    match link {
        Some(link) => link.outgoing().await,
        None => std::future::pending().await,
    }
}

async fn group_over(link: Option<&Arc<Link>>) {
    match link {
        Some(link) => link.group_over().await,
        None => std::future::pending().await,
    }
}

/// The decision of the peers' task; a refusal if that is gone.
async fn admission(waiting: &mut Option<oneshot::Receiver<Result<(), Refuse>>>) -> Result<(), Refuse> {
    let Some(receiver) = waiting else { return std::future::pending().await };
    let decision = receiver.await;
    *waiting = None;
    decision.unwrap_or_else(|_| Err(RefuseReason::ShuttingDown.into()))
}
