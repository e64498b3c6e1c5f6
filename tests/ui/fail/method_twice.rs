#![allow(unused)]
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    pub fn get_1(&self) {}
    pub fn get1(&self) {}
    pub fn costarring(&self) {}
    pub fn liquid(&self) {}
}

struct Other;

#[service]
impl Other {
    pub fn add(&self) {}
    pub fn add(&self, by: u8) {}
}

fn main() {}
