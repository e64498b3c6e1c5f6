#![allow(unused)]
use std::sync::Arc;
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    pub fn finish(self) -> u64 {
        0
    }
    pub fn change(mut self) {}
    pub fn share(self: Arc<Self>) {}
    pub fn boxed(self: &Self) {}
}

fn main() {}
