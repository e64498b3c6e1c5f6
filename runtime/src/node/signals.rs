//! The signals that ask a process to end, or to read its configuration again.
//!
//! Invariant: the one place where signals are listened to.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The process is to end. The signal's name.
    End(&'static str),
    /// The configuration is to be read again.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    Reload,
}

/// SIGTERM and Ctrl-C, and SIGHUP where it means something; elsewhere than on Unix, Ctrl-C alone.
#[cfg(unix)]
pub(crate) struct Signals {
    term: Signal,
    interrupt: Signal,
    /// Where there is nothing to reload it ends the process as if nobody listened.
    hangup: Option<Signal>,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn new(reloads: bool) -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: reloads.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// Ends with the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Wanted {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => Wanted::End("SIGTERM"),
            _ = self.interrupt.recv() => Wanted::End("Ctrl-C"),
            () = hangup => Wanted::Reload,
        }
    }

    /// Ends with the next signal that asks the process to end, and gives its name. Cancel safe.
    pub(crate) async fn end(&mut self) -> &'static str {
        loop {
            if let Wanted::End(name) = self.next().await {
                return name;
            }
        }
    }
}

/// SIGTERM and Ctrl-C; elsewhere than on Unix, Ctrl-C alone.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(crate) fn new(_reloads: bool) -> io::Result<Self> {
        Ok(Self)
    }

    /// Ends with the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Wanted {
        Wanted::End(self.end().await)
    }

    /// Ends with the next signal, and gives its name. Cancel safe.
    pub(crate) async fn end(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => std::future::pending().await, // no signal will ever come
        }
    }
}
