//! Against three lists with a monitor each.

extern crate std;

use std::collections::VecDeque;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::core::backpressure::{Admission, Monitor, State, Thresholds};
use crate::core::rounds::rounds;

const PRIORITIES: [Priority; 5] =
    [Priority::Batch, Priority::Low, Priority::Medium, Priority::High, Priority::Critical];

#[test]
fn each_priority_has_its_lane() {
    use Lane::{Batch, Realtime, Transactional};
    assert_eq!(PRIORITIES.map(Lane::of), [Batch, Batch, Transactional, Realtime, Realtime]);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Offer(usize),
    /// By another producer, to the lower of the two lower lanes or the upper.
    Push(bool),
    Pop(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..5usize).prop_map(Op::Offer),
        1 => any::<bool>().prop_map(Op::Push),
        1 => (0..8usize).prop_map(Op::Pop),
    ]
}

/// One lane, plainly.
struct Model {
    events: VecDeque<u32>,
    capacity: usize,
    monitor: Monitor,
    counts: Counts,
}

impl Model {
    fn new(capacity: usize) -> Self {
        let monitor = Monitor::new(Thresholds::default());
        Model { events: VecDeque::new(), capacity, monitor, counts: Counts::default() }
    }

    fn push(&mut self, event: u32) -> bool {
        let fits = self.events.len() < self.capacity;
        self.events.extend(fits.then_some(event));
        fits
    }

    /// What becomes of an event: whether with less credit, or the reason.
    fn offer(&mut self, priority: Priority, event: u32) -> Result<bool, Reason> {
        // Looked at only when the lane may be more than running.
        let depth = self.events.len();
        if self.monitor.look(depth, self.capacity).is_some() {
            self.counts.state_changes += 1;
        }
        match self.monitor.state().admit(priority) {
            admission @ (Admission::Accept | Admission::AcceptWithLessCredit) => {
                if self.push(event) {
                    self.counts.accepted += 1;
                    Ok(admission == Admission::AcceptWithLessCredit)
                } else {
                    self.counts.full += 1;
                    Err(Reason::Full)
                }
            }
            Admission::Throttle => {
                self.counts.throttled += 1;
                Err(Reason::Throttled)
            }
            Admission::DeadLetter => {
                self.counts.dead_lettered += 1;
                Err(Reason::DeadLettered)
            }
            Admission::Drop => {
                self.counts.dropped += 1;
                Err(Reason::Dropped)
            }
        }
    }
}

proptest! {
    #![proptest_config(rounds(2000))]

    #[test]
    fn what_is_offered_is_admitted_by_the_state_of_its_lane_and_counted_once(
        ops in proptest::collection::vec(op(), 0..200),
    ) {
        let lanes = Lanes::<u32, 16, 32, 8>::new();
        let (mut dispatcher, mut drain) = lanes.split().unwrap();
        prop_assert!(lanes.split().is_none());
        let other = dispatcher.producer();
        let mut models = [Model::new(16), Model::new(32), Model::new(8)];
        for (event, op) in (0..).zip(ops) {
            match op {
                Op::Offer(which) => {
                    let priority = PRIORITIES[which];
                    let lane = Lane::of(priority);
                    let expected = models[lane as usize].offer(priority, event);
                    match dispatcher.offer(priority, event) {
                        Ok(accepted) => {
                            prop_assert_eq!((Ok(accepted.less_credit), accepted.lane), (expected, lane));
                        }
                        Err(refused) => {
                            prop_assert_eq!((Err(refused.reason), refused.lane, refused.event), (expected, lane, event));
                        }
                    }
                }
                Op::Push(true) => prop_assert_eq!(other.to_transactional(event).is_ok(), models[1].push(event)),
                Op::Push(false) => prop_assert_eq!(other.to_batch(event).is_ok(), models[2].push(event)),
                Op::Pop(limit) => {
                    let waiting: usize = models.iter().map(|model| model.events.len()).sum();
                    let taken = drain.pop_batch(limit, |lane, event| {
                        assert_eq!(models[lane as usize].events.pop_front(), Some(event), "in order within {}", lane.name());
                    });
                    prop_assert_eq!(taken, limit.min(waiting));
                }
            }
            for (lane, model) in Lane::ALL.into_iter().zip(&models) {
                prop_assert_eq!(dispatcher.counts(lane), model.counts);
                prop_assert_eq!(drain.depth(lane), model.events.len());
                prop_assert_eq!(dispatcher.depth(lane), model.events.len());
            }
        }
    }

    #[test]
    fn while_all_lanes_have_events_each_has_its_turn_as_often_as_its_weight_says(
        realtime in 1..5u32, transactional in 1..6u32, batch in 1..4u32, limit in 1..9usize,
    ) {
        let lanes = Lanes::<(), 64, 64, 64>::new();
        let (mut dispatcher, mut drain) = lanes.split().unwrap();
        drain.set_weights(Weights { realtime, transactional, batch }).unwrap();
        let taken = take_and_refill(&mut dispatcher, 500, |take| drain.pop_batch(limit, take));
        for pair in taken.windows(2) {
            prop_assert!(pair.contains(&Lane::Realtime), "two others in a row before a realtime event");
        }
        for round in taken.chunks_exact((realtime as usize + 1) * (transactional + batch) as usize) {
            let count = |lane| round.iter().filter(|&&taken| taken == lane).count();
            prop_assert_eq!([count(Lane::Transactional), count(Lane::Batch)], [transactional, batch].map(|n| n as usize));
        }
    }

    #[test]
    fn the_lower_lanes_take_turns_by_themselves_too(
        transactional in 1..6u32, batch in 1..4u32, limit in 1..9usize,
    ) {
        let lanes = Lanes::<(), 64, 64, 64>::new();
        let (mut dispatcher, mut drain) = lanes.split().unwrap();
        drain.set_weights(Weights { realtime: 1, transactional, batch }).unwrap();
        let (_, mut lower) = drain.into_parts();
        let taken = take_and_refill(&mut dispatcher, 200, |take| lower.pop_batch(limit, take));
        for round in taken.chunks_exact((transactional + batch) as usize) {
            let (first, rest) = round.split_at(transactional as usize);
            prop_assert!(first.iter().all(|&lane| lane == Lane::Transactional));
            prop_assert!(rest.iter().all(|&lane| lane == Lane::Batch));
        }
    }
}

