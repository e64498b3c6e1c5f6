#![allow(unused)]
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    fn private(&self) {}
    pub(crate) fn helper(&self) {}
    pub fn new() -> Self {
        Self
    }
}

#[service]
trait Empty {}

fn uses(counter: CounterHandle, empty: EmptyHandle) {}

fn main() {}
