//! A message that nothing orders: a positive control.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::threads::{let_others, threads};

pub fn run() {
    struct Racy(UnsafeCell<u64>);
    // SAFETY: it is not. That is the point, and the program does nothing with what it reads but print it.
    unsafe impl Sync for Racy {}
    static MESSAGE: Racy = Racy(UnsafeCell::new(0));
    static READY: AtomicBool = AtomicBool::new(false);
    threads(&mut [
        &mut || {
            // SAFETY: see above.
            unsafe { *MESSAGE.0.get() = 1 };
            // Release is what is missing.
            READY.store(true, Ordering::Relaxed);
        },
        &mut || {
            while !READY.load(Ordering::Relaxed) {
                let_others();
            }
            // SAFETY: see above.
            println!("planted: {}", unsafe { *MESSAGE.0.get() });
        },
    ]);
}
