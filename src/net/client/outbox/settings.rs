//! What an outbox is like.

use std::time::Duration;

use crate::dedup::ProducerId;

/// The most events that can be on their way at a time: a server knows duplicates of a producer among so many.
pub const MAX_WINDOW: u32 = 1024;

/// What a client wants to be told of each event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Acks {
    /// Nothing: send and forget. What a broken connection swallowed is counted and not sent again.
    None,
    /// That it is in a lane.
    #[default]
    Accepted,
    /// That it is on disk, as the server's policy says.
    Durable,
}

/// The number of the first event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum First {
    /// Behind the last that the server has seen of this producer.
    #[default]
    BehindLast,
    /// This one, whatever was sent before: for producers that number their events themselves and send them again after a
    /// restart.
    At(u64),
}

/// How long an event that the server refuses for now is sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    /// At most so many times, the first one included.
    pub tries: u32,
    /// Until so long after it was first refused.
    pub deadline: Duration,
}

impl Default for Retry {
    /// For 60 s, as often as the server likes.
    fn default() -> Self {
        Retry { tries: u32::MAX, deadline: Duration::from_secs(60) }
    }
}

/// What an [`Outbox`](super::Outbox) is like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Who sends, across connections.
    pub producer: ProducerId,
    /// What the server may ask for.
    pub token: Vec<u8>,
    /// What to be told of each event.
    pub acks: Acks,
    /// How many events may wait for their answers: 1 to [`MAX_WINDOW`]. The server may allow less at a time.
    pub window: u32,
    /// How many bytes of frames may wait. One event is always taken.
    pub max_bytes: usize,
    /// The number of the first event.
    pub first: First,
    /// Whether each body gets a checksum of its own.
    pub checksum: bool,
    /// What to do about refusals that may pass.
    pub retry: Retry,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            producer: [0; 16],
            token: Vec::new(),
            acks: Acks::default(),
            window: MAX_WINDOW,
            max_bytes: 64 << 20,
            first: First::default(),
            checksum: false,
            retry: Retry::default(),
        }
    }
}
