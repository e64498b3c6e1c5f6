//! What the expansion is, a node takes: an own service, an implementation of a contract, and both by name.
#![deny(warnings)]

use skyhold::prelude::*;

#[derive(Default)]
pub struct Counter(u64);

#[service]
impl Counter {
    pub async fn add(&mut self, by: u64) -> u64 {
        self.0 += by;
        self.0
    }

    pub fn watched(&self, context: &Context) -> Result<u64, String> {
        let _ = context;
        Ok(self.0)
    }
}

#[service]
pub trait Bank {
    async fn withdraw(&mut self, amount: u64) -> Result<u64, String>;
    fn balance(&self) -> u64;
}

pub struct MemoryBank(u64);

#[service(mailbox = 4)]
impl Bank for MemoryBank {
    async fn withdraw(&mut self, amount: u64) -> Result<u64, String> {
        self.0 = self.0.checked_sub(amount).ok_or("overdrawn")?;
        Ok(self.0)
    }

    fn balance(&self) -> u64 {
        self.0
    }

    #[on_start]
    async fn open(&mut self, _context: &Context) -> Result<(), std::io::Error> {
        self.0 += 1;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder("a").start().await?;
    let counter: CounterHandle = node.spawn(Counter::default());
    assert_eq!(counter.add(2).await?, 2);
    assert_eq!(counter.watched().await?, Ok(2));

    let started: BankHandle = node.service("bank", || MemoryBank(10)).start().await?;
    let bank = BankHandle::lookup(&node, "bank").await?;
    assert_eq!(started.balance().await?, 11);
    assert_eq!(bank.withdraw(5).await??, 6);
    assert_eq!(bank.withdraw(7).await?, Err("overdrawn".to_owned()));
    node.shutdown().await?;
    Ok(())
}
