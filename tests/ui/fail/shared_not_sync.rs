#![allow(unused)]
use std::cell::Cell;
use skyhold::service;

struct Counter(Cell<u64>);

#[service]
impl Counter {
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

fn main() {}
