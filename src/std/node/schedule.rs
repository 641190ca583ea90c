//! When a timer is due, and what is said of it how often: pure.

use std::time::Duration;

/// What a timer's callback is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    number: u64,
    missed: u64,
    scheduled: u64,
    late: u64,
}

impl Tick {
    /// The number of the deadline that this tick is for: 1 is one period after the node began to run. One more than that of
    /// the tick before, and more by as many as were [missed](Tick::missed).
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many ticks were skipped between the one before and this one, because their time was over before the thread
    /// came to them.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// When it was to be, on the monotonic clock.
    pub fn scheduled(&self) -> Duration {
        Duration::from_nanos(self.scheduled)
    }

    /// How long after that it was when the callback was called; less than a period.
    pub fn late(&self) -> Duration {
        Duration::from_nanos(self.late)
    }
}

/// The deadlines of a timer: `start + n * period`. All times are nanoseconds of one clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Not 0.
    period: u64,
    next: u64,
    /// Of the last tick.
    number: u64,
}

impl Schedule {
    pub(super) fn new(period: u64, start: u64) -> Self {
        debug_assert!(period > 0);
        Schedule { period, next: start.saturating_add(period), number: 0 }
    }

    /// The next deadline.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The tick that is due at `now`, if one is: the last of those whose time has come. The others are missed.
    pub(super) fn take(&mut self, now: u64) -> Option<Tick> {
        let behind = now.checked_sub(self.next)?;
        let missed = behind / self.period;
        let scheduled = self.next + missed * self.period;
        self.number = self.number.saturating_add(missed).saturating_add(1);
        self.next = scheduled.saturating_add(self.period);
        Some(Tick { number: self.number, missed, scheduled, late: now - scheduled })
    }
}

/// Lets one event a second pass, and counts the others.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Throttle {
    /// From when on the next one passes.
    open_at: u64,
    held_back: u64,
}

impl Throttle {
    const PAUSE: u64 = 1_000_000_000;

    /// Whether an event at `now` passes; with it, how many did not since the last that did.
    pub(super) fn pass(&mut self, now: u64) -> Option<u64> {
        if now < self.open_at {
            self.held_back += 1;
            return None;
        }
        self.open_at = now.saturating_add(Self::PAUSE);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tick_is_due_at_its_deadline_and_not_before() {
        let mut schedule = Schedule::new(10, 100);
        assert_eq!(schedule.take(109), None);
        let tick = schedule.take(110).unwrap();
        assert_eq!((tick.number, tick.missed, tick.scheduled, tick.late), (1, 0, 110, 0));
        assert_eq!(schedule.next(), 120);
    }

    #[test]
    fn lateness_does_not_move_the_deadlines_to_come() {
        let mut schedule = Schedule::new(10, 100);
        let tick = schedule.take(119).unwrap();
        assert_eq!((tick.missed, tick.late, schedule.next()), (0, 9, 120));
        let tick = schedule.take(120).unwrap();
        assert_eq!((tick.number, tick.missed, tick.late), (2, 0, 0));
    }

    #[test]
    fn a_tick_that_is_late_by_whole_periods_skips_as_many() {
        let mut schedule = Schedule::new(10, 100);
        let tick = schedule.take(145).unwrap();
        assert_eq!((tick.number, tick.missed, tick.scheduled, tick.late), (4, 3, 140, 5));
        assert_eq!((schedule.take(149), schedule.next()), (None, 150));
    }

    #[test]
    fn the_end_of_the_clock_is_no_panic() {
        let mut schedule = Schedule::new(u64::MAX, u64::MAX - 1);
        assert_eq!(schedule.next(), u64::MAX);
        assert_eq!(schedule.take(u64::MAX).map(|tick| tick.missed), Some(0));
    }

    proptest! {
        #[test]
        fn each_deadline_is_a_tick_or_missed_and_on_the_grid(
            period in 1..1_000u64, start in 0..1_000_000u64, steps in prop::collection::vec(0..5_000u64, 1..200),
        ) {
            let mut schedule = Schedule::new(period, start);
            let (mut now, mut ticks, mut missed) = (start, 0, 0);
            for step in steps {
                now += step;
                if let Some(tick) = schedule.take(now) {
                    ticks += 1;
                    missed += tick.missed;
                    prop_assert_eq!(tick.number, ticks + missed);
                    prop_assert_eq!(tick.scheduled, start + tick.number * period);
                    prop_assert!(tick.late < period && tick.scheduled + tick.late == now);
                }
                // All deadlines up to now are accounted for, and no other.
                prop_assert_eq!(ticks + missed, (now - start) / period);
                prop_assert_eq!(schedule.next(), start + (ticks + missed + 1) * period);
            }
        }

        #[test]
        fn of_what_is_held_back_nothing_is_forgotten(steps in prop::collection::vec(0..2_000_000_000u64, 1..100)) {
            let mut throttle = Throttle::default();
            let (mut now, mut told, mut last) = (0, 0, None::<u64>);
            for (at, step) in steps.iter().enumerate() {
                now += step;
                if let Some(held_back) = throttle.pass(now) {
                    told += held_back + 1;
                    prop_assert_eq!(told, at as u64 + 1);
                    prop_assert!(last.is_none_or(|last| now - last >= Throttle::PAUSE));
                    last = Some(now);
                }
            }
        }
    }
}
