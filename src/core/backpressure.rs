//! When too much comes in: what is still taken, by how full a lane is and how much an event matters.
//!
//! Pure: depth and capacity are handed in, an answer comes back. A lane's state rises at once when its threshold is reached,
//! and falls when the depth is [5 points](Thresholds::hysteresis) below it, so that it does not flutter.

use super::frame::Priority;

/// How full a lane is. Each state takes less than the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum State {
    /// Everything is taken.
    #[default]
    Running,
    /// Producers are slowed down.
    Paused,
    /// Only what is urgent is taken.
    Draining,
    /// What matters least is kept elsewhere.
    Dropping,
    /// Only what is critical is taken.
    Emergency,
}

impl State {
    /// All of them, from the emptiest lane to the fullest.
    pub const ALL: [State; 5] = [State::Running, State::Paused, State::Draining, State::Dropping, State::Emergency];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Paused => "paused",
            State::Draining => "draining",
            State::Dropping => "dropping",
            State::Emergency => "emergency",
        }
    }

    /// What becomes of an event.
    ///
    /// ```
    /// use conduit::backpressure::{Admission, State};
    /// use conduit::frame::Priority;
    ///
    /// assert_eq!(State::Draining.admit(Priority::High), Admission::Accept);
    /// assert_eq!(State::Draining.admit(Priority::Medium), Admission::Throttle);
    /// assert_eq!(State::Emergency.admit(Priority::Critical), Admission::Accept);
    /// ```
    pub const fn admit(self, priority: Priority) -> Admission {
        use Admission::{Accept, AcceptWithLessCredit, DeadLetter, Drop, Throttle};
        // Critical, high, medium, low, batch.
        let row = match self {
            State::Running => [Accept, Accept, Accept, Accept, Accept],
            State::Paused => [Accept, Accept, AcceptWithLessCredit, AcceptWithLessCredit, Throttle],
            State::Draining => [Accept, Accept, Throttle, Throttle, Throttle],
            State::Dropping => [Accept, Accept, Throttle, DeadLetter, DeadLetter],
            State::Emergency => [Accept, DeadLetter, DeadLetter, Drop, Drop],
        };
        row[match priority {
            Priority::Critical => 0,
            Priority::High => 1,
            Priority::Medium => 2,
            Priority::Low => 3,
            Priority::Batch => 4,
        }]
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Admission {
    /// It is taken.
    Accept,
    /// It is taken, and its producer gets half the credit for more.
    AcceptWithLessCredit,
    /// It is not taken; its producer may send it again later.
    Throttle,
    /// It is not taken, and kept with the dead letters.
    DeadLetter,
    /// It is not taken, not kept, and counted.
    Drop,
}

/// Where each state begins, in percent of a lane's capacity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Thresholds {
    /// [`State::Paused`].
    pub paused: u8,
    /// [`State::Draining`].
    pub draining: u8,
    /// [`State::Dropping`].
    pub dropping: u8,
    /// [`State::Emergency`].
    pub emergency: u8,
    /// How far below its beginning a state ends, in points.
    pub hysteresis: u8,
}

impl Default for Thresholds {
    /// 60, 80, 90 and 95 percent; 5 points.
    fn default() -> Self {
        Thresholds { paused: 60, draining: 80, dropping: 90, emergency: 95, hysteresis: 5 }
    }
}

impl Thresholds {
    /// Whether the states come in order, at most at 100 percent, and each one begins where the hysteresis leaves room below.
    pub const fn are_sound(&self) -> bool {
        self.hysteresis < self.paused
            && self.paused < self.draining
            && self.draining < self.dropping
            && self.dropping < self.emergency
            && self.emergency <= 100
    }

    fn begin(&self, state: State) -> u8 {
        match state {
            State::Running => 0,
            State::Paused => self.paused,
            State::Draining => self.draining,
            State::Dropping => self.dropping,
            State::Emergency => self.emergency,
        }
    }
}

/// The state of one lane.
///
/// ```
/// use conduit::backpressure::{Monitor, State, Thresholds};
///
/// let mut lane = Monitor::new(Thresholds::default());
/// assert_eq!(lane.look(59, 100), None);
/// assert_eq!(lane.look(96, 100), Some(State::Emergency));
/// assert_eq!(lane.look(91, 100), None, "5 points below is where it ends");
/// assert_eq!(lane.look(90, 100), Some(State::Dropping));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Monitor {
    thresholds: Thresholds,
    state: State,
}

