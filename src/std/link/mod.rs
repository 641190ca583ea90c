//! Links: messages between two processes over memory that nobody else can reach, and that leaves nothing behind.
//!
//! A listener and a connector meet on a Unix socket, or a parent hands a socket to its child. Each end makes a file without
//! a name, sealed so that it keeps its size and only that end can write it, and passes it over the socket: one ring of bytes each way. A message then is copied
//! in and out, without a system call unless the other end sleeps. Where there is no shared memory to be had, the same messages go
//! over the socket; so does each that is too long for the ring, in its turn.
//!
//! * **In order, each once.** Messages are kept until they are acknowledged. When a connection is lost it is made anew, and what
//!   the other end has not received is sent again. That holds for as long as both processes live; what a process has
//!   acknowledged and died before it has acted on is gone. With [`Policy::Deferred`](crate::ack::Policy::Deferred) the program
//!   says when it has.
//! * **Peers are not trusted.** Neither end can write what the other has sent (on processors of 64 bits). All that is read of the
//!   memory is read once and checked, and messages are handed out as copies. A peer that writes what cannot be right is
//!   disconnected, and told why.
//! * **Nothing is left behind.** The memory goes with the two processes, and the socket's file with the listener.
//! * **One or two ends in hand.** A [`Link`] has all methods of its [`Receiver`], as which it can be used; of its [`Sender`]'s it has
//!   `send`, and the others are had by [`Link::sender`]. [`Link::split`] makes two of it, [`Link::into_async`] two for async code.
//! * **Backpressure is visible:** [`Sender::try_send`] says [`Error::WouldBlock`], [`Sender::send`] waits, [`Sender::send_timeout`]
//!   waits for a while.

/// What stands in there is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/links.md")]
mod documentation {}

mod address;
mod asynchronous;
mod biased;
pub mod calls;
mod connection;
mod error;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod halves;
mod handshake;
mod incoming;
mod listener;
mod metrics;
mod options;
mod outgoing;
mod reactor;
mod redial;
mod region;
mod shared;
mod wakers;
mod wire;

pub use asynchronous::{AsyncReceiver, AsyncSender, PollReceiver};
pub use error::{Ending, Error, Event};
pub use halves::{Link, Passed, Receiver, Sender};
pub use listener::{Expected, Listener};
pub use metrics::Metrics;
pub use options::{Allow, DEFAULT_SIZE, MAX_MESSAGE, MAX_SIZE, MIN_SIZE, Options, Reconnect};
pub use wire::{Fault, Refusal};

/// A way that messages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Rings in memory that both ends have mapped.
    SharedMemory,
    /// The socket.
    Socket,
}
