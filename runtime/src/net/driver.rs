//! The driver of one connection: the task that owns its socket and its protocol state.
//!
//! What callers and handlers encoded into the link is swapped out and written in one system call; what arrives is
//! decoded in batches. Reading never stops because writing is stuck: both stand in one `select!`.
//!
//! Invariant: it waits for the socket, for its timer and for the peers' task, and only *tries* a mailbox.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use futures_util::Stream as _;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::error::CallError;
use crate::event::StopReason;
use crate::net::ends::Ends;
use crate::net::framing::{self, Frames, Next, ReadError};
use crate::net::gate::Place;
use crate::net::io::Stream;
use crate::net::news::{Dialled, News, Order, Ticket};
use crate::port::{Inbox, Intake, Link, Released, Spawn};
use crate::proto::connection::{CloseReason, Connection, Event};
use crate::proto::frame::{Begun, Refuse, RefuseReason, Request};
use crate::proto::inbound::Insert;
use crate::proto::outgoing::Outgoing;
use crate::proto::settings::PeerIdentity;
use crate::proto::watch::Watch;
use crate::time;

/// The most frames that are taken in before what they caused is written.
const BATCH: usize = 256;

/// The most bytes of long messages that are taken in before what waits is written, and that are read and written before others
/// have their turn on this thread: a socket may take and give without end.
const LONG_BATCH: usize = 64 * 1024;

/// How long a closing connection may take to write what is left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often the driver looks which instances have ended.
const SWEEP: Duration = Duration::from_secs(10);

/// How long a retired connection stays after its last request, for one that is still on the wire.
const RETIREMENT: Duration = Duration::from_millis(500);

/// The same, as long as the peer may still use it because it does not know of the other one.
const LATE_RETIREMENT: Duration = Duration::from_secs(5);

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
    address: String,
    orders: mpsc::Receiver<Order>,
    /// For the peers' task, which keeps it as long as the connection is the peer's.
    ordering: Option<mpsc::Sender<Order>>,
    admission: Option<oneshot::Receiver<Result<(), Refuse>>>,
    timer: Pin<Box<Sleep>>,
    /// Once it was told to close: why, and when it does so whatever is left to write.
    closing: Option<(String, Instant)>,
    /// When the instances to which the peer has sent something were last looked at.
    swept: Instant,
    /// Once another connection took this one's place.
    retirement: Option<Retirement>,
    /// Held until the end, where a peer has dialled.
    place: Option<Place>,
    surroundings: Surroundings,
}

