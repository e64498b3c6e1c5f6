#![allow(unused)]
use std::path::Path;
use skyhold::service;

struct Counter;
struct Order;

#[service]
impl Counter {
    pub fn name(&mut self, name: &str) {}
    pub fn bytes(&mut self, bytes: &[u8]) {}
    pub fn order(&mut self, order: &mut Order) {}
    pub fn path(&mut self, path: &Path) {}
    pub async fn nested(&self, names: Vec<(u8, &str)>) {}
    pub fn fixed(&self, name: &'static str) {}
}

// The handle is there all the same, so that nothing else is said.
fn uses(counter: CounterHandle) {}

fn main() {}
