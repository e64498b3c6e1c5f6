#![allow(unused)]
use skyhold::service;

struct Counter;

#[service]
impl Default for Counter {
    fn default() -> Self {
        Self
    }
}

fn main() {}