/// How a connection whose place another one took comes to its end.
struct Retirement {
    /// Between two looks at whether anything is under way. After two at which nothing was it closes.
    pause: Duration,
    look_at: Instant,
    was_idle: bool,
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
            writer: stream.writer,
            is_flushed: true,
            out: Outgoing::default(),
            released: Released::default(),
            link: None,
            candidate: None,
            dialled,
            address: stream.peer.to_string(),
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
            Wake::Read(Ok(_)) | Wake::Wrote(Ok(_)) | Wake::Outgoing => {}
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
            Wake::Timer => {
                self.connection.handle_timeout(now);
                self.retire(now);
                self.sweep(now);
            }
        }
    }

    /// Hands on what the protocol has to tell; gives the reason when it is over.
    async fn handle_events(&mut self) -> Option<CloseReason> {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Request(request) => self.request(request),
                Event::Reply { id, payload } => {
                    if let Some(link) = &self.link {
                        link.answered(id, Ok(payload));
                    }
                }
                Event::Failure { id, error } => {
                    if let Some(link) = &self.link {
                        link.answered(id, Err(error));
                    }
                }
                Event::Cancel { id } => {
                    if let Some(link) = &self.link {
                        link.cancel_inbound(id);
                    }
                }
                Event::Watch(watch) => self.watch(watch),
                Event::Unwatch { id, reason } => self.unwatch(id, reason),
                Event::Down { id, reason } => {
                    if let Some(link) = &self.link {
                        link.watched_ended(id, reason);
                    }
                }
                Event::Window(window) => {
                    if let Some(link) = &self.link {
                        link.set_window(window);
                    }
                }
                Event::Credit { instance, totals } => {
                    if let Some(link) = &self.link {
                        link.grant(instance, totals);
                    }
                }
                Event::Gone { instance } => {
                    if let Some(link) = &self.link {
                        link.gone(instance);
                    }
                }
                Event::StreamCredit { stream, totals } => {
                    if let Some(link) = &self.link {
                        link.stream_credit(stream, totals);
                    }
                }
                Event::StreamItem { stream, payload } => {
                    if let Some(link) = &self.link
                        && !link.stream_item(stream, payload)
                    {
                        let text = format!("an item of stream {stream} beyond its credit");
                        self.connection.close(time::now(), &text);
                    }
                }
                Event::StreamEnd { stream, error } => {
                    if let Some(link) = &self.link {
                        link.stream_end(stream, error);
                    }
                }
                Event::StreamStop { stream } => {
                    if let Some(link) = &self.link {
                        link.stream_stop(stream);
                    }
                }
                Event::Taken { bytes } => {
                    if let Some(link) = &self.link {
                        link.pieces_taken(bytes, time::now());
                    }
                }
                Event::Admit(peer) => self.ask_for_admission(peer).await,
                Event::Established(peer) => self.establish(&peer).await,
                Event::Names(names) => self.tell(|link| News::Names(link, names)).await,
                Event::Described(all) => self.tell(|link| News::Described(link, all)).await,
                Event::Members(members) => self.tell(|link| News::Members(link, members)).await,
                Event::Gossip { bytes } => self.tell(|link| News::Gossip(link, bytes)).await,
                Event::NamesSync { token } => self.tell(|link| News::NamesSync(link, token)).await,
                Event::NamesSynced { token } => self.tell(|link| News::NamesSynced(link, token)).await,
                Event::Goodbye { .. } => {}
                Event::Closed(reason) => return Some(reason),
            }
        }
        None
    }

    fn request(&mut self, request: Request) {
        let Some(link) = &self.link else { return };
        let (id, instance, bytes) = (request.head.id, request.head.instance, request.payload.len());
        let is_counted = !request.head.is_ahead;
        let begun = if request.head.wants_reply { link.begin_inbound(id, instance) } else { Insert::New };
        let intake = match begun {
            Insert::New => self.surroundings.inbox.request(link, request),
            Insert::Duplicate => {
                return self.connection.close(time::now(), &format!("request {id} was sent twice"));
            }
            Insert::Full => {
                let detail = "as many requests of this connection are under way as may be";
                link.refuse(id, instance, &CallError::Overloaded(detail.into()));
                Intake::Done
            }
        };
        match intake {
            Intake::Done if is_counted => self.connection.consumed(instance, bytes),
            Intake::Done | Intake::Waits => {}
            Intake::Gone => self.connection.gone(instance),
        }
    }

    fn watch(&mut self, watch: Watch) {
        let Some(link) = &self.link else { return };
        match link.begin_watch(watch) {
            Insert::New => self.surroundings.inbox.watch(link, watch),
            Insert::Duplicate => {
                self.connection.close(time::now(), &format!("watch {} was sent twice", watch.id));
            }
            Insert::Full => link.refuse_watch(watch.id),
        }
    }

    fn unwatch(&mut self, id: u64, reason: Option<StopReason>) {
        let Some(link) = &self.link else { return };
        if let Some(watch) = link.end_watch(id) {
            self.surroundings.inbox.unwatch(link, watch, reason.filter(|_| watch.linked.is_some()));
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
        let ticket = self.ticket(&link, peer.dial);
        self.candidate = Some(link);
        self.admission = Some(decided);
        if let Some(ticket) = ticket {
            self.news(News::Admit(ticket, decision)).await;
        }
    }

    async fn establish(&mut self, peer: &PeerIdentity) {
        if let Some(admitted) = self.candidate.take() {
            self.link = Some(admitted); // the peers' task knows it already
            return;
        }
        let link = self.new_link(peer);
        let ticket = self.ticket(&link, peer.dial);
        self.link = Some(link);
        if let Some(ticket) = ticket {
            self.news(News::Up(ticket)).await;
        }
    }

    fn new_link(&self, peer: &PeerIdentity) -> Arc<Link> {
        Link::new(peer, self.connection.limits(), Arc::clone(&self.surroundings.spawn))
    }

    fn ticket(&mut self, link: &Arc<Link>, number: u64) -> Option<Ticket> {
        let orders = self.ordering.take()?;
        Some(Ticket { link: Arc::clone(link), orders, dialled: self.dialled.clone(), number })
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
            self.out.append(|last| frame.encode(last));
        }
    }

    /// Closes when all that waits was written, or after a while.
    fn close(&mut self, now: Instant, reason: String) {
        if self.link.is_none() {
            return self.connection.close(now, &reason);
        }
        self.closing.get_or_insert((reason, now + LAST_WORDS));
        self.timer.as_mut().reset((now + LAST_WORDS).into());
    }

    fn closes_now(&mut self) -> bool {
        let (Some((reason, deadline)), Some(link)) = (&self.closing, &self.link) else { return false };
        let now = time::now();
        if now < *deadline && !(self.out.is_empty() && link.is_drained()) {
            return false;
        }
        self.connection.close(now, reason);
        self.closing = None;
        true
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

    /// Closes a connection whose place another one took, when nothing has been under way for a while: a request may
    /// still be on the wire. Who watches over it goes on doing so: the peer has not gone.
    fn retire(&mut self, now: Instant) {
        let Some(retirement) = self.retirement.as_mut().filter(|retirement| now >= retirement.look_at) else {
            return;
        };
        let is_idle = self.link.as_ref().is_none_or(|link| link.is_unused());
        if is_idle && retirement.was_idle {
            return self.connection.close(now, "another connection took its place");
        }
        retirement.was_idle = is_idle;
        retirement.look_at = now + retirement.pause;
    }

    async fn end(mut self, reason: CloseReason) {
        let text = reason.to_string();
        // What is under way is written to its end where the goodbye follows it, and counts as sent.
        let is_written = !matches!(reason, CloseReason::Ended(_) | CloseReason::Silent(_));
        for link in self.link.iter().chain(&self.candidate) {
            self.close_link(link, &text, (!is_written).then_some(&self.out));
        }
        self.fill_control();
        if is_written {
            let last_words = async {
                while self.out.has_remaining() {
                    self.writer.write_buf(&mut self.out).await?;
                }
                self.writer.shutdown().await
            };
            drop(time::timeout(LAST_WORDS, last_words).await); // nobody may be there to read them
        }
        self.surroundings.ends.count(&self.address, &reason);
        let link = self.link.take().or_else(|| self.candidate.take());
        let (dialled, address) = (self.dialled.clone(), self.address.clone());
        self.news(News::Down { link, dialled, address, reason }).await;
    }

    /// Ends the link, and lets the instances here forget who watched them over it.
    fn close_link(&self, link: &Arc<Link>, reason: &str, unsent: Option<&Outgoing>) {
        link.close(reason, unsent);
        for watch in link.end_watches(reason) {
            let reason = watch.linked.map(|_| StopReason::NodeDown(reason.to_owned()));
            self.surroundings.inbox.unwatch(link, watch, reason);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for link in self.link.iter().chain(&self.candidate) {
            self.close_link(link, "the node was cut off", Some(&self.out));
        }
    }
}

/// Both directions of the stream.
struct Io<'a> {
    frames: &'a mut Frames,
    connection: &'a mut Connection,
    piece_missing: &'a mut usize,
    writer: &'a mut (dyn AsyncWrite + Send + Unpin),
    is_flushed: &'a mut bool,
    out: &'a mut Outgoing,
}

