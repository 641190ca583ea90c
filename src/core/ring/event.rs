//! Sleeping until something is published, without a lost wake-up and without a call when nobody sleeps.

use super::super::atomic::rmw::AtomicU32;
use super::super::atomic::{Ordering, compiler_fence, fence};

/// An eventcount: a word to sleep on and a note that somebody does.
///
/// The sleeper [prepares](EventCount::prepare), **looks again** for what it waits for, and sleeps (in the kernel,
/// on [`word`](EventCount::word)) only while the word still has the ticket's value. The publisher makes its change,
/// then [notifies](EventCount::notify), and makes the waking call only if told to. One call wakes all.
///
/// A sleeper that was killed leaves a note behind that costs the publisher one call, once.
///
/// Orderings: this is store-then-load on both sides, so each side has a `SeqCst` fence between its store and its
/// load. The publisher's fence may be elided ([`notify_unfenced`](EventCount::notify_unfenced)) where every sleeper
/// runs a process-wide barrier in its place (Linux `membarrier`).
#[repr(C, align(8))]
#[derive(Debug, Default)]
pub struct EventCount {
    /// Counts wake-ups; the word that sleepers sleep on. Changed by publishers (and by who takes over for a dead
    /// one) with RMWs, so no wake-up is lost between two of them.
    wake: AtomicU32,
    /// 1 once somebody may be asleep, 0 once all were woken. Set by sleepers, cleared by publishers; RMWs only.
    asleep: AtomicU32,
}

impl EventCount {
    /// Nobody sleeps.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        EventCount { wake: AtomicU32::new(0), asleep: AtomicU32::new(0) }
    }

    /// Nobody sleeps.
    #[cfg(loom)]
    pub fn new() -> Self {
        EventCount { wake: AtomicU32::new(0), asleep: AtomicU32::new(0) }
    }

    /// Announces a sleeper. Look again after this call, then sleep while [`word`](EventCount::word) equals the
    /// returned ticket.
    #[inline]
    pub fn prepare(&self) -> u32 {
        // Relaxed, because the next line keeps it in place.
        let ticket = self.wake.load(Ordering::Relaxed);
        // AcqRel: pairs with the swap in `announce`. A sleeper that comes after the swap sees the change. One that
        // comes before it took its ticket before the increment, and so is woken.
        self.asleep.fetch_or(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        ticket
    }

    /// Announces a change that was made before the call. Returns whether the caller must wake the sleepers.
    #[inline(always)]
    pub fn notify(&self) -> bool {
        fence(Ordering::SeqCst);
        self.notify_unfenced()
    }

    /// [`notify`](EventCount::notify) for a publisher whose sleepers run a barrier on its behalf.
    #[inline(always)]
    pub fn notify_unfenced(&self) -> bool {
        // The barrier meets the program as it is compiled: the change must stay in front of this load.
        compiler_fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.announce();
        true
    }

    /// Announces a change whether or not anybody is known to sleep; the caller wakes the sleepers.
    #[cold]
    pub fn announce(&self) {
        // AcqRel: see `prepare`.
        self.asleep.swap(0, Ordering::AcqRel);
        self.wake.fetch_add(1, Ordering::Relaxed);
    }

    /// The word to sleep on.
    #[inline]
    pub fn word(&self) -> &AtomicU32 {
        &self.wake
    }
}

/// The publisher's side of an [`EventCount`]: runs the fence itself while sleepers come often, and has each of them run a
/// process-wide barrier in its place (Linux `membarrier`) once it has notified nobody for a while.
///
/// Which of the two it is, a word tells that it shares with the sleepers: `elided`, written by the one publisher, 1 while
/// sleepers must run a barrier between [`EventCount::prepare`] and the look that follows. They load it (Relaxed) in between.
#[cfg(any(loom, feature = "std"))]
#[derive(Debug)]
pub struct Notifier {
    elided: bool,
    /// Whether the sleepers' barriers reach this publisher.
    can_elide: bool,
    /// How often it has notified since it last found a sleeper, while it runs the fence.
    quiet: u32,
}

#[cfg(any(loom, feature = "std"))]
impl Notifier {
    /// After how many notifications of nobody the fence costs more than it saves.
    const QUIET: u32 = if cfg!(loom) { 1 } else { 4096 };

    /// A publisher that has not published yet. Whether an earlier one ran the fence does not matter: a sleeper that still
    /// believes it did not runs a barrier too many.
    pub fn new(elided: &AtomicU32, can_elide: bool) -> Self {
        elided.store(0, Ordering::Relaxed);
        Notifier { elided: false, can_elide, quiet: Self::QUIET - 1 }
    }

    /// As [`EventCount::notify`].
    #[inline(always)]
    pub fn notify(&mut self, event: &EventCount, elided: &AtomicU32) -> bool {
        let found = if self.elided { event.notify_unfenced() } else { event.notify() };
        if found {
            self.run_fence(elided);
        } else if !self.elided {
            self.quiet += 1;
            if self.quiet >= Self::QUIET {
                self.elide_fence(elided);
            }
        }
        found
    }

    #[cold]
    fn run_fence(&mut self, elided: &AtomicU32) {
        self.quiet = 0;
        if self.elided {
            self.elided = false;
            // Relaxed: whether or not a sleeper loads this, the announcement before it in program order has met the sleeper's
            // in `asleep`. What comes after has a fence.
            elided.store(0, Ordering::Relaxed);
        }
    }

    #[cold]
    fn elide_fence(&mut self, elided: &AtomicU32) {
        self.quiet = 0;
        if self.can_elide {
            self.elided = true;
            elided.store(1, Ordering::Relaxed);
            // A sleeper that loads 0 after this store announced itself before this fence, so that this publisher will see it.
            fence(Ordering::SeqCst);
        }
    }
}
