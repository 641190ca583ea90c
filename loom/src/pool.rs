//! The pool. A place fails the model when two threads are in it at a time, or when one does not see what the last one did.

use std::sync::Arc;

use loom::thread;

use crate::core::pool::Pool;
use crate::model;

/// Takes a place, if there is one, and looks at what it put there; whether there was one.
fn take<const BLOCKS: usize, const SIZE: usize>(pool: &Pool<Arc<usize>, BLOCKS, SIZE>, number: usize) -> bool {
    match pool.magazine().acquire(Arc::new(number)) {
        Ok(handle) => {
            assert_eq!((**handle, Arc::strong_count(&handle)), (number, 1));
            true
        }
        Err(value) => {
            assert_eq!(*value, number);
            false
        }
    }
}

fn race<const BLOCKS: usize, const SIZE: usize>(each: usize) {
    model(2, move || {
        let pool = Arc::new(Pool::<Arc<usize>, BLOCKS, SIZE>::new());
        let its = pool.clone();
        let other = thread::spawn(move || (0..each).filter(|&number| take(&its, number)).count());
        let mine = (0..each).filter(|&number| take(&pool, number)).count();
        let others = other.join().unwrap();
        assert!(mine + others >= each.min(BLOCKS), "one of them had it");
        assert_eq!(pool.free(), pool.capacity());
    });
}

#[test]
fn a_place_has_one_value_at_a_time() {
    race::<1, 1>(2);
    race::<1, 2>(2);
    race::<2, 1>(2);
}

#[test]
fn a_place_that_another_thread_gives_back_is_taken_with_all_that_was_done_to_it() {
    model(2, || {
        let pool: &'static Pool<Box<usize>, 1, 1> = Box::leak(Box::new(Pool::new()));
        let mut magazine = pool.magazine();
        let mut handle = magazine.acquire(Box::new(1)).unwrap();
        let other = thread::spawn(move || {
            **handle += 1;
            assert_eq!(*handle.into_inner(), 2);
        });
        if let Ok(mut handle) = magazine.acquire(Box::new(3)) {
            **handle += 1;
            assert_eq!(**handle, 4);
        }
        other.join().unwrap();
        drop(magazine.acquire(Box::new(5)).expect("it was given back"));
        drop(magazine);
        assert_eq!(pool.free(), 1);
        // SAFETY: nothing of it is used any more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(pool).cast_mut()) });
    });
}
