#![allow(unused)]
use futures_util::stream;
use skyhold::{Stream, Streaming, service};

struct NotSerializable;

struct Feed {
    lines: Vec<String>,
}

#[service]
impl Feed {
    pub fn argument(&self, lines: impl Stream<Item = String>) {}
    pub fn nested(&self) -> Option<impl Stream<Item = String>> {
        Some(stream::empty())
    }
    pub fn without_item(&self) -> impl Stream {
        stream::empty::<u64>()
    }
    pub fn of_references(&self) -> impl Stream<Item = &str> {
        stream::iter(self.lines.iter().map(|line| line.as_str()))
    }
}

struct Other {
    lines: Vec<String>,
}

#[service]
impl Other {
    pub fn unserializable(&self) -> impl Stream<Item = NotSerializable> {
        stream::empty()
    }
}

struct Borrows {
    lines: Vec<String>,
}

#[service]
impl Borrows {
    pub fn borrows(&self) -> impl Stream<Item = String> {
        stream::iter(self.lines.iter().cloned())
    }
    pub fn not_send(&self) -> impl Stream<Item = u64> {
        let number = std::rc::Rc::new(1);
        stream::iter(std::iter::from_fn(move || Some(*number)))
    }
}

fn main() {}
