#![allow(unused)]
use skyhold::service;

struct A;

#[service(slow = "1", stuck = 10, high_water = 0)]
impl A {
    pub fn get(&self) {}
}

struct B;

#[service(slow = "0ms", stuck = "500ms", high_water = 101)]
impl B {
    pub fn get(&self) {}
}

struct C;

#[service(slow, stuck = "1441m", high_water = "80%")]
impl C {
    pub fn get(&self) {}
}

struct Both;

#[service(slow = "2s", stuck = "2000ms")]
impl Both {
    pub fn get(&self) {}
}

#[service(slow = "10s")]
struct OnlySlow;

#[service]
trait Contract {
    fn get(&self);
}

struct OnlyStuck;

#[service(stuck = "500ms")]
impl Contract for OnlyStuck {
    fn get(&self) {}
}

fn main() {}
