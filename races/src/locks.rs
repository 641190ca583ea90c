//! Values that are no atomics, behind each of the locks.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use conduit::lock::{Flag, Semaphore, SpinLock};

use crate::threads::{Patience, rounds, threads};

/// The value: how often it was changed, in each word, and by whom last.
#[derive(Default)]
struct Tally {
    counts: [u64; 8],
    last: usize,
    /// How often somebody else than the time before changed it.
    turns: u64,
}

impl Tally {
    fn change(&mut self, who: usize) {
        assert!(self.counts.iter().all(|count| *count == self.counts[0]), "torn: {:?}", self.counts);
        self.counts.iter_mut().for_each(|count| *count += 1);
        self.turns += u64::from(self.last != who);
        self.last = who;
    }

    fn check(&self, what: &str, changes: u64) {
        println!("{what}: {} changes, {} turns", self.counts[0], self.turns);
        assert_eq!(self.counts, [changes; 8], "{what}: each change is there");
        assert!(self.turns > rounds() / 1000, "{what}: the threads hardly met");
    }
}

/// A value that whoever a lock lets in may use.
#[derive(Default)]
struct Guarded(UnsafeCell<Tally>);

// SAFETY: only `lend` touches it, whose callers take turns.
unsafe impl Sync for Guarded {}

impl Guarded {
    /// # Safety
    ///
    /// Nobody else does so at the same time.
    unsafe fn lend(&self, body: &mut dyn FnMut(&mut Tally)) {
        // SAFETY: says the caller.
        body(unsafe { &mut *self.0.get() });
    }
}

pub fn run() {
    spin();
    semaphore();
    flags();
}

/// Two threads change a value that `locked` lends. Now and then each waits for the other, so that they do meet.
fn two(locked: impl Fn(u64, &mut dyn FnMut(&mut Tally))) {
    // Relaxed on purpose: it orders nothing.
    let done = [const { AtomicBool::new(false) }; 2];
    let change = |who: usize| {
        for n in 0..rounds() {
            locked(n, &mut |tally| tally.change(who));
            let mut patience = Patience::default();
            let mut mine = n.is_multiple_of(20);
            while mine && !done[1 - who].load(Ordering::Relaxed) {
                locked(n, &mut |tally| mine = tally.last == who);
                patience.saw(!mine);
            }
        }
        done[who].store(true, Ordering::Relaxed);
    };
    threads(&mut [&mut || change(0), &mut || change(1)]);
}

/// Waits if it is to, and otherwise tries again until it need not.
fn patiently<P>(n: u64, acquire: impl FnOnce() -> P, try_acquire: impl Fn() -> Option<P>) -> P {
    if n.is_multiple_of(16) {
        return acquire();
    }
    let mut patience = Patience::default();
    loop {
        let permit = try_acquire();
        patience.saw(permit.is_some());
        if let Some(permit) = permit {
            return permit;
        }
    }
}

fn spin() {
    let lock = SpinLock::new(Tally::default());
    two(|n, body| body(&mut patiently(n, || lock.lock(), || lock.try_lock())));
    lock.into_inner().check("spin lock", 2 * rounds());
}

/// One permit, so that it lets in one at a time.
fn semaphore() {
    let (semaphore, value) = (Semaphore::new(1), Guarded::default());
    two(|n, body| {
        let permit = patiently(n, || semaphore.acquire(), || semaphore.try_acquire());
        // SAFETY: there is one permit.
        unsafe { value.lend(body) };
        drop(permit);
    });
    value.0.into_inner().check("semaphore", 2 * rounds());
}

/// Two that hand each other a value.
fn flags() {
    let (flags, value) = ([Flag::new(), Flag::new()], Guarded::default());
    flags[0].set();
    let turns = rounds() / 10;
    let change = |who: usize| {
        let mut patience = Patience::default();
        for _ in 0..turns {
            while !flags[who].take() {
                patience.saw(false);
            }
            patience.saw(true);
            // SAFETY: it is this one's turn, until it tells the other.
            unsafe { value.lend(&mut |tally| tally.change(who)) };
            flags[1 - who].set();
        }
    };
    threads(&mut [&mut || change(0), &mut || change(1)]);
    value.0.into_inner().check("flags", 2 * turns);
}
