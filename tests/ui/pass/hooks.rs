//! Every form of every hook, beside the struct's settings.
#![deny(warnings)]

use skyhold::{Context, Down, StopReason, service};

#[service(name = "a", mailbox = 1)]
pub struct A;

#[service]
impl A {
    #[on_start]
    fn on_start(&mut self) {}

    #[on_stop]
    fn on_stop(&mut self) {}

    #[on_down]
    pub fn on_down(&mut self, down: Down) {
        drop(down);
    }

    pub fn ping(&self) {}
}

pub struct B;

#[service]
impl B {
    #[on_start]
    async fn begin(&mut self, _: &Context) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err("no".into())
    }

    #[on_stop]
    async fn end(&mut self, context: &Context, reason: StopReason) {
        let _ = (context, reason);
    }

    #[on_down]
    async fn gone(&mut self, context: &Context, down: Down) {
        let _ = (context, down);
    }

    pub fn ping(&self) {}
}

pub struct C;

#[service]
impl C {
    #[on_start]
    fn begin(&mut self) -> Result<(), String> {
        Ok(())
    }

    #[on_stop]
    fn end(&mut self, reason: StopReason) {
        drop(reason);
    }

    pub(crate) fn not_a_message(&mut self, borrowed: &str) -> usize {
        borrowed.len()
    }

    pub fn new() -> Self {
        Self
    }

    pub fn ping(&mut self) {
        self.not_a_message("");
    }
}

#[service]
pub trait Watches {
    fn ping(&self);
}

pub struct D<T>(pub T);

#[service]
impl<T: Send + Sync + 'static> Watches for D<T> {
    fn ping(&self) {}

    #[on_down]
    fn gone(&mut self, _: &Context, Down { address, reason, .. }: Down) {
        drop((address, reason));
    }
}

pub struct E<T>(pub T);

#[service]
impl<T> E<T> {
    #[on_down]
    async fn gone(&mut self, down: skyhold::Down) -> () {
        drop(down);
    }

    pub fn ping(&mut self) {}
}

fn main() {
    let _ = C::new();
    let _ = (D(0_u8), E(0_u8));
}
