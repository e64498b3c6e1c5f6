#![allow(unused)]
use skyhold::service;

struct Counter;

#[service(mailbx = 1, colour = "red", nam = "counter", thread(2), highwater = 7, concurrency = 4)]
impl Counter {
    pub fn get(&self) {}
}

fn uses(counter: CounterHandle) {
    let _ = counter.get();
}

fn main() {}
