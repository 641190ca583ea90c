//! The eventcount from both sides. Nobody sleeps in a model: a thread that would have slept keeps its ticket, and at the
//! end it must have been woken unless there was nothing to wake it for.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::thread;

use crate::core::ring::{EventCount, Notifier};
use crate::membarrier::membarrier;
use crate::model;

#[derive(Clone)]
struct Shared(Arc<(EventCount, [AtomicU64; 2])>);

impl Shared {
    fn new() -> Self {
        Shared(Arc::new((EventCount::new(), [AtomicU64::new(0), AtomicU64::new(0)])))
    }

    fn count(&self) -> &EventCount {
        &self.0.0
    }

    /// Whether this change can be seen. Relaxed: the eventcount alone keeps the order.
    fn sees(&self, change: usize) -> bool {
        self.0.1[change].load(Ordering::Relaxed) != 0
    }

    fn change(&self, change: usize) {
        self.0.1[change].store(1, Ordering::Relaxed);
    }

    /// Waits for a change as a sleeper does; a ticket if it would sleep.
    fn wait_for(&self, change: usize) -> Option<u32> {
        if self.sees(change) {
            return None;
        }
        let ticket = self.count().prepare();
        (!self.sees(change)).then_some(ticket)
    }

    /// Fails if who holds the ticket would sleep on. The kernel compares the ticket before it sleeps, and one call wakes
    /// all that sleep.
    fn must_be_woken(&self, ticket: Option<u32>) {
        if let Some(ticket) = ticket {
            assert_ne!(self.count().word().load(Ordering::Relaxed), ticket, "a lost wake-up");
        }
    }
}

/// Sleepers that each wait for the one change that `publisher` makes.
fn one_change(sleepers: usize, publisher: fn(&EventCount)) {
    model(sleepers + 1, move || {
        let shared = Shared::new();
        let asleep: Vec<_> = (0..sleepers)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || shared.wait_for(0))
            })
            .collect();
        shared.change(0);
        publisher(shared.count());
        for sleeper in asleep {
            shared.must_be_woken(sleeper.join().unwrap());
        }
    });
}

#[test]
fn a_sleeper_sees_the_change_or_is_woken() {
    one_change(1, |count| {
        count.notify();
    });
}

#[test]
fn each_of_two_sleepers_sees_the_change_or_is_woken() {
    one_change(2, |count| {
        count.notify();
    });
}

#[test]
fn who_announces_needs_no_fence() {
    one_change(1, |count| count.announce());
    one_change(2, |count| count.announce());
}

#[test]
fn a_sleeper_that_comes_back_is_woken_for_the_second_change_too() {
    model(2, || {
        let shared = Shared::new();
        let publisher = shared.clone();
        let publishing = thread::spawn(move || {
            for change in 0..2 {
                publisher.change(change);
                publisher.count().notify();
            }
        });
        let first = shared.wait_for(0);
        // Awake after the first change, or not woken yet.
        let second = if first.is_none() { shared.wait_for(1) } else { first };
        publishing.join().unwrap();
        shared.must_be_woken(second);
    });
}

#[test]
fn a_sleeper_is_woken_by_each_of_two_publishers() {
    model(3, || {
        let shared = Shared::new();
        let publishing: Vec<_> = (0..2)
            .map(|change| {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.change(change);
                    shared.count().notify();
                })
            })
            .collect();
        // A stale note of a sleeper that was killed: one publisher clears it while the sleeper prepares.
        shared.count().prepare();
        let first = shared.wait_for(0);
        let second = shared.wait_for(1);
        for publisher in publishing {
            publisher.join().unwrap();
        }
        shared.must_be_woken(first);
        shared.must_be_woken(second);
    });
}

#[test]
fn a_publisher_without_a_fence_wakes_sleepers_that_run_a_barrier_for_it() {
    for place in 0..3 {
        model(2, move || {
            let shared = Shared::new();
            let publisher = shared.clone();
            let (barrier, interrupted) = membarrier(place);
            let publishing = thread::spawn(move || {
                interrupted.here(0);
                publisher.change(0);
                interrupted.here(1);
                // One load, and if it finds a sleeper, the announcement.
                publisher.count().notify_unfenced();
                interrupted.here(2);
            });
            let ticket = shared.count().prepare();
            barrier.call();
            let ticket = (!shared.sees(0)).then_some(ticket);
            publishing.join().unwrap();
            shared.must_be_woken(ticket);
        });
    }
}

/// What the publisher's fence or the sleeper's barrier is for.
#[test]
#[should_panic = "a lost wake-up"]
fn without_fence_and_barrier_a_wake_up_is_lost() {
    one_change(1, |count| {
        count.notify_unfenced();
    });
}

/// When a sleeper that is killed leaves its note, which is reason to run the fence.
#[derive(Clone, Copy, PartialEq)]
enum Note {
    Never,
    Before,
    Meanwhile,
}

/// A publisher that makes two changes and turns from eliding its fence to running it, or the other way round, in between; a
/// sleeper that waits for one of them.
fn fence_that_changes(starts_elided: bool, note: Note, awaited: usize) {
    const NOWHERE: usize = 5;
    for place in 0..=NOWHERE {
        model(if note == Note::Meanwhile { 3 } else { 2 }, move || {
            let shared = Shared::new();
            let elided = Arc::new(AtomicU32::new(0));
            let mut notifier = Notifier::new(&elided, true);
            if starts_elided {
                notifier.notify(shared.count(), &elided);
                assert_eq!(elided.load(Ordering::Relaxed), 1);
            }
            if note == Note::Before {
                shared.count().prepare();
            }
            let noting = (note == Note::Meanwhile).then(|| {
                let shared = shared.clone();
                thread::spawn(move || _ = shared.count().prepare())
            });
            let (barrier, interrupted) = membarrier(place);
            let publishing = {
                let (shared, elided) = (shared.clone(), elided.clone());
                thread::spawn(move || {
                    for change in 0..2 {
                        interrupted.here(2 * change);
                        shared.change(change);
                        interrupted.here(2 * change + 1);
                        notifier.notify(shared.count(), &elided);
                    }
                    interrupted.here(4);
                })
            };
            let ticket = shared.count().prepare();
            match (elided.load(Ordering::Relaxed) != 0, place) {
                (false, NOWHERE) => {}
                (false, _) => barrier.never(),
                // The barrier takes effect somewhere: in the other runs.
                (true, NOWHERE) => {
                    noting.into_iter().for_each(|thread| thread.join().unwrap());
                    return publishing.join().unwrap();
                }
                (true, _) => barrier.call(),
            }
            let ticket = (!shared.sees(awaited)).then_some(ticket);
            publishing.join().unwrap();
            noting.into_iter().for_each(|thread| thread.join().unwrap());
            shared.must_be_woken(ticket);
        });
    }
}

#[test]
fn a_publisher_that_comes_to_run_its_fence_loses_no_wake_up() {
    for note in [Note::Never, Note::Before, Note::Meanwhile] {
        (0..2).for_each(|awaited| fence_that_changes(true, note, awaited));
    }
}

#[test]
fn a_publisher_that_comes_to_elide_its_fence_loses_no_wake_up() {
    (0..2).for_each(|awaited| fence_that_changes(false, Note::Never, awaited));
}
