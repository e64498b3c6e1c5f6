//! The part of libtest's command line that `cargo test` passes to every test program: filters and `--list`.
//!
//! Flags that mean nothing here are passed over, so that no command for the other tests fails on this one.

/// Which scenarios are to run.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) list: bool,
    is_exact: bool,
    filters: Vec<String>,
    skips: Vec<String>,
}

impl Arguments {
    pub(crate) fn read(arguments: impl IntoIterator<Item = String>) -> Self {
        let mut read = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => read.list = true,
                "--exact" => read.is_exact = true,
                "--skip" => read.skips.extend(arguments.next()),
                // These have a value of their own.
                "--test-threads" | "--format" | "--color" | "--logfile" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                _ => read.filters.push(argument),
            }
        }
        read
    }

    /// Whether a scenario is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let is_named =
            |filter: &String| if self.is_exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(is_named)) && !self.skips.iter().any(is_named)
    }
}
