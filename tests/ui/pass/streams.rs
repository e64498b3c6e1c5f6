//! Methods that give streams and take them, in every form.
#![deny(warnings)]

use futures_util::stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skyhold::{Context, Streaming, service};

/// A contract whose streams a client reads.
#[service]
pub trait Feed<T: Serialize + DeserializeOwned + Send + Sync + Clone + 'static> {
    /// What comes.
    async fn follow(&self, from: u64) -> impl skyhold::Stream<Item = T>;

    /// What there is.
    fn all(&self) -> impl futures_util::Stream<Item = (u64, T)>;

    /// Perhaps.
    async fn perhaps(&mut self, context: &Context) -> Result<impl skyhold::Stream<Item = T>, String>;

    /// What a caller gives.
    async fn append(&mut self, items: Streaming<T>) -> usize;
}

pub struct Memory<T>(Vec<T>);

#[service]
impl<T: Serialize + DeserializeOwned + Send + Sync + Clone + 'static> Feed<T> for Memory<T> {
    async fn follow(&self, _from: u64) -> impl skyhold::Stream<Item = T> {
        stream::iter(self.0.clone())
    }

    fn all(&self) -> impl futures_util::Stream<Item = (u64, T)> {
        stream::iter((0..).zip(self.0.clone()))
    }

    async fn perhaps(&mut self, _context: &Context) -> Result<impl skyhold::Stream<Item = T>, String> {
        Ok(stream::iter(self.0.clone()))
    }

    async fn append(&mut self, mut items: Streaming<T>) -> usize {
        while let Some(Ok(item)) = items.next().await {
            self.0.push(item);
        }
        self.0.len()
    }
}

pub struct Plain(u64);

#[service]
impl Plain {
    pub fn now(&self) -> impl skyhold::Stream<Item = u64> {
        stream::iter(0..self.0)
    }

    pub fn alone(&mut self, context: &Context) -> std::result::Result<impl skyhold::Stream<Item = u64>, ()> {
        let _ = context;
        self.0 += 1;
        Ok(stream::iter(0..self.0))
    }

    pub fn named(&self, given: Streaming<String>) -> Option<Streaming<String>> {
        Some(given)
    }
}

impl Plain {
    // A helper that gives a stream is no message.
    #[expect(dead_code)]
    fn helper(&self) -> impl skyhold::Stream<Item = u64> + use<> {
        stream::iter(0..self.0)
    }
}

struct NotSerializable(#[allow(dead_code)] u64);

struct Local;

#[service(local)]
impl Local {
    pub fn all(&self) -> impl skyhold::Stream<Item = NotSerializable> {
        stream::iter((0..3).map(NotSerializable))
    }
}

fn main() {
    let _ = |handle: FeedHandle<String>| async move {
        let mut items: Streaming<String> = handle.follow(1).await.unwrap();
        let _: Option<Result<String, skyhold::CallError>> = items.next().await;
        let _: Result<Streaming<String>, String> = handle.perhaps().await.unwrap();
        handle.append(items).await.unwrap()
    };
    let _ = |handle: PlainHandle| (handle.now(), handle.alone(), handle.named(Streaming::new(stream::empty())));
    let _ = |handle: LocalHandle| handle.all();
    let _ = || Memory::<u8>(Vec::new());
    let _ = || (Plain(1), Local);
}
