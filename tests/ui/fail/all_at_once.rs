#![allow(unused)]
use skyhold::service;

struct Counter;

#[service(mailbox = 0)]
impl Counter {
    pub fn add(self, by: &u64, (a, b): (u8, u8)) -> impl Sized {}
    pub fn set<T>(&mut self, to: T) {}
    pub fn get(&self) -> u64 {
        0
    }
}

fn uses(counter: CounterHandle) {
    let _ = counter.get();
}

fn main() {}
