//! What becomes of events, and what may go wrong.

use std::fmt;

use crate::ack::Status;
use crate::frame::EncodeError;

/// What became of an event in the end. There is one for each event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The event's number.
    pub sequence: u64,
    /// What became of it.
    pub fate: Fate,
    /// How often it was refused before, and sent again.
    pub retries: u32,
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// What the server said. [`Status::Throttled`] if it said so until [`Retry`](super::Retry) gave up. [`Status::Duplicate`] to an event that
    /// was to be durable: it was taken before, and whether it is on disk was not said.
    Answered(Status),
    /// It was sent, and nobody asked: [`Acks::None`](super::Acks::None).
    Sent,
    /// The connection was given up: it may have been taken or not.
    Unanswered,
}

impl Fate {
    /// Whether it was taken, as far as somebody asked.
    pub const fn is_success(self) -> bool {
        match self {
            Fate::Answered(status) => status.is_success(),
            Fate::Sent => true,
            Fate::Unanswered => false,
        }
    }
}

impl fmt::Display for Fate {
    /// One or two words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fate::Answered(Status::Accepted) => "accepted",
            Fate::Answered(Status::Durable) => "durable",
            Fate::Answered(Status::Duplicate) => "duplicate",
            Fate::Answered(Status::Throttled) => "throttled",
            Fate::Answered(Status::Dropped) => "dropped",
            Fate::Answered(Status::DeadLettered) => "dead-lettered",
            Fate::Answered(Status::BadFrame) => "bad frame",
            Fate::Answered(Status::BadTopic) => "bad topic",
            Fate::Answered(Status::TooLarge) => "too large",
            Fate::Answered(Status::Unauthorized) => "unauthorized",
            Fate::Answered(Status::Expired) => "expired",
            Fate::Sent => "sent",
            Fate::Unanswered => "unanswered",
        })
    }
}

/// What else happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Frames that were refused, or lost with a connection, and sent again.
    pub resent: u64,
    /// Answers to events that were not on their way: never sent, or answered before.
    pub stray_answers: u64,
    /// Events that were sent once and answered as duplicates: another process has used their numbers, as it has the same
    /// producer id, and the server has its events instead of these.
    pub collisions: u64,
    /// How often the server could not read what came.
    pub bad_frames: u64,
    /// With [`Acks::None`](super::Acks::None): events that were written to a connection which broke, and that the server did not have when it
    /// was reached again.
    pub unconfirmed: u64,
}

/// Why an event was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// As many wait for their answers as may, or the first event's number is not known before the server's first answer.
    #[error("no room: as many events wait for their answers as may")]
    Full,
    /// It makes no frame.
    #[error("the event makes no frame: {0}")]
    Frame(#[from] EncodeError),
    /// Longer than the server takes.
    #[error("the event has {len} bytes as a frame, and the server takes {max}: send less at a time")]
    TooLarge {
        /// Bytes of its frame.
        len: usize,
        /// Bytes that the server takes.
        max: usize,
    },
    /// There are no numbers left.
    #[error("no sequence is left for this producer: choose another producer id")]
    Exhausted,
}

/// Why there is no way to go on with this server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The window is none.
    #[error("a window of {0} is not 1 to 1024")]
    Window(u32),
    /// The numbers begin with 0, or the token is too long.
    #[error("the greeting cannot be made: {0}")]
    Greeting(EncodeError),
    /// Sequence 0 is none.
    #[error("events are numbered from 1, not from 0")]
    First,
    /// The server speaks another version.
    #[error("the server speaks version {0} of the frame, and this client version 1")]
    Version(u32),
    /// The server does not let this client in.
    #[error("the server refuses the token, or asks for one")]
    Unauthorized,
    /// The server keeps no events.
    #[error("the server keeps no events on disk, so none ever becomes durable: ask for accepted")]
    NotDurable,
    /// The server has seen numbers that this client has not given yet.
    #[error(
        "the server has seen sequence {last} of this producer, and this client gave {given} last: another one uses its id"
    )]
    Shared {
        /// The last that the server saw.
        last: u64,
        /// The last that was given here.
        given: u64,
    },
}
