//! The raw floor of a long echo: length-prefixed messages over TCP, each read into a buffer of its own, which is written
//! back as it is. Both ends read and write at the same time.

#![expect(clippy::disallowed_methods, reason = "the floor is a plain tokio program")]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::floor::{Workload, run, timed};

/// Serves echoes on a port of loopback; gives the address.
pub(crate) async fn listen() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let address = listener.local_addr().expect("a listener has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut reader, mut writer) = halves(stream);
            let (sender, mut messages) = mpsc::channel::<Bytes>(16);
            tokio::spawn(async move {
                while let Some(message) = messages.recv().await {
                    write(&mut writer, &message).await;
                }
            });
            tokio::spawn(async move {
                while let Some(message) = read(&mut reader).await {
                    let _ = sender.send(message).await; // the next read tells that the peer is gone
                }
            });
        }
    });
    address.to_string()
}

fn halves(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    stream.set_nodelay(true).expect("TCP has the option");
    stream.into_split()
}

async fn read(reader: &mut (impl AsyncRead + Unpin)) -> Option<Bytes> {
    let length = reader.read_u32_le().await.ok()? as usize;
    let mut message = BytesMut::with_capacity(length);
    while message.len() < length {
        let left = length - message.len();
        let read = reader.take(left as u64).read_buf(&mut message).await.ok()?;
        (read > 0).then_some(())?;
    }
    Some(message.freeze())
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), message: &Bytes) {
    let length = u32::try_from(message.len()).expect("messages have a length");
    let _ = writer.write_all(&length.to_le_bytes()).await; // the next read tells that the peer is gone
    let _ = writer.write_all(message).await;
}

/// A client of the raw echo.
#[derive(Clone)]
pub(crate) struct RawEcho {
    reader: Arc<Mutex<OwnedReadHalf>>,
    writer: Arc<Mutex<OwnedWriteHalf>>,
}

impl RawEcho {
    pub(crate) async fn connect(address: &str) -> Self {
        let (reader, writer) = halves(TcpStream::connect(address).await.expect("the server listens"));
        Self { reader: Arc::new(Mutex::new(reader)), writer: Arc::new(Mutex::new(writer)) }
    }

    /// Keeps `in_flight` messages under way until all have come back.
    pub(crate) async fn echo(self, message: Bytes, messages: u64, in_flight: usize) {
        let room = Arc::new(Semaphore::new(in_flight));
        let writes = tokio::spawn({
            let (room, writer) = (Arc::clone(&room), Arc::clone(&self.writer));
            async move {
                let mut writer = writer.lock().await;
                for _ in 0..messages {
                    room.acquire().await.expect("it is open").forget();
                    write(&mut *writer, &message).await;
                }
            }
        });
        let mut reader = self.reader.lock().await;
        for _ in 0..messages {
            std::hint::black_box(read(&mut *reader).await.expect("the server is there"));
            room.add_permits(1);
        }
        writes.await.expect("it does not panic");
    }

    pub(crate) fn echoes<'a>(
        &'a self,
        runtime: &'a Runtime,
        message: Bytes,
        in_flight: usize,
    ) -> Workload<'a> {
        Box::new(move |messages| {
            let (client, message) = (self.clone(), message.clone());
            run(runtime, async move { timed(client.echo(message, messages, in_flight)).await })
        })
    }
}
