#![allow(unused)]
use skyhold::service;

struct Order;

struct Counter;

#[service]
impl Counter {
    pub fn last(&self) -> Order {
        Order
    }
}

fn main() {}
