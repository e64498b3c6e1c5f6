//! The expansion leans on no prelude.
#![no_implicit_prelude]
#![deny(warnings)]

pub struct Counter(u64);

#[::skyhold::service(
    name = "counter",
    mailbox = 8,
    concurrency = 2,
    overflow = "reject",
    queued = "refuse",
    shed,
    slow = "1s",
    stuck = "off",
    high_water = 50
)]
impl Counter {
    pub async fn add(&mut self, by: u64) -> u64 {
        self.0 += by;
        self.0
    }

    pub fn watch(
        &self,
        _context: &::skyhold::Context,
        name: ::std::string::String,
    ) -> ::core::option::Option<u8> {
        ::core::mem::drop(name);
        ::core::option::Option::None
    }

    #[on_start]
    async fn start(&mut self) -> ::core::result::Result<(), ::std::io::Error> {
        ::core::result::Result::Ok(())
    }

    #[on_stop]
    fn stop(&mut self) {}
}

#[::skyhold::service]
pub trait Bank {
    async fn withdraw(&mut self, amount: u64) -> ::core::result::Result<u64, u64>;

    async fn is_empty(&self) -> bool {
        true
    }
}

pub struct MemoryBank;

#[::skyhold::service]
impl Bank for MemoryBank {
    async fn withdraw(&mut self, amount: u64) -> ::core::result::Result<u64, u64> {
        ::core::result::Result::Err(amount)
    }
}

pub struct Pair<T>(T);

#[::skyhold::service]
impl<T> Pair<T> {
    pub fn set(&mut self, value: T) {
        self.0 = value;
    }
}

fn main() {}
