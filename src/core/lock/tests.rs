extern crate std;

use super::*;

#[cfg(target_has_atomic = "ptr")]
mod waiting {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread::{scope, yield_now};
    use std::vec::Vec;

    use super::*;

    #[test]
    fn one_at_a_time_has_the_value_and_none_of_what_they_do_is_lost() {
        let lock = SpinLock::new([0u64; 4]);
        scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for turn in 0..2000 {
                        let mut guard = if turn % 2 == 0 { Some(lock.lock()) } else { lock.try_lock() };
                        while guard.is_none() {
                            yield_now();
                            guard = lock.try_lock();
                        }
                        let mut guard = guard.unwrap();
                        let all = guard[0];
                        assert_eq!(*guard, [all; 4], "somebody else is in it");
                        guard.iter_mut().for_each(|count| *count += 1);
                    }
                });
            }
        });
        assert_eq!(lock.into_inner(), [6000; 4]);
    }

    #[test]
    fn who_panics_lets_go() {
        let mut lock = SpinLock::new(1);
        let end = catch_unwind(AssertUnwindSafe(|| {
            let mut guard = lock.lock();
            *guard = 2;
            panic!("on purpose");
        }));
        assert!(end.is_err());
        assert_eq!(*lock.try_lock().expect("nobody has it"), 2);
        assert_eq!(*lock.get_mut(), 2);
    }

    #[test]
    fn a_shard_is_found_by_the_upper_bits_and_shards_do_not_hold_each_other_up() {
        let shards = Sharded::<u32, 4>::of([10, 11, 12, 13]);
        let guards: Vec<_> = (0..4u64).map(|n| shards.shard(n << 32 | 0xFFFF).try_lock().unwrap()).collect();
        assert_eq!(guards.iter().map(|guard| **guard).collect::<Vec<_>>(), [10, 11, 12, 13]);
        assert!(shards.shard(4 << 32).try_lock().is_none(), "the first again");
        assert_eq!(shards.iter().len(), 4);
    }

    #[test]
    fn there_are_never_more_permits_out_than_there_are() {
        use std::sync::atomic::AtomicUsize;
        let semaphore = Semaphore::new(2);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        scope(|threads| {
            for thread in 0..4 {
                let (semaphore, inside, most) = (&semaphore, &inside, &most);
                threads.spawn(move || {
                    for _ in 0..500 {
                        let permit = loop {
                            match if thread == 0 { Some(semaphore.acquire()) } else { semaphore.try_acquire() } {
                                Some(permit) => break permit,
                                None => yield_now(),
                            }
                        };
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.into_inner()));
        assert_eq!(semaphore.available(), 2);
    }

    #[test]
    fn permits_that_are_added_are_there_and_those_that_are_forgotten_are_not() {
        let semaphore = Semaphore::new(0);
        assert!(semaphore.try_acquire().is_none());
        semaphore.add(3);
        semaphore.acquire().forget();
        let held = semaphore.try_acquire().unwrap();
        assert_eq!(semaphore.available(), 1);
        drop(held);
        assert_eq!(semaphore.available(), 2);
    }
}

#[test]
fn each_setting_of_a_flag_is_learned_of_once() {
    let flag = Flag::default();
    assert!(!flag.is_set());
    flag.set();
    flag.set();
    assert!(flag.is_set());
    #[cfg(target_has_atomic = "8")]
    assert!(flag.take() && !flag.take());
    flag.set();
    flag.clear();
    assert!(!flag.is_set());
}
