//! The end that events go into.

use super::Lane;
use crate::core::backpressure::{Admission, Monitor, State, Thresholds};
use crate::core::frame::Priority;
use crate::core::{mpsc, spsc};

/// Admits events and routes them by priority: the one that may use the realtime lane.
#[derive(Debug)]
pub struct Dispatcher<'a, T, const R: usize, const M: usize, const B: usize> {
    realtime: spsc::Producer<'a, T, R>,
    lower: Producer<'a, T, M, B>,
    gauges: [Gauge; 3],
}

/// What the dispatcher knows of one lane.
#[derive(Debug)]
struct Gauge {
    monitor: Monitor,
    /// How many events may wait: at most as many as there are places.
    capacity: usize,
    /// Whether so many did at the last close look. Never while the lane is running.
    is_full: bool,
    /// The smallest depth at which an empty lane would be more than running.
    running_below: usize,
    /// `mpsc::Producer::taken` at the last look, of a lower lane.
    taken: usize,
    counts: Counts,
}

/// What became of the events that were offered to a lane; each is counted once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counts {
    /// Taken.
    pub accepted: u64,
    /// Refused, to be sent again.
    pub throttled: u64,
    /// Refused, to be kept with the dead letters.
    pub dead_lettered: u64,
    /// Refused for good.
    pub dropped: u64,
    /// Refused though it would have been taken, for want of room.
    pub full: u64,
    /// How often the lane's state changed.
    pub state_changes: u64,
}

/// An event was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Accepted {
    /// Where it waits.
    pub lane: Lane,
    /// Its producer gets half the credit for more.
    pub less_credit: bool,
}

/// An event that was not taken, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Refused<T> {
    /// The event, unchanged.
    pub event: T,
    /// The lane that would have been its.
    pub lane: Lane,
    /// What is to become of it.
    pub reason: Reason,
}

/// Why an event was not taken, and what is to become of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Reason {
    /// Its producer may send it again later.
    Throttled,
    /// It is to be kept with the dead letters.
    DeadLettered,
    /// It is to be dropped.
    Dropped,
    /// There is no room in the lane at all.
    Full,
}

impl<T> ::core::fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.write_str(match self.reason {
            Reason::Throttled => "throttled: send it again later; the lane is ",
            Reason::DeadLettered => "to be kept with the dead letters, for want of room in the lane ",
            Reason::Dropped => "dropped, for want of room in the lane ",
            Reason::Full => "no room is left in the lane ",
        })?;
        f.write_str(self.lane.name())
    }
}

impl<T: ::core::fmt::Debug> ::core::error::Error for Refused<T> {}

impl<'a, T, const R: usize, const M: usize, const B: usize> Dispatcher<'a, T, R, M, B> {
    pub(super) fn new(realtime: spsc::Producer<'a, T, R>, lower: Producer<'a, T, M, B>) -> Self {
        let gauge = |capacity, taken| Gauge::new(capacity, taken, Thresholds::default());
        let gauges = [gauge(R, 0), gauge(M, lower.transactional.taken()), gauge(B, lower.batch.taken())];
        Dispatcher { realtime, lower, gauges }
    }

    /// Puts an event into the lane of its priority, if the lane's [state](State::admit) lets it.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the event comes back, with what is to become of it. It was counted.
    ///
    /// # Cost
    ///
    /// While a lane is less than 60 percent full, and as long as that is known from the last look at the other end, a
    /// comparison more than the push.
    #[inline]
    pub fn offer(&mut self, priority: Priority, event: T) -> Result<Accepted, Refused<T>> {
        let lane = Lane::of(priority);
        let admission = match self.look(lane) {
            State::Running => Admission::Accept,
            state => state.admit(priority),
        };
        let Gauge { counts, is_full, .. } = &mut self.gauges[lane as usize];
        let is_full = *is_full;
        let reason = match admission {
            Admission::Accept | Admission::AcceptWithLessCredit => {
                let pushed = match lane {
                    _ if is_full => Err(event),
                    Lane::Realtime => self.realtime.push(event),
                    Lane::Transactional => self.lower.transactional.push(event),
                    Lane::Batch => self.lower.batch.push(event),
                };
                return match pushed {
                    Ok(()) => {
                        counts.accepted += 1;
                        Ok(Accepted { lane, less_credit: admission == Admission::AcceptWithLessCredit })
                    }
                    Err(event) => {
                        counts.full += 1;
                        Err(Refused { event, lane, reason: Reason::Full })
                    }
                };
            }
            Admission::Throttle => Reason::Throttled,
            Admission::DeadLetter => Reason::DeadLettered,
            Admission::Drop => Reason::Dropped,
        };
        match reason {
            Reason::Throttled => counts.throttled += 1,
            Reason::DeadLettered => counts.dead_lettered += 1,
            Reason::Dropped | Reason::Full => counts.dropped += 1,
        }
        Err(Refused { event, lane, reason })
    }

