//! What can go wrong with a client.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::outbox::{Fault, Refused};
use crate::frame;

/// What went wrong, where, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// An option has a value that cannot work.
    #[error("option {option}: {reason}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The address leads nowhere.
    #[error("the address leads nowhere: {0}: write HOST:PORT")]
    Address(#[source] Arc<io::Error>),
    /// Nobody answers there, or not as a server does.
    #[error("no event server at {addr}: {source}")]
    Connect {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// There is no way to go on with this server.
    #[error("{fault} ({addr})")]
    Server {
        /// Where.
        addr: SocketAddr,
        /// Why.
        fault: Fault,
    },
    /// The connection broke, and was not to be had again. What had no answer by then is told as
    /// [`Fate::Unanswered`](super::outbox::Fate::Unanswered).
    #[error("the connection to {addr} is lost, and {attempts} attempts brought none back: {source}")]
    Lost {
        /// Where.
        addr: SocketAddr,
        /// How many attempts there were.
        attempts: u32,
        /// What the last one said.
        source: Arc<io::Error>,
    },
    /// An event was not taken, and is never going to be.
    #[error(transparent)]
    Event(#[from] Refused),
    /// Not everything was answered in time. It may be later.
    #[error("{waiting} events are not answered yet")]
    TimedOut {
        /// How many.
        waiting: usize,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl ClientError {
    pub(super) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| ClientError::System { action, source: Arc::new(source) }
    }
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Break {
    /// Another one may do better.
    ForNow(io::Error),
    /// None would.
    ForGood(Fault),
    /// It was closed here.
    Closed,
}

impl From<io::Error> for Break {
    fn from(error: io::Error) -> Self {
        Break::ForNow(error)
    }
}

impl From<frame::Fault> for Break {
    fn from(fault: frame::Fault) -> Self {
        let reason = format!("the answer is not that of an event server: {fault}");
        Break::ForNow(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

/// The server closed the connection.
pub(super) fn closed_by_server() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")
}

/// No welcome came in time.
pub(super) fn no_welcome() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it takes connections, but does not answer a greeting")
}
