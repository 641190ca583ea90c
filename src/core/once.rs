//! Handing out the handles of what is shared, once.
//!
//! Not modelled: whoever gets the handles passes them on itself.

pub(crate) use way::Once;

#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
mod way {
    use crate::core::atomic::Ordering;
    use crate::core::atomic::rmw::UnmodelledBool;

    /// Lets exactly one caller through.
    #[derive(Debug)]
    pub(crate) struct Once {
        taken: UnmodelledBool,
    }

    impl Once {
        pub(crate) const fn new() -> Self {
            Once { taken: UnmodelledBool::new(false) }
        }

        pub(crate) fn take(&self) -> bool {
            !self.taken.swap(true, Ordering::AcqRel)
        }
    }
}

#[cfg(not(any(target_has_atomic = "ptr", feature = "portable-atomic")))]
mod way {
    use crate::core::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// Lets exactly one caller through, without compare-and-swap.
    ///
    /// Lamport's splitter: the last to come, and whether anybody has passed. Of callers that interrupt each other at most
    /// one gets through, perhaps none.
    #[derive(Debug)]
    pub(crate) struct Once {
        last: AtomicUsize,
        closed: AtomicBool,
    }

    impl Once {
        pub(crate) const fn new() -> Self {
            Once { last: AtomicUsize::new(0), closed: AtomicBool::new(false) }
        }

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
}
