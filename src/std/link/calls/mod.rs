//! Calls over a link: requests and their answers, any number at a time, both ways.
//!
//! [`Link::into_caller`](super::Link::into_caller) makes calls, [`Link::serve`](super::Link::serve) works on them, and can make some
//! itself; [`Options`] says how. See [`Caller`] for an example.
//!
//! * **Deadlines.** Each call has a time, which the other end is told as what remains of it. Its handler can look
//!   how much there is left, and what is not begun in time is not begun.
//! * **Cancellation.** A call that is dropped is cancelled: one that is not sent yet never is, one that is not begun is
//!   not begun, and a handler at work can look.
//! * **Streams.** An answer may come in parts. What nobody takes stays with whoever makes it, and keeps no other call back.
//! * **Lost connections.** If the same process comes back, all calls go on, each executed once. If another one comes in its
//!   place, calls under way fail with [`CallError::PeerReplaced`]; the new one is never asked to execute what the old one
//!   may have, and what is asked of it later it is asked once.
//! * **Peers are not trusted.** What they say is checked, and bounded in memory; what has no place is counted in [`Metrics`].

mod caller;
mod codec;
mod engine;
mod error;
mod metrics;
mod options;
mod outbox;
mod sending;
mod service;
mod table;
mod tasks;

#[cfg(any(fuzzing, test))]
pub(super) use codec::reads_as_written;

pub use caller::{Call, Caller, Stream};
pub use error::{CallError, Failure, Stopped};
pub use metrics::Metrics;
pub use options::Options;
pub use service::{Handler, Methods, Request, Service};
