#![allow(unused)]
use std::rc::Rc;
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    pub async fn wait(&mut self) -> u64 {
        let shared = Rc::new(1);
        std::future::ready(()).await;
        *shared
    }
}

#[service]
trait Bank {
    async fn wait(&mut self) -> u64;
}

struct MemoryBank;

#[service]
impl Bank for MemoryBank {
    async fn wait(&mut self) -> u64 {
        let shared = Rc::new(1);
        std::future::ready(()).await;
        *shared
    }
}

fn main() {}
