//! The streams of one connection: those that this side makes, and those that it reads.
//!
//! A stream is written into a message as its number. Nothing of it is sent before whoever reads the message has taken it
//! up, by granting credit; what nobody takes up is given up after a while.
//!
//! Invariant: of a stream there is one maker and one reader, and whichever ends first, the other is told once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::error::CallError;
use crate::id::StreamId;
use crate::proto::flow::{Account, Amount, Intake};
use crate::proto::frame::{self, Frame, PutError};

use super::{Encode, Link, State};

/// What makes the items of a stream that was written into a message.
pub(crate) trait Source: Send {
    /// Runs the stream to its end, over that connection and under that number.
    fn run(self: Box<Self>, link: Arc<Link>, stream: StreamId) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A stream that was written into a message which is not handed over yet.
pub(super) type Given = (StreamId, Box<dyn Source>);

/// What whoever writes a message has to know of the streams that its connection makes.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    next: AtomicU64,
    /// How many are made now.
    made: AtomicUsize,
    most: usize,
}

impl Numbers {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { next: AtomicU64::new(1), made: AtomicUsize::new(0), most })
    }
}

/// Why a stream is not written into a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotGiven {
    /// No message is being written, or one whose receiver has no streams.
    #[error(
        "a stream is written into a call, a send or a reply to a node that has streams too, and nowhere else"
    )]
    Elsewhere,
    /// There are as many as may be.
    #[error("as many streams are made for that node as `limits.streams` allows")]
    Full,
}

