//! What the system tells of the process in which a node runs.
//!
//! Invariant: what it does not tell is `None`, and never a guess.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time;

/// The process in which a node runs, with everything else that runs in it: a process may hold several nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessReport {
    /// How much memory it occupies, in bytes; `None` where the system does not tell, as for `threads`: only Linux does.
    pub resident: Option<u64>,
    /// How long its threads have run on processors, in all; `None` where the system does not tell.
    pub cpu: Option<Duration>,
    /// How many threads it has.
    pub threads: Option<u64>,
}

impl ProcessReport {
    pub(super) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = number(&status, "VmRSS:");
        Self {
            resident: kib.and_then(|kib| kib.checked_mul(1024)),
            cpu: time::process_cpu(),
            threads: number(&status, "Threads:"),
        }
    }
}

/// The number behind a key of the process's status.
fn number(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_its_keys() {
        let status = "Name:\ta\nVmRSS:\t    5120 kB\nThreads:\t3\n";
        assert_eq!((number(status, "VmRSS:"), number(status, "Threads:")), (Some(5120), Some(3)));
        assert_eq!(number("", "VmRSS:"), None);
        assert_eq!(number("VmRSS:\tmuch\n", "VmRSS:"), None);
    }
}
