#![allow(unused)]
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    pub fn add(&mut self, (a, b): (u64, u64)) {}
    pub fn skip(&mut self, _: u64) {}
    pub fn attribute(&mut self, #[cfg(unix)] by: u64) {}
}

fn main() {}
