//! Where events are kept beyond their topics. The engine has no files: it defines what it needs, and whoever starts it brings
//! something that does it, such as the `tank` feature.

use std::fmt;

use super::event::Event;
use crate::dedup::ProducerId;
use crate::frame::Durability;

/// Why a store could not do what it was asked for.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps events that must outlive the process. One thread of the engine has it: it takes a group of events, and has them
/// committed together.
pub trait DurableLog: Send {
    /// What an event survives once [`commit`](DurableLog::commit) has returned.
    fn durability(&self) -> Durability;

    /// Tells of each event that the log holds, by producer and sequence, in any order. Called once, before the first
    /// [`append`](DurableLog::append): what is told here is a duplicate when it comes again.
    ///
    /// # Errors
    ///
    /// The log cannot be read: the engine does not start.
    fn recover(&mut self, seen: &mut dyn FnMut(&ProducerId, u64)) -> Result<(), StoreError>;

    /// Takes an event into the group that is committed next.
    ///
    /// # Errors
    ///
    /// It was not taken: the engine offers the same event again after a while.
    fn append(&mut self, event: &Event<'_>) -> Result<(), StoreError>;

    /// Has all that was appended survive what [`durability`](DurableLog::durability) says.
    ///
    /// # Errors
    ///
    /// Nothing is lost: the group is still there, and the engine calls again after a while.
    fn commit(&mut self) -> Result<(), StoreError>;
}

/// Keeps what could not be processed, with the reason, to be looked at and sent again. One thread of the engine has it.
pub trait DeadLetters: Send {
    /// Whether more is taken. When it is full the engine drops and counts what would come here.
    fn has_room(&mut self) -> bool;

    /// Takes a letter. Also one beyond the room that there is: a few may be on their way when it becomes full.
    ///
    /// # Errors
    ///
    /// It was not taken: the engine offers the same letter again after a while.
    fn keep(&mut self, letter: &DeadLetter<'_>) -> Result<(), StoreError>;

    /// Has all that was taken survive the end of the process. Called when no letter came for a while, and at the end.
    ///
    /// # Errors
    ///
    /// Nothing is lost: the engine calls again after a while.
    fn flush(&mut self) -> Result<(), StoreError>;
}

/// An event that could not be processed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeadLetter<'a> {
    /// The event.
    pub event: Event<'a>,
    /// Why it is here.
    pub reason: DeadReason,
    /// How often a handler was given it.
    pub attempts: u32,
    /// What the handler said, if it was one.
    pub detail: &'a str,
}

/// Why an event is among the dead letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum DeadReason {
    /// Its lane was too full for events of its priority.
    Backpressure = 0,
    /// Its connection was not read for too long, as its lane was full, and urgent events may have waited behind it.
    HeldTooLong = 1,
    /// A handler refused it.
    Rejected = 2,
    /// A handler failed as often as it may.
    RetriesExhausted = 3,
    /// A handler failed, and too many others wait for their next try.
    RetriesFull = 4,
    /// A handler panicked.
    Panicked = 5,
    /// It could not be published on its topic, and no handler was given it.
    Unpublished = 6,
}

impl DeadReason {
    /// All of them.
    pub const ALL: [DeadReason; 7] = [
        DeadReason::Backpressure,
        DeadReason::HeldTooLong,
        DeadReason::Rejected,
        DeadReason::RetriesExhausted,
        DeadReason::RetriesFull,
        DeadReason::Panicked,
        DeadReason::Unpublished,
    ];

    /// The word for it in files and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            DeadReason::Backpressure => "backpressure",
            DeadReason::HeldTooLong => "held_too_long",
            DeadReason::Rejected => "rejected",
            DeadReason::RetriesExhausted => "retries_exhausted",
            DeadReason::RetriesFull => "retries_full",
            DeadReason::Panicked => "panicked",
            DeadReason::Unpublished => "unpublished",
        }
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
