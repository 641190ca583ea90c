//! Locks that block: whoever has to wait sleeps. For those that never do, see [`lock`](crate::lock).

use std::array;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::lock;
use crate::core::ring::{CachePadded, EventCount};
use crate::std::futex::{self, Deadline};

/// A number of permits; who waits for one sleeps, and is served in the order of coming.
///
/// ```
/// use std::time::Duration;
/// use conduit::sync::Semaphore;
///
/// static SLOTS: Semaphore = Semaphore::new(1);
///
/// let permit = SLOTS.acquire();
/// assert!(SLOTS.acquire_timeout(Duration::from_millis(1)).is_none());
/// drop(permit);
/// assert!(SLOTS.try_acquire().is_some());
/// ```
///
/// Giving a permit back makes no system call while nobody sleeps.
#[derive(Debug)]
pub struct Semaphore {
    permits: lock::Semaphore,
    /// Permits were added.
    added: EventCount,
}

impl Semaphore {
    /// With this many permits.
    pub const fn new(permits: usize) -> Self {
        Semaphore { permits: lock::Semaphore::new(permits), added: EventCount::new() }
    }

    /// Takes a permit; sleeps until there is one for it.
    pub fn acquire(&self) -> Permit<'_> {
        let ticket = self.permits.ticket();
        self.sleep_until(None, || self.permits.is_served(ticket).then_some(()));
        Permit(self)
    }

    /// Takes a permit, if one is left that nobody waits for.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.permits.try_acquire()?.forget();
        Some(Permit(self))
    }

    /// Takes a permit that is left within `timeout`. Who may give up comes after those who wait in
    /// [`acquire`](Semaphore::acquire), whenever they came.
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<Permit<'_>> {
        self.sleep_until(Some(Deadline::after(timeout)), || self.try_acquire())
    }

    /// Sleeps until `look` finds something, or it is too late.
    fn sleep_until<R>(&self, deadline: Option<Deadline>, look: impl Fn() -> Option<R>) -> Option<R> {
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            let ticket = self.added.prepare();
            if let Some(found) = look() {
                return Some(found);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return None;
            }
            futex::wait(self.added.word(), ticket, deadline);
        }
    }

    /// Adds permits.
    pub fn add(&self, permits: usize) {
        self.permits.add(permits);
        if self.added.notify() {
            futex::wake_all(self.added.word());
        }
    }

    /// How many permits nobody has taken or waits for, as far as can be told while others come and go.
    pub fn available(&self) -> usize {
        self.permits.available()
    }

    /// How many wait in [`acquire`](Semaphore::acquire), as far as can be told while others come and go.
    pub fn waiting(&self) -> usize {
        self.permits.waiting()
    }
}

/// A permit of a [`Semaphore`], given back when it is dropped.
#[derive(Debug)]
#[must_use = "a permit is given back at once if it is dropped"]
pub struct Permit<'s>(&'s Semaphore);

impl Permit<'_> {
    /// Keeps the permit for good: it is given back by [`Semaphore::add`], or never.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.add(1);
    }
}

/// `N` mutexes, a power of two, each on a cache line of its own, of which a hash chooses one: threads that want different
/// things seldom wait for each other, and who waits sleeps.
///
/// ```
/// use std::collections::HashMap;
/// use conduit::sync::Sharded;
///
/// let sessions = Sharded::<HashMap<u64, &str>, 16>::default();
/// let hash = |id: u64| id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
/// sessions.lock(hash(7)).insert(7, "robot");
/// assert_eq!(sessions.lock(hash(7)).get(&7), Some(&"robot"));
/// ```
///
/// A thread that panics while it holds a shard lets go of it; the value stays as it is then.
#[derive(Debug)]
pub struct Sharded<T, const N: usize> {
    shards: [CachePadded<Mutex<T>>; N],
}

impl<T, const N: usize> Sharded<T, N> {
    const MASK: u64 = {
        assert!(N.is_power_of_two(), "the number of shards is a power of two");
        N as u64 - 1
    };

    /// Shards with these values.
    pub fn of(values: [T; N]) -> Self {
        Sharded { shards: values.map(|value| CachePadded(Mutex::new(value))) }
    }

    /// The shard of what has this hash, locked: of its upper bits, which tables within a shard do not use.
    pub fn lock(&self, hash: u64) -> MutexGuard<'_, T> {
        Self::enter(&self.shards[(hash >> 32 & Self::MASK) as usize])
    }

    /// All shards, each locked for as long as it is looked at.
    pub fn iter(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.shards.iter().map(Self::enter)
    }

    fn enter(shard: &CachePadded<Mutex<T>>) -> MutexGuard<'_, T> {
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default, const N: usize> Default for Sharded<T, N> {
    fn default() -> Self {
        Self::of(array::from_fn(|_| T::default()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread::{scope, yield_now};

    use super::*;

    #[test]
    fn who_waits_is_served_in_the_order_of_coming() {
        let semaphore = Semaphore::new(0);
        let (sender, served) = channel();
        scope(|threads| {
            for number in 0..4 {
                let (semaphore, sender) = (&semaphore, sender.clone());
                threads.spawn(move || {
                    semaphore.acquire().forget();
                    sender.send(number).unwrap();
                });
                while semaphore.waiting() <= number {
                    yield_now();
                }
            }
            assert!(semaphore.try_acquire().is_none());
            for number in 0..4 {
                semaphore.add(1);
                assert_eq!(served.recv(), Ok(number));
            }
        });
        assert_eq!((semaphore.available(), semaphore.waiting()), (0, 0));
    }

    #[test]
    fn no_permit_is_lost_between_threads_that_sleep() {
        let semaphore = Semaphore::new(1);
        scope(|threads| {
            for thread in 0..4 {
                let semaphore = &semaphore;
                threads.spawn(move || {
                    for _ in 0..300 {
                        let permit = match thread {
                            0 => semaphore.acquire_timeout(Duration::from_secs(60)).expect("it comes"),
                            _ => semaphore.acquire(),
                        };
                        yield_now();
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(semaphore.available(), 1);
    }

    #[test]
    fn who_gives_up_takes_nothing() {
        let semaphore = Semaphore::new(1);
        let held = semaphore.acquire();
        let start = std::time::Instant::now();
        assert!(semaphore.acquire_timeout(Duration::from_millis(20)).is_none());
        assert!(start.elapsed() >= Duration::from_millis(20));
        drop(held);
        assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0));
    }

    #[test]
    fn a_shard_is_found_by_the_upper_bits_and_outlives_a_panic() {
        let shards = Sharded::<u32, 4>::of([10, 11, 12, 13]);
        assert_eq!((0..5u64).map(|n| *shards.lock(n << 32 | 7)).collect::<Vec<_>>(), [10, 11, 12, 13, 10]);
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            *shards.lock(0) = 1;
            let _guard = shards.lock(0);
            panic!("on purpose");
        }));
        assert!(end.is_err());
        assert_eq!(shards.iter().map(|shard| *shard).sum::<u32>(), 1 + 11 + 12 + 13);
    }
}
