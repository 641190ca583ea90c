//! How a command ends.

use std::io;
use std::process::ExitCode;

use conduit::Error;
use conduit::topic::decode::FormatError;

use crate::output;

/// What a command returns.
pub type Result<T = Outcome> = std::result::Result<T, Failure>;

/// It did what it could.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Outcome {
    Done = 0,
    /// Messages were lost, or the machine is not as it should be.
    Degraded = 3,
    TimedOut = 4,
    /// Before anything was done. A command that is interrupted after that is done.
    Interrupted = 130,
}

/// It did not.
#[derive(Debug)]
pub enum Failure {
    Failed(String),
    Usage(String),
    /// Whoever read the output has enough.
    OutputClosed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidTopic { .. }
            | Error::InvalidNode { .. }
            | Error::InvalidDomain { .. }
            | Error::InvalidOption { .. } => Failure::Usage(error.to_string()),
            Error::NotFound { topic } => {
                Failure::Failed(format!("topic {topic} does not exist: `conduit topics` lists those that do"))
            }
            error => Failure::Failed(error.to_string()),
        }
    }
}

#[cfg(feature = "tank")]
impl From<conduit::tank::Error> for Failure {
    fn from(error: conduit::tank::Error) -> Self {
        match error {
            conduit::tank::Error::Topic(error) => error.into(),
            conduit::tank::Error::InvalidOption { .. } => Failure::Usage(error.to_string()),
            error => Failure::Failed(error.to_string()),
        }
    }
}

#[cfg(feature = "net")]
impl From<conduit::net::ClientError> for Failure {
    fn from(error: conduit::net::ClientError) -> Self {
        use conduit::net::ClientError;
        match error {
            ClientError::InvalidOption { .. } | ClientError::Address(_) | ClientError::Event(_) => {
                Failure::Usage(error.to_string())
            }
            error => Failure::Failed(error.to_string()),
        }
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        Failure::Usage(error.to_string())
    }
}

/// Of standard output, whose other end may go away at any time.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Failed(format!("cannot write to standard output: {error}")),
        }
    }
}

/// Says on standard error what went wrong, and turns it all into an exit code.
pub fn exit_code(result: Result) -> ExitCode {
    match result {
        Ok(outcome) => ExitCode::from(outcome as u8),
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::Failed(reason)) => {
            output::note(format_args!("{reason}"));
            ExitCode::from(1)
        }
        Err(Failure::Usage(reason)) => {
            output::note(format_args!("{reason}"));
            ExitCode::from(2)
        }
    }
}
