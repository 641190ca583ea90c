//! A lock's two words for an owner that comes all the time and others that hardly ever do.

use super::super::atomic::rmw::AtomicBool;
use super::super::atomic::{Ordering, compiler_fence};

/// Lets an owner in by a store and a load, and others by a barrier that they run on its behalf (Linux `membarrier`): no
/// instruction of the owner's waits until what it has stored is there for others.
///
/// Whoever is not the owner comes alone, by a lock of their own: it says that it [wants](Bias::want) in, runs the barrier, and waits
/// until the owner is not [inside](Bias::is_inside). The owner that finds itself wanted stays out, and waits for that lock.
///
/// Orderings: this is store-then-load on both sides. The barrier stands for a `SeqCst` fence between the two on the owner's side,
/// wherever that is; so either the owner sees that it is wanted, or the other one sees it inside.
#[derive(Debug)]
pub(crate) struct Bias {
    /// Whether the owner is inside. Stored by the owner alone; Release when it leaves.
    inside: AtomicBool,
    /// Whether somebody else wants in, or is. Stored by whoever has the others' lock; Release when it leaves.
    wanted: AtomicBool,
}

impl Bias {
    pub(crate) fn new() -> Self {
        Bias { inside: AtomicBool::new(false), wanted: AtomicBool::new(false) }
    }

    /// Lets the owner in, if nobody else wants in.
    #[inline(always)]
    pub(crate) fn enter(&self) -> bool {
        self.inside.store(true, Ordering::Relaxed);
        // The barrier meets the program as it is compiled: the store must stay in front of the load.
        compiler_fence(Ordering::SeqCst);
        // Acquire: pairs with the Release in `unwant`: what others did inside is seen.
        if self.wanted.load(Ordering::Acquire) {
            self.leave();
            return false;
        }
        true
    }

    /// The owner is out again.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        // Release: pairs with the Acquire in `is_inside`.
        self.inside.store(false, Ordering::Release);
    }

    /// Says that somebody else wants in. The barrier comes next.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Whether the owner is inside. If not, what it did there is seen.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside.load(Ordering::Acquire)
    }

    /// The other one is out again.
    pub(crate) fn unwant(&self) {
        self.wanted.store(false, Ordering::Release);
    }
}
