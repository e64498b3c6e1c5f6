#![allow(unused)]
use skyhold::{Context, Down, StopReason, service};

struct Counter;

#[service]
impl Counter {
    #[on_start]
    fn start(&self, reason: StopReason) {}

    #[on_stop]
    fn stop(&mut self, reason: StopReason, context: &Context) -> u64 {
        0
    }

    #[on_down]
    async fn down(&mut self) {}

    pub fn get(&self) {}
}

struct Other;

#[service]
impl Other {
    #[on_start(now)]
    fn start() {}

    #[on_stop]
    fn stop<T>(&mut self) {}

    #[on_down]
    fn down(&mut self, down: &Down) {}

    pub fn get(&self) {}
}

fn main() {}
