#![allow(unused)]
use skyhold::service;

#[service(mailbox = 1, name = "bank", concurrency = 2, overflow = "reject", shed, stuck = "1m", high_water = 50)]
trait Bank {
    fn balance(&self) -> u64;
}

#[service(local)]
struct MemoryBank;

#[service(local)]
impl Bank for MemoryBank {
    fn balance(&self) -> u64 {
        0
    }
}

fn main() {}
