#![allow(unused)]
use skyhold::{StopReason, service};

struct Counter;

#[service]
impl Counter {
    #[on_start]
    fn first(&mut self) {}

    #[on_start]
    fn second(&mut self) {}

    pub fn get(&self) {}
}

fn main() {}
