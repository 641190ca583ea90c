//! What goes through the engine.

use std::fmt;
use std::net::SocketAddr;

use crate::dedup::ProducerId;
use crate::frame::{Encoding, Priority};

/// A message for a topic, as handlers and stores see it. It borrows the bytes that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// The topic's name, checked.
    pub topic: &'a str,
    /// The message.
    pub payload: &'a [u8],
    /// How much it matters.
    pub priority: Priority,
    /// How the payload is to be read.
    pub encoding: Encoding,
    /// Who made it, across connections; all zeros for who did not say.
    pub producer: ProducerId,
    /// Its number within its producer, from 1; 0 if it has none.
    pub sequence: u64,
    /// When it was made, in nanoseconds since 1970; when it was received, if its producer did not say.
    pub timestamp: u64,
    /// When it was received, in nanoseconds since 1970.
    pub received: u64,
    /// Which way it came.
    pub origin: Origin,
}

/// Which way an event came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// From this program.
    Local,
    /// Over a TCP connection from there.
    Tcp(SocketAddr),
    /// In a datagram from there.
    Udp(SocketAddr),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Local => f.write_str("local"),
            Origin::Tcp(peer) => write!(f, "tcp {peer}"),
            Origin::Udp(peer) => write!(f, "udp {peer}"),
        }
    }
}
