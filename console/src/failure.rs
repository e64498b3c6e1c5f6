//! Why a command did not do what it was asked for, and with which code the program ends.
//!
//! Invariant: a text says what to do, where anything can be done.

use std::io::{self, Write as _};
use std::process::ExitCode;

use skyhold::{CallError, LookupError, ManageError};

/// What went wrong.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was refused, or failed. Exit code 1.
    Failed(String),
    /// What was asked for makes no sense. Exit code 2, as for arguments that cannot be read.
    Usage(String),
    /// Nobody was reached, or whoever was did not let it in. Exit code 3.
    Unreached(String),
    /// Nobody reads the output any more. No failure.
    Closed,
}

impl Failure {
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// Says it, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (code, text) = match self {
            Self::Closed => return ExitCode::SUCCESS,
            Self::Failed(text) => (1, text),
            Self::Usage(text) => (2, text),
            Self::Unreached(text) => (3, text),
        };
        let _ = writeln!(io::stderr(), "skyhold: {text}"); // there is nobody else to tell
        ExitCode::from(code)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let note = if error.may_have_run() { " (it may have been done)" } else { "" };
        match error {
            CallError::NoRoute(_) | CallError::Disconnected(_) => Self::Unreached(format!("{error}{note}")),
            _ => Self::Failed(format!("{error}{note}")),
        }
    }
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        Self::Unreached(error.to_string())
    }
}

impl From<ManageError> for Failure {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::Unreachable(_) => Self::Unreached(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(format!("cannot write: {error}")),
        }
    }
}
