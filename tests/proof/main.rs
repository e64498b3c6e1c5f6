//! The proof: five nodes, each a process of its own in a network namespace of its own, under load, while the system that carries
//! them is made to fail. Each scenario names its fault, shows by other means than the framework's own that it is in force, and then holds
//! the promises of GUARANTEES against what every call and every message left in files.
//!
//! It runs in real time, so it is a program that judges itself and no part of the paused-clock tests. `SKYHOLD_PROOF=full` runs the long
//! scenarios too, `SKYHOLD_PROOF_SEED` repeats a choice of nodes, `SKYHOLD_PROOF_NETWORK=loopback` does without namespaces.
//!
//! Must never touch a network, or a process, that it has not made itself.

#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own clock and tasks")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program, and its output is its result"
)]

mod arguments;
mod board;
mod clock;
mod cluster;
mod ledger;
mod load;
mod namespaces;
mod network;
mod node;
mod process;
mod processor;
mod records;
mod run;
mod scenarios;
mod scene;
mod table;
mod words;

use std::error::Error;
use std::process::ExitCode;

/// What can fail, with whatever error.
type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Which of the three programs a process is.
const ROLE: &str = "SKYHOLD_PROOF_ROLE";

fn main() -> ExitCode {
    let done = match std::env::var(ROLE).as_deref() {
        Ok("node") => node::main(),
        Ok(_) => run::main(),
        Err(_) if cfg!(target_os = "linux") => namespaces::enter().and_then(|()| run::main()),
        Err(_) => {
            println!("the proof reads /proc and uses addresses 127.0.1.x: it runs on Linux only");
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
