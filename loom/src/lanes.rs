//! The three lanes. Their queues have models of their own; here both ends look at all of them at once.

use loom::thread;

use crate::core::frame::Priority;
use crate::core::lanes::{Lane, Lanes, Reason, Weights};
use crate::model;

#[test]
fn each_event_is_taken_once_from_its_lane_or_comes_back() {
    model(2, || {
        // Leaked for the threads' sake, and freed below: the model checker looks for what is left.
        let lanes: &'static Lanes<Box<u8>, 1, 2, 2> = Box::leak(Box::new(Lanes::new()));
        let (mut dispatcher, mut drain) = lanes.split().unwrap();
        drain.set_weights(Weights { realtime: 1, transactional: 1, batch: 1 }).unwrap();
        let offering = thread::spawn(move || {
            let mut offer = |priority, event| match dispatcher.offer(priority, Box::new(event)) {
                Ok(accepted) => (accepted.lane == Lane::of(priority)).then_some(event),
                Err(refused) => {
                    assert_eq!((*refused.event, refused.reason == Reason::Throttled), (event, false));
                    None
                }
            };
            let offered =
                [(Priority::Critical, 0), (Priority::Medium, 1), (Priority::Critical, 2), (Priority::Batch, 3)];
            let accepted: Vec<_> = offered.into_iter().filter_map(|(priority, event)| offer(priority, event)).collect();
            let counts = Lane::ALL.map(|lane| dispatcher.counts(lane));
            assert_eq!(counts.iter().map(|counts| counts.accepted).sum::<u64>(), accepted.len() as u64);
            accepted
        });
        let mut taken = Vec::new();
        let mut take = |lane: Lane, event: Box<u8>| {
            assert_eq!(lane, [Lane::Realtime, Lane::Transactional, Lane::Realtime, Lane::Batch][usize::from(*event)]);
            taken.push(*event);
        };
        for _ in 0..2 {
            drain.pop_batch(1, &mut take);
        }
        let accepted = offering.join().unwrap();
        drain.pop_batch(8, &mut take);
        taken.sort_unstable();
        assert_eq!(taken, accepted);
        // SAFETY: both ends are used no more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(lanes).cast_mut()) });
    });
}
