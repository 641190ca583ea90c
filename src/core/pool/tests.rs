//! Against a count of what is out, and of what there is.

extern crate std;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::vec::Vec;

use proptest::prelude::*;

use super::Pool;
use crate::core::rounds::rounds;

/// What a pool of `BLOCKS` blocks of `SIZE` does in one thread: two magazines take, whatever is out is given back in any
/// order.
fn behaves_like_a_count<const BLOCKS: usize, const SIZE: usize>(ops: &[(u8, usize)]) {
    let pool = Pool::<Rc<usize>, BLOCKS, SIZE>::new();
    let mut magazines = [pool.magazine(), pool.magazine()];
    let mut out = Vec::new();
    for (number, &(op, which)) in ops.iter().enumerate() {
        match op {
            0..=2 => {
                let magazine = &mut magazines[which % 2];
                let (held, free) = (magazine.held(), pool.free());
                match magazine.acquire(Rc::new(number)) {
                    Ok(handle) => out.push((handle, number)),
                    Err(value) => {
                        assert_eq!((*value, held, free), (number, 0, 0), "there was a place");
                    }
                }
            }
            3 if !out.is_empty() => drop(out.swap_remove(which % out.len())),
            4 if !out.is_empty() => {
                let (handle, number) = out.swap_remove(which % out.len());
                assert_eq!(*handle.into_inner(), number);
            }
            5 => drop(magazines[which % 2].vacant()),
            6 => magazines[which % 2] = pool.magazine(),
            _ => {}
        }
        let held: usize = magazines.iter().map(|magazine| magazine.held()).sum();
        assert_eq!(pool.free() + held + out.len(), pool.capacity());
        for (handle, number) in &out {
            assert_eq!((***handle, Rc::strong_count(handle)), (*number, 1), "a place has one value");
        }
    }
    drop((magazines, out));
    assert_eq!(pool.free(), pool.capacity());
}

proptest! {
    #![proptest_config(rounds(1000))]

    #[test]
    fn each_place_is_free_or_held_or_in_use(ops in proptest::collection::vec((0..7u8, 0..64usize), 0..120)) {
        behaves_like_a_count::<1, 1>(&ops);
        behaves_like_a_count::<3, 2>(&ops);
        behaves_like_a_count::<2, { usize::BITS as usize }>(&ops);
    }
}

#[test]
fn a_pool_without_places_says_so_and_gives_the_value_back() {
    let pool = Pool::<&str, 2, 2>::new();
    let mut magazine = pool.magazine();
    let handles: Vec<_> = (0..4).map(|_| magazine.acquire("in").unwrap()).collect();
    assert_eq!(magazine.acquire("out").unwrap_err(), "out");
    assert!(magazine.vacant().is_none());
    drop(handles);
    assert!(magazine.acquire("in").is_ok());
}

#[test]
fn what_a_magazine_has_no_other_can_have_until_it_is_dropped() {
    let pool = Pool::<u8, 1, 4>::new();
    let mut magazine = pool.magazine();
    let handle = magazine.acquire(1).unwrap();
    assert_eq!((magazine.held(), pool.free()), (3, 0));
    assert!(pool.magazine().acquire(2).is_err());
    drop(magazine);
    assert_eq!(pool.free(), 3);
    drop(handle);
    assert_eq!(pool.free(), 4);
}

#[test]
fn a_place_is_given_back_also_when_a_destructor_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let pool = Pool::<Bomb, 1, 1>::new();
    let handle = pool.magazine().acquire(Bomb).ok().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(handle))).is_err());
    assert_eq!(pool.free(), 1);
}

#[test]
fn values_that_other_threads_drop_come_back_whole_and_once() {
    const COUNT: usize = 20_000;
    let pool = Pool::<[usize; 4], 4, 8>::new();
    std::thread::scope(|threads| {
        for producer in 0..2 {
            let (sender, receiver) = sync_channel(8);
            let mut magazine = pool.magazine();
            threads.spawn(move || {
                for number in (producer * COUNT..).take(COUNT) {
                    let handle = loop {
                        match magazine.acquire([number; 4]) {
                            Ok(handle) => break handle,
                            Err(_) => std::thread::yield_now(),
                        }
                    };
                    sender.send(handle).unwrap();
                }
            });
            threads.spawn(move || {
                for (handle, number) in receiver.iter().zip(producer * COUNT..) {
                    assert_eq!(*handle, [number; 4]);
                }
            });
        }
    });
    assert_eq!(pool.free(), pool.capacity());
}
