//! The server of a bench: this program again, as a child process that tells its addresses and serves until its standard
//! input ends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use crate::floor::{Flavor, run};

/// Set for the server: which of the flavors its runtime has.
const SERVER: &str = "SKYHOLD_BENCH_SERVER";

/// The server's process, which ends with its standard input.
pub(crate) struct Server<const ADDRESSES: usize> {
    process: Child,
    pub(crate) addresses: [String; ADDRESSES],
}

impl<const ADDRESSES: usize> Server<ADDRESSES> {
    pub(crate) fn start(flavor: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("a bench is a file"))
            .env(SERVER, flavor.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the bench can be started again");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let addresses = std::array::from_fn(|_| {
            lines.next().expect("the server tells its addresses").expect("its output is text")
        });
        Self { process, addresses }
    }

    /// Its number among the system's processes.
    #[allow(dead_code, reason = "not every bench looks at it")]
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl<const ADDRESSES: usize> Drop for Server<ADDRESSES> {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait(); // it is gone already
    }
}

/// Whether this process is the server, and with which runtime.
pub(crate) fn flavor_of_server() -> Option<Flavor> {
    let flavor = std::env::var(SERVER).ok()?;
    Some(if flavor == "0" { Flavor::ALL[0] } else { Flavor::ALL[1] })
}

/// The server's whole life: `begin` gives what it serves with, and its addresses.
pub(crate) fn serve<T, F, const ADDRESSES: usize>(flavor: Flavor, begin: F)
where
    T: Send + 'static,
    F: Future<Output = (T, [String; ADDRESSES])> + Send + 'static,
{
    let runtime = flavor.runtime();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(stop);
    });
    run(&runtime, async {
        let (_serves, addresses) = begin.await;
        writeln!(io::stdout(), "{}", addresses.join("\n")).expect("the bench reads");
        let _ = stopped.await; // by being dropped
    });
}
