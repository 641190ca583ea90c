//! When a recorded message is due; pure.

/// How recorded time passes: from a point at which both times are known, at a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    /// A recorded time, in nanoseconds since whenever.
    recorded: u64,
    /// What it is on the monotonic clock.
    now: u64,
    /// How many recorded nanoseconds pass in one.
    rate: f64,
}

impl Timeline {
    pub fn new(recorded: u64, now: u64, rate: f64) -> Self {
        Timeline { recorded, now, rate }
    }

    /// When a message is due. One from before the point is due at it.
    pub fn due(&self, recorded: u64) -> u64 {
        let passed = recorded.saturating_sub(self.recorded) as f64 / self.rate;
        // Beyond what the clock can tell, `as` stays at the last that it can.
        self.now.saturating_add(passed as u64)
    }

    /// Which recorded time it is.
    pub fn recorded(&self, now: u64) -> u64 {
        self.recorded.saturating_add((now.saturating_sub(self.now) as f64 * self.rate) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_time_passes_at_the_rate() {
        let twice = Timeline::new(1000, 50, 2.0);
        assert_eq!((twice.due(1000), twice.due(3000), twice.due(500)), (50, 1050, 50));
        assert_eq!((twice.recorded(50), twice.recorded(1050), twice.recorded(0)), (1000, 3000, 1000));
        assert_eq!(Timeline::new(0, 10, 0.5).due(100), 210);
    }

    #[test]
    fn a_change_of_rate_takes_time_on_from_where_it_is() {
        let before = Timeline::new(0, 0, 1.0);
        let after = Timeline::new(before.recorded(700), 700, 10.0);
        assert_eq!(after.due(1700), 800);
    }

    #[test]
    fn times_that_no_clock_tells_are_the_last_that_it_can() {
        assert_eq!(Timeline::new(0, 1, 1e-9).due(u64::MAX), u64::MAX);
        assert_eq!(Timeline::new(u64::MAX, 1, 1.0).recorded(u64::MAX), u64::MAX);
    }
}
