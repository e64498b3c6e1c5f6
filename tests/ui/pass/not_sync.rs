//! A service whose methods all take `&mut self` need not be `Sync`.
#![deny(warnings)]

use std::cell::Cell;

use skyhold::service;

pub struct Exclusive(Cell<u64>);

#[service]
impl Exclusive {
    pub async fn set(&mut self, value: u64) {
        std::future::ready(()).await;
        self.0.set(value);
    }

    #[on_start]
    async fn start(&mut self) {
        std::future::ready(()).await;
    }
}

#[service]
pub trait Setter {
    async fn set(&mut self, value: u64);
}

pub struct Cellular(Cell<u64>);

#[service]
impl Setter for Cellular {
    async fn set(&mut self, value: u64) {
        self.0.set(value);
    }
}

fn main() {}
