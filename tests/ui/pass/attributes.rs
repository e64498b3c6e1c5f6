//! `cfg`, `deprecated` and docs go where they belong, and the user's lints have nothing to say about the expansion.
#![deny(warnings, missing_docs, unreachable_pub)]

use skyhold::{Context, service};

/// Counts.
#[derive(Default)]
#[service(concurrency = 2)]
pub struct Counter {
    total: u64,
}

#[service]
impl Counter {
    /// Adds.
    pub async fn add(&mut self, by: u64) -> u64 {
        self.total += by;
        self.total
    }

    /// There are two of these, and one is ever there.
    #[cfg(unix)]
    pub fn platform(&self) -> u8 {
        1
    }

    /// There are two of these, and one is ever there.
    #[cfg(not(unix))]
    pub fn platform(&self) -> String {
        String::new()
    }

    /// Not compiled, and its type does not exist.
    #[cfg(any())]
    pub fn missing(&mut self, missing: Missing) -> Missing {
        missing
    }

    /// Old.
    #[deprecated(note = "use `add`")]
    pub fn increment(&mut self) {
        self.total += 1;
    }

    /// Takes the context, and an argument that it changes.
    pub fn watch(&self, _context: &Context, mut name: String) -> String {
        name.push('!');
        name
    }

    #[cfg(any())]
    #[on_start]
    fn start(&mut self) {}

    #[cfg(all())]
    #[on_start]
    async fn start(&mut self) {}
}

mod inner {
    use skyhold::service;

    struct Hidden(u8);

    #[service]
    impl Hidden {
        pub fn get(&self) -> u8 {
            self.0
        }
    }

    #[service]
    #[cfg(any())]
    impl Nothing {
        pub fn get(&self) -> u8 {
            self.0
        }
    }

    pub(crate) fn size() -> usize {
        std::mem::size_of::<Hidden>()
    }
}

/// Every method may be away.
pub struct Away;

#[service]
impl Away {
    /// Away.
    #[cfg(any())]
    pub fn gone(&self) {}
}

/// What a user's stricter lints could find in an enum.
#[deny(missing_debug_implementations, variant_size_differences)]
mod strict {
    use skyhold::service;

    #[derive(Debug)]
    pub(crate) struct Large;

    #[service]
    impl Large {
        /// Takes much.
        pub fn take(&mut self, _much: [u64; 32]) {}

        /// Takes little.
        pub fn leave(&mut self) {}
    }
}

fn main() {
    inner::size();
    let _ = strict::Large;
    let _ = |counter: CounterHandle| {
        let _: skyhold::Call<u8, _> = counter.platform();
    };
}
