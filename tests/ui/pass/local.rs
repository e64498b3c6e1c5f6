//! A local service takes and gives what no wire could carry.
#![deny(warnings)]

use std::sync::Arc;
use std::sync::mpsc::Sender;

use skyhold::service;

pub struct NotSerializable;

pub struct Screen(Vec<Arc<NotSerializable>>);

#[service(local, name = "screen")]
impl Screen {
    pub fn draw(&mut self, picture: Box<dyn Fn(&str) -> usize + Send>, to: Sender<usize>) {
        let _ = to.send(picture("x"));
    }

    pub async fn all(&self, title: &'static str) -> Vec<Arc<NotSerializable>> {
        let _ = title;
        self.0.clone()
    }
}

#[service(local)]
pub trait Painter<T> {
    fn paint(&mut self, with: T) -> Box<T>;
}

pub struct Roller;

#[service]
impl Painter<Arc<str>> for Roller {
    fn paint(&mut self, with: Arc<str>) -> Box<Arc<str>> {
        Box::new(with)
    }
}

fn main() {}
