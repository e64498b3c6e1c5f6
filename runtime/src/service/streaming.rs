//! Streams in messages: how the items of one come to whoever reads it, here or on another node.
//!
//! A stream that stays in its process is polled by its reader. One that was written into a message stays where it was
//! made, and a task there sends its items as far as the reader has granted credit.
//!
//! Invariant: a stream ends in order, or with the reason for which it did not.

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::task::coop;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::error::CallError;
use crate::event::StopReason;
use crate::id::StreamId;
use crate::port::{self, Items, Link, Next, Source, Unread};
use crate::service::ambient;
use crate::service::context;
use crate::service::core::Core;
use crate::service::dispatch::panic_message;
use crate::service::host::Host;
use crate::service::message::Wire;
use crate::service::payload::{DecodeError, Decoder};
use crate::time;

/// A stream of values that comes from a service, or goes to one.
///
/// It is what a caller gets from a method that returns `impl Stream<Item = T>`, and what a method takes that is given a
/// stream; it may also stand inside of other arguments and replies. It is a stream of `Result<T, CallError>`: an error is
/// the last item, and without one the stream has ended in order.
///
/// ```
/// use futures_util::stream;
/// use skyhold::prelude::*;
///
/// struct Log {
///     lines: Vec<String>,
/// }
///
/// #[service]
/// impl Log {
///     /// The last `n` lines.
///     pub fn tail(&self, n: usize) -> impl Stream<Item = String> {
///         let from = self.lines.len().saturating_sub(n);
///         stream::iter(self.lines[from..].to_vec())
///     }
///
///     /// Appends lines as they come, and gives how many there are then.
///     pub async fn append(&mut self, mut lines: Streaming<String>) -> Result<usize, String> {
///         while let Some(line) = lines.next().await {
///             self.lines.push(line.map_err(|error| error.to_string())?);
///         }
///         Ok(self.lines.len())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("a").start().await?;
/// let log = node.spawn(Log { lines: Vec::new() });
/// let news = Streaming::new(stream::iter(["one", "two", "three"].map(String::from)));
/// assert_eq!(log.append(news).await?, Ok(3));
///
/// let mut lines = log.tail(2).await?;
/// assert_eq!(lines.next().await, Some(Ok("two".to_owned())));
/// assert_eq!(lines.next().await, Some(Ok("three".to_owned())));
/// assert_eq!(lines.next().await, None);
/// # Ok(())
/// # }
/// ```
///
/// # How it flows
/// Who reads decides how fast: in a process an item is made when it is asked for, and between nodes at most as many items
/// are made ahead as [`Limits::stream_credit`](crate::Limits::stream_credit) says. Dropping it drops the stream where that
/// is made. A stream between nodes that nobody has begun to take up within 60 s is dropped too.
///
/// # How it ends
/// A stream that a handler made ends with the life of the handler's instance: with [`CallError::NoReply`], unless it had
/// ended before. If it panics, the error is [`CallError::Panicked`], and that life ends with it. When the connection is lost
/// the error is [`CallError::Disconnected`]; items that were on their way are lost then, and nothing in front of them. An
/// item that does not encode or decode, or is too large, is [`CallError::BadReply`].
///
/// It has no deadline of its own, and neither has what it calls. Set a timeout around [`Streaming::next`] if there is to be
/// one.
pub struct Streaming<T> {
    /// Shared with what would carry it over a connection.
    place: Arc<Mutex<Place<T>>>,
}

/// Where the items come from.
enum Place<T> {
    Made(Made<T>),
    Read(Read<T>),
    /// It has ended, or a connection carries it.
    Over,
}

/// A stream that is made in this process.
struct Made<T> {
    stream: Pin<Box<dyn Stream<Item = T> + Send>>,
    /// The life of the instance whose handler made it, if one did.
    life: Option<Life>,
}

