//! What can go wrong with a server.

use std::io;
use std::net::SocketAddr;

/// What went wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has a value that cannot work.
    #[error("option {option}: {reason}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// An address cannot be listened at.
    #[error("cannot listen at {protocol} {address}: {source}")]
    Listen {
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever can reach an address could send events.
    #[error(
        "{address} can be reached from other machines: set a token that clients have to send, or listen at 127.0.0.1"
    )]
    TokenMissing {
        /// Where.
        address: SocketAddr,
    },
    /// The system could not do something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
