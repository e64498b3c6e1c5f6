//! A service that panics on bad input, and goes on: its supervisor starts it again, at the same address.
//!
//! Run it: `cargo run --example supervision`

use skyhold::prelude::*;
use skyhold::{Event, Restart, Strategy, Supervisor};

/// Adds up what it is told.
#[derive(Default)]
struct Sum {
    total: i64,
}

#[service]
impl Sum {
    /// Adds a number in words of digits, and gives the total.
    pub fn add(&mut self, number: String) -> i64 {
        let number: i64 = number.parse().expect("a number was promised");
        self.total += number;
        self.total
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder("a").start().await?;
    let mut events = node.events();

    let tree = Supervisor::new("sums", Strategy::OneForOne)
        .child(node.service("sum", Sum::default).restart(Restart::on_failure()))
        .start(&node)
        .await?;
    let sum = SumHandle::lookup(&node, "sum").await?;

    for input in ["1", "2", "three", "4"] {
        // The handle of before goes on working: a call waits for the next life, which begins at zero.
        match sum.add(input.to_owned()).await {
            Ok(total) => println!("{input}: the total is {total}"),
            Err(error) => println!("{input}: {error}"),
        }
    }

    tree.stop().await;
    // What happened in the meantime: one life ended, another began, and that one ended too.
    for _ in 0..3 {
        match events.next().await {
            Some(Event::InstanceEnded { service, reason, .. }) => {
                println!("a life of `{service}` ended: {reason}")
            }
            Some(Event::Restarted { supervisor, child, .. }) => {
                println!("`{supervisor}` restarted `{child}`")
            }
            _ => {}
        }
    }
    node.shutdown().await?;
    Ok(())
}
