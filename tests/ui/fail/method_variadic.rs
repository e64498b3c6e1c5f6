#![allow(unused)]
#![allow(varargs_without_pattern)]
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    pub unsafe extern "C" fn print(&self, ...) {}
    pub fn fine(&mut self) {}
}

fn main() {}