impl Monitor {
    /// An empty lane's.
    pub const fn new(thresholds: Thresholds) -> Self {
        Monitor { thresholds, state: State::Running }
    }

    /// Where its states begin.
    pub const fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// The state at the last look.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Looks at a lane that holds `depth` of at most `capacity` events. Returns the state if it is another than before.
    pub fn look(&mut self, depth: usize, capacity: usize) -> Option<State> {
        // Not in whole percents, which would let a state begin late.
        let reaches = |percent: u8| depth as u128 * 100 >= capacity as u128 * u128::from(percent);
        let before = self.state;
        let highest = State::ALL.into_iter().rfind(|&state| reaches(self.thresholds.begin(state))).unwrap_or_default();
        if highest > before {
            self.state = highest;
        } else {
            // Down to where the depth is above the end of a state.
            let left = |&state: &State| {
                state <= before && (state <= highest || !is_over(depth, capacity, self.thresholds, state))
            };
            self.state = State::ALL.into_iter().rfind(left).unwrap_or_default();
        }
        (self.state != before).then_some(self.state)
    }
}

/// Whether a lane that was in `state` is so no more: at or below the hysteresis under its beginning.
fn is_over(depth: usize, capacity: usize, thresholds: Thresholds, state: State) -> bool {
    let end = thresholds.begin(state).saturating_sub(thresholds.hysteresis);
    depth as u128 * 100 <= capacity as u128 * u128::from(end)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_priority_gets_its_own_answer_in_each_state() {
        use Admission::{Accept as A, AcceptWithLessCredit as H, DeadLetter as L, Drop as D, Throttle as T};
        let priorities = [Priority::Critical, Priority::High, Priority::Medium, Priority::Low, Priority::Batch];
        let table = [[A, A, A, A, A], [A, A, H, H, T], [A, A, T, T, T], [A, A, T, L, L], [A, L, L, D, D]];
        for (state, row) in State::ALL.into_iter().zip(table) {
            assert_eq!(priorities.map(|priority| state.admit(priority)), row, "{}", state.name());
        }
    }

    #[test]
    fn a_state_begins_at_its_threshold_and_ends_five_points_below() {
        let mut lane = Monitor::new(Thresholds::default());
        let looks = [
            (0, State::Running),
            (59, State::Running),
            (60, State::Paused),
            (56, State::Paused),
            (55, State::Running),
            (80, State::Draining),
            (76, State::Draining),
            (75, State::Paused),
            (95, State::Emergency),
            (91, State::Emergency),
            (90, State::Dropping),
            (86, State::Dropping),
            (85, State::Draining),
            (100, State::Emergency),
            (0, State::Running),
        ];
        for (depth, state) in looks {
            let before = lane.state();
            assert_eq!(lane.look(depth, 100), (state != before).then_some(state), "{depth} after {before:?}");
        }
    }

    #[test]
    fn thresholds_out_of_order_are_not_sound() {
        let sound = Thresholds::default();
        assert!(sound.are_sound());
        for wrong in [
            Thresholds { paused: 80, ..sound },
            Thresholds { emergency: 101, ..sound },
            Thresholds { hysteresis: 60, ..sound },
            Thresholds { dropping: 95, ..sound },
        ] {
            assert!(!wrong.are_sound(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn the_state_is_what_the_depth_allows(depths in proptest::collection::vec(0..=1000usize, 1..50)) {
            let thresholds = Thresholds::default();
            let mut lane = Monitor::new(thresholds);
            for depth in depths {
                let before = lane.state();
                lane.look(depth, 1000);
                let begins = |state| depth >= 10 * usize::from(thresholds.begin(state));
                for state in State::ALL {
                    prop_assert!(!begins(state) || lane.state() >= state, "{} at {}", lane.state().name(), depth);
                }
                // It is higher than the depth alone would have it only if it was before, and within the hysteresis.
                prop_assert!(begins(lane.state()) || lane.state() <= before && depth + 50 > 10 * usize::from(thresholds.begin(lane.state())));
            }
        }
    }
}
