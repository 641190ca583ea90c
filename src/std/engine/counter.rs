//! A number that one thread counts and any may read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts up. One thread at a time writes it, any number of threads read it: adding is a load and a store, without the locked
/// instruction that a counter of several writers needs, and so two that add at once lose counts. Whoever has several for one
/// thread puts them beside each other, and keeps those of different threads 128 bytes apart.
///
/// ```
/// use conduit::engine::Counter;
///
/// let received = Counter::new();
/// received.add(3);
/// received.add(1);
/// assert_eq!(received.get(), 4);
/// ```
#[derive(Debug, Default)]
pub struct Counter {
    /// The count. Written by the counting thread alone, which reads back what it wrote itself; read by any. Relaxed: it says
    /// nothing about any other memory.
    count: AtomicU64,
}

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Counter { count: AtomicU64::new(0) }
    }

    /// Counts `n` more. After `u64::MAX` comes 0.
    #[inline]
    pub fn add(&self, n: u64) {
        self.count.store(self.count.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count.
    #[inline]
    pub fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
