//! How many messages a second a topic has.

use std::collections::VecDeque;
use std::time::Duration;

use crate::flow::supervisor::Time;

/// Shorter periods say little of a rate.
const SHORTEST: Duration = Duration::from_millis(500);
/// Fewer messages say little of a rate.
const FEWEST: f64 = 5.0;
/// Looks within a period.
const LOOKS: u32 = 5;

/// Whether a topic has a rate, by counts at several times.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Rate {
    hz: f64,
    period: Duration,
    /// When, and how many by then. The first is the only one that may be a period or more behind the last.
    counts: VecDeque<(Time, u64)>,
}

impl Rate {
    /// `None` if every topic has this rate.
    pub fn new(hz: f64) -> Option<Self> {
        let period = Duration::try_from_secs_f64(FEWEST / hz).unwrap_or(Duration::MAX).max(SHORTEST);
        (hz > 0.0).then(|| Rate { hz, period, counts: VecDeque::new() })
    }

    /// How long from one look to the next.
    pub fn interval(&self) -> Duration {
        self.period / LOOKS
    }

    /// Nobody publishes: counts begin anew.
    pub fn reset(&mut self) {
        self.counts.clear();
    }

    /// So many messages were published by now: whether that is the rate.
    pub fn count(&mut self, now: Time, published: u64) -> bool {
        if self.counts.back().is_some_and(|(_, before)| *before > published) {
            self.reset();
        }
        self.counts.push_back((now, published));
        let is_old = |at: &(Time, u64)| now.saturating_sub(at.0) >= self.period;
        while self.counts.len() > 2 && is_old(&self.counts[1]) {
            self.counts.pop_front();
        }
        let (then, before) = self.counts[0];
        let time = now.saturating_sub(then);
        // A message just before the period and one just after it may belong to it.
        time >= self.period && (published - before + 1) as f64 >= self.hz * time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a topic with `actual` messages a second, from `from` on, is seen to have `hz`.
    fn seen(hz: f64, actual: f64, from: f64) -> Option<f64> {
        let mut rate = Rate::new(hz).unwrap();
        let mut now = 0.0;
        while now < 100.0 {
            let published = ((now - from).max(0.0) * actual) as u64;
            if rate.count(Duration::from_secs_f64(now), published) {
                return Some(now);
            }
            now += rate.interval().as_secs_f64();
        }
        None
    }

    #[test]
    fn a_rate_is_seen_within_some_periods_and_a_lesser_one_is_not() {
        for hz in [0.5, 1.0, 20.0, 100.0, 1000.0] {
            let period = Rate::new(hz).unwrap().period.as_secs_f64();
            for actual in [hz, 1.5 * hz, 100.0 * hz] {
                let at = seen(hz, actual, 0.0).unwrap();
                assert!((period..2.0 * period).contains(&(at + 1e-6)), "{hz} {actual} {at}");
                assert!(seen(hz, actual, 3.0).unwrap() > 3.0);
            }
            assert_eq!(seen(hz, 0.6 * hz, 0.0), None, "{hz}");
            assert_eq!(seen(hz, 0.0, 0.0), None);
        }
    }

    #[test]
    fn a_count_that_begins_anew_is_no_rate() {
        let mut rate = Rate::new(10.0).unwrap();
        assert!(!rate.count(Duration::ZERO, 1000));
        assert!(!rate.count(Duration::from_secs(1), 3));
        assert!(!rate.count(Duration::from_millis(1400), 4));
        assert!(rate.count(Duration::from_millis(1600), 20));
    }

    #[test]
    fn what_is_no_rate_is_had_by_all() {
        assert_eq!(Rate::new(0.0), None);
        assert_eq!(Rate::new(-1.0), None);
        assert_eq!(Rate::new(f64::NAN), None);
        assert!(Rate::new(f64::MIN_POSITIVE).is_some());
        assert!(Rate::new(f64::INFINITY).is_some());
    }
}
