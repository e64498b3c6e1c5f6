#![allow(unused)]
use skyhold::service;

#[service]
mod counter {}

#[service]
union Both {
    a: u8,
}

#[service]
type Alias = u8;

struct Counter;

unsafe trait Marker {}

#[service]
unsafe impl Marker for Counter {}

#[service]
impl (u8, u8) {
    pub fn get(&self) {}
}

fn main() {}
