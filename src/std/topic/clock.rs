//! The pair of clock readings that turns a topic's monotonic timestamps into times of day.

use crate::core::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::std::futex::{now, real_now};

/// A (monotonic, real) pair under a seqlock.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct ClockPair {
    /// Odd while the pair is being written. Written by the writer alone, as are the next two.
    version: AtomicU32,
    reserved: u32,
    monotonic: AtomicU64,
    real: AtomicU64,
}

impl ClockPair {
    /// Reads both clocks and stores them. Only the holder of the writer's lock calls this.
    pub(crate) fn renew(&self) {
        let before = now();
        let real = real_now();
        let monotonic = before + (now() - before) / 2;
        // A writer that died in here left the version odd; the next one makes it odd, too.
        let version = self.version.load(Ordering::Relaxed) | 1;
        self.version.store(version, Ordering::Relaxed);
        fence(Ordering::Release);
        self.monotonic.store(monotonic, Ordering::Relaxed);
        self.real.store(real, Ordering::Relaxed);
        // Release: pairs with the Acquire load in `read`.
        self.version.store(version.wrapping_add(1), Ordering::Release);
    }

    /// The pair; `None` if it is being written or never was.
    pub(crate) fn read(&self) -> Option<(u64, u64)> {
        for _ in 0..16 {
            let before = self.version.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let pair = (self.monotonic.load(Ordering::Relaxed), self.real.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before == self.version.load(Ordering::Relaxed) && before & 1 == 0 && pair.0 != 0 {
                return Some(pair);
            }
            std::hint::spin_loop();
        }
        None
    }
}
