#![allow(unused)]
use skyhold::{Down, StopReason, service};

struct Counter;

#[service]
impl Counter {
    #[on_start]
    fn start(&mut self) -> u64 {
        0
    }

    #[on_stop]
    fn stop(&mut self, reason: u64) {}

    #[on_down]
    async fn down(&mut self, down: StopReason) {}

    pub fn get(&self) {}
}

fn main() {}
