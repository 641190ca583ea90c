//! How often a node is started again and after how long, and by which signals it is stopped.

use std::collections::VecDeque;
use std::time::Duration;

use super::types::{Rung, Time};
use crate::flow::model::{Restart, Stop};

/// The restarts that count.
#[derive(Clone, Default, Debug)]
pub(super) struct Budget {
    /// When, the oldest first.
    recent: VecDeque<Time>,
    /// The last wait; `None`: begin with the shortest.
    backoff: Option<Duration>,
}

impl Budget {
    /// It failed after it was ready for so long.
    pub fn was_ready(&mut self, time: Duration, policy: &Restart) {
        if time >= policy.window {
            self.backoff = None;
        }
    }

    /// How long to wait before it is started again; `None`: it was started often enough.
    pub fn again(&mut self, now: Time, policy: &Restart) -> Option<Duration> {
        while self.recent.front().is_some_and(|&restart| restart.saturating_add(policy.window) <= now) {
            self.recent.pop_front();
        }
        if self.recent.len() >= usize::try_from(policy.max).unwrap_or(usize::MAX) {
            return None;
        }
        let (min, max) = policy.backoff;
        let backoff = self.backoff.map_or(min, |last| last.saturating_mul(2).min(max.max(min)));
        self.backoff = Some(backoff);
        Some(backoff)
    }

    /// It is started again.
    pub fn count(&mut self, now: Time) {
        self.recent.push_back(now);
    }
}

/// The rung that stopping begins with.
pub(super) fn first(stop: &Stop) -> Rung {
    match stop.signal {
        libc::SIGKILL => Rung::Kill,
        libc::SIGTERM => Rung::Term,
        _ => Rung::First,
    }
}

/// The rung after one.
pub(super) fn next(rung: Rung, stop: &Stop) -> Option<Rung> {
    match rung {
        Rung::Left => Some(first(stop)),
        Rung::First => Some(Rung::Term),
        Rung::Term => Some(Rung::Kill),
        Rung::Kill => None,
    }
}

/// What is sent.
pub(super) fn signal(rung: Rung, stop: &Stop) -> Option<i32> {
    match rung {
        Rung::Left => None,
        Rung::First => Some(stop.signal),
        Rung::Term => Some(libc::SIGTERM),
        Rung::Kill => Some(libc::SIGKILL),
    }
}

/// From the first signal to SIGKILL.
pub(super) fn longest(stop: &Stop) -> Duration {
    match first(stop) {
        Rung::Left | Rung::First => stop.timeout.saturating_mul(2),
        Rung::Term => stop.timeout,
        Rung::Kill => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::model::{Policy, Then};

    const S: Duration = Duration::from_secs(1);

    fn policy(backoff: (Duration, Duration), max: u32, window: Duration) -> Restart {
        Restart { policy: Policy::Always, backoff, max, window, then: Then::StopFlow }
    }

    #[test]
    fn backoff_doubles_up_to_its_longest_and_begins_anew_after_a_window_of_being_ready() {
        let policy = policy((S, 5 * S), 100, 60 * S);
        let mut budget = Budget::default();
        let waits: Vec<_> = (0..5).map(|_| budget.again(S, &policy).unwrap().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        budget.was_ready(59 * S, &policy);
        assert_eq!(budget.again(S, &policy), Some(5 * S));
        budget.was_ready(60 * S, &policy);
        assert_eq!(budget.again(S, &policy), Some(S));
    }

    #[test]
    fn no_more_restarts_than_the_maximum_are_within_any_window() {
        let policy = policy((S, S), 2, 10 * S);
        let mut budget = Budget::default();
        assert!(budget.again(S, &policy).is_some());
        budget.count(S);
        assert!(budget.again(5 * S, &policy).is_some());
        budget.count(5 * S);
        assert_eq!(budget.again(10 * S, &policy), None);
        assert!(budget.again(11 * S, &policy).is_some(), "the first is a window ago");
        budget.count(11 * S);
        assert_eq!(budget.again(14 * S, &policy), None);
        assert_eq!(Budget::default().again(S, &Restart { max: 0, ..policy }), None);
    }

    #[test]
    fn a_ladder_that_begins_with_sigterm_or_sigkill_is_shorter() {
        let climb = |signal| {
            let stop = Stop { signal, timeout: S };
            let mut signals = Vec::new();
            let mut rung = Some(Rung::Left);
            while let Some(at) = rung {
                signals.extend(super::signal(at, &stop));
                rung = next(at, &stop);
            }
            (signals, longest(&stop))
        };
        assert_eq!(climb(libc::SIGINT), (vec![libc::SIGINT, libc::SIGTERM, libc::SIGKILL], 2 * S));
        assert_eq!(climb(libc::SIGTERM), (vec![libc::SIGTERM, libc::SIGKILL], S));
        assert_eq!(climb(libc::SIGKILL), (vec![libc::SIGKILL], Duration::ZERO));
    }
}
