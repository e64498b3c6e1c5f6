#![allow(unused)]
use skyhold::service;

#[service]
trait Bank {
    fn merge(&mut self, other: Self);
    async fn copy(&self) -> Option<Self>;
    fn fine(&self) -> u64;
}

fn uses(bank: BankHandle) {
    let _ = bank.fine();
}

fn main() {}
