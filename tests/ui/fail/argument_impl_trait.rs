#![allow(unused)]
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    pub fn add(&mut self, by: impl Into<u64>) {}
    pub fn add_all(&mut self, by: Vec<impl Into<u64>>) {}
}

fn main() {}
