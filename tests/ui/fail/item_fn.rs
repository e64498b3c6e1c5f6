#![allow(unused)]
use skyhold::service;

#[service]
fn add(by: u64) -> u64 {
    by
}

#[service]
async fn later() {}

fn main() {
    add(1);
}
