#![allow(unused)]
use skyhold::service;

struct Counter<'a>(&'a str);

#[service]
impl<'a> Counter<'a> {
    pub fn get(&self) -> u64 {
        0
    }
}

#[service]
trait Bank<'a> {
    fn balance(&self) -> u64;
}

#[service(mailbox = 3)]
struct Other<'a>(&'a str);

fn uses(counter: CounterHandle, bank: BankHandle) {}

fn main() {}
