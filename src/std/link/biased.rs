//! A value that one handle uses all the time, and others once in a while.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::lock::Bias;
use crate::std::futex::barrier;

/// See the module. The owner's way in is two stores and a load; everybody else's a lock and, on the owner's behalf, a barrier
/// on all CPUs that run this process. Where the kernel has no such barrier, and once there are several owners, all of them take the
/// lock.
#[derive(Debug)]
pub(super) struct Biased<T> {
    bias: Bias,
    /// Of those who are not the owner, and of the owner that is wanted out.
    others: Mutex<()>,
    /// Whether the owner takes the lock, too. Set once, by whoever has the lock.
    is_shared: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: whoever is inside is alone there: see `own` and `enter`.
unsafe impl<T: Send> Sync for Biased<T> {}

impl<T> Biased<T> {
    pub(super) fn new(value: T) -> Self {
        let biased = Biased {
            bias: Bias::new(),
            others: Mutex::new(()),
            is_shared: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        };
        if !barrier::register() || !barrier::run() {
            biased.bias.want();
            biased.is_shared.store(true, Ordering::Relaxed);
        }
        biased
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // Whoever panicked left the value as it is between calls.
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the owner in.
    ///
    /// # Safety
    ///
    /// The caller is the owner, in whichever thread, and not inside; there is one, or the value is [shared](Biased::share).
    #[inline(always)]
    pub(super) unsafe fn own(&self) -> Guard<'_, T> {
        let lock = if self.bias.enter() { None } else { Some(self.lock()) };
        Guard { biased: self, way: lock.map_or(Way::Owner, |lock| Way::Locked { _lock: lock }) }
    }

    /// Lets anybody in.
    pub(super) fn enter(&self) -> Guard<'_, T> {
        let lock = self.lock();
        // Relaxed: written with the lock.
        if self.is_shared.load(Ordering::Relaxed) {
            return Guard { biased: self, way: Way::Locked { _lock: lock } };
        }
        self.want();
        Guard { biased: self, way: Way::Wanted { _lock: lock } }
    }

    /// Has the owner out, with the lock held.
    fn want(&self) {
        self.bias.want();
        if !barrier::run() {
            // It has worked when this was made. A filter of system calls that forbids it since then leaves no way to have the owner out,
            // and going on would be a data race.
            std::process::abort();
        }
        while self.bias.is_inside() {
            // What is done inside is short, and waits for nothing.
            std::thread::yield_now();
        }
    }

    /// Has all take the lock from now on, so that there may be several owners.
    pub(super) fn share(&self) {
        let _lock = self.lock();
        if !self.is_shared.swap(true, Ordering::Relaxed) {
            self.want();
        }
    }
}

/// By which way somebody is inside.
#[derive(Debug)]
enum Way<'b> {
    Owner,
    /// While the owner is wanted out for good, or the lock is the owner's way.
    Locked {
        _lock: MutexGuard<'b, ()>,
    },
    Wanted {
        _lock: MutexGuard<'b, ()>,
    },
}

/// Whoever has it is alone with the value.
#[derive(Debug)]
pub(super) struct Guard<'b, T> {
    biased: &'b Biased<T>,
    way: Way<'b>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the owner came in by `Bias::enter`, which keeps others out; or this has the lock, and the owner is out.
        unsafe { &*self.biased.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.biased.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        match &self.way {
            Way::Owner => self.biased.bias.leave(),
            Way::Locked { .. } => {}
            // Before the lock is let go.
            Way::Wanted { .. } => self.biased.bias.unwant(),
        }
    }
}
