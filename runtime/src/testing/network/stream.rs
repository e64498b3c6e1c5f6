//! The two halves of a stream and the listener, as the runtime holds them.
//!
//! They must never keep bytes of their own: all they hold is the number of a connection and a timer, so that a fault
//! is in force the moment its call returns.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::Shared;
use super::connection::{Progress, Side};
use super::state::{Bound, Joined};
use crate::net::io::{Listener, Stream};
use crate::time;

/// A listener of the in-memory network.
///
/// After its host crashed it accepts nothing and reports nothing: a killed process does neither.
pub(super) struct MemoryListener {
    /// The network.
    pub(super) shared: Arc<Shared>,
    /// The listening in it.
    pub(super) bound: Bound,
}

impl Listener for MemoryListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.bound.address.into())
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        match self.shared.with(|state, after| state.accept(self.bound, cx.waker(), after)) {
            None => Poll::Pending,
            Some(joined) => {
                let stream = stream(&self.shared, &joined, Side::Acceptor);
                Poll::Ready(Ok((stream, joined.peer.into())))
            }
        }
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.shared.with(|state, after| state.unlisten(self.bound, time::now(), after));
    }
}

/// One end of a new connection.
pub(super) fn stream(shared: &Arc<Shared>, joined: &Joined, side: Side) -> Stream {
    let seat = || Seat { shared: shared.clone(), connection: joined.connection, side, timer: None };
    Stream {
        reader: Box::new(Reader(seat())),
        writer: Box::new(Writer(seat())),
        peer: joined.peer.into(),
        certificate: None,
    }
}

struct Reader(Seat);

struct Writer(Seat);

/// Where a half sits: one end of one connection.
struct Seat {
    shared: Arc<Shared>,
    connection: u64,
    side: Side,
    /// Runs while the half waits for something that is under way, and names the instant it runs to.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let Seat { shared, connection, side, .. } = &self.0;
            let progress = shared.with(|state, after| {
                state.update(*connection, |connection, links| {
                    connection.read(*side, buf, links, time::now(), (cx.waker(), after))
                })
            });
            ready!(self.0.poll_timer(progress.as_ref(), cx));
            if let Some(result) = finished(progress) {
                return Poll::Ready(result);
            }
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let Seat { shared, connection, side, .. } = &self.0;
            let progress = shared.with(|state, after| {
                state.update(*connection, |connection, links| {
                    connection.write(*side, bytes, links, time::now(), (cx.waker(), after))
                })
            });
            ready!(self.0.poll_timer(progress.as_ref(), cx));
            if let Some(result) = finished(progress) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is under way already.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Seat { shared, connection, side, .. } = &self.0;
        shared.with(|state, after| {
            state.update(*connection, |connection, links| {
                connection.finish(*side, links, time::now(), after);
            })
        });
        Poll::Ready(Ok(()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Seat { shared, connection, side, .. } = &self.0;
        shared.with(|state, after| {
            state.update(*connection, |connection, links| {
                connection.drop_reader(*side, links, time::now(), after);
            })
        });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Seat { shared, connection, side, .. } = &self.0;
        shared.with(|state, after| {
            state.update(*connection, |connection, links| {
                connection.drop_writer(*side, links, time::now(), after);
            })
        });
    }
}

impl Seat {
    /// Is ready when it is worth looking again: at once, unless the progress says to wait.
    fn poll_timer<T>(&mut self, progress: Option<&Progress<T>>, cx: &mut Context<'_>) -> Poll<()> {
        let due = match progress {
            Some(Progress::Wait(due)) => *due,
            Some(Progress::Done(_)) | None => {
                self.timer = None;
                return Poll::Ready(());
            }
        };
        let Some(due) = due else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = match self.timer.take() {
            Some(timer) if timer.0 == due => timer,
            _ => (due, Box::pin(time::sleep_until(due))),
        };
        let (_, sleep) = self.timer.insert(timer);
        ready!(sleep.as_mut().poll(cx));
        self.timer = None;
        Poll::Ready(())
    }
}

/// The result, if the attempt is finished. A connection that the network forgot is one that broke; a half that is
/// still held keeps it from being forgotten.
fn finished<T>(progress: Option<Progress<T>>) -> Option<io::Result<T>> {
    match progress {
        Some(Progress::Done(result)) => Some(result),
        Some(Progress::Wait(_)) => None,
        None => Some(Err(io::ErrorKind::ConnectionReset.into())),
    }
}
