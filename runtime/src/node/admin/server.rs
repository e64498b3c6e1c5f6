//! Answers requests over HTTP, one on each connection, as long as the node lives.
//!
//! Invariant: strangers cost a bounded number of connections, of a bounded time each.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use crate::error::StartError;
use crate::net::io::{Listener, Stream, Tcp, Transport};
use crate::node::node::{Inner, Node};
use crate::time;

/// How many connections may be open. Others are closed at once.
const MOST_CONNECTIONS: usize = 32;

/// How long a connection may take, from its first byte to the last one of the answer, unless its [`Patience`] says otherwise.
const CONNECTION: Duration = Duration::from_secs(10);

/// How long to pause after an error of the listener, which is most often that no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(50);

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// An endpoint that listens.
pub(in crate::node) struct Server {
    listener: Box<dyn Listener>,
    address: SocketAddr,
    /// The setting that asked for it.
    setting: &'static str,
}

/// How long a connection may take.
#[derive(Clone, Default)]
pub(in crate::node) struct Patience(Arc<AtomicBool>);

impl Patience {
    /// As long as it likes from now on: only for whoever may ask.
    #[cfg_attr(not(feature = "dashboard"), expect(dead_code, reason = "metrics are told soon"))]
    pub(in crate::node) fn lift(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Server {
    /// Listens there. Without a token only an address of this machine is taken.
    pub(in crate::node) async fn bind(
        setting: &'static str,
        address: &str,
        has_token: bool,
    ) -> Result<Self, StartError> {
        let cannot = |source| StartError::Listen { address: address.to_owned(), source };
        let listener = Tcp.listen(address).await.map_err(cannot)?;
        let at = listener.local_addr().map_err(cannot)?;
        if !has_token && !at.ip().is_loopback() {
            return Err(open_to_all(setting, address));
        }
        Ok(Self { listener, address: at, setting })
    }

    pub(in crate::node) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers as long as the node lives, each connection by what `answers` gives for it.
    pub(in crate::node) fn start<S, B>(
        self,
        inner: &Arc<Inner>,
        answers: impl Fn(Node, Patience) -> S + Send + 'static,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        inner.host.tasks.spawn(self.listen(Arc::clone(inner), answers));
    }

    /// Accepts for ever. Cancel safe.
    async fn listen<S, B>(mut self, inner: Arc<Inner>, answers: impl Fn(Node, Patience) -> S + Send + 'static)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            match poll_fn(|cx| self.listener.poll_accept(cx)).await {
                Ok((stream, _)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let patience = Patience::default();
                    let answers = answers(Node::without_owner_of(Arc::clone(&inner)), patience.clone());
                    inner.host.tasks.spawn(async move {
                        let mut served = pin!(serve(stream, answers));
                        // Who is too slow is cut off, and who is gone has had no answer: nobody is left to be told.
                        let in_time = time::timeout(CONNECTION, &mut served).await;
                        if in_time.is_none() && patience.0.load(Ordering::Relaxed) {
                            let _ = served.await;
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection for {}", self.setting);
                    time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// One request, and its answer.
async fn serve<S, B>(stream: Stream, answers: S) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let stream = TokioIo::new(tokio::io::join(stream.reader, stream.writer));
    http1::Builder::new().keep_alive(false).max_buf_size(MAX_HEAD).serve_connection(stream, answers).await
}

fn open_to_all(setting: &'static str, address: &str) -> StartError {
    let problem = format!(
        "is to be told on {address}, which others than this machine may reach: a token is needed, `admin.token_file` in the file or \
         `.admin_token(..)`; or an address such as 127.0.0.1:9100"
    );
    StartError::InvalidSetting { setting, problem }
}
