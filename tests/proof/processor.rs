//! How much processor time a node's process got: what a busy machine took is no fault of what runs there.
//!
//! Three witnesses, of which none is the framework: a thread that only sleeps and is woken late, the system's own account of how long each
//! thread was ready and had to wait, and a task of the runtime that only sleeps.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{self, Micros, micros};
use crate::records::Records;

/// How long the sleepers sleep, and from when on their waking is late.
const NAP: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_millis(10);

/// After how many naps the system's account is read, and from when on a wait counts.
const NAPS: usize = 10;
const WAITED: Duration = Duration::from_millis(20);

/// Writes down when this thread was woken late, and when others of this process waited for a processor. One of the runtime's threads may be
/// kept waiting, with a task in its hands that no other thread can take, while all others run.
pub(crate) fn watch(late: &Records, waited: &Records) {
    let mut woken = (clock::now(), Instant::now());
    let mut accounts = (clock::now(), waits());
    loop {
        for _ in 0..NAPS {
            std::thread::sleep(NAP);
            woken = write_if_late(late, woken);
        }
        let now = (clock::now(), waits());
        for (thread, total) in &now.1 {
            let wait = total.saturating_sub(accounts.1.get(thread).copied().unwrap_or(*total));
            if wait >= WAITED {
                // A wait is told when it is over, so it may have begun before the last look.
                write(waited, accounts.0.saturating_sub(micros(wait)), now.0);
            }
        }
        accounts = now;
    }
}

/// Writes down when a task that only sleeps was woken late: then the runtime had more to do than it could.
pub(crate) async fn watch_from_runtime(behind: Arc<Records>) {
    let mut woken = (clock::now(), Instant::now());
    loop {
        tokio::time::sleep(NAP).await;
        woken = write_if_late(&behind, woken);
    }
}

fn write_if_late(records: &Records, slept: (Micros, Instant)) -> (Micros, Instant) {
    let now = (clock::now(), Instant::now());
    if now.1 - slept.1 > NAP + LATE {
        write(records, slept.0 + micros(NAP), now.0);
    }
    now
}

fn write(records: &Records, from: Micros, to: Micros) {
    records.add([from, to].map(u64::to_le_bytes).as_flattened());
}

/// How long each thread of this process has waited for a processor, in sum, as far as the system says.
fn waits() -> HashMap<std::ffi::OsString, Duration> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let wait = |thread: std::fs::DirEntry| {
        let account = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanos = account.split(' ').nth(1)?.parse().ok()?;
        Some((thread.file_name(), Duration::from_nanos(nanos)))
    };
    threads.filter_map(wait).collect()
}
