//! A number of permits.

use crate::core::atomic::rmw::AtomicUsize;
use crate::core::atomic::{Ordering, spin};
use crate::core::cells::const_fn;

/// A number of permits. Who waits is served in the order of coming.
///
/// ```
/// use conduit::lock::Semaphore;
///
/// static SLOTS: Semaphore = Semaphore::new(2);
///
/// let (one, other) = (SLOTS.try_acquire(), SLOTS.try_acquire());
/// assert!(one.is_some() && other.is_some() && SLOTS.try_acquire().is_none());
/// drop(one);
/// SLOTS.acquire().forget();
/// assert_eq!(SLOTS.available(), 0);
/// SLOTS.add(1);
/// assert_eq!(SLOTS.available(), 1);
/// # drop(other);
/// ```
///
/// # Use it
///
/// to bound how many do something at a time, or to count what is there. The waiting is by ticket, so nobody is passed over;
/// but a thread that has a ticket and does not run holds up those behind it. Not for what may have to give up: take
/// [`try_acquire`](Semaphore::try_acquire) for that.
#[derive(Debug)]
pub struct Semaphore {
    /// How many tickets were ever taken. Raised by who acquires: by addition, or by an exchange that looks at `granted`
    /// first. Relaxed, as `granted` orders what the permits guard.
    taken: AtomicUsize,
    /// How many permits there ever were, those given back counted again: ticket `t` is served if it is below. Raised by who
    /// gives one back (Release); loaded by who wants one (Acquire).
    granted: AtomicUsize,
}

impl Semaphore {
    const_fn! {
        /// With this many permits.
        pub fn new(permits: usize) -> Self {
            Semaphore { taken: AtomicUsize::new(0), granted: AtomicUsize::new(permits) }
        }
    }

    /// Takes a permit, however long that takes.
    #[inline]
    pub fn acquire(&self) -> Permit<'_> {
        let ticket = self.ticket();
        while !self.is_served(ticket) {
            spin();
        }
        Permit(self)
    }

    /// A place in the order of coming: what must be waited for then.
    #[inline]
    pub(crate) fn ticket(&self) -> usize {
        self.taken.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether who has this ticket has a permit.
    #[inline]
    pub(crate) fn is_served(&self, ticket: usize) -> bool {
        // Acquire: pairs with the Release addition of who gave the permit back.
        distance(self.granted.load(Ordering::Acquire), ticket) > 0
    }

    /// Takes a permit, if one is left that nobody waits for.
    #[inline]
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        let mut ticket = self.taken.load(Ordering::Relaxed);
        while self.is_served(ticket) {
            match self.taken.compare_exchange_weak(ticket, ticket.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Some(Permit(self)),
                Err(now) => ticket = now,
            }
        }
        None
    }

    /// Adds permits.
    #[inline]
    pub fn add(&self, permits: usize) {
        // Release: pairs with the Acquire load of who takes one of them.
        self.granted.fetch_add(permits, Ordering::Release);
    }

    /// How many permits nobody has taken or waits for, as far as can be told while others come and go.
    pub fn available(&self) -> usize {
        self.balance().max(0) as usize
    }

    /// How many wait for a permit, as far as can be told while others come and go.
    pub fn waiting(&self) -> usize {
        self.balance().min(0).unsigned_abs()
    }

    fn balance(&self) -> isize {
        let granted = self.granted.load(Ordering::Relaxed);
        distance(granted, self.taken.load(Ordering::Relaxed))
    }
}

/// How far the count `a` is before `b`, which may have wrapped.
fn distance(a: usize, b: usize) -> isize {
    a.wrapping_sub(b) as isize
}

/// A permit of a [`Semaphore`], given back when it is dropped.
#[derive(Debug)]
#[must_use = "a permit is given back at once if it is dropped"]
pub struct Permit<'s>(&'s Semaphore);

impl Permit<'_> {
    /// Keeps the permit for good: it is given back by [`Semaphore::add`], or never.
    pub fn forget(self) {
        ::core::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.add(1);
    }
}
