#![allow(unused)]
use skyhold::service;

struct A;

#[service(name = 7, mailbox = "many", concurrency = 0, local = true, crate = 1)]
impl A {
    pub fn get(&self) {}
}

struct B;

#[service(name = "", mailbox = -1, concurrency, mailbox = SIZE)]
impl B {
    pub fn get(&self) {}
}

struct C;

#[service(name = "two words", mailbox = 1u8, mailbox = 2, mailbox = 3)]
impl C {
    pub fn get(&self) {}
}

fn main() {}
