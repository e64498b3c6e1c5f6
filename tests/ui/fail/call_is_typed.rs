#![allow(unused)]
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    pub fn add(&mut self, by: u64) -> u64 {
        by
    }
}

fn uses(counter: CounterHandle) {
    counter.add("two");
    counter.sub(2);
}

fn main() {}
