#![allow(unused)]
use skyhold::service;

struct Order;

struct Counter;

#[service]
impl Counter {
    pub fn place(&mut self, order: Order) {}
}

fn main() {}