/// A life of an instance.
struct Life {
    core: Arc<Core>,
    number: u32,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// A stream that is made on another node.
struct Read<T> {
    link: Arc<Link>,
    host: Arc<Host>,
    stream: StreamId,
    items: Arc<Items>,
    decode: fn(&Bytes) -> Result<T, DecodeError>,
}

impl<T: Send + 'static> Streaming<T> {
    /// A stream for an argument, for a reply, or for a place inside of one. Made inside of a handler it ends with that life
    /// of the handler's instance.
    pub fn new<S: Stream<Item = T> + Send + 'static>(stream: S) -> Self {
        let life = context::current_instance().map(Life::present);
        Self { place: Arc::new(Mutex::new(Place::Made(Made { stream: Box::pin(stream), life }))) }
    }
}

impl<T> Streaming<T> {
    /// The next item; an error, after which nothing comes any more; or `None` at the end.
    ///
    /// # Cancel safety
    /// Cancel safe: no item is lost.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError>>> {
        // Who makes items on another thread must not keep this one's other tasks from their turn.
        let turn = ready!(coop::poll_proceed(cx));
        let mut place = lock(&self.place);
        let item = ready!(match &mut *place {
            Place::Made(made) => made.poll_next(cx),
            Place::Read(read) => read.poll_next(cx),
            Place::Over => Poll::Ready(None),
        });
        turn.made_progress();
        let ended = if matches!(item, Some(Ok(_))) {
            None
        } else {
            Some(std::mem::replace(&mut *place, Place::Over))
        };
        drop(place);
        forget(ended);
        Poll::Ready(item)
    }
}

impl<T> Stream for Streaming<T> {
    type Item = Result<T, CallError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl<T> Made<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError>>> {
        if let Some(life) = &mut self.life
            && life.over.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(life.ended())));
        }
        match catch_unwind(AssertUnwindSafe(|| self.stream.as_mut().poll_next(cx))) {
            Ok(item) => item.map(|item| item.map(Ok)),
            Err(panic) => {
                let message = panic_message(&*panic);
                let detail = format!("in a stream: {message}");
                if let Some(life) = &self.life {
                    life.core.fail(life.number, StopReason::Panicked(message));
                }
                Poll::Ready(Some(Err(CallError::Panicked(detail.into()))))
            }
        }
    }
}

impl Life {
    /// The present one.
    fn present(core: Arc<Core>) -> Self {
        let number = core.life_number();
        let over = Box::pin(core.life(number).cancelled_owned());
        Self { core, number, over }
    }

    fn ended(&self) -> CallError {
        let (service, address) = (self.core.service(), self.core.address());
        CallError::NoReply(format!("`{service}` at {address} ended before the stream that it made").into())
    }
}

impl<T> Read<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError>>> {
        let payload = match ready!(self.items.poll_next(cx)) {
            Next::Item(payload) => payload,
            Next::End(end) => return Poll::Ready(end.err().map(Err)),
        };
        self.link.item_read(self.stream, payload.len(), &self.items);
        let decode = || ambient::reading(&self.host, Some(&self.link), || (self.decode)(&payload));
        let problem = match catch_unwind(AssertUnwindSafe(decode)) {
            Ok(Ok(item)) => return Poll::Ready(Some(Ok(item))),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("its `Deserialize` panicked: {}", panic_message(&*panic)),
        };
        let detail = format!("an item of a stream from {}: {problem}", self.link.peer().node);
        Poll::Ready(Some(Err(CallError::BadReply(detail.into()))))
    }
}

impl<T> Drop for Read<T> {
    fn drop(&mut self) {
        self.link.stop_reading(self.stream, &self.items);
    }
}

/// The reply of a handler that gives a stream.
pub fn stream_reply<S: Stream<Item: Send> + Send + 'static>(stream: S) -> Streaming<S::Item> {
    Streaming::new(stream)
}

/// The reply of a handler that gives a stream, or refuses to.
///
/// # Errors
/// The handler's.
pub fn stream_in_result<S, E>(result: Result<S, E>) -> Result<Streaming<S::Item>, E>
where
    S: Stream<Item: Send> + Send + 'static,
{
    result.map(Streaming::new)
}

