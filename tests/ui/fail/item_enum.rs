#![allow(unused)]
use skyhold::service;

#[service]
enum Counter {
    One,
}

fn main() {}
