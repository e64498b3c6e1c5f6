//! The runtime crate may have another name.
#![deny(warnings)]

extern crate skyhold as other;

mod vendor {
    pub use ::skyhold as deep;
}

pub struct Counter(u64);

#[other::service(crate = other, name = "counter")]
impl Counter {
    pub async fn add(&mut self, by: u64) -> u64 {
        self.0 += by;
        self.0
    }

    #[on_start]
    fn start(&mut self, _context: &other::Context) {}
}

#[other::service(crate = crate::vendor::deep)]
pub trait Bank {
    fn balance(&self) -> u64;
}

fn main() {}
