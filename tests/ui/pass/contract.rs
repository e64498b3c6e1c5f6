//! A contract lives where it likes, and is implemented elsewhere.
#![deny(warnings)]

use skyhold::Context;

mod bank {
    use serde::{Deserialize, Serialize};
    use skyhold::{Context, service};

    /// Not enough money.
    #[derive(Debug, Serialize, Deserialize)]
    pub struct Overdrawn;

    /// An account.
    #[service]
    pub trait Bank: std::fmt::Debug {
        /// A bound that a client may read.
        const LIMIT: u64 = 100;

        /// Takes money out.
        async fn withdraw(&mut self, amount: u64) -> Result<u64, Overdrawn>;

        /// What is left.
        fn balance(&self, context: &Context) -> u64;

        /// Puts money in, in two steps.
        async fn deposit(&mut self, mut amount: u64) -> Result<u64, Overdrawn> {
            amount += self.withdraw(0).await?;
            Ok(amount)
        }
    }
}

#[derive(Debug)]
pub struct MemoryBank(u64);

#[skyhold::service(name = "savings")]
impl bank::Bank for MemoryBank {
    async fn withdraw(&mut self, amount: u64) -> Result<u64, bank::Overdrawn> {
        self.0 = self.0.checked_sub(amount).ok_or(bank::Overdrawn)?;
        Ok(self.0)
    }

    fn balance(&self, _context: &Context) -> u64 {
        self.0
    }

    #[on_start]
    async fn open(&mut self, _context: &Context) -> Result<(), std::io::Error> {
        self.count();
        Ok(())
    }
}

impl MemoryBank {
    fn count(&mut self) {}
}

trait Private {
    fn ping(&self);
}

mod private {
    use skyhold::service;

    #[service]
    trait Inside {
        fn ping(&self) -> u8;
    }

    struct Only;

    #[service]
    impl Inside for Only {
        fn ping(&self) -> u8 {
            1
        }
    }

    pub(super) fn used() -> usize {
        let _ = |handle: InsideHandle| handle.ping();
        std::mem::size_of::<Only>()
    }
}

impl Private for MemoryBank {
    fn ping(&self) {}
}

fn main() {
    private::used();
    MemoryBank(1).ping();
    let _ = |handle: bank::BankHandle| handle.balance();
}