    /// The state of a lane, now.
    #[inline]
    pub fn look(&mut self, lane: Lane) -> State {
        let gauge = &self.gauges[lane as usize];
        // An old look at the other end tells too high a depth, never too low a one (but on 32 bits, if others push 2^32 events
        // between two looks).
        let at_most = match lane {
            Lane::Realtime => self.realtime.len_at_most(),
            Lane::Transactional => self.lower.transactional.pushed().wrapping_sub(gauge.taken),
            Lane::Batch => self.lower.batch.pushed().wrapping_sub(gauge.taken),
        };
        if gauge.monitor.state() == State::Running && at_most < gauge.running_below {
            return State::Running;
        }
        self.look_closely(lane)
    }

    #[cold]
    fn look_closely(&mut self, lane: Lane) -> State {
        let depth = self.depth(lane);
        let gauge = &mut self.gauges[lane as usize];
        match lane {
            Lane::Realtime => {}
            Lane::Transactional => gauge.taken = self.lower.transactional.taken(),
            Lane::Batch => gauge.taken = self.lower.batch.taken(),
        }
        gauge.is_full = depth >= gauge.capacity;
        if gauge.monitor.look(depth, gauge.capacity).is_some() {
            gauge.counts.state_changes += 1;
        }
        gauge.monitor.state()
    }

    /// How many events wait in a lane. Looks at the other end.
    pub fn depth(&mut self, lane: Lane) -> usize {
        match lane {
            Lane::Realtime => R - self.realtime.room(),
            Lane::Transactional => self.lower.transactional.len(),
            Lane::Batch => self.lower.batch.len(),
        }
    }

    /// What became of the events that were offered to a lane.
    pub const fn counts(&self, lane: Lane) -> Counts {
        self.gauges[lane as usize].counts
    }

    /// Sets where the states of a lane begin. Its state is looked at anew, from running on; the counts stay.
    ///
    /// # Errors
    ///
    /// The thresholds are not [sound](Thresholds::are_sound): nothing is changed.
    pub fn set_thresholds(&mut self, lane: Lane, thresholds: Thresholds) -> Result<(), Thresholds> {
        if !thresholds.are_sound() {
            return Err(thresholds);
        }
        let gauge = &mut self.gauges[lane as usize];
        *gauge = Gauge { counts: gauge.counts, ..Gauge::new(gauge.capacity, gauge.taken, thresholds) };
        Ok(())
    }

    /// Sets how many events may wait in a lane, of 1 up to as many as there are places; more or less is taken for the nearest of
    /// those. Its state is looked at anew, from running on; the counts stay.
    pub fn set_capacity(&mut self, lane: Lane, events: usize) {
        let places = match lane {
            Lane::Realtime => R,
            Lane::Transactional => M,
            Lane::Batch => B,
        };
        let gauge = &mut self.gauges[lane as usize];
        let thresholds = gauge.monitor.thresholds();
        *gauge = Gauge { counts: gauge.counts, ..Gauge::new(events.clamp(1, places), gauge.taken, thresholds) };
    }

    /// Another producer, of the two lower lanes, which may be copied. What it pushes is neither admitted nor counted here.
    pub const fn producer(&self) -> Producer<'a, T, M, B> {
        self.lower
    }
}

impl Gauge {
    fn new(capacity: usize, taken: usize, thresholds: Thresholds) -> Self {
        let running_below = (capacity as u128 * u128::from(thresholds.paused)).div_ceil(100) as usize;
        let (monitor, counts) = (Monitor::new(thresholds), Counts::default());
        Gauge { monitor, capacity, is_full: false, running_below, taken, counts }
    }
}

/// A producer of the two lower lanes, for threads beside the dispatcher's.
#[derive(Debug)]
pub struct Producer<'a, T, const M: usize, const B: usize> {
    transactional: mpsc::Producer<'a, T, M>,
    batch: mpsc::Producer<'a, T, B>,
}

impl<T, const M: usize, const B: usize> Clone for Producer<'_, T, M, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, const M: usize, const B: usize> Copy for Producer<'_, T, M, B> {}

impl<'a, T, const M: usize, const B: usize> Producer<'a, T, M, B> {
    pub(super) const fn new(transactional: mpsc::Producer<'a, T, M>, batch: mpsc::Producer<'a, T, B>) -> Self {
        Producer { transactional, batch }
    }

    /// Puts an event into the transactional lane.
    ///
    /// # Errors
    ///
    /// Full: the event comes back.
    #[inline]
    pub fn to_transactional(&self, event: T) -> Result<(), T> {
        self.transactional.push(event)
    }

    /// Puts an event into the batch lane.
    ///
    /// # Errors
    ///
    /// Full: the event comes back.
    #[inline]
    pub fn to_batch(&self, event: T) -> Result<(), T> {
        self.batch.push(event)
    }
}
