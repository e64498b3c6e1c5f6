#![allow(unused)]
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    pub fn add<T: Into<u64>>(&mut self, by: T) {}
    pub fn fill<const N: usize>(&mut self, with: [u8; N]) {}
    pub fn borrow<'a>(&'a self, name: &'a str) -> &'a str {
        name
    }
    pub fn bound(&self) where Self: Sized {}
}

fn main() {}
