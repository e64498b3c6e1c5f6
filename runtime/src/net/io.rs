//! The one facade over sockets: what listens, what connects, and the byte streams that come of both. TCP is the
//! default; tests put the in-memory network in its place.
//!
//! It must never know what the bytes mean, nor hold a policy: no timeout, no retry, no back-off. Whoever dials
//! bounds the wait, and whoever accepts decides what follows an error. Nothing else in the crate opens a socket.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::proto::settings::Certificate;

/// A future behind a pointer, so that a trait with asynchronous methods can be an object.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A network: where a node listens and whom it dials.
pub(crate) trait Transport: Send + Sync + fmt::Debug + 'static {
    /// Starts to listen on `address`, which is `host:port`; port 0 takes a free one.
    ///
    /// # Errors
    /// What the network answers: the address is in use, not ours, or not an address at all.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no listener behind.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// Connects to `address`, which is `host:port`; the host may be a name. Every address that the name stands for
    /// is tried in turn. There is no timeout here: a host that does not answer may keep this waiting for minutes.
    ///
    /// # Errors
    /// The name is unknown, or every address failed; then the error is that of the last one.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt and closes what it opened.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>>;
}

/// What names stand for.
pub(crate) trait Resolve: Send + Sync + fmt::Debug + 'static {
    /// The addresses for which `address`, which is `host:port`, stands now. There is no timeout here.
    ///
    /// # Errors
    /// The name is unknown, or nobody can be asked.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the question.
    fn lookup<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// A bound address whose incoming streams wait to be accepted; dropping it stops the listening.
pub(crate) trait Listener: Send {
    /// The address that peers can dial, with the real port where port 0 was asked for.
    ///
    /// # Errors
    /// What the operating system answers when it cannot name the socket.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Accepts the next stream and says where it comes from.
    ///
    /// # Errors
    /// An error concerns one attempt and not the listener: no file descriptor is free (`EMFILE`), or the peer gave
    /// up first (`ECONNABORTED`). The listener stays usable, but the next poll may fail again at once, so the
    /// caller, which is the listener's task, must pause before it polls again; a listener never sleeps by itself.
    ///
    /// # Cancel safety
    /// A poll that returns `Pending` has taken nothing from the queue.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>>;
}

/// A byte stream to one peer, as two halves that can be used by two tasks.
///
/// Dropping the writer tells the peer that nothing more comes; dropping both halves closes the stream.
pub(crate) struct Stream {
    /// What the peer sends.
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What goes to the peer; it is sent when it is flushed at the latest, never held back to be merged.
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// The address of the other end.
    pub(crate) peer: SocketAddr,
    /// What the other end has proven by TLS.
    pub(crate) certificate: Option<Arc<dyn Certificate>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The operating system's TCP, with `TCP_NODELAY` on every socket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tcp;

impl Transport for Tcp {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let mut failure = None;
            for peer in lookup_host(address).await? {
                match dial(peer).await {
                    Ok(socket) => return Ok(split(socket, peer)),
                    Err(error) => failure = Some(error),
                }
            }
            Err(failure.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
        })
    }
}

impl Resolve for Tcp {
    fn lookup<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(lookup_host(address).await?.collect()) })
    }
}

impl Listener for TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let (socket, peer) = ready!(TcpListener::poll_accept(self, cx))?;
        socket.set_nodelay(true)?;
        Poll::Ready(Ok((split(socket, peer), peer)))
    }
}

async fn dial(peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(peer).await?;
    refuse_own_echo(socket.local_addr()?, peer)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Refuses a socket that is connected to itself.
///
/// When nobody listens on a port of this machine that lies in the range of outgoing ports, the kernel may pick that
/// very port for the dialling end, and TCP's simultaneous open then joins the socket to itself. A node that redials
/// a neighbour which is down would find its own echo, and would hold the port which the neighbour needs to return.
fn refuse_own_echo(local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    if local == peer { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
}

fn split(socket: TcpStream, peer: SocketAddr) -> Stream {
    let (reader, writer) = socket.into_split();
    Stream { reader: Box::new(reader), writer: Box::new(writer), peer, certificate: None }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn listener() -> (Box<dyn Listener>, SocketAddr) {
        let listener = Tcp.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn bytes_cross_in_both_directions_and_end_with_the_stream() {
        let (mut listener, address) = listener().await;
        let mut dialled = Tcp.connect(&address.to_string()).await.unwrap();
        let (mut accepted, from) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        assert_eq!(dialled.peer, address);
        assert_eq!(accepted.peer, from);

        dialled.writer.write_all(b"question").await.unwrap();
        let mut question = [0; 8];
        accepted.reader.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"question");

        accepted.writer.write_all(b"answer").await.unwrap();
        drop(accepted);
        let mut answer = Vec::new();
        dialled.reader.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    }

    #[tokio::test]
    async fn a_name_is_tried_at_all_its_addresses() {
        // The name may stand for an IPv6 address first, where nobody listens.
        let (_listener, address) = listener().await;
        let stream = Tcp.connect(&format!("localhost:{}", address.port())).await.unwrap();
        assert_eq!(stream.peer, address);
    }

    #[tokio::test]
    async fn nobody_listening_is_refused() {
        let (listener, address) = listener().await;
        drop(listener);
        let refused = Tcp.connect(&address.to_string()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_address_in_use_is_refused() {
        let (_listener, address) = listener().await;
        let refused = Tcp.listen(&address.to_string()).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_dialled_socket_sends_at_once() {
        let (_listener, address) = listener().await;
        assert!(dial(address).await.unwrap().nodelay().unwrap());
    }

    #[test]
    fn a_socket_joined_to_itself_is_refused() {
        let (here, there) = ("127.0.0.1:40000".parse().unwrap(), "127.0.0.1:40001".parse().unwrap());
        assert_eq!(refuse_own_echo(here, here).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(refuse_own_echo(here, there).is_ok());
    }
}
