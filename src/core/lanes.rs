//! Three queues instead of one, so that what is urgent never waits behind what is not.
//!
//! | lane | priorities | queue | places, unless told otherwise |
//! |---|---|---|--:|
//! | realtime | critical, high | [`spsc`]: one producer | 16,384 |
//! | transactional | medium | [`mpsc`]: any number of producers | 65,536 |
//! | batch | low, batch | [`mpsc`] | 65,536 |
//!
//! One [`Dispatcher`] admits events by their priority and by how full their lane is ([`backpressure`]), and counts what
//! becomes of them; further [`Producer`]s may push to the two lower lanes. One [`Drain`] takes them out: the realtime lane
//! before anything else, the other two in turn by weight. Or each end of the [`Drain`] goes to a thread of its own.
//!
//! [`spsc`]: super::spsc
//! [`mpsc`]: super::mpsc
//! [`backpressure`]: super::backpressure

use super::cells::const_fn;
use super::frame::Priority;
use super::{mpsc, spsc};

mod dispatch;
mod drain;
#[cfg(all(test, not(loom)))]
mod tests;

pub use dispatch::{Accepted, Counts, Dispatcher, Producer, Reason, Refused};
pub use drain::{Drain, LowerLanes, Weights};

/// Where an event waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Lane {
    /// What must not wait: critical and high priority.
    Realtime = 0,
    /// The usual: medium priority.
    Transactional = 1,
    /// What can wait: low and batch priority.
    Batch = 2,
}

impl Lane {
    /// All of them, the most urgent first.
    pub const ALL: [Lane; 3] = [Lane::Realtime, Lane::Transactional, Lane::Batch];

    /// The lane of events of this priority.
    pub const fn of(priority: Priority) -> Self {
        match priority {
            Priority::Critical | Priority::High => Lane::Realtime,
            Priority::Medium => Lane::Transactional,
            Priority::Low | Priority::Batch => Lane::Batch,
        }
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Lane::Realtime => "realtime",
            Lane::Transactional => "transactional",
            Lane::Batch => "batch",
        }
    }
}

/// The three lanes. Each number of places is a power of two.
///
/// ```
/// use conduit::frame::Priority;
/// use conduit::lanes::{Lane, Lanes};
///
/// static LANES: Lanes<u32, 16, 64, 64> = Lanes::new();
///
/// let (mut dispatcher, mut drain) = LANES.split().expect("nobody else split it");
/// for (event, priority) in [(1, Priority::Batch), (2, Priority::Medium), (3, Priority::Critical)] {
///     dispatcher.offer(priority, event).expect("the lanes are empty");
/// }
/// assert_eq!(drain.pop(), Some((Lane::Realtime, 3)));
/// assert_eq!(drain.pop(), Some((Lane::Transactional, 2)));
/// assert_eq!(drain.pop(), Some((Lane::Batch, 1)));
/// ```
#[derive(Debug)]
pub struct Lanes<T, const REALTIME: usize = 16_384, const TRANSACTIONAL: usize = 65_536, const BATCH: usize = 65_536> {
    realtime: spsc::Queue<T, REALTIME>,
    transactional: mpsc::Queue<T, TRANSACTIONAL>,
    batch: mpsc::Queue<T, BATCH>,
}

impl<T, const R: usize, const M: usize, const B: usize> Lanes<T, R, M, B> {
    const_fn! {
        /// Empty lanes.
        pub fn new() -> Self {
            Lanes { realtime: spsc::Queue::new(), transactional: mpsc::Queue::new(), batch: mpsc::Queue::new() }
        }
    }

    /// The two ends, with the thresholds and weights that are usual. `None` if it was split before.
    pub fn split(&self) -> Option<(Dispatcher<'_, T, R, M, B>, Drain<'_, T, R, M, B>)> {
        let (to_realtime, realtime) = self.realtime.split()?;
        let (to_transactional, transactional) = self.transactional.split()?;
        let (to_batch, batch) = self.batch.split()?;
        let lower = LowerLanes::new(transactional, batch);
        Some((Dispatcher::new(to_realtime, Producer::new(to_transactional, to_batch)), Drain::new(realtime, lower)))
    }
}

impl<T, const R: usize, const M: usize, const B: usize> Default for Lanes<T, R, M, B> {
    fn default() -> Self {
        Self::new()
    }
}