thread_local! {
    /// The numbers of the connection for which this thread has written last. Kept, so that the next message costs a
    /// comparison.
    static NUMBERS: RefCell<Arc<Numbers>> = RefCell::new(Arc::default());
    /// Whether it writes for it now.
    static WRITES: Cell<bool> = const { Cell::new(false) };
    /// The streams in the message that is being written.
    static GIVEN: RefCell<Vec<Given>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f`, which writes a message for a connection. Gives the streams in it.
#[inline]
pub(super) fn writing<T>(numbers: &Arc<Numbers>, f: impl FnOnce() -> T) -> (T, Vec<Given>) {
    /// Puts it back as it was, also in an unwind.
    struct Leave(bool);
    impl Drop for Leave {
        fn drop(&mut self) {
            WRITES.set(self.0);
            if !std::thread::panicking() {
                return;
            }
            drop(GIVEN.take());
        }
    }
    NUMBERS.with_borrow_mut(|known| {
        if !Arc::ptr_eq(known, numbers) {
            *known = Arc::clone(numbers);
        }
    });
    let leave = Leave(WRITES.replace(true));
    let result = f();
    drop(leave);
    let given = if GIVEN.with_borrow(Vec::is_empty) { Vec::new() } else { GIVEN.take() };
    (result, given)
}

/// Writes a stream into the message that this thread writes: gives its number.
pub(crate) fn give(source: Box<dyn Source>) -> Result<StreamId, NotGiven> {
    if !WRITES.get() {
        return Err(NotGiven::Elsewhere);
    }
    GIVEN.with_borrow_mut(|given| {
        NUMBERS.with_borrow(|numbers| {
            if numbers.made.load(Ordering::Relaxed) + given.len() >= numbers.most {
                return Err(NotGiven::Full);
            }
            let stream = StreamId(numbers.next.fetch_add(1, Ordering::Relaxed));
            given.push((stream, source));
            Ok(stream)
        })
    })
}

/// The streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    makers: BTreeMap<StreamId, Maker>,
    numbers: Arc<Numbers>,
    /// An ordered tree, because its keys are the peer's to choose.
    readers: BTreeMap<StreamId, Reader>,
    /// Makers that wait for room on the connection.
    wait_for_room: Vec<Waker>,
}

/// A stream that this side makes.
#[derive(Debug)]
struct Maker {
    /// Nothing may be sent before the reader has said so.
    account: Account,
    waker: Option<Waker>,
}

/// A stream that this side reads.
#[derive(Debug)]
struct Reader {
    intake: Intake,
    items: Arc<Items>,
    /// Whether nothing more comes. It stays for what has come.
    has_ended: bool,
}

/// What has come of a stream and was not read.
#[derive(Debug, Default)]
pub(crate) struct Items {
    state: Mutex<Arrived>,
}

/// Guards the items on their way to their reader.
#[derive(Debug, Default)]
struct Arrived {
    items: VecDeque<Bytes>,
    /// Once it has ended: in order, or why not.
    end: Option<Result<(), CallError>>,
    waker: Option<Waker>,
}

/// What comes next of a stream.
#[derive(Debug)]
pub(crate) enum Next {
    Item(Bytes),
    /// In order, or why not.
    End(Result<(), CallError>),
}

impl Items {
    /// The next item, or the end, which stays.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Next> {
        let mut state = self.state();
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(Next::Item(item));
        }
        if let Some(end) = &state.end {
            return Poll::Ready(Next::End(end.clone()));
        }
        let before = state.waker.replace(cx.waker().clone());
        drop(state);
        drop(before); // outside the lock
        Poll::Pending
    }

    fn push(&self, item: Bytes) {
        let mut state = self.state();
        // An item keeps the buffer in which it has come, which may be much longer: few do so where nobody reads.
        let is_kept = state.items.len() < AS_THEY_CAME || item.len() >= LONG;
        state.items.push_back(if is_kept { item } else { Bytes::copy_from_slice(&item) });
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn end(&self, end: Result<(), CallError>) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, Arrived> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many items of a stream wait as they came.
const AS_THEY_CAME: usize = 16;

/// From how many bytes on an item always does: the buffer is only a few times as long.
const LONG: usize = 16 * 1024;

/// Why nothing more may be sent of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unread;

impl Streams {
    pub(super) fn new(numbers: Arc<Numbers>) -> Self {
        Self { numbers, ..Self::default() }
    }

    /// Notes the streams in a message that is handed over.
    pub(super) fn add(&mut self, given: &[Given]) {
        for (stream, _) in given {
            let account = Account::new(Amount::default());
            self.makers.insert(*stream, Maker { account, waker: None });
        }
        self.count();
    }

    fn remove_maker(&mut self, stream: StreamId) -> Option<Maker> {
        let removed = self.makers.remove(&stream);
        self.count();
        removed
    }

    /// Tells those who write messages how many are made. Another thread may write one meanwhile: then there are a few more.
    fn count(&self) {
        self.numbers.made.store(self.makers.len(), Ordering::Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.makers.is_empty() && self.readers.is_empty()
    }

    pub(super) fn room(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wait_for_room)
    }
}

#[cfg(any(test, fuzzing))]
impl Streams {
    pub(super) fn read(&self) -> usize {
        self.readers.len()
    }
}

/// The makers' side.
impl Link {
    /// Begins to make the streams of a message that was handed over.
    pub(super) fn begin_streams(&self, given: Vec<Given>) {
        for (stream, source) in given {
            if let Some(link) = self.me.upgrade() {
                (self.spawn)(source.run(link, stream));
            }
        }
    }

    /// Ready when an item may be sent: there is credit, and room. With the error when nobody reads the stream any more.
    pub(crate) fn poll_stream_credit(&self, stream: StreamId, cx: &Context<'_>) -> Poll<Result<(), Unread>> {
        let mut state = self.state();
        let is_full = state.lanes.calls_len() >= self.limits.send_buffer
            || state.lanes.bulk_len() >= self.limits.long_send_buffer;
        let State { streams, is_room_awaited, .. } = &mut *state;
        let Some(maker) = streams.makers.get_mut(&stream).filter(|_| self.is_open()) else {
            return Poll::Ready(Err(Unread));
        };
        if !maker.account.has_credit() {
            maker.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if is_full {
            (is_room_awaited.calls, is_room_awaited.bulk) = (true, true);
            streams.wait_for_room.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when nobody reads the stream any more.
    pub(crate) fn poll_unread(&self, stream: StreamId, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        let Some(maker) = state.streams.makers.get_mut(&stream).filter(|_| self.is_open()) else {
            return Poll::Ready(());
        };
        let before = maker.waker.replace(cx.waker().clone());
        drop(state);
        drop(before); // outside the lock
        Poll::Pending
    }

    /// Sends an item, for which there was credit.
    ///
    /// # Errors
    /// It does not encode, or is too large; nothing was sent.
    pub(crate) fn send_item(&self, stream: StreamId, payload: Encode<'_>) -> Result<(), PutError> {
        let mut state = self.state();
        let (put, given) = self.writing(|| {
            state.lanes.put_item(stream, |out| frame::put_item(out, stream, self.whole(), payload))
        });
        match put {
            Ok(bytes) => {
                state.spend_on_stream(stream, bytes);
                state.streams.add(&given);
                self.added(state);
                self.begin_streams(given);
                return Ok(());
            }
            Err(PutError::TooLarge { .. }) => {}
            Err(error) => return Err(error),
        }
        drop(state);
        drop(given);
        // Not under the lock: it takes as long as it is.
        let (long, given) = self.writing(|| frame::long_item(stream, self.limit, payload));
        let (message, bytes) = long?;
        let mut state = self.state();
        state.lanes.put_long_item(stream, message);
        state.spend_on_stream(stream, bytes);
        state.streams.add(&given);
        self.added(state);
        self.begin_streams(given);
        Ok(())
    }

    /// The stream has ended: its reader is told, behind the items, if it reads still.
    pub(crate) fn end_stream(&self, stream: StreamId, error: Option<CallError>) {
        let mut state = self.state();
        if state.streams.remove_maker(stream).is_some() && self.is_open() {
            state.lanes.put_behind_items(stream, &Frame::StreamEnd { stream, error });
            self.added(state);
        }
    }

    /// The reader grants credit. A stream that is not made any more has ended, as its reader is told again.
    pub(crate) fn stream_credit(&self, stream: StreamId, totals: Amount) {
        let mut state = self.state();
        let Some(maker) = state.streams.makers.get_mut(&stream) else {
            // It may have ended before it was taken up.
            let error = Some(CallError::NoReply("the stream has ended, or was dropped".into()));
            state.lanes.put_behind_items(stream, &Frame::StreamEnd { stream, error });
            return self.added(state);
        };
        maker.account.grant(totals);
        let waker = maker.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Nobody reads the stream any more.
    pub(crate) fn stream_stop(&self, stream: StreamId) {
        let mut state = self.state();
        let stopped = state.streams.remove_maker(stream);
        state.lanes.drop_stream(stream);
        drop(state);
        stopped.and_then(|maker| maker.waker).into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn spend_on_stream(&mut self, stream: StreamId, bytes: usize) {
        if let Some(maker) = self.streams.makers.get_mut(&stream) {
            maker.account.spend(bytes);
        }
    }
}

/// The readers' side.
impl Link {
    /// Takes up a stream of the peer, whose number was in a message.
    pub(crate) fn read_stream(&self, stream: StreamId) -> Arc<Items> {
        let items = Arc::new(Items::default());
        let mut state = self.state();
        let node = &self.peer.node;
        if !self.is_open() {
            let detail = format!("the connection to {node} ended before the stream was read");
            items.end(Err(CallError::Disconnected(detail.into())));
            return items;
        }
        if state.streams.readers.contains_key(&stream) {
            items.end(Err(CallError::BadReply(format!("{node} sent stream {stream} twice").into())));
            return items;
        }
        if state.streams.readers.len() >= self.limits.streams {
            state.lanes.put_control(&Frame::StreamStop { stream });
            self.added(state);
            let detail = format!("as many streams of {node} are read as `limits.streams` allows");
            items.end(Err(CallError::Overloaded(detail.into())));
            return items;
        }
        let window =
            Amount { messages: self.limits.stream_items as u64, bytes: self.limits.stream_bytes as u64 };
        let intake = Intake::new(window);
        let totals = intake.granted();
        state.streams.readers.insert(stream, Reader { intake, items: Arc::clone(&items), has_ended: false });
        state.lanes.put_control(&Frame::StreamCredit { stream, totals });
        self.added(state);
        items
    }

    /// An item was read: its maker may send another.
    pub(crate) fn item_read(&self, stream: StreamId, bytes: usize, items: &Arc<Items>) {
        let mut state = self.state();
        let reader = state.streams.readers.get_mut(&stream).filter(|reader| !reader.has_ended);
        let reader = reader.filter(|reader| Arc::ptr_eq(&reader.items, items));
        let totals = reader.and_then(|reader| reader.intake.consume(bytes));
        if let Some(totals) = totals
            && self.is_open()
        {
            state.lanes.put_control(&Frame::StreamCredit { stream, totals });
            self.added(state);
        }
    }

    /// Nobody reads a stream any more: its maker is told, unless it has ended.
    pub(crate) fn stop_reading(&self, stream: StreamId, items: &Arc<Items>) {
        let mut state = self.state();
        // A peer may send a number twice, and the stream is the first one's.
        let reader = state.streams.readers.get(&stream);
        let Some(reader) = reader.filter(|reader| Arc::ptr_eq(&reader.items, items)) else { return };
        let has_ended = reader.has_ended;
        state.streams.readers.remove(&stream);
        if !has_ended && self.is_open() {
            state.lanes.put_control(&Frame::StreamStop { stream });
            self.added(state);
        }
    }

    /// An item has come. `false` if the peer had no credit for it. Of a stream that nobody reads it is passed over.
    pub(crate) fn stream_item(&self, stream: StreamId, payload: Bytes) -> bool {
        let mut state = self.state();
        let reader = state.streams.readers.get_mut(&stream).filter(|reader| !reader.has_ended);
        let Some(reader) = reader else { return true };
        let had_credit = reader.intake.arrive(payload.len());
        let items = Arc::clone(&reader.items);
        drop(state);
        if had_credit {
            items.push(payload);
        }
        had_credit
    }

    /// A stream has ended.
    pub(crate) fn stream_end(&self, stream: StreamId, error: Option<CallError>) {
        let mut state = self.state();
        let Some(reader) = state.streams.readers.get_mut(&stream) else { return };
        reader.has_ended = true;
        let items = Arc::clone(&reader.items);
        drop(state);
        items.end(error.map_or(Ok(()), Err));
    }
}

/// The end of the connection, for its streams.
pub(super) struct Ended {
    makers: Vec<Waker>,
    readers: Vec<Arc<Items>>,
}

impl Streams {
    /// Nothing more is made and nothing more comes.
    pub(super) fn close(&mut self) -> Ended {
        let Self { makers, readers, wait_for_room, .. } = std::mem::take(self);
        let makers = makers.into_values().filter_map(|maker| maker.waker).chain(wait_for_room);
        Ended {
            makers: makers.collect(),
            readers: readers.into_values().map(|reader| reader.items).collect(),
        }
    }
}

impl Ended {
    /// Tells both sides. Not under the lock.
    pub(super) fn tell(self, error: impl Fn() -> CallError) {
        self.makers.into_iter().for_each(Waker::wake);
        for items in self.readers {
            items.end(Err(error()));
        }
    }
}

impl fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_items_that_nobody_reads_do_not_keep_the_buffers_in_which_they_came() {
        let (items, whole) = (Items::default(), Bytes::from(vec![7; 64 * 1024]));
        let came = [vec![whole.slice(..10); 100], vec![whole.slice(..LONG)]].concat();
        came.iter().cloned().for_each(|item| items.push(item));
        let (mut parts, mut taken) = (0, Vec::new());
        while let Poll::Ready(Next::Item(item)) = items.poll_next(&Context::from_waker(Waker::noop())) {
            parts += usize::from(item.as_ptr() == whole.as_ptr());
            taken.push(item);
        }
        assert_eq!(taken, came, "all of them, in order");
        assert_eq!(parts, AS_THEY_CAME + 1, "the first ones, and the long one");
    }
}
