#![allow(unused)]
use skyhold::service;

#[service]
trait Bank {
    type Money;
    fn open() -> u64;
    #[on_start]
    fn start(&mut self) {}
    fn fine(&self) -> u64;
}

fn main() {}
