//! What goes wrong with calls.

use thiserror::Error as ThisError;

use super::codec::Reason;
use crate::std::link::{Ending, Error};

/// Why a call has no answer.
#[derive(Clone, PartialEq, Eq, Debug, ThisError)]
#[non_exhaustive]
pub enum CallError {
    /// The handler says that it failed.
    #[error("the call failed with code {code}: {text}")]
    Failed {
        /// What the handler means by it, a program can tell.
        code: u32,
        /// What the handler means by it, a person can tell.
        text: String,
    },
    /// The other end serves no calls. Nothing was executed.
    #[error("the peer serves no calls")]
    NoHandler,
    /// The other end has no method of that name. Nothing was executed.
    #[error("the peer has no such method")]
    NoSuchMethod,
    /// The handler stopped before it was done, and says so.
    #[error("the handler has stopped before it was done")]
    Cancelled,
    /// The time is over. Whether the call was executed is not known.
    #[error("the time for the call is over")]
    DeadlinePassed,
    /// The other end has more calls to work on than it takes. Nothing was executed.
    #[error("the peer has as many calls to work on as it takes")]
    Busy,
    /// The handler panicked.
    #[error("the handler of the call panicked")]
    Panicked,
    /// The handler answers in parts, of which this call takes none: make it with [`Caller::stream`](super::Caller::stream). How much of
    /// it was executed is the handler's affair.
    #[error("the method answers in parts: call it with `Caller::stream`")]
    NeedsStream,
    /// The connection was lost, and another process has come in the place of the one that was called. It is not sent the call;
    /// whether the other one has executed it is not known.
    #[error("the process that was called is gone, and another one is in its place")]
    PeerReplaced,
    /// The link has come to its end. Whether the call was executed is not known.
    #[error("the link is closed: {0}")]
    Closed(Ending),
    /// The request, or the part, is longer than the other end takes. Nothing was sent.
    #[error("the message has {len} bytes with what it takes to send it, and the peer takes {max} at most")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The longest.
        max: usize,
    },
    /// The name of a method has 255 bytes at most. Nothing was sent.
    #[error("the name of a method has up to 255 bytes, and this one has {len}")]
    Method {
        /// Its length in bytes.
        len: usize,
    },
    /// As many calls of this end are under way as may be. Nothing was sent.
    #[error("{max} calls are under way, and no more may be: see `calls::Options::max_calls`")]
    TooMany {
        /// The most.
        max: usize,
    },
    /// The other end has sent parts that were not asked for.
    #[error("the peer has sent more parts than it was allowed to")]
    Overrun,
    /// The link belongs to the process that forked this one.
    #[error("the link belongs to the parent of this process: connect in the child")]
    Forked,
}

impl CallError {
    pub(super) fn of(reason: Reason, code: u32, text: &str) -> Self {
        match reason {
            Reason::Failed => CallError::Failed { code, text: text.into() },
            Reason::NoHandler => CallError::NoHandler,
            Reason::NoSuchMethod => CallError::NoSuchMethod,
            Reason::Cancelled => CallError::Cancelled,
            Reason::Expired => CallError::DeadlinePassed,
            Reason::Busy => CallError::Busy,
            Reason::Panicked => CallError::Panicked,
            Reason::NeedsStream => CallError::NeedsStream,
        }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::Closed(ending) => CallError::Closed(ending),
            Error::TooLarge { len, max } => CallError::TooLarge { len, max },
            Error::Forked => CallError::Forked,
            // A link that was made has no other reason not to send or to receive.
            _ => CallError::Closed(Ending::Lost),
        }
    }
}

/// What a [`Handler`](super::Handler) answers if it has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub(super) reason: Reason,
    pub(super) code: u32,
    pub(super) text: String,
}

impl Failure {
    /// It failed: a code for programs and a text for people, of which the caller makes a [`CallError::Failed`].
    pub fn new(code: u32, text: impl Into<String>) -> Self {
        Failure { reason: Reason::Failed, code, text: text.into() }
    }

    /// There is no method of that name: [`CallError::NoSuchMethod`].
    pub fn no_such_method() -> Self {
        Failure::because(Reason::NoSuchMethod)
    }

    /// It has stopped before it was done: [`CallError::Cancelled`].
    pub fn cancelled() -> Self {
        Failure::because(Reason::Cancelled)
    }

    pub(super) fn because(reason: Reason) -> Self {
        Failure { reason, code: 0, text: String::new() }
    }
}

/// Why nobody waits for what a handler does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ThisError)]
#[non_exhaustive]
pub enum Stopped {
    /// The caller has cancelled the call, or is gone.
    #[error("the call was cancelled")]
    Cancelled,
    /// The time for it is over.
    #[error("the time for the call is over")]
    DeadlinePassed,
    /// The caller has asked for an answer, and not for a stream of parts.
    #[error("the caller takes no parts")]
    NotAStream,
    /// The part is longer than the caller takes.
    #[error("the part has {len} bytes with what it takes to send it, and the caller takes {max} at most")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The longest.
        max: usize,
    },
}

/// A handler that cannot go on has stopped, or failed; of a call that takes no parts a [`CallError::NeedsStream`] is made.
impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Cancelled => Failure::cancelled(),
            Stopped::DeadlinePassed => Failure::because(Reason::Expired),
            Stopped::NotAStream => Failure::because(Reason::NeedsStream),
            Stopped::TooLarge { .. } => Failure::new(0, stopped.to_string()),
        }
    }
}
