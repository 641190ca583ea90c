//! What goes wrong with links.

use std::io;

use thiserror::Error as ThisError;

use super::Transport;
use super::options::{MAX_MESSAGE, MAX_SIZE, MIN_SIZE};
use super::wire::{Fault, Refusal};

/// What went wrong, where, and what to do.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// A ring cannot have that size.
    #[error("a link's ring has from {MIN_SIZE} to {MAX_SIZE} bytes, and {bytes} were asked for")]
    Size {
        /// What was asked for.
        bytes: usize,
    },
    /// Messages cannot be allowed to be that long.
    #[error("the longest message of a link can have from 1 to {MAX_MESSAGE} bytes, and {bytes} were asked for")]
    MaxMessage {
        /// What was asked for.
        bytes: usize,
    },
    /// With that window nothing could be sent.
    #[error("a link's window has room for 1 message or more")]
    Window,
    /// The address is none.
    #[error("`{address}` is no address of a link: it is a path of up to 107 bytes, or an abstract name behind an `@`")]
    Address {
        /// As given.
        address: String,
    },
    /// Somebody listens there.
    #[error("somebody listens at {address} already")]
    InUse {
        /// Where.
        address: String,
    },
    /// What is there is no socket, and is left alone.
    #[error("{address} is a file and no socket: move it away, or listen elsewhere")]
    NotASocket {
        /// Where.
        address: String,
    },
    /// The other end is another user's.
    #[error("the peer at {address} belongs to user {uid}, who is not allowed: see `Options::allow`")]
    PeerNotAllowed {
        /// Where.
        address: String,
        /// Whose it is.
        uid: u32,
    },
    /// The server said no.
    #[error("the server at {address} refused: {refusal}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// The message is longer than the other end takes.
    #[error("the message has {len} bytes, and the peer takes {max} at most")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The longest.
        max: usize,
    },
    /// The message is longer than the room for it, and stays to be received.
    #[error("the next message has {len} bytes, more than there is room for")]
    TooShort {
        /// Its length in bytes.
        len: usize,
    },
    /// There is no room now, or no message.
    #[error("the link has no room, or no message, at this moment")]
    WouldBlock,
    /// There was no room, or no message, in the time given.
    #[error("the time is over, and the link had no room, or no message")]
    TimedOut,
    /// The link has come to its end.
    #[error("the link is closed: {0}")]
    Closed(#[from] Ending),
    /// The link belongs to the process that forked this one.
    #[error("the link belongs to the parent of this process: connect in the child")]
    Forked,
    /// The system said no.
    #[error("cannot {action} {address}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// With what.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The other end's greeting was none.
    #[error("the peer at {address} was disconnected: {fault}")]
    Handshake {
        /// Where.
        address: String,
        /// What was wrong.
        fault: Fault,
    },
}

/// How a connection has ended, and with it a link if it does not come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ThisError)]
#[non_exhaustive]
pub enum Ending {
    /// The other end closed it.
    #[error("the peer closed it")]
    ByPeer,
    /// This end closed it.
    #[error("it was closed on this side")]
    Here,
    /// The connection broke: the other end is gone, or cannot be reached.
    #[error("the connection is lost")]
    Lost,
    /// The other end did what it must not, and was disconnected.
    #[error("the peer was disconnected: {0}")]
    Fault(#[from] Fault),
    /// The other end says that this one did what it must not.
    #[error("the peer hung up, because of what it was sent")]
    Blamed,
    /// The other end came back by another connection.
    #[error("the peer has made another connection")]
    Replaced,
    /// It was tried again as often as it was to be.
    #[error("the connection was lost and did not come back in {attempts} attempts")]
    GaveUp {
        /// How often.
        attempts: u32,
    },
}

/// What happens to a link while nobody asks: see [`Options::on_event`](super::Options::on_event).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The connection was lost. If it is to come back, [`Event::Reconnected`] or [`Event::GaveUp`] follows.
    Disconnected(Ending),
    /// The connection is there again.
    Reconnected {
        /// After how many attempts, as far as they are made on this side.
        attempts: u32,
        /// Whether the other end is the same as before. If it is another, it knows nothing of what was received before, and is sent
        /// again what was not acknowledged.
        same_peer: bool,
    },
    /// It does not come back.
    GaveUp {
        /// After how many attempts.
        attempts: u32,
    },
    /// Messages go this way from now on, or from the beginning.
    Transport {
        /// The way.
        transport: Transport,
        /// Why it is not the other one, if that was wished for.
        why: Option<String>,
    },
    /// An attempt failed, or something else that no call is there to be told of.
    Error(String),
}