/// Drops a stream that has ended. It is the user's, and its `Drop` may panic.
fn forget<T>(stream: T) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(stream))));
}

fn lock<T>(place: &Mutex<Place<T>>) -> MutexGuard<'_, Place<T>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writing one into a message writes its number; the stream itself stays.
impl<T: Wire> Serialize for Streaming<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sending = Sending { place: Arc::clone(&self.place) };
        let stream = port::give(Box::new(sending)).map_err(S::Error::custom)?;
        stream.0.serialize(serializer)
    }
}

impl<'de, T: Wire> Deserialize<'de> for Streaming<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stream = StreamId(u64::deserialize(deserializer)?);
        let Some((host, link)) = ambient::source() else {
            return Err(D::Error::custom("a stream is read in a message between nodes, and nowhere else"));
        };
        if !link.has_streams() {
            // Nothing may be said to that peer about a stream.
            return Err(D::Error::custom("a stream is read in a message from a node that has streams too"));
        }
        let items = link.read_stream(stream);
        let read = Read { link, host, stream, items, decode: |payload| Decoder::new(payload).only() };
        Ok(Self { place: Arc::new(Mutex::new(Place::Read(read))) })
    }
}

/// Sends the items of a stream to its reader on another node.
struct Sending<T> {
    place: Arc<Mutex<Place<T>>>,
}

/// How long a stream waits for somebody to take it up.
const UNCLAIMED: Duration = Duration::from_secs(60);

impl<T: Wire> Source for Sending<T> {
    fn run(self: Box<Self>, link: Arc<Link>, stream: StreamId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let end = match time::timeout(UNCLAIMED, credit(&link, stream)).await {
                Some(Ok(())) => self.send(&link, stream).await,
                Some(Err(Unread)) => return,
                None => Err(CallError::NoReply(
                    format!("the stream was dropped: nobody took it up within {} s", UNCLAIMED.as_secs())
                        .into(),
                )),
            };
            link.end_stream(stream, end.err());
        })
    }
}

impl<T: Wire> Sending<T> {
    /// Sends item after item, until the stream ends or nobody reads it any more.
    async fn send(self, link: &Link, stream: StreamId) -> Result<(), CallError> {
        // A message that was given to somebody else after all may have been written twice.
        let place = std::mem::replace(&mut *lock(&self.place), Place::Over);
        if matches!(place, Place::Over) {
            return Err(CallError::NoReply("the stream was taken up elsewhere already".into()));
        }
        drop(self);
        let items = Streaming { place: Arc::new(Mutex::new(place)) };
        let sent = items.send(link, stream).await;
        forget(items);
        sent
    }
}

impl<T: Wire> Streaming<T> {
    async fn send(&self, link: &Link, stream: StreamId) -> Result<(), CallError> {
        while credit(link, stream).await.is_ok() {
            let item = poll_fn(|cx| match link.poll_unread(stream, cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => self.poll_item(cx).map(Some),
            });
            let Some(item) = item.await else { break };
            let Some(item) = item.transpose()? else { break };
            let encode = || {
                link.send_item(stream, &|out| {
                    out.announce(&item);
                    out.put(&item)
                })
            };
            match catch_unwind(AssertUnwindSafe(encode)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(lost(&error.to_string())),
                Err(_) => return Err(lost("its `Serialize` panicked")),
            }
        }
        Ok(())
    }
}

async fn credit(link: &Link, stream: StreamId) -> Result<(), Unread> {
    poll_fn(|cx| link.poll_stream_credit(stream, cx)).await
}

fn lost(problem: &str) -> CallError {
    CallError::BadReply(format!("an item of the stream: {problem}").into())
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*lock(&self.place) {
            Place::Made(_) => "Streaming(made here)",
            Place::Read(_) => "Streaming(made elsewhere)",
            Place::Over => "Streaming(over)",
        })
    }
}