impl Io<'_> {
    /// Reads or writes, whichever is possible.
    fn poll(&mut self, reads_first: bool, cx: &mut Context<'_>) -> Poll<Wake> {
        if !reads_first && let Poll::Ready(wake) = self.poll_write(cx) {
            return Poll::Ready(wake);
        }
        match poll_frames(self.frames, self.connection, self.piece_missing, cx) {
            Poll::Ready(Ok(Came { frames: 0, .. })) => Poll::Ready(Wake::Ended),
            Poll::Ready(read) => Poll::Ready(Wake::Read(read)),
            Poll::Pending if reads_first => self.poll_write(cx),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if self.out.is_empty() {
            if !*self.is_flushed
                && let Err(error) = ready!(Pin::new(&mut *self.writer).poll_flush(cx))
            {
                return Poll::Ready(Wake::Wrote(Err(error)));
            }
            *self.is_flushed = true;
            return Poll::Pending; // what comes wakes the driver
        }
        *self.is_flushed = false;
        poll_write_buf(Pin::new(&mut *self.writer), cx, self.out).map(Wake::Wrote)
    }
}

/// What has come: no frame at the end of the stream.
#[derive(Default)]
struct Came {
    frames: usize,
    /// How many bytes of them were pieces of long messages.
    long: usize,
}

