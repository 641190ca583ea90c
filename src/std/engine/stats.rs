//! What the engine counts.

use super::counter::Counter;
use super::histogram::{Histogram, Snapshot};
use super::stores::DeadReason;
use crate::backpressure::State;
use crate::frame::Durability;

/// Why an event was dropped, or its producer told to send it again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum DropReason {
    /// Its lane was too full for events of its priority.
    Backpressure = 0,
    /// Its lane was too full for now, and its producer could not be told to send it again.
    Throttled = 1,
    /// Its lane had no room at all.
    LaneFull = 2,
    /// The engine's memory was used up.
    Memory = 3,
    /// It was to be kept with the dead letters, which were full, or are not kept.
    DeadLettersFull = 4,
    /// Too many events wait for the durable log.
    LogFull = 5,
    /// The engine stopped, or its source ended, before there was room for it.
    Stopped = 6,
}

impl DropReason {
    /// All of them.
    pub const ALL: [DropReason; 7] = [
        DropReason::Backpressure,
        DropReason::Throttled,
        DropReason::LaneFull,
        DropReason::Memory,
        DropReason::DeadLettersFull,
        DropReason::LogFull,
        DropReason::Stopped,
    ];

    /// The word for it in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::Backpressure => "backpressure",
            DropReason::Throttled => "throttled",
            DropReason::LaneFull => "lane_full",
            DropReason::Memory => "memory",
            DropReason::DeadLettersFull => "dead_letters_full",
            DropReason::LogFull => "log_full",
            DropReason::Stopped => "stopped",
        }
    }
}

/// What the dispatcher counts: under its lock.
#[derive(Clone, Debug, Default)]
pub(super) struct DispatchCounts {
    pub(super) received: [u64; 5],
    pub(super) accepted: [u64; 5],
    pub(super) throttled: [u64; 5],
    pub(super) dropped: [[u64; 5]; DropReason::ALL.len()],
    pub(super) dead_lettered: [u64; DeadReason::ALL.len()],
    pub(super) duplicates: u64,
    pub(super) too_old: u64,
    pub(super) bad_topic: u64,
}

/// What one worker counts.
#[derive(Debug, Default)]
pub(super) struct WorkerCounts {
    /// By lane: taken out of it and done with, whatever came of it.
    pub(super) processed: [Counter; 3],
    /// By lane: begun later than its target.
    pub(super) late: [Counter; 3],
    /// By lane: from the read to the beginning of processing, in nanoseconds.
    pub(super) latency: [Histogram; 3],
    pub(super) handled: Counter,
    pub(super) retried: Counter,
    pub(super) panicked: Counter,
    pub(super) dead_lettered: [Counter; DeadReason::ALL.len()],
    /// To have been dead letters, but there was no room.
    pub(super) lost: Counter,
}

/// What a store's thread counts.
#[derive(Debug, Default)]
pub(super) struct StoreCounts {
    pub(super) kept: Counter,
    pub(super) groups: Counter,
    pub(super) failures: Counter,
    pub(super) lost: Counter,
}

/// What the engine has done so far, and how it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Events that came in and were answered, by priority: batch first. Each is in exactly one of the counts below, up to
    /// [`bad_topic`](Stats::bad_topic).
    pub received: [u64; 5],
    /// Put into a lane, by priority.
    pub accepted: [u64; 5],
    /// Their producers were told to send them again, by priority.
    pub throttled: [u64; 5],
    /// Not taken and not kept: by [`DropReason`], and by priority.
    pub dropped: [[u64; 5]; DropReason::ALL.len()],
    /// Not taken, and given to the dead letters: by [`DeadReason`].
    pub dead_lettered: [u64; DeadReason::ALL.len()],
    /// Seen before.
    pub duplicates: u64,
    /// So far behind the newest of their producer that it is not known whether they were seen.
    pub too_old: u64,
    /// For topics that are none, or may not be published, or are too many.
    pub bad_topic: u64,
    /// The lanes, the most urgent first.
    pub lanes: [LaneStats; 3],
    /// Topics that events were published on.
    pub topics: usize,
    /// Producers that are remembered.
    pub producers: usize,
    /// Producers that were forgotten for the sake of others.
    pub producers_evicted: u64,
    /// Bytes that the events in the engine keep, and the beginnings of those that are being read.
    pub memory: usize,
    /// Handlers that were called and did what they should.
    pub handled: u64,
    /// Tries after the first.
    pub retried: u64,
    /// Panics of handlers.
    pub panicked: u64,
    /// Taken, and given to the dead letters later: by [`DeadReason`].
    pub failed: [u64; DeadReason::ALL.len()],
    /// Taken, and lost, as the dead letters had no room for them.
    pub failed_and_lost: u64,
    /// What the durable log makes of events.
    pub durability: Durability,
    /// Events in the durable log.
    pub logged: u64,
    /// Groups that were committed.
    pub commits: u64,
    /// Tries of the durable log that failed.
    pub log_failures: u64,
    /// Events that were to be logged, and that the log did not take before the engine stopped: their producers were not told
    /// that they are durable.
    pub log_lost: u64,
    /// Letters that are in the dead letter store.
    pub letters: u64,
    /// Tries of the dead letter store that failed.
    pub letter_failures: u64,
    /// Letters that could not be kept before the engine stopped.
    pub letters_lost: u64,
}

/// One lane.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LaneStats {
    /// Events that wait in it.
    pub depth: usize,
    /// How many there may be.
    pub capacity: usize,
    /// What is taken.
    pub state: State,
    /// How often that changed.
    pub state_changes: u64,
    /// Events that were taken out and done with.
    pub processed: u64,
    /// Of those, begun later than the lane's target.
    pub late: u64,
    /// From the read to the beginning of processing, in nanoseconds.
    pub latency: Snapshot,
}
