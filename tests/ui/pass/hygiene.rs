//! No argument's name can be mistaken for a local of the expansion, nor a method's for one of its items.
#![allow(clippy::too_many_arguments)]
#![deny(warnings)]

use skyhold::service;

pub struct Names(u64);

#[service]
impl Names {
    pub async fn exclusive(
        &mut self,
        ctx: u64,
        self_: u64,
        msg: u64,
        message: u64,
        reply: u64,
        reply_: u64,
    ) -> u64 {
        self.0 + ctx + self_ + msg + message + reply + reply_
    }

    pub fn shared(&self, scope: u64, service: u64, out: u64, payload: u64, method: u64, context: u64) -> u64 {
        self.0 + scope + service + out + payload + method + context
    }

    pub async fn more(
        &self,
        arg0: u64,
        arg1: u64,
        never: u64,
        inner: u64,
        f: u64,
        other: u64,
        event: u64,
    ) -> u64 {
        arg0 + arg1 + never + inner + f + other + event
    }

    pub fn clone(&self) -> u64 {
        self.0
    }

    pub fn call(&self) {}

    pub fn answer(&mut self) {}

    pub fn new(&self) {}

    pub fn run_shared(&self) {}

    pub fn method(&self) {}

    pub fn from_inner(&self) {}

    pub fn self_(&self) {}

    pub fn _1(&self) {}
}

#[service]
pub trait Contract {
    async fn exclusive(
        &mut self,
        ctx: u64,
        self_: u64,
        msg: u64,
        message: u64,
        reply: u64,
        reply_: u64,
    ) -> u64;

    fn shared(&self, scope: u64, service: u64, out: u64, payload: u64, method: u64) -> u64 {
        scope + service + out + payload + method
    }
}

fn main() {
    let _ = |names: NamesHandle, contract: ContractHandle| {
        let _ = names.exclusive(1, 2, 3, 4, 5, 6);
        let _ = names.clone();
        let _ = contract.shared(1, 2, 3, 4, 5);
    };
}
