#![allow(unused)]
use skyhold::{Context, service};

struct Counter;

#[service]
impl Counter {
    pub fn last(&mut self, by: u64, context: &Context) {}
    pub fn twice(&mut self, context: &Context, again: &Context) {}
    pub fn exclusive(&mut self, context: &mut Context) {}
}

fn main() {}