/// Feeds the protocol with what has arrived.
fn poll_frames(
    frames: &mut Frames,
    connection: &mut Connection,
    piece_missing: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<Came, ReadError>> {
    let mut came = Came::default();
    let mut now = None;
    let had = frames.read_buffer().len();
    while came.frames < BATCH && came.long < LONG_BATCH {
        if *piece_missing > 0 {
            came.long += *piece_missing;
            match poll_piece(frames, connection, piece_missing, cx) {
                Poll::Ready(Ok(())) => {
                    came.frames += 1;
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending if came.frames > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        frames.decoder_mut().limit = connection.limit();
        frames.get_mut().expect_pieces(connection.has_pieces_to_come());
        match Pin::new(&mut *frames).poll_next(cx) {
            Poll::Ready(Some(Ok(Next::Frame(frame)))) => {
                connection.handle_frame(*now.get_or_insert_with(time::now), frame);
                came.frames += 1;
            }
            Poll::Ready(Some(Ok(Next::Piece(Begun { head, length, part, missing })))) => {
                connection.handle_piece_begin(*now.get_or_insert_with(time::now), head, length);
                if let Some(place) = connection.piece_bytes() {
                    place.extend_from_slice(&part);
                }
                *piece_missing = missing;
                came.frames += 1;
            }
            // What came before the error is dealt with first; the error comes again.
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) | Poll::Pending if came.frames > 0 => break,
            Poll::Ready(None) => return Poll::Ready(Ok(came)),
            Poll::Pending => {
                if frames.read_buffer().len() > had {
                    connection.handle_part(time::now());
                }
                return Poll::Pending;
            }
        }
    }
    Poll::Ready(Ok(came))
}

/// Reads bytes of a piece to where they go, as many as are there. Ready when the piece is whole.
fn poll_piece(
    frames: &mut Frames,
    connection: &mut Connection,
    missing: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while *missing > 0 {
        let stream = frames.get_mut().inner();
        let read = match connection.piece_bytes() {
            Some(place) => ready!(poll_read_buf(stream, cx, &mut place.limit(*missing)))?,
            // The protocol was broken: the connection ends, and nothing more is read.
            None => 0,
        };
        if read == 0 {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the stream ended inside a piece",
            )));
        }
        *missing -= read;
        connection.handle_part(time::now());
    }
    connection.handle_piece_end(time::now());
    Poll::Ready(Ok(()))
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

/// The decision of the peers' task; a refusal if that is gone.
async fn admission(waiting: &mut Option<oneshot::Receiver<Result<(), Refuse>>>) -> Result<(), Refuse> {
    let Some(receiver) = waiting else { return std::future::pending().await };
    let decision = receiver.await;
    *waiting = None;
    decision.unwrap_or_else(|_| Err(RefuseReason::ShuttingDown.into()))
}
