//! Handing out the handles of what is shared, once.
//!
//! The language's own atomics also under the model checker: whoever gets the handles passes them on itself.

use ::core::sync::atomic::{AtomicBool, Ordering};

/// Lets exactly one caller through, also where the target has no compare-and-swap.
#[derive(Debug)]
pub(crate) struct Once {
    #[cfg(target_has_atomic = "8")]
    taken: AtomicBool,
    /// Lamport's splitter: the last to come, and whether anybody has passed. Of callers that interrupt each other at
    /// most one gets through, perhaps none.
    #[cfg(not(target_has_atomic = "8"))]
    last: ::core::sync::atomic::AtomicUsize,
    #[cfg(not(target_has_atomic = "8"))]
    closed: AtomicBool,
}

impl Once {
    #[cfg(target_has_atomic = "8")]
    pub(crate) const fn new() -> Self {
        Once { taken: AtomicBool::new(false) }
    }

    #[cfg(not(target_has_atomic = "8"))]
    pub(crate) const fn new() -> Self {
        Once { last: ::core::sync::atomic::AtomicUsize::new(0), closed: AtomicBool::new(false) }
    }

    #[cfg(target_has_atomic = "8")]
    pub(crate) fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    #[cfg(not(target_has_atomic = "8"))]
    pub(crate) fn take(&self) -> bool {
        // The address of a local tells apart callers that run at the same time.
        let me = 0u8;
        let me = &raw const me as usize;
        self.last.store(me, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            return false;
        }
        self.closed.store(true, Ordering::SeqCst);
        self.last.load(Ordering::SeqCst) == me
    }
}
