//! The service that both benches call, as a user writes it.

use skyhold::prelude::*;

#[derive(Default)]
pub(crate) struct Counter {
    total: u64,
}

#[service]
impl Counter {
    /// Adds `by` and returns the new total.
    pub async fn add(&mut self, by: u64) -> u64 {
        self.total += by;
        self.total
    }
}
