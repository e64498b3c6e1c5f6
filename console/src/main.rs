//! `skyhold`: the console of a cluster. Every command is a typed call to the managers of the cluster's nodes, over the connection of a client.
//!
//! Invariant: what it prints is the answer, on standard output, and nothing else; what went wrong goes to standard error, with an exit code that says which kind it was.

#![allow(clippy::disallowed_methods, reason = "a program of its own, which has its own clock and tasks")]
#![allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "texts for people are short, and written once"
)]

mod args;
mod commands;
mod connect;
mod failure;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Arguments, Command};
use failure::Failure;
use output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    if let Command::Completion { shell } = arguments.command {
        return finish(output.raw(&completion(shell)));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(Failure::failed(format!("no runtime: {error}")))),
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = commands::run(arguments, &output) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    });
    // A reader of the terminal, or a name that does not resolve, may be waiting on a thread of its own.
    runtime.shutdown_background();
    finish(outcome)
}

fn completion(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "skyhold", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn finish(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