/// Takes `count` events of lanes in which there are always some of each; returns which they were of.
fn take_and_refill(
    dispatcher: &mut Dispatcher<'_, (), 64, 64, 64>,
    count: usize,
    mut pop: impl FnMut(&mut dyn FnMut(Lane, ())) -> usize,
) -> Vec<Lane> {
    let lower = dispatcher.producer();
    let mut put = |lane| match lane {
        Lane::Realtime => drop(dispatcher.offer(Priority::Critical, ()).unwrap()),
        Lane::Transactional => lower.to_transactional(()).unwrap(),
        Lane::Batch => lower.to_batch(()).unwrap(),
    };
    (0..30).for_each(|_| Lane::ALL.into_iter().for_each(&mut put));
    let mut taken = Vec::new();
    while taken.len() < count {
        let before = taken.len();
        assert_ne!(pop(&mut |lane, ()| taken.push(lane)), 0);
        taken[before..].iter().copied().for_each(&mut put);
    }
    taken
}

#[test]
fn with_no_weight_for_the_others_nothing_comes_between_realtime_events() {
    let lanes = Lanes::<(), 64, 64, 64>::new();
    let (mut dispatcher, mut drain) = lanes.split().unwrap();
    drain.set_weights(Weights { realtime: 0, ..Weights::default() }).unwrap();
    let taken = take_and_refill(&mut dispatcher, 300, |take| drain.pop_batch(1, take));
    assert!(taken.iter().all(|&lane| lane == Lane::Realtime));
}

#[test]
fn thresholds_and_weights_that_make_no_sense_are_refused() {
    let lanes = Lanes::<u8, 16, 16, 16>::new();
    let (mut dispatcher, mut drain) = lanes.split().unwrap();
    let thresholds = Thresholds { paused: 99, ..Thresholds::default() };
    assert_eq!(dispatcher.set_thresholds(Lane::Batch, thresholds), Err(thresholds));
    for weights in [
        Weights { batch: 0, ..Weights::default() },
        Weights { transactional: 0, ..Weights::default() },
        Weights { transactional: u32::MAX, ..Weights::default() },
    ] {
        assert_eq!(drain.set_weights(weights), Err(weights));
    }
}

#[test]
fn a_lanes_thresholds_can_be_set_while_it_is_in_use() {
    let lanes = Lanes::<u8, 16, 16, 16>::new();
    let (mut dispatcher, _drain) = lanes.split().unwrap();
    (0..8).for_each(|event| assert!(dispatcher.offer(Priority::Medium, event).is_ok()));
    assert_eq!(dispatcher.look(Lane::Transactional), State::Running);
    let thresholds = Thresholds { paused: 20, draining: 40, ..Thresholds::default() };
    dispatcher.set_thresholds(Lane::Transactional, thresholds).unwrap();
    assert_eq!(dispatcher.look(Lane::Transactional), State::Draining);
    let refused = dispatcher.offer(Priority::Medium, 8).unwrap_err();
    assert_eq!((refused.event, refused.reason), (8, Reason::Throttled));
    let counts = Counts { accepted: 8, throttled: 1, state_changes: 1, ..Counts::default() };
    assert_eq!(dispatcher.counts(Lane::Transactional), counts);
}

#[test]
fn events_of_each_lane_go_through_in_order_while_both_ends_run() {
    const COUNT: u32 = 20_000;
    let lanes = Lanes::<u32, 8, 8, 8>::new();
    let (mut dispatcher, mut drain) = lanes.split().unwrap();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for number in 0..COUNT {
                let priority = PRIORITIES[number as usize % 5];
                let mut event = number;
                while let Err(refused) = dispatcher.offer(priority, event) {
                    event = refused.event;
                    std::thread::yield_now();
                }
            }
            let accepted: u64 = Lane::ALL.map(|lane| dispatcher.counts(lane).accepted).iter().sum();
            assert_eq!(accepted, u64::from(COUNT));
        });
        let (mut next, mut taken) = ([0; 3], 0);
        while taken < COUNT as usize {
            let came = drain.pop_batch(5, |lane, number| {
                assert_eq!(Lane::of(PRIORITIES[number as usize % 5]), lane);
                assert!(next[lane as usize] <= number, "in order");
                next[lane as usize] = number + 1;
            });
            taken += came;
            if came == 0 {
                std::thread::yield_now();
            }
        }
        assert_eq!(drain.pop(), None);
    });
}
