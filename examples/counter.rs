//! The smallest program: one service, one node, one file.
//!
//! Run it: `cargo run --example counter`

use skyhold::prelude::*;

#[derive(Default)]
struct Counter {
    total: u64,
}

#[service]
impl Counter {
    /// Adds `by` and returns the new total.
    pub async fn add(&mut self, by: u64) -> u64 {
        self.total += by;
        self.total
    }

    /// Returns the total.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder("a").start().await?;
    let counter = node.spawn(Counter::default());

    // A call waits for the reply; a send waits only for room in the mailbox.
    println!("2 added: {}", counter.add(2).await?);
    counter.add(40).send().await?;
    println!("total:   {}", counter.total().await?);

    node.shutdown().await?;
    Ok(())
}
