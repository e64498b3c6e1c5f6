#![allow(unused)]
use skyhold::service;

#[service(mailbox = 1)]
struct Counter;

#[service(name = "counter")]
impl Counter {
    pub fn get(&self) {}
}

fn main() {}
