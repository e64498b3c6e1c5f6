#![allow(unused)]
use std::rc::Rc;
use skyhold::service;

struct Counter(Rc<u64>);

#[service]
impl Counter {
    pub fn set(&mut self) {}
}

fn main() {}
