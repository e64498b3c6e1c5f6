#![allow(unused)]
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    pub unsafe fn poke(&mut self) {}
    pub extern "C" fn call(&mut self) {}
    pub fn fine(&mut self) {}
}

fn main() {}
