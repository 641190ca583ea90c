//! Locks that never block: whoever has to wait spins, or is told that it would have to.
//!
//! For sections of a few dozen instructions that are hardly ever contended, where there is nobody to put a thread to sleep:
//! in a kernel, in firmware with several cores, between an interrupt handler and what it cannot interrupt. Where threads
//! wait for longer than that, or share a processor with the one that they wait for, a lock that sleeps is better:
//! `conduit::sync`, with the feature `std`.
//!
//! | | what it guards | waiting |
//! |---|---|---|
//! | [`SpinLock`] | one value | spins; [`try_lock`](SpinLock::try_lock) does not |
//! | [`Sharded`] | many values that are found by a hash | spins for one of them |
//! | [`Semaphore`] | a number of permits | in the order of coming; [`try_acquire`](Semaphore::try_acquire) does not wait |
//! | [`Flag`] | one fact | never |
//!
//! **From an interrupt handler call only what does not wait.** It would wait for ever for a lock that the code it
//! interrupted holds.

use super::atomic::Ordering;
use super::atomic::rmw::AtomicBool;
use super::cells::const_fn;

#[cfg(any(loom, feature = "std"))]
mod bias;
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
mod semaphore;
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
mod spin;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(any(loom, feature = "std"))]
pub(crate) use self::bias::Bias;
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
pub use self::{
    semaphore::{Permit, Semaphore},
    spin::{Guard, Sharded, SpinLock},
};

/// A fact that one tells and others learn, with everything that was written before it was told.
///
/// ```
/// use conduit::lock::Flag;
///
/// static STOP: Flag = Flag::new();
///
/// assert!(!STOP.is_set());
/// STOP.set();
/// assert!(STOP.is_set() && STOP.take() && !STOP.take());
/// ```
///
/// # Use it
///
/// to tell a loop to stop, or that something is there; from an interrupt handler, too. Not to wait for: who waits should
/// sleep.
#[derive(Debug, Default)]
pub struct Flag {
    /// Stored by who tells (Release), loaded by who asks (Acquire).
    set: AtomicBool,
}

impl Flag {
    const_fn! {
        /// Not set.
        pub fn new() -> Self {
            Flag { set: AtomicBool::new(false) }
        }
    }

    /// Sets it.
    #[inline]
    pub fn set(&self) {
        // Release: pairs with the Acquire loads below.
        self.set.store(true, Ordering::Release);
    }

    /// Clears it. Nobody is told anything by that: who asks next learns no more than that it is not set.
    #[inline]
    pub fn clear(&self) {
        self.set.store(false, Ordering::Relaxed);
    }

    /// Whether it is set; if so, what was written before it was set is seen.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Clears it; returns whether it was set. Of several that do, one learns of each setting.
    #[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
    #[inline]
    pub fn take(&self) -> bool {
        // Acquire: pairs with the Release store of who set it.
        self.set.swap(false, Ordering::Acquire)
    }
}
