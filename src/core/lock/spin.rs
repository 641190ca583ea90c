//! Spin locks, alone and by the shard.

use ::core::marker::PhantomData;
use ::core::ops::{Deref, DerefMut};

use crate::core::atomic::rmw::AtomicBool;
use crate::core::atomic::{CachePadded, Ordering, spin};
use crate::core::cells::{Guarded, const_fn};

/// A value that one thread at a time may use.
///
/// ```
/// use conduit::lock::SpinLock;
///
/// static TOTAL: SpinLock<u64> = SpinLock::new(0);
///
/// *TOTAL.lock() += 2;
/// let guard = TOTAL.try_lock().expect("nobody has it");
/// assert_eq!((*guard, TOTAL.try_lock().is_none()), (2, true));
/// ```
///
/// # Use it
///
/// for a few instructions at a time, where waiters run on processors of their own. Not between threads of different
/// priority on one processor: the one that waits may keep the one it waits for from running. A thread that panics while it
/// holds the lock lets go of it; the value stays as it is then.
#[derive(Debug)]
pub struct SpinLock<T> {
    /// Whether somebody has the value: exchanged for `true` by who takes it (Acquire), stored `false` by who lets go
    /// (Release).
    taken: AtomicBool,
    value: Guarded<T>,
}

// SAFETY: the value goes from thread to thread, and only who took the lock touches it.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    const_fn! {
        /// A lock that nobody has.
        pub fn new(value: T) -> Self {
            SpinLock { taken: AtomicBool::new(false), value: Guarded::new(value) }
        }
    }

    /// Takes the lock, however long that takes.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            // Only look, so that the line stays shared until it is worth a try.
            while self.taken.load(Ordering::Relaxed) {
                spin();
            }
        }
    }

    /// Takes the lock, if nobody has it.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        // Acquire: pairs with the Release store of who had it last.
        match self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Some(Guard { lock: self, value: PhantomData }),
            Err(_) => None,
        }
    }

    /// The value, without a lock: the borrow proves that nobody else has it.
    #[cfg(not(loom))]
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// The value.
    #[cfg(not(loom))]
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: Default> Default for SpinLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// The value of a [`SpinLock`], for as long as this lives.
///
/// Threads share it only if they may share the value:
///
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<conduit::lock::Guard<'_, std::cell::Cell<u8>>>();
/// ```
#[derive(Debug)]
#[must_use = "the lock is let go at once if the guard is dropped"]
pub struct Guard<'l, T> {
    lock: &'l SpinLock<T>,
    /// A shared guard lends a shared value, so only what threads may share makes it shareable; a lock asks for less.
    value: PhantomData<&'l mut T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: who has the guard has the lock, so nobody else touches the value.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed mutably.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire exchange of who takes it next.
        self.lock.taken.store(false, Ordering::Release);
    }
}

/// `N` locks, a power of two, each on a cache line of its own, of which a hash chooses one: threads that want different
/// things seldom want the same lock.
///
/// ```
/// use conduit::lock::Sharded;
///
/// static COUNTS: Sharded<[u32; 4], 8> = Sharded::new([0; 4]);
///
/// let hash = 0x9E37_79B9_7F4A_7C15;
/// COUNTS.shard(hash).lock()[0] += 1;
/// assert_eq!(COUNTS.iter().map(|shard| shard.lock()[0]).sum::<u32>(), 1);
/// ```
///
/// # Use it
///
/// for tables that many threads look things up in and change. Not where one operation needs several shards, unless all take
/// them in the same order.
#[derive(Debug)]
pub struct Sharded<T, const N: usize> {
    shards: [CachePadded<SpinLock<T>>; N],
}

#[cfg(not(loom))]
impl<T: Copy, const N: usize> Sharded<T, N> {
    /// Each shard with a copy of `value`.
    pub const fn new(value: T) -> Self {
        // SAFETY: an array of `MaybeUninit` needs no initialisation.
        let mut shards = [const { ::core::mem::MaybeUninit::<CachePadded<SpinLock<T>>>::uninit() }; N];
        let mut at = 0;
        while at < N {
            shards[at] = ::core::mem::MaybeUninit::new(CachePadded(SpinLock::new(value)));
            at += 1;
        }
        // SAFETY: each element was written above, and both arrays have the same layout.
        Sharded { shards: unsafe { ::core::mem::transmute_copy(&shards) } }
    }
}

impl<T, const N: usize> Sharded<T, N> {
    const MASK: u64 = {
        assert!(N.is_power_of_two(), "the number of shards is a power of two");
        N as u64 - 1
    };

    /// Shards with these values.
    pub fn of(values: [T; N]) -> Self {
        Sharded { shards: values.map(|value| CachePadded(SpinLock::new(value))) }
    }

    /// The shard of what has this hash: of its upper bits, which tables within a shard do not use.
    #[inline]
    pub fn shard(&self, hash: u64) -> &SpinLock<T> {
        &self.shards[(hash >> 32 & Self::MASK) as usize]
    }

    /// All shards.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SpinLock<T>> {
        self.shards.iter().map(|shard| &**shard)
    }
}
