#![allow(unused)]
use std::future::Future;
use skyhold::service;

struct Counter(String);

#[service]
impl Counter {
    pub fn later(&self) -> impl Future<Output = u64> {
        async { 1 }
    }
    pub fn all(&self) -> impl Iterator<Item = u64> {
        [1].into_iter()
    }
    pub fn name(&self) -> &str {
        &self.0
    }
    pub fn maybe(&self) -> Option<&String> {
        Some(&self.0)
    }
    pub fn never(&self) -> ! {
        loop {}
    }
}

fn main() {}
