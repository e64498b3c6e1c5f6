#![allow(unused)]
mod bank {
    #[skyhold::service]
    pub trait Bank {
        fn balance(&self) -> u64;
    }
}

use bank::Bank;

struct MemoryBank;

#[skyhold::service]
impl Bank for MemoryBank {
    fn balance(&self) -> u64 {
        0
    }
}

fn main() {}
