#![allow(unused)]
use skyhold::service;

struct A;

#[service(overflow = "drop-oldest", queued = "Refuse", shed = true)]
impl A {
    pub fn get(&self) {}
}

struct B;

#[service(overflow = "block", queued = keep, shed(on))]
impl B {
    pub fn get(&self) {}
}

struct C;

#[service(overflow, queued = 1, queued = "keep", queued = "keep", shed, shed)]
impl C {
    pub fn get(&self) {}
}

fn main() {}
