//! Locks. What they guard fails the model when two threads are in it at a time, or one does not see what the last one did.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use crate::core::lock::{Bias, Flag, Semaphore, SpinLock};
use crate::membarrier::membarrier;
use crate::model;

#[test]
fn a_spin_lock_lets_one_in_at_a_time() {
    model(2, || {
        let lock = Arc::new(SpinLock::new(0));
        let other = lock.clone();
        let thread = thread::spawn(move || *other.lock() += 1);
        *lock.lock() += 1;
        thread.join().unwrap();
        assert_eq!(*lock.lock(), 2);
    });
}

#[test]
fn who_tries_gets_the_lock_or_not_and_never_waits() {
    model(3, || {
        let lock = Arc::new(SpinLock::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let lock = lock.clone();
                thread::spawn(move || {
                    lock.try_lock().map_or(0, |mut value| {
                        *value += 1;
                        1
                    })
                })
            })
            .collect();
        let got: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!((1..=2).contains(&got));
        assert_eq!(*lock.try_lock().expect("nobody has it"), got);
    });
}

/// What a permit guards; `loom`'s cell tells when two are in it.
struct Place(UnsafeCell<u32>);
// SAFETY: the model checker says when it is not.
unsafe impl Sync for Place {}

#[test]
fn one_permit_lets_one_in_at_a_time() {
    model(2, || {
        let shared = Arc::new((Semaphore::new(1), Place(UnsafeCell::new(0))));
        let enter = |shared: &(Semaphore, Place), waits: bool| {
            let permit = if waits { Some(shared.0.acquire()) } else { shared.0.try_acquire() };
            // SAFETY: who has the permit is alone; the model checker says when not.
            if let Some(_permit) = permit {
                shared.1.0.with_mut(|place| unsafe { *place += 1 });
            }
        };
        let other = shared.clone();
        let thread = thread::spawn(move || enter(&other, true));
        enter(&shared, false);
        enter(&shared, true);
        thread.join().unwrap();
        assert_eq!(shared.0.available(), 1);
    });
}

#[test]
fn who_learns_of_a_flag_sees_what_was_done_before() {
    model(2, || {
        let shared = Arc::new((Flag::new(), Place(UnsafeCell::new(0))));
        let other = shared.clone();
        // SAFETY: who comes first is alone; the model checker says when not.
        let set = |shared: &(Flag, Place)| {
            shared.1.0.with_mut(|place| unsafe { *place = 7 });
            shared.0.set();
        };
        let thread = thread::spawn(move || set(&other));
        let read = || shared.1.0.with(|place| unsafe { *place });
        if shared.0.is_set() {
            assert_eq!(read(), 7);
        }
        if shared.0.take() {
            assert_eq!(read(), 7);
        }
        thread.join().unwrap();
    });
}

/// An owner that goes in twice, and another one that wants in once and runs a barrier for the owner: whichever way they meet,
/// one at a time is inside, and sees what the last one did.
#[test]
fn a_bias_lets_its_owner_in_or_whoever_runs_a_barrier_for_it() {
    for place in 0..5 {
        model(2, move || {
            let shared = Arc::new((Bias::new(), Place(UnsafeCell::new(0))));
            let (barrier, interrupted) = membarrier(place);
            // SAFETY: who is inside is alone; the model checker says when not.
            let inside = |shared: &(Bias, Place)| {
                shared.1.0.with_mut(|place| unsafe {
                    *place += 1;
                    *place
                })
            };
            let owner = {
                let shared = shared.clone();
                thread::spawn(move || {
                    let mut entered = 0;
                    for turn in 0..2 {
                        interrupted.here(2 * turn);
                        // Between the store and the load of `enter` the barrier has the same effect as before its store, if it is
                        // wanted then, or as behind its load.
                        let is_inside = shared.0.enter();
                        interrupted.here(2 * turn + 1);
                        if is_inside {
                            inside(&shared);
                            shared.0.leave();
                            entered += 1;
                        }
                    }
                    interrupted.here(4);
                    entered
                })
            };
            shared.0.want();
            barrier.call();
            let is_alone = !shared.0.is_inside();
            if is_alone {
                inside(&shared);
                shared.0.unwant();
            }
            let entered = owner.join().unwrap();
            assert_eq!(inside(&shared), entered + 1 + u32::from(is_alone));
        });
    }
}
